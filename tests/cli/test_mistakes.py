"""What a newcomer types: each mistake names the value, what is allowed, and the next step."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from starvsr.cli.upscale_options import parse_resolution
from tests.cli.conftest import Cli
from tests.media.clips import Clip
from tests.media.marked import joined


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
        (
            "upscale clip.mp4 out.mp4 --scale 0",
            2,
            "--scale 0 is not allowed: give a number above 0",
        ),
        (
            "plan clip.mp4 --scale 5000",
            2,
            "too large: a side has at most 65535 pixels; give a small",
        ),
        ("upscale clip.mp4 out.mp4 --start 5 --end 3", 2, "--end 3 is not after --start 5: give a"),
        ("plan clip.mp4 --start 1m", 2, "'1m' is not a time: give seconds or hh:mm:ss.s"),
        ("plan clip.mp4 --start 60", 2, "the video is 0.480 s long; give an earlier start"),
        (
            "plan clip.mp4 --crf 100",
            7,
            "--crf 100 is not allowed for the encoder libx264: give 0 (best)",
        ),
        (
            "plan clip.mp4 --preset fastt",
            7,
            "did you mean fast? give one of ultrafast, superfast, veryfast",
        ),
        (
            "plan clip.mp4 --pix-fmt yuv420",
            7,
            "did you mean yuv420p? give auto or one of yuv420p, ",
        ),
        (
            "plan clip.mp4 --audio copyy",
            7,
            "did you mean copy? give copy, none, or one such as aac",
        ),
        ("plan clip.mp4 -e keyintt=5", 7, "-e keyintt=5 is not an option of the encoder libx264"),
        (
            "plan clip.mp4 out.webm --codec libx264",
            7,
            "give another --codec, or an output that ends in .mkv",
        ),
        ("plan clip.mp4 out.mkv --codec png", 7, "video of the encoder png: give another --codec"),
        ("plan clip.mp4 out.png", 7, "give --frames 1 (and --start), or out-%06d.png"),
        ("plan frames/%06d.png", 3, "no image has a name of this form; check the name"),
        ("plan clip.mp4 --blend 50", 2, "--blend 50 is not allowed: give a fraction from 0 to 1"),
        ("plan clip.mp4 --deinterlace yes", 2, "'yes' is not one of 'auto', 'on', 'off', 'field'"),
        (
            "plan clip.mp4 --hwaccel gpu",
            2,
            "--hwaccel gpu is not in this libav build: give none, auto",
        ),
        (
            "plan clip.mp4 --fps 30",
            2,
            "--fps is for image sequences and raw streams: clip.mp4 has times",
        ),
        (
            "plan clip.mp4 --weights-dir clip.mp4",
            4,
            "the weights folder clip.mp4 is a file: give another",
        ),
        (
            "upscale --jobs no.toml",
            2,
            "no.toml cannot be read: No such file or directory; check the name",
        ),
        ("upscale *.webm out", 3, "matches no files as a pattern: check the name"),
        ("upscale --help zebra", 2, "--help zebra: no such group: give one of size, range"),
        (
            "finish out.mp4.starvsr",
            2,
            "does not exist, so it is not a starvsr work directory: give one",
        ),
        (
            "compare clip.mp4 clip.mp4 --start 50",
            3,
            "its last one is at 0.44 s; give an earlier --start",
        ),
        (
            "evaluate clip.mp4 --metrics psnr_y",
            2,
            "--metrics psnr_y needs a reference: give REFERENCE",
        ),
        ("evaluate clip.mp4 -o clip.mp4", 7, "clip.mp4 is a file: give the name of a folder"),
        ("degrade clip.mp4 low.mp4 --scale 100", 2, "--scale 100 is not allowed: give 1 to 64"),
        ("degrade clip.mp4 low.mp4 --drift 2", 2, "--drift 2 is not allowed: give 0 to 1"),
        (
            "train --config clip.mp4",
            2,
            "--config clip.mp4 is not text in UTF-8: save it as such, or give",
        ),
        ("bench --latent 2x2", 2, "--latent 2x2 is not allowed: give 3 numbers such as 4x108x192"),
        (
            "bench --history clip.mp4",
            3,
            "is not a history of starvsr bench: it is not text in UTF-8",
        ),
        (
            "download-weights star-lite",
            2,
            "star-lite is unknown: did you mean star-light? give one of",
        ),
        (
            "download-weights --source nowhere",
            2,
            "--source nowhere is neither a folder that exists nor",
        ),
        (
            "info clip.mp4 other.mp4",
            2,
            "unexpected extra argument(s) (other.mp4); see starvsr info --help",
        ),
        ("upscale clip.mp4 --preview", 2, "requires an argument; see starvsr upscale --help"),
        ("upscale '' large", 2, "INPUT is empty: give a name (a shell variable that is not set"),
        ("upscale ''", 2, "INPUT is empty: give a name"),
        ("upscale clip.mp4 ''", 2, "OUTPUT is empty: give a name"),
        ("compare clip.mp4 clip.mp4 -o ''", 2, "--output is empty: give a name"),
        ("degrade . low.mp4", 2, "low.mp4 would be a folder of results: give a name without .mp4"),
        ("evaluate clip.mp4 -o scores.json", 2, "scores.json would be a folder of results: give"),
        ("upscale clip.mp4 copy.mp4 o.mp4", 2, "o.mp4 would be a folder of results"),
        ("upscale --input clip.mp4", 2, "without -i or -o: starvsr upscale INPUT OUTPUT"),
        (
            "--model nano clip.mp4 out.mp4",
            2,
            "did you mean starvsr upscale --model nano clip.mp4 out.mp4?",
        ),
        ("bench --threads 0", 2, "--threads 0 is not allowed: give 1 to 1024"),
        ("bench --repeats many", 2, "'many' is not an integer: give one such as 8"),
        ("bench --model star-light", 4, "by --weights-dir or STARVSR_WEIGHTS"),
        ("plan clip.mp4 --codec gif", 7, "can write: give another --codec"),
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
    result = cli(*shlex.split(arguments))
    assert (result.code, told in result.error) == (code, True), result.error
    assert "Value error" not in result.error


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "code", "told"),
    [
        (
            "STARVSR_INPUT_TIMEOUT",
            "soon",
            "plan clip.mp4",
            2,
            "=soon is not a number of seconds: give 60",
        ),
        (
            "STARVSR_WEIGHTS",
            "clip.mp4",
            "plan clip.mp4",
            4,
            "folder clip.mp4 is a file: give another",
        ),
        (
            "HF_ENDPOINT",
            "hub",
            "download-weights",
            4,
            "HF_ENDPOINT does not begin with https:// or",
        ),
        (
            "HF_TOKEN",
            "a b",
            "download-weights",
            4,
            "copy the token again from the hub's settings, or",
        ),
    ],
)
def test_a_mistake_in_a_variable(
    cli: Cli,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    arguments: str,
    code: int,
    told: str,
) -> None:
    monkeypatch.chdir(clip.parent)
    monkeypatch.setenv(variable, value)
    result = cli(*arguments.split())
    assert (result.code, told in result.error) == (code, True), result.error


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
    result = cli("plan", "clip.mp4", "new/")
    assert (result.code, "new/clip.mp4: " in result.out) == (0, True), result.error
    assert not Path("new").exists()
    result = cli("upscale", ".", "o.mp4", *quick, "--frames", "1")
    assert result.code == 2
    assert "o.mp4 would be a folder" in result.error
    assert not Path("o.mp4").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": "no.mp4"}, "job 2 (no.mp4), input: "),
        ({"output": "out.gif"}, "job 2 (clip.mp4), output: out.gif: the extension .gif"),
        ({"output": "clip.mp4/out.mkv"}, "job 2 (clip.mp4), output: "),
        ({"codec": "x265"}, "job 2 (clip.mp4), codec: --codec x265 is not a video encoder"),
        ({"video-stream": 1}, "job 2 (clip.mp4), input: --video-stream 1: "),
        ({"fps": 30}, "job 2 (clip.mp4), input: --fps is for image sequences and raw streams"),
        ({"crf": "60"}, "job 2 (clip.mp4), crf or preset: --crf 60 is not allowed"),
        ({"output": "a.webm", "crf": "64"}, "for the encoder libvpx-vp9: give 0 (best) to 63"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_every_job_is_checked_before_the_first(
    cli: Cli, clip: Path, quick: list[str], change: dict[str, str | int], told: str
) -> None:
    second = {"input": "clip.mp4", "output": "two.mkv", **change}
    lines = ["[[job]]", 'input = "clip.mp4"', 'output = "one.mkv"', "[[job]]"]
    lines += [f"{key} = {json.dumps(value)}" for key, value in second.items()]
    jobs = clip.with_name("jobs.toml")
    jobs.write_text("\n".join(lines))
    result = cli("upscale", "--jobs", jobs, *quick, "--frames", "1")
    assert (result.code, told in result.error) == (2, True), result.error
    assert not clip.with_name("one.mkv").exists()


def test_every_input_is_checked_before_the_first(cli: Cli, clip: Path, quick: list[str]) -> None:
    folder = clip.with_name("out")
    result = cli("upscale", clip, clip.with_name("no.mp4"), folder, *quick, "--frames", "1")
    assert (result.code, "no.mp4 does not exist" in result.error) == (3, True)
    more = joined(clip.with_name("two.mkv"), Clip(frames=2), Clip(frames=2))
    arguments = (more, clip, folder, *quick, "--frames", "1", "--video-stream", "1")
    result = cli("upscale", *arguments)
    assert (result.code, "clip.mp4 has only 1 video stream: give 0" in result.error) == (2, True)
    assert not folder.exists()


def test_folders_of_jobs_are_created(cli: Cli, clip: Path, quick: list[str]) -> None:
    jobs = clip.with_name("jobs.toml")
    jobs.write_text('[[job]]\ninput = "clip.mp4"\noutput = "large/a.mkv"\n')
    assert cli("upscale", "--jobs", jobs, *quick, "--frames", "1").code == 0
    assert clip.with_name("large").joinpath("a.mkv").is_file()
