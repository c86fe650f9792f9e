"""Standard streams that are closed, full or no longer read, as a shell leaves them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.jobs import opened

FULL = Path("/dev/full")
PROGRAM = [sys.executable, "-m", "starvsr"]


def shell(*arguments: str | Path, around: str) -> subprocess.CompletedProcess[str]:
    """A command line with the redirections of `around`, where $@ is the command; one thread."""
    words = [*PROGRAM, *map(str, arguments)]
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {around}", "bash", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def is_told(done: subprocess.CompletedProcess[str], code: int, said: str) -> None:
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert done.stderr.count("error: ") == 1
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("command", ["--help", "--version", "info clip.mp4", "plan clip.mp4"])
def test_a_full_disk_behind_standard_output(clip: Path, command: str) -> None:
    done = shell(*command.replace("clip.mp4", str(clip)).split(), around='"$@" >/dev/full')
    is_told(done, 7, "error: standard output cannot be written: No space left on device")


@pytest.mark.parametrize(
    "command", ["--help", "info clip.mp4 --json", "compare clip.mp4 clip.mp4", "upscale clip.mp4 -"]
)
def test_a_closed_standard_output(clip: Path, command: str) -> None:
    before = sorted(clip.parent.iterdir())
    done = shell(*command.replace("clip.mp4", str(clip)).split(), around='"$@" >&-')
    is_told(done, 7, "error: standard output is closed")
    assert sorted(clip.parent.iterdir()) == before


def test_a_reader_of_results_that_is_gone(clip: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    for command in (["info", clip, "--json"], ["--help"]):
        done = subprocess.run(
            [*PROGRAM, *map(str, command)],
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert isinstance(done.stderr, str)
        assert (done.returncode, "Exception ignored" in done.stderr) == (7, False), done.stderr
        assert "error: standard output cannot be written: Broken pipe" in done.stderr
    os.close(writing)


@pytest.mark.parametrize("around", ['"$@" >&-', '"$@" 2>&-', '"$@" <&- >&- 2>&-'])
def test_work_that_needs_no_such_stream_is_done(clip: Path, quick: list[str], around: str) -> None:
    made, log = clip.with_name("out.mkv"), clip.with_name("run.log")
    done = shell("upscale", clip, made, *quick, "--log-file", log, around=around)
    assert done.returncode == 0, done.stderr
    # Nothing that was printed is in a file that was opened instead.
    assert opened(made)[1].frames == 12
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("progress", ["json", "plain", "rich"])
def test_a_gone_reader_of_progress_does_not_end_the_work(
    clip: Path, quick: list[str], progress: str
) -> None:
    made, log = clip.with_name("out.mkv"), clip.with_name("run.log")
    reading, writing = os.pipe()
    os.close(reading)
    arguments = ["upscale", clip, made, *quick, "--progress", progress, "--log-file", log]
    done = subprocess.run([*PROGRAM, *map(str, arguments)], stderr=writing, check=False)
    os.close(writing)
    assert done.returncode == 0
    assert opened(made)[1].frames == 12
    assert log.read_text().count("standard error cannot be written (Broken pipe)") == 1


@pytest.mark.slow
def test_a_gone_reader_of_events_is_told_behind_the_work(clip: Path, quick: list[str]) -> None:
    other, folder = clip.with_name("other.mp4"), clip.with_name("large")
    other.write_bytes(clip.read_bytes())
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*PROGRAM, "upscale", clip, other, folder, *quick, "--json"],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    is_told(done, 7, "error: standard output cannot be written: Broken pipe")
    assert "the work continues" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["clip.mp4", "other.mp4"]


def test_a_closed_standard_input(clip: Path, quick: list[str]) -> None:
    done = shell("upscale", "-", clip.with_name("out.mkv"), *quick, around='"$@" <&-')
    is_told(done, 3, "error: standard input is closed")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
def test_an_error_is_an_error_where_it_cannot_be_said(clip: Path) -> None:
    done = shell("info", clip.with_name("no.mp4"), around='"$@" 2>/dev/full')
    assert (done.returncode, done.stdout) == (3, "")
