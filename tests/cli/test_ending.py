"""Whatever ends a run, no temporary file of it stays; after a kill those go with the next run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from starvsr.cli import ending
from starvsr.errors import OutputError
from starvsr.media.scratch import scratch_folder
from tests.cli.conftest import listing
from tests.cli.test_failures import COMMAND
from tests.media.clips import Clip, make

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
ENDLESS = ["--steps", "1000", "--solver-mode", "normal", "--progress", "plain"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """An empty folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield folder
    assert listing(folder) == {}, "temporary files are left"


def started(
    *arguments: str | Path, place: Path, before: str = "", **streams: object
) -> subprocess.Popen[bytes]:
    """A command that is under way: it has made a temporary folder in `place`, or beside its output."""
    setting = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(place)}
    words = [*COMMAND, *map(str, arguments)]
    return subprocess.Popen([*before.split(), *words], env=setting, **streams)  # type: ignore[call-overload, no-any-return]


def wait_for(folder: Path, pattern: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while not list(folder.glob(pattern)):
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < until, f"there is no {pattern}"
        time.sleep(0.02)


@pytest.fixture
def long_clip(tmp_path: Path) -> Path:
    """Takes seconds to compare or to degrade."""
    folder = tmp_path / "videos"
    folder.mkdir()
    return make(folder / "long.mp4", Clip(frames=120, width=320, height=240))


def code_of(number: int) -> int:
    return -number if number == signal.SIGKILL else 128 + number


@pytest.mark.slow
@pytest.mark.parametrize("number", [*SIGNALS, signal.SIGKILL])
def test_a_spooled_input(clip: Path, toy_path: Path, place: Path, number: int) -> None:
    arguments: list[str | Path] = [
        "upscale",
        "-",
        clip.with_name("out.mkv"),
        "--model",
        toy_path,
        *ENDLESS,
    ]
    before = listing(clip.parent)
    with clip.open("rb") as data:
        process = started(*arguments, place=place, stdin=data, stderr=subprocess.DEVNULL)
    with process:
        wait_for(clip.parent, "out.mkv.starvsr", process)
        process.send_signal(number)
    assert process.returncode == code_of(number)
    if number != signal.SIGKILL:
        assert listing(clip.parent) == before
        return
    # Not a byte of the input is left; the folder goes with the next one.
    (left,) = place.iterdir()
    assert not any(path.is_file() and path.stat().st_size > 100 for path in left.iterdir())
    with scratch_folder(place):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
@pytest.mark.parametrize("command", ["compare", "degrade"])
def test_other_commands(long_clip: Path, place: Path, command: str, number: int) -> None:
    folder = long_clip.parent
    before = listing(folder)
    made = folder / ("page.html" if command == "compare" else "low.mp4")
    arguments = [long_clip, long_clip, "-o", made] if command == "compare" else [long_clip, made]
    with started(command, *arguments, place=place, stderr=subprocess.DEVNULL) as process:
        wait_for(folder, ".starvsr-*/[!.]*", process)
        process.send_signal(number)
    assert process.returncode == code_of(number)
    if number == signal.SIGKILL:
        assert listing(folder) != before
        for each in (folder, place):
            with scratch_folder(each):
                pass
    assert listing(folder) == before


@pytest.mark.slow
def test_what_was_begun_with_hangups_ignored_goes_on(clip: Path, quick: list[str]) -> None:
    made = clip.with_name("out.mkv")
    process = started(
        "upscale", clip, made, *quick, place=clip.parent, before="nohup", stderr=subprocess.DEVNULL
    )
    with process:
        wait_for(clip.parent, "out.mkv.starvsr", process)
        process.send_signal(signal.SIGHUP)
    assert (process.returncode, made.is_file()) == (0, True)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_python_drops_is_raised_again(number: signal.Signals) -> None:
    """An exception in a destructor is dropped, and so was the signal."""
    program = """
import signal, sys, time
from starvsr.cli.ending import Ended, heed_signals

signal.signal(signal.SIGINT, signal.default_int_handler)
heed_signals()

class Dropping:
    def __del__(self):
        signal.raise_signal(int(sys.argv[1]))

try:
    dropping = Dropping()
    del dropping
    time.sleep(3600)
except (KeyboardInterrupt, Ended) as error:
    print(type(error).__name__)
"""
    command = [sys.executable, "-c", program, str(int(number))]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() in ("KeyboardInterrupt", "Terminated", "HungUp")
    assert ended.stderr == ""


LOSING = """
import signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
from starvsr.models.unet import StarUNet

number, part = int(sys.argv.pop(1)), Path(sys.argv.pop(1))
original = StarUNet.forward

def forward(*arguments, **named):
    if part.name == "now" or part.exists():
        try:
            signal.raise_signal(number)
        except BaseException:
            pass
        # As of C++ code that ignores what Python code raised: without a context.
        raise ValueError("no shape can be found")
    return original(*arguments, **named)

StarUNet.forward = forward
from starvsr.cli.app import main
main()
"""
WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated", signal.SIGHUP: "hung up"}


def losing(
    number: int, part: str | Path, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    """`upscale` whose network loses a signal once `part` exists, or `now`, and raises something else."""
    command = [sys.executable, "-c", LOSING, str(int(number)), str(part), "upscale"]
    return subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_a_library_makes_an_error_of(
    clip: Path, quick: list[str], number: signal.Signals
) -> None:
    """A batch would take that for a fault of one video, and do the next."""
    second = clip.with_name("second.mp4")
    shutil.copy(clip, second)
    before = listing(clip.parent)
    ended = losing(number, "now", clip, second, clip.with_name("made"), "--keep-going", *quick)
    assert ended.returncode == code_of(number)
    assert f"{WORDS[number]}; nothing was written" in ended.stderr
    assert not re.search("error|Traceback", ended.stderr)
    assert listing(clip.parent) == before


@pytest.mark.slow
def test_what_is_kept_is_said_then_too(tmp_path: Path, quick: list[str]) -> None:
    clip = make(tmp_path / "clip.mp4", Clip(frames=30, width=32, height=24))
    made = clip.with_name("made.mkv")
    part = made.with_name("made.mkv.starvsr") / "000001-core.mkv"
    ended = losing(signal.SIGTERM, part, clip, made, "--segment-frames", "8", *quick)
    assert ended.returncode == code_of(signal.SIGTERM)
    assert re.search("terminated at [0-9]+ of [0-9]+ frames; finished parts are kept", ended.stderr)
    assert part.with_name("000000-core.mkv").is_file()


@pytest.fixture
def handler() -> Iterator[ending.SignalHandler]:
    """Handles SIGTERM, and has raised for it."""
    handler = ending.SignalHandler()
    usual = signal.signal(signal.SIGTERM, handler)
    with pytest.raises(ending.Terminated):
        signal.raise_signal(signal.SIGTERM)
    yield handler
    signal.signal(signal.SIGTERM, usual)


@pytest.mark.usefixtures("handler")
def test_an_error_in_place_of_a_signal_is_that_signal() -> None:
    with pytest.raises(ending.Terminated) as ended, ending.signals_first():
        raise ValueError("no shape")
    assert isinstance(ended.value.__cause__, ValueError)


@pytest.mark.usefixtures("handler")
def test_an_error_of_the_cleanup_stays() -> None:
    with pytest.raises(OSError, match="full"), ending.signals_first():
        try:
            raise ending.Terminated
        finally:
            raise OSError("full")


@pytest.mark.usefixtures("handler")
def test_an_error_of_the_cleanup_in_another_thread_stays() -> None:
    """It is handed over with its cause, and meets the signal here."""
    handed = OutputError("no space left")
    handed.__cause__ = OSError("full")
    with pytest.raises(OutputError, match="no space"), ending.signals_first():
        try:
            raise ending.Terminated
        finally:
            raise handed


def test_an_error_long_after_a_signal_stays(
    handler: ending.SignalHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.monotonic() + ending.CLEANING_S + 1
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert handler.just_raised() is None
    with pytest.raises(ValueError, match="true"), ending.signals_first():
        raise ValueError("true")


def test_an_error_without_a_signal_stays() -> None:
    with pytest.raises(ValueError, match="true"), ending.signals_first():
        raise ValueError("true")
