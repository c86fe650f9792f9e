"""Outputs that are written, and what is in them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from starvsr.media.index import build_index
from starvsr.media.probe import probe
from tests.cli.conftest import Cli, as_nobody, listing
from tests.media.clips import Audio, Clip, make
from tests.media.test_telecine import a_film, clip, telecined


def test_unwritable_folder(
    cli: Cli, clip: Path, quick: list[str], toy_path: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    output = closed / "out.mp4"
    # Whatever is imported on first use must be there before root's power goes.
    assert cli("upscale", clip, tmp_path / "open.mp4", *quick, "--frames", "1").code == 0
    with as_nobody(closed, toy_path.parent):
        result = cli("upscale", clip, output, *quick, "--frames", "1")
    assert result.code == 7
    assert str(closed) in result.error
    assert listing(closed) == {}


def test_model_in_a_closed_folder(cli: Cli, clip: Path, tmp_path: Path, toy_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    model = closed / "model.safetensors"
    model.write_bytes(toy_path.read_bytes())
    # As above, for what is imported on first use.
    assert cli("plan", clip, "--model", model).code == 0
    for path in (model, closed):
        mode_before = path.stat().st_mode
        path.chmod(0)
        with as_nobody(tmp_path):
            result = cli("plan", clip, "--model", model)
        path.chmod(mode_before)
        assert result.code == 4
        assert str(model) in result.error
        assert "ermission denied" in result.error


def test_overwrite_replaces(cli: Cli, clip: Path, quick: list[str]) -> None:
    output = clip.with_name("out.mp4")
    output.write_bytes(b"old")
    assert cli("upscale", clip, output, *quick, "--overwrite").code == 0
    assert probe(output).width == 32
    assert sorted(listing(clip.parent)) == ["clip.mp4", "out.mp4"]


@pytest.mark.parametrize("suffix", [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".MP4"])
def test_every_container(cli: Cli, clip: Path, quick: list[str], suffix: str) -> None:
    output = clip.with_name(f"out{suffix}")
    more = ["--codec", "libvpx-vp9", "--audio", "none"] if suffix == ".webm" else []
    result = cli("upscale", clip, output, *quick, "--frames", "2", *more)
    assert result.code == 0, result.err
    kinds = [stream.kind for stream in probe(output).streams]
    assert kinds == (["video"] if suffix == ".webm" else ["video", "audio"])


@pytest.mark.parametrize(
    "name",
    [
        # 80 characters of three bytes each, as titles of videos are.
        "狐" * 80 + ".mp4",
        "out: 1.mp4",
        "out:1.mp4",
        "%d.mp4",
        "a b'c\"d.mp4",
    ],
    ids=["long", "colon and space", "colon", "percent", "quotes"],
)
def test_long_names_and_odd_ones(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(clip.parent)
    result = cli("upscale", clip, name, *quick, "--frames", "1")
    assert result.code == 0, result.err
    assert probe(Path(name).absolute()).width == 32


def test_streams_can_be_left_out(cli: Cli, tmp_path: Path, quick: list[str]) -> None:
    source = make(
        tmp_path / "rich.mkv",
        Clip(
            frames=2,
            audio=(Audio(seconds=0.08),),
            subtitles=(("subrip", 0.0, 0.05, "hello"),),
            chapters=((0.0, 0.08, "one"),),
            metadata={"title": "Bees"},
        ),
    )

    def kinds(name: str, *options: str) -> tuple[list[str], int]:
        result = cli("upscale", source, tmp_path / name, *quick, *options)
        assert result.code == 0, result.err
        info = probe(tmp_path / name)
        return [stream.kind for stream in info.streams], info.chapters

    assert kinds("all.mkv") == (["video", "audio", "subtitle"], 1)
    assert kinds("silent.mkv", "--audio", "none") == (["video", "subtitle"], 1)
    assert kinds("plain.mkv", "--subtitles", "none", "--no-chapters") == (["video", "audio"], 0)
    assert b"Bees" in (tmp_path / "all.mkv").read_bytes()
    assert cli("upscale", source, tmp_path / "n.mkv", *quick, "--no-metadata").code == 0
    assert b"Bees" not in (tmp_path / "n.mkv").read_bytes()


def test_interlaced_input_is_said_and_deinterlaced(
    cli: Cli, tmp_path: Path, quick: list[str]
) -> None:
    source = make(tmp_path / "in.mkv", Clip(frames=4, options={"x264-params": "tff=1"}))
    said = "note: 4 of 4 frames are interlaced and are deinterlaced"
    result = cli("upscale", source, tmp_path / "out.mkv", *quick)
    assert result.code == 0 and said in result.err
    assert not probe(tmp_path / "out.mkv").interlaced
    assert "interlaced and stay so" in cli("plan", source, *quick, "--deinterlace", "off").out
    result = cli("plan", source, *quick, "--deinterlace", "maybe")
    assert result.code == 2 and "--deinterlace" in result.error


def test_telecined_input_is_said_and_becomes_film(
    cli: Cli, tmp_path: Path, quick: list[str]
) -> None:
    source = clip(tmp_path / "in.mp4", telecined(a_film(20)))
    result = cli("upscale", source, tmp_path / "out.mp4", *quick, "--segment-frames", "7")
    assert result.code == 0 and "note: pull-down is undone in 25 of 25 frames" in result.err
    info = probe(tmp_path / "out.mp4")
    times = [pts * info.time_base for pts in build_index(info).pts]
    assert times == [number * Fraction(1001, 24000) for number in range(20)]
    plan = cli("plan", source, *quick, "--start", "0.2", "--end", "0.6")
    # Of 0.208 to 0.583 s.
    assert "10 of 20 frames" in plan.out and "pull-down is undone" in plan.out
    off = cli("plan", source, *quick, "--detelecine", "off")
    assert "25 of 25 frames" in off.out and "pull-down" not in off.out


def test_images(cli: Cli, clip: Path, quick: list[str]) -> None:
    folder = clip.with_name("out")
    folder.mkdir()
    pattern = folder / "%04d.png"
    result = cli("upscale", clip, pattern, *quick, "--frames", "5")
    assert result.code == 0 and "note: images contain no audio: left out" in result.err
    assert sorted(listing(folder)) == [f"000{number}.png" for number in range(1, 6)]
    again = cli("upscale", clip, pattern, *quick, "--frames", "5")
    assert again.code == 7 and "exists already: give --overwrite" in again.error
    assert cli("upscale", clip, pattern, *quick, "--frames", "5", "-y").code == 0

    video = clip.with_name("back.mkv")
    result = cli("upscale", pattern, video, *quick)
    assert result.code == 0 and "read at 25 frames per second: --fps" in result.err
    video.unlink()
    assert cli("upscale", pattern, video, *quick, "--fps", "30000/1001").code == 0
    assert round(float(probe(video).frame_rate or 0), 2) == 29.97
    for wrong in (["x"], ["0"], ["1/0"]):
        result = cli("plan", pattern, *quick, "--fps", *wrong)
        assert result.code == 2 and "--fps" in result.error
    result = cli("upscale", clip, clip.with_name("no.mkv"), *quick, "--fps", "25")
    assert result.code == 2 and "--fps is for image sequences" in result.error
    result = cli("upscale", pattern, pattern, *quick, "-y")
    assert result.code == 2 and "is the input itself" in result.error
    assert not clip.with_name("no.mkv").exists()


@pytest.mark.parametrize("codec", ["libvpx-vp9", "libsvtav1"])
def test_what_a_container_cannot_hold_is_refused_at_once(
    cli: Cli, clip: Path, quick: list[str], codec: str
) -> None:
    result = cli("upscale", clip, clip.with_name("o.mov"), *quick, "--codec", codec)
    assert result.code == 7
    assert f"o.mov: a .mov file cannot contain video of the encoder {codec}" in result.error
    assert list(listing(clip.parent)) == ["clip.mp4"]


def test_devices_for_decoding_and_encoding(cli: Cli, clip: Path, quick: list[str]) -> None:
    """None of these is here, or else it works."""
    output = clip.with_name("o.mp4")
    result = cli("upscale", clip, output, *quick, "--frames", "1", "--hwaccel", "cuda")
    assert result.code == 0
    assert "cannot decode h264 yuv420p here" in result.err or "decoded by cuda" in result.err
    result = cli("plan", clip, *quick, "--hwaccel", "abacus")
    assert result.code == 2 and "--hwaccel abacus is not in this libav build" in result.error
    for codec in ("h264_nvenc", "hevc_videotoolbox"):
        result = cli("upscale", clip, clip.with_name("no.mp4"), *quick, "--codec", codec)
        assert result.code == 0 or (result.code == 7 and codec in result.error)
