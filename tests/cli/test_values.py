"""Values of options: what is refused, with which words, and what reaches the job."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from starvsr.cli import upscale_options
from starvsr.cli.upscale_options import (
    option_command,
    parse_count,
    parse_number,
    parse_pair,
    parse_time,
)
from starvsr.job.plan_job import plan_video
from starvsr.media.probe import probe
from starvsr.options import (
    DeviceOptions,
    EncodeOptions,
    LookOptions,
    RangeOptions,
    ResumeOptions,
    SamplingOptions,
    SizeOptions,
    StreamOptions,
    UpscaleOptions,
    WeightsOptions,
    WindowOptions,
    WorkerOptions,
)
from tests.cli.conftest import Cli


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "0"], ["--scale 0 is not allowed", "above 0"]),
        (["--scale", "-2"], ["--scale -2 is not allowed", "above 0"]),
        (["--scale", "nan"], ["--scale nan is not allowed", "above 0"]),
        (["--scale", "inf"], ["--scale inf is not allowed", "above 0"]),
        (["--scale", "1e308"], ["--scale 1e+308 is not allowed", "at most 65535"]),
        (["--scale", "x"], ["--scale", "'x' is not a number", "2 or 1.5"]),
        (["--resolution", "0"], ["--resolution 0 is not allowed", "from 1 to 65535"]),
        (["--resolution", "1" + 400 * "0"], ["--resolution 1", "from 1 to 65535"]),
        (["--width", "1.5"], ["--width", "'1.5' is not an integer"]),
        (["--height", "-1"], ["--height -1 is not allowed", "from 1 to 65535"]),
        (["--max-resolution", "0"], ["--max-resolution 0 is not allowed"]),
        (["--start", "-1"], ["--start", "'-1' is not a time", "hh:mm:ss.s"]),
        (["--start", "1:2:3:4"], ["--start", "'1:2:3:4' is not a time"]),
        (["--end", "inf"], ["--end", "'inf' is not a time"]),
        (["--duration", "0"], ["--duration 0 is not allowed", "above 0"]),
        (["--frames", "0"], ["--frames 0 is not allowed", "1 or more"]),
        (["--start", "60"], ["no frame is in the range", "0.480 s long"]),
        (["--steps", "0"], ["--steps 0 is not allowed", "1 to 1000"]),
        (["--steps", "1000000000"], ["--steps 1000000000 is not allowed", "1 to 1000"]),
        (["--cfg", "0.5"], ["--cfg 0.5 is not allowed"]),
        (["--cfg", "inf"], ["--cfg inf is not allowed"]),
        (["--cfg-rescale", "1.1"], ["--cfg-rescale 1.1 is not allowed", "0 to 1"]),
        (["--noise-level", "1001"], ["--noise-level 1001 is not allowed", "1 to 1000"]),
        (["--blend", "-0.1"], ["--blend -0.1 is not allowed", "0 to 1"]),
        (["--sharpen", "-1.5"], ["--sharpen -1.5 is not allowed", "-1 to 2"]),
        (["--color-fix", "gray"], ["--color-fix", "gray", "adain", "wavelet", "none"]),
        (["--solver-mode", "slow"], ["--solver-mode", "slow", "fast", "normal"]),
        (["--audio", ""], ["--audio '' is not allowed", "copy, none", "aac"]),
        (["--subtitles", "srt"], ["--subtitles", "srt", "copy", "none"]),
        (["--progress", "loud"], ["--progress", "loud", "rich", "plain", "none"]),
        (["--device", "gpu"], ["--device 'gpu' is not allowed", "cuda:N"]),
        (["--device", "cuda:"], ["--device 'cuda:' is not allowed"]),
        (["--device", "cuda:999"], ["--device cuda:999 is not available", "--device cpu"]),
        (["--attention", "xformers"], ["--attention", "xformers", "CUDA", "sdpa"]),
        (["--compile", "--offload", "block"], ["--compile and --offload block contradict"]),
        (["--chunk-frames", "0"], ["--chunk-frames 0 is not allowed", "1 or more"]),
        (["--chunk-frames", "4", "--chunk-overlap", "3"], ["--chunk-overlap 3", "half"]),
        (["--segment-frames", "4"], ["--segment-frames 4 is too short", "5"]),
        (["--tile", "8"], ["--tile 8 is too small", "at least"]),
        (["--crf", "nan"], ["--crf nan is not allowed"]),
        (["-e", "tune"], ["-e", "'tune' is not an encoder option", "key=value"]),
        (["-e", "=film"], ["-e", "'=film' is not an encoder option", "key=value"]),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is(
    cli: Cli, clip: Path, toy_path: Path, arguments: list[str], words: list[str]
) -> None:
    result = cli("upscale", clip, clip.with_name("out.mp4"), "--model", toy_path, *arguments)
    assert result.code == 2
    assert result.out == ""
    for word in words:
        assert word in result.error
    assert list(clip.parent.iterdir()) == [clip]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "2", "--resolution", "48"], ["--scale and --resolution contradict"]),
        (["--scale", "2", "--width", "48"], ["--scale and --width/--height contradict"]),
        (["--resolution", "2", "--height", "48"], ["--resolution and --width/--height contradict"]),
        (["--end", "2", "--duration", "1"], ["--end and --duration contradict"]),
        (["--start", "2", "--end", "1"], ["--end 1 is not after --start 2"]),
        (["--verbose", "--quiet"], ["--verbose and --quiet contradict"]),
    ],
)
def test_contradictions(cli: Cli, clip: Path, arguments: list[str], words: list[str]) -> None:
    result = cli("upscale", clip, clip.with_name("out.mp4"), *arguments)
    assert result.code == 2
    for word in words:
        assert word in result.error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["upscale", "a", "b", "--resum"], ["No such option: --resum", "starvsr upscale --help"]),
        (["plan", "a", "b", "c"], ["unexpected extra argument", "starvsr plan --help"]),
        (["upscale"], ["INPUT is required", "--jobs"]),
        (["upscale", "a", "b", "--scale"], ["--scale", "requires an argument"]),
        (["enlarge"], ["No such command 'enlarge'", "starvsr --help"]),
        (["--loud"], ["No such option: --loud", "starvsr --help"]),
    ],
)
def test_what_the_parser_does_not_know(cli: Cli, arguments: list[str], words: list[str]) -> None:
    result = cli(*arguments)
    assert (result.code, result.out) == (2, "")
    for word in words:
        assert word in result.error


def test_options_without_effect_are_refused_for_a_model_that_was_asked_for(
    cli: Cli, clip: Path
) -> None:
    result = cli(
        "upscale", clip, clip.with_name("out.mp4"), "--model", "nano", "--steps", "3", "--seed", "1"
    )
    assert result.code == 2
    assert "--steps and --seed would have no effect" in result.error
    assert "nano" in result.error


@pytest.mark.parametrize("model", ["nano", "star-cogvideox"])
def test_speed_is_refused_for_models_without_such_sets(cli: Cli, clip: Path, model: str) -> None:
    target = clip.with_name("out.mp4")
    result = cli("upscale", clip, target, "--model", model, "--speed", "balanced")
    assert result.code == 2
    assert f"--speed would have no effect on the model {model}" in result.error
    result = cli("plan", clip, "--model", model, "--speed", "exact")
    assert (result.code, result.err) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--guidance-interval", "half"], ["'half' is not an interval", "0.2:0.8"]),
        (["--guidance-interval", "0.8:0.2"], ["--guidance-interval 0.8:0.2 is not allowed"]),
        (["--cache", "2"], ["--cache 2 is not allowed"]),
        (["--speed", "faster"], ["--speed", "balanced"]),
        (["--speed", "fast", "--parity"], ["--parity and --speed fast contradict"]),
        (["--model", "nano", "--cache", "0.1"], ["--cache would have no effect"]),
        (["--model", "nano", "--cache", "0", "--seed", "0"], ["--seed and --cache would have no"]),
        (["--model", "nano", "--guidance-interval", "0:1"], ["--guidance-interval would have no"]),
    ],
)
def test_fewer_calls_are_asked_for_in_words(
    cli: Cli, clip: Path, arguments: list[str], words: list[str]
) -> None:
    result = cli("plan", clip, *arguments)
    assert result.code == 2
    for word in words:
        assert word in result.error


def test_a_draft_says_which_given_options_have_no_effect(cli: Cli, clip: Path) -> None:
    """A script's options stay, and with guidance they act."""
    draft = ["plan", clip, "--model", "toy", "--speed", "draft", "--negative-prompt", "grain"]
    result = cli(*draft, "--cfg-rescale", "0.1")
    assert result.code == 0
    assert (
        "--cfg-rescale and --negative-prompt will have no effect with --speed draft, unless"
        in result.err
    )
    result = cli(*draft, "--cfg", "2")
    assert (result.code, result.err) == (0, "")
    result = cli("plan", clip, "--model", "toy", "--cfg", "1", "--negative-prompt", "grain")
    assert result.code == 2
    assert "--negative-prompt would have no effect on the model toy" in result.error


def test_options_without_effect_are_warned_about_under_auto(cli: Cli, clip: Path) -> None:
    result = cli("plan", clip, "--steps", "3", "--device", "cpu")
    assert result.code == 0
    assert result.err.splitlines() == ["warning: --steps would have no effect on the model nano"]


@pytest.mark.parametrize(
    ("name", "has_front"), [("o.mkv", False), ("o%d.png", False), ("o.mp4", True), ("o.mov", True)]
)
def test_an_index_in_front_that_a_container_does_not_have(
    cli: Cli, clip: Path, name: str, has_front: bool
) -> None:
    result = cli("plan", clip, clip.with_name(name), "--no-faststart", "--device", "cpu")
    said = "warning: --no-faststart would have no effect: only .mp4 and .mov have an index"
    assert (result.code, said in result.err) == (0, not has_front)


@pytest.mark.parametrize(
    "given", [["--steps", "12"], ["--parity"], ["--cfg", "3", "--prompt", "a bee"], ["--seed", "4"]]
)
def test_options_without_effect_are_dropped_under_auto(clip: Path, given: list[str]) -> None:
    values = upscale_options.option_command().main(
        [*given, "--device", "cpu"], standalone_mode=False
    )
    plain = plan_video(clip, None, upscale_options.collect_options(device="cpu"))
    job = plan_video(clip, None, upscale_options.collect_options(**values))
    assert job.options == plain.options
    assert job.plan.segments == plain.plan.segments


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["--scale", "1.5"], (48, 36)),
        (["-s", "3"], (96, 72)),
        (["--scale", "0.5"], (16, 12)),
        (["--resolution", "48"], (64, 48)),
        (["--width", "40", "--height", "20"], (40, 20)),
        (["--height", "36"], (48, 36)),
        (["--scale", "4", "--max-resolution", "64"], (64, 48)),
    ],
)
def test_sizes(
    cli: Cli, clip: Path, toy_path: Path, arguments: list[str], size: tuple[int, int]
) -> None:
    output = clip.with_name("out.mp4")
    quick = ["--model", toy_path, "--steps", "1", "--cfg", "1", "--frames", "1", "--quiet"]
    result = cli("upscale", clip, output, *quick, *arguments)
    assert (result.code, result.err) == (0, "")
    info = probe(output)
    assert (info.width, info.height) == size


@pytest.mark.parametrize(
    ("arguments", "frames"),
    [
        (["--start", "0:00.2", "--frames", "3"], "3 of 12"),
        (["-ss", "0.08", "-to", "0:0:0.2"], "3 of 12"),
        (["-ss", "0.08", "-t", "0.2"], "5 of 12"),
        (["--end", "0.2"], "5 of 12"),
        (["--frames", "99"], "12 of 12"),
    ],
)
def test_ranges(cli: Cli, clip: Path, arguments: list[str], frames: str) -> None:
    result = cli("plan", clip, *arguments)
    assert result.code == 0
    assert f"32x24, {frames} frames" in result.out


def test_encoder_options_reach_the_encoder(cli: Cli, clip: Path) -> None:
    extra = ["-e", "tune=film", "-e", "x264-params=ref=1"]
    result = cli("plan", clip, "x.mkv", "--json", "--crf", "30", "--preset", "fast", *extra)
    assert result.code == 0
    options = dict(json.loads(result.out)["encoder"]["options"])
    assert options == {
        "crf": "30",
        "preset": "fast",
        "tune": "film",
        "mbtree": "0",
        "x264-params": "ref=1",
    }


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("90", 90.0),
        ("1:02.5", 62.5),
        ("1:00:01", 3601.0),
        (" 2 ", 2.0),
        ("0:90", 90.0),
    ],
)
def test_times(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "a", "1:", ":1", "-1", "1:-1", "nan", "inf", "1:2:3:4"])
def test_no_times(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is not a time"):
        parse_time(text)


def test_pairs() -> None:
    assert parse_pair("a=b") == ("a", "b")
    assert parse_pair("x264-params=keyint=5:ref=1") == ("x264-params", "keyint=5:ref=1")
    assert parse_pair("a=") == ("a", "")


def test_numbers() -> None:
    assert parse_number("1.5") == 1.5
    assert parse_count("8") == 8
    with pytest.raises(typer.BadParameter, match=r"'8\.0' is not an integer"):
        parse_count("8.0")


def test_the_default_options_of_the_command_line_are_those_of_the_library() -> None:
    assert upscale_options.collect_options() == UpscaleOptions()


def test_values_reach_the_fields_of_their_flags(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("two\nlines")
    typed = (
        f"--scale 2 -ss 1:00 --model toy --weights-dir w --offline --prompt-file {words} --speed fast --sharpen 0.5 "
        "--guidance-interval 0.2:0.8 --color-fix none --memory-limit 1KiB --compile --tile 64 --no-scene-detect "
        "-e a=b -e c=d --subtitles none --no-chapters --no-provenance -y --no-resume --work-dir d --workers 2"
    )
    given = upscale_options.option_command().main(typed.split(), standalone_mode=False)
    assert upscale_options.collect_options(**given) == UpscaleOptions(
        model="toy",
        size=SizeOptions(scale=2),
        range=RangeOptions(start_s=60),
        sampling=SamplingOptions(prompt="two lines", speed="fast", guidance_interval=(0.2, 0.8)),
        windows=WindowOptions(tile_px=64, scene_detect=False),
        look=LookOptions(color_fix="none", sharpen=0.5),
        encode=EncodeOptions(extra=(("a", "b"), ("c", "d"))),
        streams=StreamOptions(subtitles="none", chapters=False, provenance=False),
        device=DeviceOptions(memory_limit_bytes=1024, compile=True),
        weights=WeightsOptions(folder=Path("w"), offline=True),
        resume=ResumeOptions(resume=False, work_dir=Path("d")),
        workers=WorkerOptions(count=2),
        overwrite=True,
    )
    with pytest.raises(TypeError, match="no options: blur"):
        upscale_options.collect_options(blur=1)


@pytest.mark.parametrize("value", ["9" * 5000, "1" + "0" * 400, "1e400", "nan", "-inf", "1/1e9"])
def test_absurd_numbers_are_refused_in_words(cli: Cli, clip: Path, value: str) -> None:
    for option in option_command().params:
        if option.metavar not in ("NUMBER", "N", "TIME", "SIZE", "RATE", "A:B"):
            continue
        flag = option.opts[0]
        result = cli("plan", clip, "--model", "toy", flag, value)
        # Some have no upper bound, and need none.
        assert result.code in (0, 2, 3), (flag, result.err)
        assert result.code == 0 or result.error
