"""`-` as input or output: a file in between, since the input is read twice and an output appears when it is whole."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from starvsr.cli.messages import say
from starvsr.errors import InputError, OutputError, UsageError
from starvsr.options import UpscaleOptions

if TYPE_CHECKING:
    from starvsr.job.run import Job

PIPE = Path("-")


class Container(str, Enum):
    """`--container`."""

    mkv = "mkv"
    mp4 = "mp4"
    mov = "mov"
    webm = "webm"
    nut = "nut"
    y4m = "y4m"


@dataclass
class Ends:
    """The files that stand for `-`, and the job between them."""

    source: Path
    target: Path
    container: Container | None = None
    job: Job | None = None

    def planned(self, job: Job) -> None:
        """Refuse what cannot be written in the end, before the work. Raises OutputError."""
        self.job = job
        if self.container is not Container.y4m:
            return
        from starvsr.media.y4m import check_y4m

        check_y4m(job.info, job.index, job.settings, job.plan.first, job.plan.last)
        if any(stream.kind in ("audio", "subtitle") for stream in job.info.streams):
            say("note: y4m holds pictures alone: sound and subtitles are left out")

    def pass_on(self, out: BinaryIO) -> None:
        """Write what was made. Raises OSError."""
        if self.container is Container.y4m and self.job is not None:
            from starvsr.media.y4m import write_y4m

            write_y4m(self.target, self.job.settings, self.job.info.sample_aspect, out)
            return
        with self.target.open("rb") as file:
            shutil.copyfileobj(file, out)


def for_pipe(options: UpscaleOptions, container: Container | None) -> UpscaleOptions:
    """The options of a job whose output goes to a pipe: plain pictures are kept without loss until then.

    Raises UsageError.
    """
    if container is not Container.y4m:
        return options
    if options.encode.codec not in ("auto", "ffv1"):
        raise UsageError(
            f"--codec {options.encode.codec} would have no effect: y4m is not encoded; leave it out"
        )
    return replace(
        options,
        encode=replace(options.encode, codec="ffv1"),
        streams=replace(
            options.streams, audio="none", subtitles="none", chapters=False, attachments=False
        ),
    )


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
def piped(source: Path, target: Path, container: Container | None) -> Iterator[Ends]:
    """The files that stand for `-`; what is in the output's goes to standard output at the end of the `with` block.

    Raises InputError, OutputError.
    """
    if PIPE not in (source, target):
        yield Ends(source, target)
        return
    with tempfile.TemporaryDirectory(prefix="starvsr-") as name:
        folder = Path(name)
        ending = Container.mkv if container in (None, Container.y4m) else container
        spooled, made = folder / "standard-input", folder / f"standard-output.{ending.value}"
        if source == PIPE:
            _spool(spooled)
        ends = Ends(
            spooled if source == PIPE else source, made if target == PIPE else target, container
        )
        yield ends
        if target == PIPE:
            _pass_on(ends)


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


def _pass_on(ends: Ends) -> None:
    try:
        ends.pass_on(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        # What is left in Python's buffer would fail once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(
            f"standard output cannot be written: {error.strerror}; who reads it must read to the end"
        ) from error
