"""Whatever ends a run, no temporary file of it stays; after a kill those go with the next run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

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
    return make(folder / "long.mp4", Clip(frames=300, width=320, height=240))


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
