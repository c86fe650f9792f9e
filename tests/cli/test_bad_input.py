"""Inputs that cannot be restored, or only in part: each has its exit code, one line, and leaves nothing behind."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from starvsr.media.index import build_index
from starvsr.media.probe import probe
from tests.cli.conftest import Cli, as_nobody, listing
from tests.media.clips import Audio, Clip, cut, make


def refused(cli: Cli, source: Path, options: list[str]) -> tuple[int, str]:
    """Exit code and message of `upscale`, which must leave the folder as it was; `plan` must say the same."""
    folder = source.parent
    before = listing(folder)
    result = cli("upscale", source, folder / "out.mp4", *options)
    assert result.out == ""
    assert listing(folder) == before
    planned = cli("plan", source, *options)
    assert (planned.code, planned.error) == (result.code, result.error)
    return result.code, result.error


def test_missing(cli: Cli, tmp_path: Path, quick: list[str]) -> None:
    code, message = refused(cli, tmp_path / "no.mp4", quick)
    assert (code, message) == (3, f"{tmp_path / 'no.mp4'} does not exist: check the name")


def test_empty(cli: Cli, tmp_path: Path, quick: list[str]) -> None:
    (tmp_path / "empty.mp4").touch()
    code, message = refused(cli, tmp_path / "empty.mp4", quick)
    assert (code, message) == (
        3,
        f"{tmp_path / 'empty.mp4'} is empty (0 bytes): get the file again, or give another",
    )


@pytest.mark.parametrize("name", ["notes.mp4", "notes.md", "notes"])
def test_text(cli: Cli, tmp_path: Path, quick: list[str], name: str) -> None:
    (tmp_path / name).write_text("All work and no play makes Jack a dull boy.\n" * 200)
    code, message = refused(cli, tmp_path / name, quick)
    assert code == 3
    assert str(tmp_path / name) in message


@pytest.mark.parametrize("name", ["notes.txt", "notes.nfo"])
def test_text_that_libav_would_draw(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("All work and no play makes Jack a dull boy.\n" * 200)
    # Not `upscale`, which would take minutes if it went on.
    assert cli("plan", tmp_path / name).code == 3


def test_noise(cli: Cli, tmp_path: Path, quick: list[str]) -> None:
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(20_000))
    assert refused(cli, tmp_path / "noise.mp4", quick)[0] == 3


def test_audio_only(cli: Cli, tmp_path: Path, quick: list[str]) -> None:
    sound = make(tmp_path / "sound.m4a", Clip(frames=0, audio=(Audio(),)))
    code, message = refused(cli, sound, quick)
    assert (code, message) == (3, f"{sound} contains no video, only audio: give a video")


def test_folder(cli: Cli, tmp_path: Path, quick: list[str]) -> None:
    (tmp_path / "videos").mkdir()
    result = cli("upscale", tmp_path / "videos", tmp_path / "large", *quick)
    assert result.code == 3
    assert result.error.startswith(f"{tmp_path / 'videos'} contains no video: none of its files")
    assert not (tmp_path / "large").exists()
    planned = cli("plan", tmp_path / "videos", *quick)
    assert planned.code == 2
    assert planned.error == f"{tmp_path / 'videos'} is a folder: give one video file"


def test_name_that_is_too_long(cli: Cli, tmp_path: Path, quick: list[str]) -> None:
    assert refused(cli, tmp_path / f"{'x' * 300}.mp4", quick)[0] == 3


def test_no_read_permission(cli: Cli, clip: Path, quick: list[str]) -> None:
    assert cli("plan", clip, *quick).code == 0
    clip.chmod(0)
    with as_nobody(clip.parent):
        result = cli("plan", clip, *quick)
    assert (result.code, result.error) == (3, f"{clip} cannot be read: permission denied")


def test_mp4_without_its_index(cli: Cli, clip: Path, quick: list[str]) -> None:
    broken = cut(clip, 0.5)
    clip.unlink()
    code, message = refused(cli, broken, quick)
    assert code == 3
    assert "moov" in message
    assert str(broken) in message


@pytest.mark.parametrize(
    ("muxer", "share"),
    [
        ({"movflags": "faststart"}, 0.8),
        ({"movflags": "frag_keyframe+empty_moov+default_base_moof"}, 0.7),
    ],
    ids=["faststart", "fragmented"],
)
def test_what_can_be_read_of_a_cut_mp4_is_restored(
    cli: Cli, tmp_path: Path, quick: list[str], muxer: dict[str, str], share: float
) -> None:
    whole = make(tmp_path / "whole.mp4", Clip(frames=40, options={"g": "4"}, muxer=muxer))
    broken = cut(whole, share)
    whole.unlink()
    output = tmp_path / "out.mp4"
    result = cli("upscale", broken, output, *quick, "--cfg", "1")
    assert result.code == 8
    found = re.search(r"cut\.mp4 is damaged: (\d+) frames? lost, (\d+) restored", result.err)
    assert found is not None, result.err
    assert "Traceback" not in result.err
    lost, restored = map(int, found.groups())
    assert restored > 8
    assert lost >= 1
    assert build_index(probe(output)).frames == restored
    assert sorted(listing(tmp_path)) == ["cut.mp4", "out.mp4"]
    planned = cli("plan", broken, *quick)
    assert planned.code == 0
    assert f"damaged   {lost} frame" in planned.out


def test_the_number_of_lost_frames_of_a_cut_faststart_mp4_is_exact(
    cli: Cli, tmp_path: Path, quick: list[str]
) -> None:
    # Its index, which is there, lists every frame.
    whole = make(tmp_path / "whole.mp4", Clip(frames=40, muxer={"movflags": "faststart"}))
    result = cli("upscale", cut(whole, 0.8), tmp_path / "out.mp4", *quick, "--cfg", "1", "--quiet")
    found = re.search(r"(\d+) frames? lost, (\d+) restored", result.err)
    assert found is not None, result.err
    assert sum(map(int, found.groups())) == 40


@pytest.mark.parametrize("scale", ["1", "1.5", "3", "4"])
def test_odd_sizes(cli: Cli, tmp_path: Path, toy_path: Path, scale: str) -> None:
    odd = make(
        tmp_path / "odd.mkv", Clip(frames=1, width=35, height=19, pix_fmt="yuv444p", codec="ffv1")
    )
    for pix_fmt, even in (("yuv420p", True), ("yuv444p", False)):
        output = tmp_path / f"{pix_fmt}.mkv"
        quick = ["--model", toy_path, "--steps", "1", "--cfg", "1", "--pix-fmt", pix_fmt]
        result = cli("upscale", odd, output, "--scale", scale, *quick)
        assert result.code == 0, result.err
        info = probe(output)
        exact = [int(side * float(scale) + 0.5) for side in (35, 19)]
        wanted = [side - side % 2 for side in exact] if even else exact
        assert [info.width, info.height] == wanted


@pytest.mark.slow
def test_175_by_99(cli: Cli, tmp_path: Path) -> None:
    odd = make(tmp_path / "odd.mkv", Clip(frames=1, width=175, height=99, pix_fmt="yuv444p"))
    for scale, size in (
        ("1", (174, 98)),
        ("1.5", (262, 148)),
        ("3", (524, 296)),
        ("4", (700, 396)),
    ):
        output = tmp_path / f"{scale}.mp4"
        arguments = ["--model", "nano", "--scale", scale, "--pix-fmt", "yuv420p"]
        result = cli("upscale", odd, output, *arguments)
        assert result.code == 0, result.err
        info = probe(output)
        assert (info.width, info.height) == size


@pytest.mark.parametrize("model", ["nano", "toy"])
def test_one_frame_of_one_pixel(cli: Cli, tmp_path: Path, toy_path: Path, model: str) -> None:
    dot = make(
        tmp_path / "dot.mkv", Clip(frames=1, width=1, height=1, pix_fmt="yuv444p", codec="ffv1")
    )
    output = tmp_path / "out.mkv"
    name = toy_path if model == "toy" else model
    result = cli("upscale", dot, output, "--model", name, "--codec", "ffv1")
    assert result.code == 0, result.err
    info = probe(output)
    assert (info.width, info.height) == (4, 4)
    assert build_index(info).frames == 1


@pytest.mark.parametrize(
    "name",
    [
        "Part:a.mp4",
        "Part 1: a.mp4",
        "100%d.mp4",
        "-a.mp4",
        "a?b=c.mp4",
        "naïve ☃.mp4",
    ],
)
def test_names_that_libav_could_take_for_something_else(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(clip.parent)
    clip.rename(name)
    # As any shell user has to write the name of an option.
    source = f"./{name}" if name.startswith("-") else name
    result = cli("upscale", source, "out.mp4", *quick, "--frames", "1")
    assert result.code == 0, result.err
    assert Path("out.mp4").is_file()
