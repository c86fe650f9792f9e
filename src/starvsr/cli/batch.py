"""Batches: input expansion, output names, and the result of each video."""

from __future__ import annotations

import glob
import logging
import os
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from starvsr.cli.ending import signals_first
from starvsr.cli.messages import say
from starvsr.errors import InputError, OutputError, StarvsrError, UsageError
from starvsr.media.deadline import within_deadline
from starvsr.media.sequence import STILL_SUFFIXES, STILLS
from starvsr.options import DEFAULT_CODEC, DEFAULT_SCALE, SizeOptions, UpscaleOptions

logger = logging.getLogger(__name__)

EXIT_SOME_FAILED = 6

NAME_TEMPLATE = "{stem}{ext}"
_SLASHES = tuple(filter(None, ("/", os.sep, os.altsep)))
_FIELDS = (
    "{stem} (the input's name without its extension), {ext} (its extension), "
    "{number} (1, 2, ...) or {number:03} (001, 002, ...)"
)
_DIGITS = re.compile("0?[0-9]{0,2}d?")
# Videos with any other extension become Matroska, and pictures PNG.
_KEPT_ENDINGS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", *STILLS)
_OTHER_ENDING, _OTHER_STILL = ".mkv", ".png"


@dataclass(frozen=True)
class Item:
    """One video of a batch."""

    source: Path
    target: Path
    options: UpscaleOptions
    where: str = ""
    """The job of a `--jobs` file, for errors."""
    refused: StarvsrError | None = None
    """What is wrong with it, found before any work."""


@dataclass(frozen=True)
class Outcome:
    """The result of an item."""

    item: Item
    state: str
    """`done`, `damaged` (done, but frames were lost), `there` (the output already existed) or `failed`."""
    note: str = ""
    """The error, or how long it took."""


def is_batch(inputs: Sequence[Path], output: str | None) -> bool:
    """Whether the output of these inputs is a folder, as it also is if it exists or its name ends in a slash."""
    into_folder = output is not None and (output.endswith(_SLASHES) or is_folder(Path(output)))
    return len(inputs) > 1 or is_folder(inputs[0]) or is_pattern(inputs[0]) or into_folder


def is_folder(path: Path) -> bool:
    """Whether it is a folder; False for a name that is too long, which reading it reports."""
    try:
        return within_deadline(path, path.is_dir)
    except OSError:
        return False


def is_pattern(path: Path) -> bool:
    """Whether it is a glob pattern that the shell did not expand, and not an existing file."""
    try:
        return glob.has_magic(str(path)) and not within_deadline(path, path.exists)
    except OSError:
        return False


def find_items(
    inputs: Sequence[Path],
    folder: Path,
    template: str,
    options: UpscaleOptions,
    *,
    stills: bool = False,
    keep_going: bool = False,
) -> list[Item]:
    """The videos that files, patterns and folders stand for (folders in name order), with their outputs.

    Results of this program in the output folder are left out. stills: folders stand for their pictures. Raises
    InputError for a folder without videos or a pattern without files (with `keep_going` it is a refused item, unless
    there is no other), UsageError for an invalid template and for a new folder that is named like a video, OutputError
    if `folder` is a file or its parent does not exist.
    """
    # Imports PyAV, which would slow down `--help`.
    from starvsr.media.files import written_errors
    from starvsr.media.folders import refuse_named_like_a_file

    with written_errors(folder):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder} is a file: several inputs need a folder to write to")
        if not folder.exists() and not folder.absolute().parent.is_dir():
            raise OutputError(f"the folder {folder.parent} does not exist: create it first")
    empty: dict[Path, InputError] = {}
    files = _files(inputs, empty if keep_going else None, stills=stills)
    found = _without_results([file for file in files if file not in empty], folder)
    items = [
        Item(source, folder / _name(template, source, number), options)
        for number, source in enumerate(found, start=1)
    ]
    refuse_named_like_a_file(folder, *_KEPT_ENDINGS)
    # A name that cannot be looked up is its own item's failure.
    with suppress(OutputError):
        if "{stem}" not in template and not options.overwrite and any(map(_is_complete, items)):
            logger.warning(
                "outputs that exist are known by their number alone, which may be another input's since some were "
                "added or removed: put {stem} into --name-template"
            )
    refused = [Item(path, folder / path.name, options, "", error) for path, error in empty.items()]
    return items + refused


def _without_results(files: list[Path], folder: Path) -> list[Path]:
    """Without what this program has written into the output folder: the next run would restore its own results."""
    from starvsr.media.provenance import provenance_of

    def is_result(file: Path) -> bool:
        with suppress(InputError):
            return is_inside(file) and bool(provenance_of(file))
        return False

    def is_inside(file: Path) -> bool:
        return os.path.realpath(file.parent) == os.path.realpath(folder)

    results = [file for file in files if is_result(file)]
    if len(results) == len(files):
        # Then they are what was meant.
        return files
    if results:
        names = ", ".join(file.name for file in results)
        logger.warning("left out, since starvsr has written them into %s: %s", folder, names)
    return [file for file in files if file not in results]


def folder_beside(folder: Path, size: SizeOptions) -> Path:
    """Where the results of a folder go that nobody has named: a folder beside it whose name says the size."""
    if size.resolution is not None:
        words = f"{size.resolution}p"
    elif size.width is not None or size.height is not None:
        words = f"{size.width or ''}x{size.height or ''}"
    else:
        words = f"{DEFAULT_SCALE if size.scale is None else size.scale:g}x"
    place = folder if folder.name not in ("", "..") else folder.resolve()
    return place.with_name(f"{place.name}-{words}")


def _files(
    inputs: Sequence[Path], empty: dict[Path, InputError] | None, *, stills: bool
) -> list[Path]:
    """empty: gets the errors of folders and patterns without files; None raises them, as do those of all inputs."""
    # Imports PyAV, which would slow down `--help`.
    from starvsr.media.folders import stills_in, videos_in

    advice = "`starvsr upscale --stills` restores its pictures"
    files_in = stills_in if stills else partial(videos_in, pictures=advice)

    def found(path: Path, read: Callable[[Path], list[Path]]) -> list[Path]:
        try:
            return read(path)
        except InputError as error:
            if empty is None:
                raise
            empty[path] = error
            return [path]

    files = [
        file
        for given in inputs
        for path in (found(given, _matches) if is_pattern(given) else [given])
        for file in (found(path, files_in) if is_folder(path) else [path])
    ]
    if empty and empty.keys() >= set(files):
        raise next(iter(empty.values()))
    return files


def _matches(pattern: Path) -> list[Path]:
    """Matches like a shell's, below the deepest existing folder, whose own name may contain brackets."""
    root = next(folder for folder in pattern.parents if is_folder(folder))
    try:
        found = sorted(root.glob(str(pattern.relative_to(root))))
    except ValueError as error:
        raise UsageError(f"the pattern {pattern} is not allowed: {error}") from error
    found = [path for path in found if not path.name.startswith(".")]
    if not found:
        raise InputError(
            f"{pattern} does not exist, and matches no files as a pattern: check the name"
        )
    return found


def as_previews(items: Sequence[Item]) -> list[Item]:
    """The same videos with the names of their previews as outputs.

    The preview's image differs in its extension alone, so names that differ only there get it as a part.
    Raises UsageError if a video's options contradict a preview.
    """
    from starvsr.job.preview import check_contradictions

    for item in items:
        try:
            check_contradictions(item.options)
        except UsageError as error:
            raise UsageError(f"{item.source}: {error}") from error
    pictures = Counter(_anywhere(item.target.with_suffix("")) for item in items)

    def named(target: Path) -> Path:
        alone = pictures[_anywhere(target.with_suffix(""))] == 1
        stem = target.stem if alone else f"{target.stem}-{target.suffix[1:]}"
        return target.with_name(f"{stem}-preview{target.suffix}")

    return [replace(item, target=named(item.target)) for item in items]


def check_items(items: Sequence[Item], *, keep_going: bool = False) -> list[Item]:
    """Find mistakes of all items before the first one's work; with `keep_going` they are refused one by one.

    Raises UsageError if an output is also an input, or the output of two items. Without `keep_going` it raises
    InputError for an input that does not exist, OutputError for an extension or an encoder that does not, UsageError
    for a video stream or a rate that an input cannot have; for items of a `--jobs` file UsageError, which names the job
    and the key.
    """
    by_target: dict[str, Item] = {}
    own = {os.path.realpath(item.source) for item in items}
    checked = []
    for item in items:
        clash = None if item.refused else _clash(item, own, by_target)
        if clash is not None and not keep_going:
            raise clash
        checked.append(replace(item, refused=item.refused or clash))
    for item in [] if keep_going else items:
        _check_item(item)
    return checked


def _clash(item: Item, own: Container[str], by_target: dict[str, Item]) -> UsageError | None:
    """An item's output that is also an input, or an earlier item's."""
    if os.path.realpath(item.target) in own:
        return UsageError(
            f"{item.target} is one of the inputs: give another output, or --name-template such as "
            "'{stem}-large{ext}'"
        )
    other = by_target.setdefault(_anywhere(item.target), item)
    if other is item:
        return None
    where = f"{item.where}, output: " if item.where else ""
    advice = "another" if item.where else "--name-template with {number} and {stem}, or other names"
    return UsageError(
        f"{where}{other.source} and {item.source} would both become {item.target.name} (many systems do not "
        f"distinguish case in names): give {advice}"
    )


def _check_item(item: Item) -> None:
    from starvsr.media.encoder import IMAGES, container_of
    from starvsr.media.files import check_folder
    from starvsr.media.limits import check_quality
    from starvsr.media.pixfmt import find_encoder
    from starvsr.media.probe import check_asked
    from starvsr.media.source import check_exists
    from starvsr.media.still import STILL

    options, given = item.options.encode, item.options.input
    encoder = options.codec

    def check_encode() -> None:
        container = container_of(item.target)
        usual = "libvpx-vp9" if container == "webm" else DEFAULT_CODEC
        if container not in (IMAGES, STILL):
            check_quality(usual if encoder == "auto" else find_encoder(encoder).name, options)

    checks: list[tuple[str, Callable[[], object]]] = [
        ("input", lambda: check_exists(item.source)),
        ("input", lambda: check_asked(item.source, given.fps, given.video_stream)),
        ("output", lambda: container_of(item.target)),
        ("output", lambda: check_folder(item.target)),
        ("codec", lambda: encoder == "auto" or find_encoder(encoder)),
        ("crf or preset", check_encode),
    ]
    for key, check in checks:
        try:
            check()
        except StarvsrError as error:
            if not item.where:
                raise
            raise UsageError(f"{item.where}, {key}: {error}") from error


def _anywhere(target: Path) -> str:
    """A key that is equal for names of one file on any system: macOS and Windows ignore case and composition."""
    return unicodedata.normalize("NFC", os.path.realpath(target).casefold())


def run_batch(
    items: Sequence[Item],
    one: Callable[[Item], Outcome],
    *,
    keep_going: bool,
    failed: Callable[[Item, StarvsrError], None],
    resumes: bool = True,
) -> list[Outcome]:
    """Do items one after the other. An output that exists is complete, so without `--overwrite` its item is done.

    one: does an item; failed: receives an error after which the batch continues; resumes: False for previews, which may
    show another part of the video. Raises an item's StarvsrError unless `keep_going`.
    """
    outcomes = []
    for item in items:
        try:
            if item.refused is not None:
                raise item.refused
            there = resumes and not item.options.overwrite and _is_complete(item)
            with signals_first():
                outcomes.append(Outcome(item, "there") if there else one(item))
        except StarvsrError as error:
            if not keep_going:
                raise
            failed(item, error)
            outcomes.append(Outcome(item, "failed", " ".join(str(error).split())))
    return outcomes


def _is_complete(item: Item) -> bool:
    """Whether the output exists and no unfinished job writes it. Raises OutputError."""
    from starvsr.job.journal import is_made, journal_folder
    from starvsr.job.workdir import is_begun
    from starvsr.media.files import written_errors
    from starvsr.media.sequence import is_sequence, numbers_of

    folder = journal_folder(item.target, item.options.resume.work_dir)
    with written_errors(item.target):
        if is_sequence(item.target) and not item.target.exists():
            return bool(numbers_of(item.target)) and not is_begun(folder)
        # What a kill left undone is done.
        return item.target.is_file() and not is_made(folder, item.target)


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    """How many ended in each state."""
    return {
        state: sum(outcome.state == state for outcome in outcomes)
        for state in ("done", "damaged", "there", "failed")
    }


def say_summary(outcomes: Sequence[Outcome]) -> None:
    """One line a video."""
    names = [f"{o.item.source.name} -> {o.item.target.name}" for o in outcomes]
    width = max(map(len, names))
    words = {"there": "already exists", "damaged": "done, damaged"}
    for name, outcome in zip(names, outcomes, strict=True):
        state = words.get(outcome.state, outcome.state)
        say(f"{name:<{width}}  {state:<13}  {outcome.note}".rstrip())


def _check_template(template: str) -> None:
    """Raise UsageError for unknown fields, and for format specs, which could allocate any amount of memory."""
    try:
        fields = [parts[1:] for parts in string.Formatter().parse(template)]
    except ValueError:
        fields = [("", "", "")]
    for field, form, conversion in fields:
        plain = field is None or (field in ("stem", "ext") and not form)
        if conversion or not (plain or (field == "number" and _DIGITS.fullmatch(form or ""))):
            raise UsageError(
                f"--name-template {template!r} is not allowed: give text with {_FIELDS}"
            )


def _name(template: str, source: Path, number: int) -> str:
    _check_template(template)
    suffix = source.suffix.lower()
    other = _OTHER_STILL if suffix in STILL_SUFFIXES else _OTHER_ENDING
    ending = source.suffix if suffix in _KEPT_ENDINGS else other
    name = template.format(stem=source.stem, ext=ending, number=number)
    if not name or Path(name).name != name:
        raise UsageError(
            f"--name-template {template!r} gives {name!r}, which is not a file name: leave out folders"
        )
    return name
