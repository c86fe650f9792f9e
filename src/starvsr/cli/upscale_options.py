"""The options that `upscale` and `plan` share: their flags, help texts, and how they become `UpscaleOptions`."""

from __future__ import annotations

import functools
import inspect
import math
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from starvsr.errors import UsageError
from starvsr.media.textfiles import read_text
from starvsr.options import (
    DeviceOptions,
    EncodeOptions,
    InputOptions,
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


class SolverMode(str, Enum):
    """`--solver-mode`."""

    fast = "fast"
    normal = "normal"


class Speed(str, Enum):
    """`--speed`."""

    exact = "exact"
    balanced = "balanced"
    fast = "fast"


class ColorFix(str, Enum):
    """`--color-fix`."""

    adain = "adain"
    wavelet = "wavelet"
    none = "none"


class Deinterlace(str, Enum):
    """`--deinterlace`."""

    auto = "auto"
    on = "on"
    off = "off"


class Attention(str, Enum):
    """`--attention`."""

    auto = "auto"
    sdpa = "sdpa"
    xformers = "xformers"


class Precision(str, Enum):
    """`--precision`."""

    auto = "auto"
    fp32 = "fp32"
    fp16 = "fp16"
    bf16 = "bf16"


class Offload(str, Enum):
    """`--offload`."""

    auto = "auto"
    none = "none"
    model = "model"
    block = "block"


class Copying(str, Enum):
    """`--subtitles`."""

    copy = "copy"
    none = "none"


def parse_number(text: str) -> float:
    """A number; whether it is in the option's range is checked with all options together."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number: give one such as 2 or 1.5") from None


def parse_rate(text: str) -> Fraction:
    """Frames per second from `25`, `23.976` or `24000/1001`."""
    try:
        return Fraction(text).limit_denominator(100_000)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(
            f"{text!r} is not a frame rate: give one such as 25 or 24000/1001"
        ) from None


def parse_count(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number: give one such as 8") from None


def parse_time(text: str) -> float:
    """Seconds from `90`, `90.5`, `1:30` or `0:01:30.5`."""
    parts = text.strip().split(":")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if not 1 <= len(values) <= 3 or not all(0 <= value < math.inf for value in values):
        raise typer.BadParameter(f"{text!r} is not a time: give seconds or hh:mm:ss.s")
    seconds = 0.0
    for value in values:
        seconds = 60 * seconds + value
    return seconds


def parse_shares(text: str) -> tuple[float, float]:
    """Two shares from `0.2:0.8`."""
    first, _, last = text.partition(":")
    try:
        return float(first), float(last)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an interval: give one such as 0.2:0.8") from None


def parse_pair(text: str) -> tuple[str, str]:
    """`key=value` of `-e`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is not an encoder option: give key=value")
    return key, value


def parse_size(text: str) -> int:
    """Bytes from `8GB`, `7.5GiB` or `900MB`; `G` alone is GiB."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGT])(iB|B)?\s*", text, re.IGNORECASE)
    if not match or not float(match[1]):
        raise typer.BadParameter(f"{text!r} is not a size: give one such as 8GB, 7.5GiB or 900MB")
    decimal = (match[3] or "").lower() == "b"
    power = "KMGT".index(match[2].upper()) + 1
    return int(float(match[1]) * (1000 if decimal else 1024) ** power)


def read_prompt(text: str | None, file: Path | None) -> str | None:
    """What `--prompt` or `--prompt-file` gives, on one line. Raises UsageError for both or an unreadable file."""
    if file is None:
        return text
    if text is not None:
        raise UsageError("--prompt and --prompt-file contradict each other: give one of them")
    try:
        return " ".join(read_text(file).split())
    except ValueError as error:
        raise UsageError(f"--prompt-file {file} {error}") from error


_NUMBER = {"parser": parse_number, "metavar": "NUMBER"}
_COUNT = {"parser": parse_count, "metavar": "N"}
_TIME = {"parser": parse_time, "metavar": "TIME"}


def _option(*flags: str, group: str, help: str, **more: Any) -> Any:
    return typer.Option(*flags, help=help, rich_help_panel=group, **more)


def _size(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Size", help=help, **more)


def _range(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Range", help=help, **more)


def _model(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Model and sampling", help=help, **more)


def _memory(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Device and memory", help=help, **more)


def _window(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Windows", help=help, **more)


def _encode(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Encoding", help=help, **more)


def _streams(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Other streams", help=help, **more)


def _job(*flags: str, help: str, **more: Any) -> Any:
    return _option(*flags, group="Job", help=help, **more)


# fmt: off
def collect_options(
    *,
    scale: Annotated[float | None, _size("--scale", "-s", help="Factor on both sides, any number above 0 (default 4).", **_NUMBER)] = None,  # noqa: E501
    resolution: Annotated[int | None, _size("--resolution", help="Short side of the output, pixels (default: by --scale).", **_COUNT)] = None,  # noqa: E501
    width: Annotated[int | None, _size("--width", help="Columns of the output, pixels (default: by --scale or --height).", **_COUNT)] = None,  # noqa: E501
    height: Annotated[int | None, _size("--height", help="Rows of the output, pixels (default: by --scale or --width).", **_COUNT)] = None,  # noqa: E501
    max_resolution: Annotated[int | None, _size("--max-resolution", help="Largest long side of the output, pixels (default: none).", **_COUNT)] = None,  # noqa: E501
    fps: Annotated[Fraction | None, _range("--fps", help="Frames per second of an image sequence, such as 24000/1001 (default 25).", parser=parse_rate, metavar="RATE")] = None,  # noqa: E501
    start: Annotated[float | None, _range("--start", "-ss", help="Begin here: seconds or hh:mm:ss.s (default 0).", **_TIME)] = None,  # noqa: E501
    end: Annotated[float | None, _range("--end", "-to", help="Stop here (default: the end).", **_TIME)] = None,
    duration: Annotated[float | None, _range("--duration", "-t", help="Restore this much (default: all).", **_TIME)] = None,  # noqa: E501
    frames: Annotated[int | None, _range("--frames", help="Restore at most this many frames (default: all).", **_COUNT)] = None,  # noqa: E501
    model: Annotated[str, _model("--model", "-m", help="auto, nano, star-light, star-heavy, star-cogvideox, toy, or the path of a model file.")] = "auto",  # noqa: E501
    weights_dir: Annotated[Path | None, _model("--weights-dir", help="Where download-weights put its files (default: STARVSR_WEIGHTS, else starvsr in Hugging Face's home).", metavar="DIR")] = None,  # noqa: E501
    offline: Annotated[bool, _model("--offline", help="Never fetch anything; without it, missing weights of a model that was asked for are downloaded first.")] = False,  # noqa: E501
    prompt: Annotated[str | None, _model("--prompt", "-p", help="What the video shows (default: the model's).", metavar="TEXT")] = None,  # noqa: E501
    prompt_file: Annotated[Path | None, _model("--prompt-file", help="A text file that holds the prompt (default: none).", metavar="FILE")] = None,  # noqa: E501
    negative_prompt: Annotated[str | None, _model("--negative-prompt", help="What it must not look like (default: the model's).", metavar="TEXT")] = None,  # noqa: E501
    steps: Annotated[int | None, _model("--steps", help="Sampling steps (default: the model's).", **_COUNT)] = None,
    solver_mode: Annotated[SolverMode | None, _model("--solver-mode", help="How the steps are spread (default fast).")] = None,  # noqa: E501
    cfg: Annotated[float | None, _model("--cfg", help="Guidance scale, 1 is none (default: the model's).", **_NUMBER)] = None,  # noqa: E501
    cfg_rescale: Annotated[float | None, _model("--cfg-rescale", help="Share 0..1 of the guided deviation brought back (default: the model's).", **_NUMBER)] = None,  # noqa: E501
    speed: Annotated[Speed, _model("--speed", help="Compute less for nearly the same picture, by a tested set of the options for that; those that are given come first.")] = Speed.exact,  # noqa: E501
    guidance_interval: Annotated[Any, _model("--guidance-interval", help="Guidance only in these steps, as shares of all; others cost half (default 0:1, all).", parser=parse_shares, metavar="A:B")] = None,  # noqa: E501
    cache: Annotated[float | None, _model("--cache", help="Leave out steps while the expected error, a share of the latent's size, stays below this, such as 0.01 (default 0, none).", **_NUMBER)] = None,  # noqa: E501
    noise_level: Annotated[int | None, _model("--noise-level", help="Noise added before sampling, 1..1000 (default: the model's).", **_COUNT)] = None,  # noqa: E501
    seed: Annotated[int | None, _model("--seed", help="Seed of all noise (default 666).", **_COUNT)] = None,
    color_fix: Annotated[ColorFix | None, _model("--color-fix", help="Match colours to the input (default: the model's).")] = None,  # noqa: E501
    blend: Annotated[float, _model("--blend", help="Share 0..1 of the plainly upsampled input.", **_NUMBER)] = 0.0,
    sharpen: Annotated[float, _model("--sharpen", help="How much stronger fine detail gets, such as 0.5; below 0 it gets weaker, such as -0.3 (-1..2).", **_NUMBER)] = 0.0,  # noqa: E501
    deinterlace: Annotated[Deinterlace, _model("--deinterlace", help="Make whole pictures of fields: of frames that say they are interlaced (auto), of all (on), of none (off).")] = Deinterlace.auto,  # noqa: E501
    device: Annotated[str, _memory("--device", help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    attention: Annotated[Attention, _memory("--attention", help="Attention kernels; xformers needs CUDA.")] = Attention.auto,  # noqa: E501
    precision: Annotated[Precision, _memory("--precision", help="Of the network; auto is fp32 on a processor, elsewhere fp16 or bf16, as the model takes it.")] = Precision.auto,  # noqa: E501
    memory_limit: Annotated[int | None, _memory("--memory-limit", help="Most device memory to use, such as 8GB (default: all).", parser=parse_size, metavar="SIZE")] = None,  # noqa: E501
    offload: Annotated[Offload, _memory("--offload", help="What waits in main memory until it is used: none; model, the network or the autoencoder; block, every block of the network.")] = Offload.auto,  # noqa: E501
    compile: Annotated[bool, _memory("--compile", help="Compile the network for the device: minutes at first, seconds once that is kept on disk; for graphics cards, little is gained on a processor. Needs a C++ compiler, on a graphics card Triton.")] = False,  # noqa: E501
    hwaccel: Annotated[str, _memory("--hwaccel", help="Decode the input by such a device: none, auto, or a kind such as cuda, qsv, vaapi or videotoolbox.", metavar="KIND")] = "none",  # noqa: E501
    chunk_frames: Annotated[int | None, _window("--chunk-frames", help="Frames the network sees at once (default: the model's).", **_COUNT)] = None,  # noqa: E501
    chunk_overlap: Annotated[int | None, _window("--chunk-overlap", help="Frames that neighbouring chunks share (default: the model's).", **_COUNT)] = None,  # noqa: E501
    tile: Annotated[int | None, _window("--tile", help="Side of a tile in output pixels, 0 for none (default: the model's).", **_COUNT)] = None,  # noqa: E501
    tile_overlap: Annotated[int | None, _window("--tile-overlap", help="Output pixels that neighbouring tiles share (default: the model's).", **_COUNT)] = None,  # noqa: E501
    segment_frames: Annotated[int | None, _window("--segment-frames", help="Longest run of frames held in memory (default: by size).", **_COUNT)] = None,  # noqa: E501
    scene_detect: Annotated[bool, _window("--scene-detect/--no-scene-detect", help="Cut at shot changes, so that nothing is blended across one.")] = True,  # noqa: E501
    parity: Annotated[bool, _window("--parity", help="As the published code: its white padding, hard cuts in time, no tiles, decoding in groups of 3 frames, 8-bit frames by truncation. Not its random numbers: a seed gives other noise there.")] = False,  # noqa: E501
    codec: Annotated[str, _encode("--codec", "-c", help="Video encoder, by ffmpeg's name; auto is libx264, for .webm libvpx-vp9 or, above 8 bits, libsvtav1, and of images that of their ending.")] = "auto",  # noqa: E501
    crf: Annotated[float | None, _encode("--crf", help="Constant rate factor, lower is better (default 17).", **_NUMBER)] = None,  # noqa: E501
    preset: Annotated[str | None, _encode("--preset", help="Encoder preset (default medium).")] = None,
    pix_fmt: Annotated[str, _encode("--pix-fmt", help="Pixel format; auto keeps the source's depth and subsampling.")] = "auto",  # noqa: E501
    extra: Annotated[list[Any] | None, _encode("-e", parser=parse_pair, metavar="KEY=VALUE", help="One more encoder option; repeatable (default: none).")] = None,  # noqa: E501
    audio: Annotated[str, _streams("--audio", help="Audio streams: copy, none, or an encoder by ffmpeg's name.", metavar="copy|none|CODEC")] = "copy",  # noqa: E501
    subtitles: Annotated[Copying, _streams("--subtitles", help="Subtitle streams.")] = Copying.copy,
    no_chapters: Annotated[bool, _streams("--no-chapters", help="Leave chapters out.")] = False,
    no_metadata: Annotated[bool, _streams("--no-metadata", help="Leave titles and other tags out.")] = False,
    no_attachments: Annotated[bool, _streams("--no-attachments", help="Leave fonts and cover pictures out.")] = False,
    no_provenance: Annotated[bool, _streams("--no-provenance", help="Do not say in the tags which version, model and options made the file.")] = False,  # noqa: E501
    overwrite: Annotated[bool, _job("--overwrite", "-y", help="Replace an existing output.")] = False,
    resume: Annotated[bool, _job("--resume/--no-resume", help="Go on from what an interrupted run of the same job has finished.")] = True,  # noqa: E501
    work_dir: Annotated[Path | None, _job("--work-dir", help="Where finished parts are kept until the end (default: OUTPUT.starvsr).", metavar="DIR")] = None,  # noqa: E501
    workers: Annotated[int, _job("--workers", help="Processes that restore segments side by side, one per GPU where there are several.", **_COUNT)] = 1,  # noqa: E501
    cluster: Annotated[str | None, _job("--cluster", help="Restore segments on a Ray cluster: its address, or auto for the one that this machine belongs to (default: none).", metavar="ADDRESS")] = None,  # noqa: E501
) -> UpscaleOptions:
    """All options of one job, checked. Raises UsageError for a value that is not allowed."""
    return UpscaleOptions(
        model=model,
        input=InputOptions(fps),
        size=SizeOptions(scale, resolution, width, height, max_resolution),
        range=RangeOptions(start, end, duration, frames),
        sampling=SamplingOptions(
            steps,
            solver_mode.value if solver_mode else None,
            cfg,
            cfg_rescale,
            noise_level,
            seed,
            read_prompt(prompt, prompt_file),
            negative_prompt,
            guidance_interval,
            cache,
            speed.value,
        ),
        windows=WindowOptions(chunk_frames, chunk_overlap, tile, tile_overlap, segment_frames, scene_detect, parity),
        look=LookOptions(color_fix.value if color_fix else None, blend, sharpen, deinterlace.value),
        encode=EncodeOptions(codec, crf, preset, pix_fmt, tuple(extra or ())),
        streams=StreamOptions(
            audio,
            subtitles.value,
            not no_chapters,
            not no_metadata,
            not no_attachments,
            not no_provenance,
        ),
        device=DeviceOptions(device, attention.value, precision.value, offload.value, memory_limit, hwaccel, compile),
        weights=WeightsOptions(weights_dir, offline),
        resume=ResumeOptions(resume, work_dir),
        workers=WorkerOptions(workers, cluster),
        overwrite=overwrite,
    )
# fmt: on


def takes_upscale_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command every flag of `collect_options`; it receives them as its parameter `options`.

    Where it has a parameter `given`, and `context`, that gets the values that were written, by their names in
    `collect_options`.
    """
    shared = _parameters(collect_options)
    every = _parameters(command)
    own = [p for name, p in every.items() if name not in ("options", "given")]

    @functools.wraps(command)
    def wrapper(**values: Any) -> int:
        chosen = {name: values.pop(name) for name in shared}
        if "given" in every:
            values["given"] = _written(values["context"], chosen)
        return command(options=collect_options(**chosen), **values)

    _sign(wrapper, [*own, *shared.values()])
    return wrapper


@functools.cache
def option_command() -> Any:
    """The flags of `collect_options` as a command that returns the values that were written, by their names there."""

    def written(context: typer.Context, **values: Any) -> dict[str, Any]:
        return _written(context, values)

    _sign(written, [_parameters(written)["context"], *_parameters(collect_options).values()])
    app = typer.Typer(add_completion=False)
    app.command()(written)
    return typer.main.get_command(app)


def _written(context: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    def source(name: str) -> str:
        found = context.get_parameter_source(name)
        return found.name if found else ""

    return {name: value for name, value in values.items() if source(name) == "COMMANDLINE"}


def _sign(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> None:
    """Let a function of keyword arguments say which ones, as typer reads them."""
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    function.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in named}


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        name: parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
    }
