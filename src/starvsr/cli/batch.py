"""Several videos by one command: which files are meant, what their outputs are called, and what became of each."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from starvsr.cli.printing import echo
from starvsr.errors import OutputError, StarvsrError, UsageError

EXIT_SOME_FAILED = 6

NAME_TEMPLATE = "{stem}{ext}"
_FIELDS = "{stem} (the input's name without its ending), {ext} (its ending), {number} (1, 2, ...)"
# What can hold whatever else an input has; any other input becomes Matroska.
_KEPT_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv")
_OTHER_ENDING = ".mkv"


@dataclass(frozen=True)
class Item:
    """One video of a batch."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Outcome:
    """What became of an item."""

    item: Item
    state: str
    """`done`, `damaged` (done, but frames were lost), `there` (the output was there already) or `failed`."""
    note: str = ""
    """The error, or how long it took."""


def is_batch(inputs: Sequence[Path]) -> bool:
    """Whether the output of these inputs is a folder."""
    return len(inputs) > 1 or is_folder(inputs[0])


def is_folder(path: Path) -> bool:
    """Whether it is one; a name that is too long is none, and reading it says what is wrong."""
    try:
        return path.is_dir()
    except OSError:
        return False


def find_items(inputs: Sequence[Path], folder: Path, template: str) -> list[Item]:
    """The videos that are meant (files, and the videos that lie in folders, in name order) and what they become.

    Raises InputError for a folder without videos, UsageError for a template that means nothing, gives two videos one
    name or an input's, OutputError where `folder` is a file or the folder above it is missing.
    """
    # They import PyAV, which `--help` need not wait for.
    from starvsr.media.files import written_errors
    from starvsr.media.folders import videos_in

    with written_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file: several inputs need a folder to write to")
        if not folder.exists() and not folder.absolute().parent.is_dir():
            raise OutputError(f"the folder {folder.parent} does not exist: make it first")

    sources = [
        video for path in inputs for video in (videos_in(path) if is_folder(path) else [path])
    ]
    items = [
        Item(source, folder / _name(template, source, number))
        for number, source in enumerate(sources, start=1)
    ]
    by_target: dict[str, Item] = {}
    own = {os.path.realpath(source) for source in sources}
    for item in items:
        if os.path.realpath(item.target) in own:
            raise UsageError(
                f"{item.target} is one of the inputs: give another folder, or --name-template such as "
                "'{stem}-large{ext}'"
            )
        other = by_target.setdefault(_anywhere(item.target), item)
        if other is not item:
            raise UsageError(
                f"{other.source} and {item.source} would both become {item.target.name} (many systems take names that "
                "differ in case alone for one): give --name-template with {number}, or rename one"
            )
    return items


def _anywhere(target: Path) -> str:
    """The same for names that are one file on some systems: those of macOS and Windows ignore case and composition."""
    return unicodedata.normalize("NFC", os.path.realpath(target).casefold())


def run_batch(
    items: Sequence[Item],
    one: Callable[[Item], Outcome],
    *,
    overwrite: bool,
    keep_going: bool,
    failed: Callable[[Item, StarvsrError], None],
) -> list[Outcome]:
    """Do items one after the other. An output that is there is complete, so without `overwrite` its item is done.

    one: does an item; failed: is told of an error that the batch goes on behind. Raises an item's StarvsrError unless
    `keep_going`.
    """
    from starvsr.media.files import written_errors

    outcomes = []
    for item in items:
        try:
            with written_errors(item.target):
                there = not overwrite and item.target.exists()
            outcomes.append(Outcome(item, "there") if there else one(item))
        except StarvsrError as error:
            if not keep_going:
                raise
            failed(item, error)
            outcomes.append(Outcome(item, "failed", " ".join(str(error).split())))
    return outcomes


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many ended in each state."""
    return {
        state: sum(outcome.state == state for outcome in outcomes)
        for state in ("done", "damaged", "there", "failed")
    }


def say_summary(outcomes: Sequence[Outcome]) -> None:
    """One line a video."""
    width = max(len(outcome.item.source.name) for outcome in outcomes)
    words = {"there": "there already", "damaged": "done, damaged"}
    for outcome in outcomes:
        state = words.get(outcome.state, outcome.state)
        line = f"{outcome.item.source.name:<{width}}  {state:<13}  {outcome.note}"
        echo(line.rstrip(), err=True)


def _name(template: str, source: Path, number: int) -> str:
    ending = source.suffix if source.suffix.lower() in _KEPT_ENDINGS else _OTHER_ENDING
    try:
        name = template.format(stem=source.stem, ext=ending, number=number)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        raise UsageError(
            f"--name-template {template!r} is not allowed: give text with {_FIELDS}"
        ) from error
    if not name or Path(name).name != name:
        raise UsageError(
            f"--name-template {template!r} gives {name!r}, which is no name of a file: leave out folders"
        )
    return name
