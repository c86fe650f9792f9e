"""What a newcomer types: each mistake names the value, what is allowed, and the next step."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.cli.upscale_options import parse_resolution
from tests.cli.conftest import Cli


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (
            "upscale https://example.com/v.mp4 out.mp4",
            3,
            "https://example.com/v.mp4 is an address, not a file: download it first, or pipe it, as in ffmpeg -i "
            "https://example.com/v.mp4 -c copy -f matroska - | starvsr upscale - OUTPUT",
        ),
        ("info rtsp://camera/1", 3, "rtsp://camera/1 is an address, not a file"),
        ("upscale -i clip.mp4 -o out.mp4", 2, "without -i or -o: starvsr upscale clip.mp4 out.mp4"),
        ("-i clip.mp4 out.mp4", 2, "without -i or -o: starvsr upscale clip.mp4 out.mp4"),
        ("clip.mp4 out.mp4", 2, "did you mean starvsr upscale clip.mp4 out.mp4?"),
        ("clip.mp4 out.mp4 --scale 2", 2, "starvsr upscale clip.mp4 out.mp4 --scale 2?"),
        ("upscal clip.mp4 out.mp4", 2, "No such command 'upscal'. Did you mean 'upscale'?"),
        ("upscale clip.mp4 out.mp4 --model starlight", 2, "did you mean star-light? give one of"),
        ("plan clip.mp4 --model nanno", 2, "did you mean nano? give one of auto, nano"),
        ("plan clip.mp4 --model nano.pth", 4, "nano.pth is neither a file nor a known model"),
        ("plan clip.mp4 --codec x264", 7, "did you mean libx264? try libx264"),
        ("plan clip.mp4 --codec h.265", 7, "did you mean libx265?"),
        ("plan clip.mp4 --codec libx256", 7, "did you mean libx265?"),
        ("plan clip.mp4 --device gpu", 2, "cpu, cuda (NVIDIA, AMD), cuda:N or mps (Apple)"),
        ("plan clip.mp4 --speed foo", 2, "'--speed': 'foo' is not one of 'exact', 'balanced'"),
        ("plan clip.mp4 --memory-limit 1KB", 5, "and 1 KiB can be used: give a larger"),
        ("plan clip.mp4 --resolution 1920x1080", 2, "give the short side, such as 1080, 1080p or"),
        ("evaluate clip.mp4 --metrics niqee", 2, "did you mean niqe? choose from psnr_y"),
        ("evaluate clip.mp4 --metrics niqe brisque", 2, "by commas: --metrics niqe,brisque"),
        (
            "compare clip.mp4 clip.mp4 --metrics niqe brisque psnr_y",
            2,
            "separate metrics by commas: --metrics niqe,brisque,psnr_y",
        ),
        ("download-weights --dir", 2, "requires an argument; see starvsr download-weights --help"),
        ("upscale clip.mp4 --preview", 2, "requires an argument; see starvsr upscale --help"),
    ],
    ids=lambda value: value.replace("clip.mp4 ", "") if isinstance(value, str) else None,
)
def test_a_mistake(
    cli: Cli,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: str,
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(clip.parent)
    result = cli(*arguments.split())
    assert (result.code, told in result.error) == (code, True), result.error
    assert "Value error" not in result.error


def test_sizes_as_people_say_them() -> None:
    said = {"1080": 1080, "1080p": 1080, "720P": 720, "4k": 2160, " 8K ": 4320}
    assert {text: parse_resolution(text) for text in said} == said


def test_an_existing_folder_or_a_slash_means_into_it(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(clip.parent)
    result = cli("upscale", "clip.mp4", "large/", *quick, "--frames", "1")
    assert result.code == 0
    assert (clip.parent / "large" / "clip.mp4").is_file()
    result = cli("upscale", "clip.mp4", "large", *quick, "--frames", "1")
    assert (result.code, "already exists" in result.err) == (0, True)
    result = cli("upscale", ".", "o.mp4", *quick, "--frames", "1")
    assert result.code == 2
    assert "o.mp4 would be a folder" in result.error
    assert not Path("o.mp4").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": "no.mp4"}, "job 2 (no.mp4), input: "),
        ({"output": "out.gif"}, "job 2 (clip.mp4), output: out.gif: the extension .gif"),
        ({"output": "a/b/out.mkv"}, "job 2 (clip.mp4), output: the folder "),
        ({"codec": "x265"}, "job 2 (clip.mp4), codec: --codec x265 is not a video encoder"),
        ({"crf": "60"}, "job 2 (clip.mp4), crf or preset: --crf 60 is not allowed"),
        ({"output": "a.webm", "crf": "64"}, "for the encoder libvpx-vp9: give 0 (best) to 63"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_every_job_is_checked_before_the_first(
    cli: Cli, clip: Path, quick: list[str], change: dict[str, str], told: str
) -> None:
    second = {"input": "clip.mp4", "output": "two.mkv", **change}
    lines = ["[[job]]", 'input = "clip.mp4"', 'output = "one.mkv"', "[[job]]"]
    lines += [f'{key} = "{value}"' for key, value in second.items()]
    jobs = clip.with_name("jobs.toml")
    jobs.write_text("\n".join(lines))
    result = cli("upscale", "--jobs", jobs, *quick, "--frames", "1")
    assert (result.code, told in result.error) == (2, True), result.error
    assert not clip.with_name("one.mkv").exists()


def test_every_input_is_checked_before_the_first(cli: Cli, clip: Path, quick: list[str]) -> None:
    folder = clip.with_name("out")
    result = cli("upscale", clip, clip.with_name("no.mp4"), folder, *quick, "--frames", "1")
    assert (result.code, "no.mp4 does not exist" in result.error) == (3, True)
    assert not folder.exists()


def test_folders_of_jobs_are_created(cli: Cli, clip: Path, quick: list[str]) -> None:
    jobs = clip.with_name("jobs.toml")
    jobs.write_text('[[job]]\ninput = "clip.mp4"\noutput = "large/a.mkv"\n')
    assert cli("upscale", "--jobs", jobs, *quick, "--frames", "1").code == 0
    assert clip.with_name("large").joinpath("a.mkv").is_file()
