"""`-` as input or output, by a temporary file: the input is read twice, an output appears when complete."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO, Literal

from starvsr.cli.messages import say, say_as
from starvsr.cli.streams import check_output, output_lost
from starvsr.errors import InputError, UsageError
from starvsr.options import UpscaleOptions

if TYPE_CHECKING:
    from starvsr.job.run import Job

PIPE = Path("-")
_SPOOLED = "standard-input"

_PIECE_BYTES = 1 << 20


Container = Literal["mkv", "mp4", "mov", "webm", "nut", "y4m"]
"""`--container`."""


@dataclass
class Ends:
    """The files that stand for `-`, and the job between them."""

    source: Path
    target: Path
    container: Container | None = None
    job: Job | None = None

    def planned(self, job: Job) -> None:
        """Reject a job that the container does not support, before the work. Raises OutputError."""
        self.job = job
        if self.container != "y4m":
            return
        from starvsr.media.y4m import check_y4m

        check_y4m(job.info, job.index, job.settings, job.plan.first, job.plan.last)
        if any(stream.kind in ("audio", "subtitle") for stream in job.info.streams):
            say("note: y4m contains only video: audio and subtitles are left out")

    def pass_on(self, out: BinaryIO) -> None:
        """Write the output. Raises OSError."""
        if self.container == "y4m" and self.job is not None:
            from starvsr.media.y4m import write_y4m

            write_y4m(self.target, self.job.settings, self.job.info.sample_aspect, out)
            return
        with self.target.open("rb") as file:
            shutil.copyfileobj(file, out)


def for_pipe(options: UpscaleOptions, container: Container | None) -> UpscaleOptions:
    """The options of a job that writes to a pipe; y4m is stored losslessly until then. Raises UsageError."""
    if container != "y4m":
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


def refuse_pipes(command: str, *inputs: Path, output: Path | None = None) -> None:
    """For commands that read their inputs several times and write files. Raises UsageError."""
    for path in inputs:
        with suppress(OSError):
            if path == PIPE or path.is_fifo():
                raise UsageError(
                    f"{command} reads its input several times, and {path} is a pipe: save it as a file first"
                )
    if output == PIPE:
        raise UsageError(f"{command} does not write to standard output: give another name than -")


def check_pipes(source: Path, target: Path, container: Container | None, *, as_json: bool) -> None:
    """Reject contradictory pipes. Raises UsageError, InputError or OutputError."""
    if container is not None and target != PIPE:
        raise UsageError(
            f"--container would have no effect: the extension of {target} names the container; leave it out"
        )
    if target == PIPE and as_json:
        raise UsageError("--json and the output - would both use standard output: leave one out")
    if target == PIPE or as_json:
        check_output()
    if source == PIPE and sys.stdin is None:
        raise InputError("standard input is closed: pipe a video into starvsr, or name a file")
    if source == PIPE and sys.stdin.isatty():
        raise UsageError("standard input is a terminal: pipe a video into starvsr, or name a file")
    if target == PIPE and sys.stdout.isatty():
        raise UsageError("standard output is a terminal: pipe it to a program, or name a file")


@contextmanager
def piped(source: Path, target: Path, container: Container | None) -> Iterator[Ends]:
    """The files that stand for `-`; the output's is written to standard output at the end of the `with` block.

    Raises InputError, OutputError.
    """
    if PIPE not in (source, target):
        yield Ends(source, target)
        return
    # Imports PyAV, which would slow down `--help`.
    from starvsr.media.scratch import scratch_folder

    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        ending = "mkv" if container in (None, "y4m") else container
        made = folder / f"standard-output.{ending}"
        spooled = stack.enter_context(_spooled(folder)) if source == PIPE else source
        say_as(folder / _SPOOLED, "standard input")
        say_as(made, "standard output")
        ends = Ends(spooled, made if target == PIPE else target, container)
        yield ends
        if target == PIPE:
            _pass_on(ends)


@contextmanager
def _spooled(folder: Path) -> Iterator[Path]:
    """Standard input as a file in `folder`; only a link where the system can, so that a kill leaves no data.

    Raises InputError.
    """
    path = folder / _SPOOLED
    nameless = Path("/proc/self/fd").is_dir()
    with tempfile.TemporaryFile(dir=folder) if nameless else path.open("x+b") as file:
        _keep_input(file, folder.parent)
        if nameless:
            # By process ID, since workers open it too.
            path.symlink_to(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        yield path


def _keep_input(file: IO[bytes], place: Path) -> None:
    while True:
        try:
            piece = sys.stdin.buffer.read(_PIECE_BYTES)
        except OSError as error:
            raise InputError(f"standard input cannot be read: {error.strerror}") from error
        try:
            file.write(piece)
            file.flush()
        except OSError as error:
            raise InputError(
                f"standard input cannot be stored in {place} ({error.strerror}): "
                "set TMPDIR to a folder with more space, or name a file"
            ) from error
        if not piece:
            break
    if not file.tell():
        raise InputError("standard input is empty (0 bytes): pipe a video to it, or name a file")


def _pass_on(ends: Ends) -> None:
    try:
        ends.pass_on(sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise output_lost(error) from error
