"""Runs that break off: each has its exit code and one line, and keeps an older output. What was finished is kept, and
nothing else is left behind."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NoReturn

import av
import pytest

from starvsr.cli import ending
from starvsr.media.writer import PartWriter
from starvsr.models.unet import StarUNet
from tests.cli.conftest import Cli, Outcome, listing
from tests.job.test_resume import packets

# A shell may have started the tests with Ctrl-C ignored, which the command would inherit and respect.
COMMAND = [
    sys.executable,
    "-c",
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from starvsr.cli.app import main; main()",
]


def breaks_off(cli: Cli, source: Path, *options: str) -> Outcome:
    """A run over an older output, which with everything else in the folder must stay as it was."""
    output = source.with_name("out.mp4")
    output.write_bytes(b"precious")
    before = listing(source.parent)
    result = cli("upscale", source, output, "--overwrite", *options)
    assert result.out == ""
    assert listing(source.parent) == before
    return result


def raise_in_call(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, number: int, error: BaseException
) -> None:
    """Make the `number`-th call of a method fail."""
    calls = 0
    original = getattr(owner, name)

    def failing(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            raise error
        return original(*arguments, **named)

    monkeypatch.setattr(owner, name, failing)


def test_an_exception_inside_the_network(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in_call(monkeypatch, StarUNet, "forward", 2, RuntimeError("shapes\ndo not fit"))
    result = breaks_off(cli, clip, *quick)
    assert result.code == 1
    assert result.error.startswith("RuntimeError: shapes do not fit. This is a bug in starvsr")


def test_verbose_shows_where_a_bug_is(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in_call(monkeypatch, StarUNet, "forward", 1, RuntimeError("no"))
    result = breaks_off(cli, clip, *quick, "--verbose")
    assert result.code == 1
    assert "Traceback (most recent call last)" in result.err
    assert "in failing" in result.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    ],
)
def test_out_of_memory(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def failing(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(StarUNet, "forward", failing)
    result = breaks_off(cli, clip, *quick)
    assert result.code == 5
    assert "memory ran out with the smallest windows" in result.error
    assert "give a smaller --scale" in result.error


def test_out_of_memory_once(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in_call(monkeypatch, StarUNet, "forward", 1, MemoryError())
    result = cli("upscale", clip, clip.with_name("out.mp4"), *quick)
    assert result.code == 0
    warnings = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 1
    assert "the network continues with windows of" in warnings[0]


def test_an_encoder_that_fails_in_the_middle(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = av.error.ExternalError(0, "Generic error in an external library")
    raise_in_call(monkeypatch, PartWriter, "write", 5, error)
    result = breaks_off(cli, clip, *quick)
    assert result.code == 7
    # Of the files, only the output is the user's.
    assert result.error.startswith(f"{clip.with_name('out.mp4')} cannot be written: ")
    assert ".starvsr" not in result.error


def test_an_interrupt_inside_the_library(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    raise_in_call(monkeypatch, StarUNet, "forward", 2, KeyboardInterrupt())
    result = breaks_off(cli, clip, *quick)
    assert result.code == 130
    assert "interrupted; nothing was written" in result.err
    assert "Traceback" not in result.err


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel lets no file of this process grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("segments", [(), ("--segment-frames", "8")], ids=["part", "shared"])
def test_a_write_that_fails_in_the_middle(
    cli: Cli,
    clip: Path,
    quick: list[str],
    segments: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Its temporary files would fail before.
    monkeypatch.setattr("starvsr.job.plan_job.check_muxer", lambda *_: None)
    with files_of_at_most(1024):
        result = breaks_off(cli, clip, *quick, "--quiet", *segments)
    assert result.code == 7
    assert result.error == (
        f"{clip.with_name('out.mp4')} cannot be written: it would be larger than the file system or a limit allows"
    )


def test_temporary_files_that_cannot_be_written(cli: Cli, clip: Path, quick: list[str]) -> None:
    with files_of_at_most(1024):
        result = breaks_off(cli, clip, *quick, "--quiet")
    assert result.code == 7
    assert result.error.startswith(f"temporary files cannot be written in {gettempdir()} (")
    assert result.error.endswith("make room there, or set TMPDIR to another folder")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Makes a file system of its own of so many bytes; called again, gives it more."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")

    def mount(size: int) -> Path:
        again = "remount," if folder.is_mount() else ""
        options = f"{again}size={size}"
        tmpfs = ["mount", "-t", "tmpfs", "-o", options, "starvsr-test", str(folder)]
        try:
            subprocess.run(tmpfs, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"a small file system cannot be mounted here: {error}")
        return folder

    yield mount
    if folder.is_mount():
        subprocess.run(["umount", str(folder)], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("share", "segments"),
    [(0.5, ()), (1.5, ()), (1.0, ("--segment-frames", "8"))],
    ids=["part", "join", "shared frames"],
)
def test_a_full_disk(
    cli: Cli,
    clip: Path,
    quick: list[str],
    small_disk: Callable[[int], Path],
    share: float,
    segments: tuple[str, ...],
) -> None:
    options = [*quick, "--cfg", "1", "--codec", "ffv1", "--frames", "10", "--scale", "2"]
    measured = clip.with_name("measured.mkv")
    assert cli("upscale", clip, measured, *options).code == 0
    folder = small_disk(int(share * measured.stat().st_size))
    output = folder / "out.mkv"
    output.write_bytes(b"precious")
    result = cli("upscale", clip, output, *options, *segments, "--overwrite")
    assert result.code == 7
    assert result.error.startswith(f"{output} cannot be written: no space left in {folder}")
    left = listing(folder)
    assert left.pop("out.mkv") == b"precious"
    kept = bool(left)
    assert kept == ("finished parts are kept in" in result.err)
    assert not any(name.endswith(".partial") for name in left)

    small_disk(10 * measured.stat().st_size)
    result = cli("upscale", clip, output, *options, *segments, "--overwrite")
    assert result.code == 0
    assert kept == ("resuming: " in result.err)
    assert list(listing(folder)) == ["out.mkv"]
    if not segments:
        assert packets(output) == packets(measured)


@pytest.mark.parametrize("relative", [False, True])
def test_what_is_kept_is_said_of_a_disk_that_was_full_at_shared_frames(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, relative: bool
) -> None:
    monkeypatch.chdir(clip.parent)
    opened, done = Path.open, clip.with_name("out.mkv.starvsr") / "000000-core.mkv"

    def full(path: Path, *arguments: Any, **named: Any) -> Any:
        if done.exists() and path.suffix == ".partial":
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return opened(path, *arguments, **named)

    monkeypatch.setattr(Path, "open", full)
    output = Path("out.mkv") if relative else clip.with_name("out.mkv")
    result = cli("upscale", clip, output, *quick, "--segment-frames", "8")
    assert result.code == 7
    assert result.error.startswith(f"{output} cannot be written: no space left in")
    kept = "out.mkv.starvsr" if relative else str(done.parent)
    assert f"finished parts are kept in {kept}: the same command resumes, and " in result.err
    assert f"`starvsr finish {kept}` makes" in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "hung up"),
    ],
    ids=["ctrl-c", "terminate", "hang up"],
)
def test_signals_in_the_middle(
    clip: Path, toy_path: Path, number: int, code: int, word: str
) -> None:
    before = listing(clip.parent)
    endless = ["--model", str(toy_path), "--steps", "1000", "--solver-mode", "normal"]
    arguments = ["upscale", str(clip), str(clip.with_name("out.mp4")), *endless]
    process = subprocess.Popen(
        [*COMMAND, *arguments, "--progress", "plain"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            # Comes with the first report of the next stage, whose work is then under way.
            if line.startswith("loading model"):
                break
        assert set(listing(clip.parent)) > set(before)
        process.send_signal(number)
        rest = process.stderr.read()
    assert process.returncode == code
    assert rest.splitlines()[-1] == f"{word}; nothing was written: no segment was finished"
    assert "Traceback" not in rest
    assert listing(clip.parent) == before


def test_a_second_signal_does_not_stop_the_cleaning_up(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    handler = ending.SignalHandler()
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
    # Whoever shuts down sends more than one.
    for later, number in ((100.1, signal.SIGTERM), (101.0, signal.SIGHUP), (102.5, signal.SIGINT)):
        now = later
        handler(number, None)
    # Whoever still waits after a while is heard again.
    now = 105.0
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGINT, None)
