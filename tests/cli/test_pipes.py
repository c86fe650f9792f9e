"""`-` for standard input and output, as a shell has them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args

import pytest

from starvsr.cli.pipes import Container
from starvsr.media.encoder import CONTAINERS
from tests.cli.conftest import FRAMES, Cli, listing
from tests.media.jobs import opened, pictures


def standing_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    """Data for standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("options", "container"), [([], "matroska,webm"), (["--container", "nut"], "nut")]
)
def test_a_video_goes_in_and_comes_out(
    cli: Cli,
    tmp_path: Path,
    clip: Path,
    quick: list[str],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    container: str,
) -> None:
    kept, made = tmp_path / "temporary", tmp_path / "made"
    kept.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(kept))
    standing_in(monkeypatch, clip.read_bytes())
    with made.open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        result = cli("upscale", "-", "-", *quick, *options)
    assert result.code == 0, result.err
    # Whatever is said is not among the video.
    assert "12 frames, 32x24 -> 32x24" in result.err and result.out == ""
    assert "standard output: 12 frames in " in result.err and str(kept) not in result.err
    info, index = opened(made)
    assert (info.container, index.frames) == (container, FRAMES)
    assert [stream.kind for stream in info.streams] == ["video", "audio"]
    assert listing(kept) == {}


def test_plain_pictures_come_out(
    cli: Cli, tmp_path: Path, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, usual = tmp_path / "made", clip.with_name("usual.mkv")
    with made.open("w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        result = cli("upscale", clip, "-", *quick, "--container", "y4m")
    assert result.code == 0, result.err
    assert "note: y4m contains only video: audio and subtitles are left out" in result.err
    info, _ = opened(made)
    assert (info.container, len(info.streams)) == ("yuv4mpegpipe", 1)
    assert cli("upscale", clip, usual, *quick, "--codec", "ffv1").code == 0
    assert pictures(made) == pictures(usual)


def test_what_plain_pictures_cannot_say_is_refused_before_the_work(
    cli: Cli, clip: Path, quick: list[str]
) -> None:
    result = cli("upscale", clip, "-", *quick, "--container", "y4m", "--pix-fmt", "bgra")
    assert (result.code, result.out) == (7, "")
    assert result.error.startswith("y4m does not support bgra: give a --pix-fmt such as yuv444p")
    assert "restoring" not in result.err


@pytest.mark.slow
def test_a_reader_that_goes_away_is_an_error(clip: Path, quick: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "starvsr", "upscale", clip, "-", *quick],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 7
    assert "error: standard output cannot be written: Broken pipe" in done.stderr
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


def test_an_empty_pipe_is_an_error(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    standing_in(monkeypatch, b"")
    result = cli("upscale", "-", clip.with_name("o.mkv"), *quick)
    assert (result.code, result.error) == (
        3,
        "standard input is empty (0 bytes): pipe a video to it, or name a file",
    )
    assert list(listing(clip.parent)) == ["clip.mp4"]


def test_what_cannot_be_meant_is_refused(cli: Cli, clip: Path, quick: list[str]) -> None:
    for arguments, said in (
        (["-", "x", "out"], "- and --container are for one input"),
        ([clip, "o.mkv", "--container", "mp4"], "--container would have no effect"),
        ([clip, "-", "--json"], "would both use standard output"),
        ([clip, "-", "--container", "avi"], "--container"),
        ([clip, "-", "--container", "y4m", "--codec", "libx264"], "y4m is not encoded"),
    ):
        result = cli("upscale", *arguments, *quick)
        assert (result.code, result.out) == (2, "")
        assert said in result.error


def test_containers_are_those_of_files() -> None:
    assert {f".{each}" for each in get_args(Container) if each != "y4m"} < set(CONTAINERS)
