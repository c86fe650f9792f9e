"""`-` as input or output: a file in between, since the input is read twice and an output appears when it is whole."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from starvsr.errors import InputError, OutputError, UsageError

PIPE = Path("-")


class Container(str, Enum):
    """`--container`."""

    mkv = "mkv"
    mp4 = "mp4"
    mov = "mov"
    webm = "webm"
    nut = "nut"


def check_pipes(source: Path, target: Path, container: Container | None, *, as_json: bool) -> None:
    """Refuse what cannot be meant. Raises UsageError."""
    if container is not None and target != PIPE:
        raise UsageError(
            f"--container would have no effect: the ending of {target} says the container; leave it out"
        )
    if target == PIPE and as_json:
        raise UsageError("--json and the output - would share standard output: leave one out")
    if source == PIPE and sys.stdin.isatty():
        raise UsageError("standard input is a terminal: pipe a video into starvsr, or name a file")
    if target == PIPE and sys.stdout.isatty():
        raise UsageError("standard output is a terminal: pipe it on, or name a file")


@contextmanager
def piped(source: Path, target: Path, container: Container | None) -> Iterator[tuple[Path, Path]]:
    """The files that stand for `-`; what is in the output's goes to standard output at the end of the `with` block.

    Raises InputError, OutputError.
    """
    if PIPE not in (source, target):
        yield source, target
        return
    with tempfile.TemporaryDirectory(prefix="starvsr-") as name:
        folder = Path(name)
        spooled, made = (
            folder / "standard-input",
            folder / f"standard-output.{(container or Container.mkv).value}",
        )
        if source == PIPE:
            _spool(spooled)
        yield (spooled if source == PIPE else source), (made if target == PIPE else target)
        if target == PIPE:
            _pass_on(made)


def _spool(path: Path) -> None:
    try:
        with path.open("wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        raise InputError(
            f"standard input cannot be kept in {path.parent} ({error.strerror}): "
            "set TMPDIR to a folder with more space, or name a file"
        ) from error
    if not path.stat().st_size:
        raise InputError("standard input is empty (0 bytes)")


def _pass_on(path: Path) -> None:
    try:
        with path.open("rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is left in Python's buffer would fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(
            f"standard output cannot be written: {error.strerror}; who reads it must read to the end"
        ) from error
