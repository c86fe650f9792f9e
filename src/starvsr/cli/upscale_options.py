"""The options shared by `upscale` and `plan`: flags, help, and conversion to `UpscaleOptions`."""

# One line per option.
# ruff: noqa: E501
from __future__ import annotations

import functools
import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from starvsr.cli import completion
from starvsr.errors import UsageError
from starvsr.media.textfiles import read_text
from starvsr.options import (
    DEFAULT_CRF,
    DEFAULT_FPS,
    DEFAULT_PRESET,
    DEFAULT_SCALE,
    DEFAULT_SEED,
    DEFAULT_SOLVER_MODE,
    RATE_DIVISOR,
    UpscaleOptions,
    flag_of,
)


def parse_number(text: str) -> float:
    """A number; its range is checked with all options together."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number: give one such as 2 or 1.5") from None


def parse_rate(text: str) -> Fraction:
    """Frames per second from `25`, `23.976` or `24000/1001`."""
    try:
        return Fraction(text).limit_denominator(RATE_DIVISOR)
    except (ValueError, ZeroDivisionError):
        raise typer.BadParameter(
            f"{text!r} is not a frame rate: give one such as 25 or 24000/1001"
        ) from None


def parse_count(text: str) -> int:
    """An integer."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an integer: give one such as 8") from None


# Short sides at 16:9.
_RESOLUTIONS = {"4k": 2160, "5k": 2880, "8k": 4320}


def parse_resolution(text: str) -> int:
    """The short side in pixels from `1080`, `1080p` or `4k`."""
    word = text.strip().lower()
    if word in _RESOLUTIONS:
        return _RESOLUTIONS[word]
    try:
        return int(word.removesuffix("p"))
    except ValueError:
        raise typer.BadParameter(
            f"{text!r} is not a resolution: give the short side, such as 1080, 1080p or 4k, or --width and --height"
        ) from None


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
    """Two fractions from `0.2:0.8`."""
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
    """The prompt of `--prompt` or `--prompt-file`, on one line. Raises UsageError for both or an unreadable file."""
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


def _option(panel: str, flag: str, *more: str, **settings: Any) -> tuple[str, Any]:
    return flag, typer.Option(flag, *more, rich_help_panel=panel, **settings)


_size = partial(_option, "Size")
_range = partial(_option, "Range")
_model = partial(_option, "Model and sampling")
_memory = partial(_option, "Device and memory")
_window = partial(_option, "Windows")
_encode = partial(_option, "Encoding")
_streams = partial(_option, "Other streams")
_job = partial(_option, "Job")

# fmt: off
# Types, allowed values and defaults are those of the fields of `UpscaleOptions` and its groups.
_OPTIONS = dict((
    _size("--scale", "-s", help=f"Factor of both sides, any number above 0 (default {DEFAULT_SCALE:g}).", **_NUMBER),
    _size("--resolution", help="Short side of the output: pixels, 1080p or 4k (default: by --scale).", parser=parse_resolution, autocompletion=completion.resolutions, metavar="N"),
    _size("--width", help="Width of the output, pixels (default: by --scale or --height).", **_COUNT),
    _size("--height", help="Height of the output, pixels (default: by --scale or --width).", **_COUNT),
    _size("--max-resolution", help="Maximum long side of the output, pixels (default: none).", **_COUNT),
    _size("--model-scale", help="Factor at which the model restores; the result is then resized to the output (default: the output's own).", **_NUMBER),
    _range("--fps", help=f"Frames per second of an image sequence, such as 24000/1001 (default {DEFAULT_FPS}), or of a raw stream (default: as it states).", parser=parse_rate, metavar="RATE"),
    _range("--video-stream", help="Which video stream to restore, as in ffmpeg's v:N (default: the film, see docs/fidelity.md).", **_COUNT),
    _range("--gaps", help="Gaps of over 10 s in all streams: auto leaves out those of a recording's clock that jumps, close all, keep none."),
    _range("--start", "-ss", help="Start time: seconds or hh:mm:ss.s (default 0).", **_TIME),
    _range("--end", "-to", help="End time (default: the end).", **_TIME),
    _range("--duration", "-t", help="Duration to restore (default: all).", **_TIME),
    _range("--frames", help="Restore at most this many frames (default: all).", **_COUNT),
    _model("--model", "-m", help="auto, nano, star-light, star-heavy, star-cogvideox, toy, or the path of a model file, also as NAME=PATH.", autocompletion=completion.models, metavar="NAME"),
    _model("--weights-dir", help="Weights folder (default: STARVSR_WEIGHTS, else starvsr in Hugging Face's home).", metavar="DIR"),
    _model("--offline", help="Never download anything; otherwise missing weights of a named model are downloaded first."),
    _model("--prompt", "-p", help="What the video shows (default: the model's).", metavar="TEXT"),
    _model("--prompt-file", help="A text file with the prompt (default: none).", metavar="FILE"),
    _model("--negative-prompt", help="What the video must not look like (default: the model's).", metavar="TEXT"),
    _model("--steps", help="Sampling steps (default: the model's).", **_COUNT),
    _model("--solver-mode", help=f"Spacing of the steps (default {DEFAULT_SOLVER_MODE})."),
    _model("--cfg", help="Guidance scale, 1 is none (default: the model's).", **_NUMBER),
    _model("--cfg-rescale", help="CFG rescale factor, 0 to 1 (default: the model's).", **_NUMBER),
    _model("--speed", help="Tested presets that compute less for nearly the same picture, or with draft for a softer one; explicit options take precedence."),
    _model("--guidance-interval", help="Apply guidance only in these steps, as fractions of all; others cost half (default 0:1, all).", parser=parse_shares, metavar="A:B"),
    _model("--cache", help="Skip steps while the expected error, relative to the latent's magnitude, stays below this, such as 0.01 (default 0, none).", **_NUMBER),
    _model("--noise-level", help="Noise added before sampling, 1 to 1000 (default: the model's).", **_COUNT),
    _model("--seed", help=f"Seed of all noise (default {DEFAULT_SEED}).", **_COUNT),
    _model("--color-fix", help="Match colours to the input (default: the model's)."),
    _model("--detail", help="For models whose weights have both: from the most faithful picture, 0, to the most detailed, 1 (default: 1).", **_NUMBER),
    _model("--blend", help="Fraction of the plainly upsampled input in the output, 0 to 1.", **_NUMBER),
    _model("--sharpen", help="Amplify fine detail, or attenuate it below 0: -1 to 2, such as 0.5.", **_NUMBER),
    _model("--deinterlace", help="Deinterlace frames flagged as interlaced (auto), all frames (on) or none (off); field: one frame for each of their fields."),
    _model("--detelecine", help="Restore the film frames that 3:2 pull-down has spread over frames of video: where it is certain (auto), with less proof (on), or never (off)."),
    _model("--repeats", help="Restore a picture that several frames show once: of equal frames (exact), of frames that differ by compression alone, as in animation (near), or every frame for itself (off)."),
    _memory("--device", help="auto, cpu, cuda, cuda:N or mps.", autocompletion=completion.devices, metavar="NAME"),
    _memory("--attention", help="Attention kernels; xformers needs CUDA."),
    _memory("--precision", help="Precision of the network; auto is bf16 or fp32 on the CPU, elsewhere fp16 or bf16, depending on the model and the CPU."),
    _memory("--memory-limit", help="Maximum device memory to use, such as 8GB (default: all).", parser=parse_size, metavar="SIZE"),
    _memory("--offload", help="What stays in RAM until used: none; model, the network or the autoencoder; block, every block of the network."),
    _memory("--compile", help="Compile the network: takes minutes, then seconds once cached on disk; for GPUs, little gain on the CPU. Needs a C++ compiler, on a GPU Triton."),
    _memory("--hwaccel", help="Hardware decoding of the input: none, auto, or a type such as cuda, qsv, vaapi or videotoolbox.", autocompletion=completion.hwaccels, metavar="KIND"),
    _window("--chunk-frames", help="Frames the network sees at once (default: the model's).", **_COUNT),
    _window("--chunk-overlap", help="Frames that neighbouring chunks share (default: the model's).", **_COUNT),
    _window("--tile", help="Side of a tile in output pixels, 0 for none (default: the model's).", **_COUNT),
    _window("--tile-overlap", help="Output pixels that neighbouring tiles share (default: the model's).", **_COUNT),
    _window("--segment-frames", help="Maximum frames of a segment, which are in memory at once (default: by size).", **_COUNT),
    _window("--scene-detect/--no-scene-detect", help="Split segments at shot changes, so that nothing is blended across one."),
    _window("--parity", help="Work like the published code: white padding, hard cuts in time, no tiles, decoding in groups of 3 frames, 8-bit frames by truncation. Random numbers differ from its."),
    _encode("--codec", "-c", help="Video encoder, by ffmpeg's name; auto is libx264, for HDR (in .mp4 and .mov above 8 bits) libx265, for .webm libvpx-vp9 or, above 8 bits, libsvtav1, and for images by extension.", autocompletion=completion.codecs, metavar="NAME"),
    _encode("--crf", help=f"Constant rate factor, lower is better (default {DEFAULT_CRF}).", **_NUMBER),
    _encode("--preset", help=f"Encoder preset (default {DEFAULT_PRESET} for x264, else the encoder's).", autocompletion=completion.presets, metavar="NAME"),
    _encode("--pix-fmt", help="Pixel format: source keeps bit depth and subsampling; auto too, but 4:2:0 in .mp4, .mov and .webm; compatible is what most players decode; or a name such as yuv422p10le.", autocompletion=completion.pixel_formats, metavar="NAME"),
    _encode("-e", parser=parse_pair, metavar="KEY=VALUE", help="One more encoder option; repeatable (default: none)."),
    _streams("--audio", help="Audio streams: copy, none, or an encoder by ffmpeg's name.", autocompletion=completion.audio, metavar="copy|none|CODEC"),
    _streams("--subtitles", help="Subtitle streams."),
    _streams("--no-chapters", help="Leave chapters out."),
    _streams("--no-metadata", help="Leave titles and other tags out."),
    _streams("--no-attachments", help="Leave fonts and cover art out."),
    _streams("--no-faststart", help="Leave the index of .mp4 and .mov at the end; it is in front so that browsers play while loading."),
    _streams("--no-provenance", help="Do not write version, model and options to the tags."),
    _job("--overwrite", "-y", help="Replace an existing output."),
    _job("--resume/--no-resume", help="Resume an interrupted run of the same job, or start over."),
    _job("--work-dir", help="Folder for finished segments until the end (default: OUTPUT.starvsr).", metavar="DIR"),
    _job("--workers", help="Processes that restore segments in parallel, one per GPU if there are several.", **_COUNT),
    _job("--cluster", help="Restore segments on a Ray cluster: its address, or auto for this machine's (default: none).", autocompletion=completion.clusters, metavar="ADDRESS"),
))
# fmt: on


# Types that typer does not support.
_TYPES = {"--guidance-interval": Any, "-e": list[Any] | None}


def collect_options(**values: Any) -> UpscaleOptions:
    """Checked options of one job from values by the names of `PARAMETERS`; None is not given. Raises UsageError."""
    if unknown := values.keys() - PARAMETERS.keys():
        raise TypeError(f"no options: {', '.join(sorted(unknown))}")
    prompt = read_prompt(values.get("prompt"), values.pop("prompt_file", None))
    options: UpscaleOptions = _collected(UpscaleOptions, {**values, "prompt": prompt})
    return options


def _collected(group: Any, values: Mapping[str, Any]) -> Any:
    """A group of options, with the groups in it."""
    chosen = {}
    for name, kind, _ in _fields(group):
        flag = flag_of(name)
        value = _collected(kind, values) if is_dataclass(kind) else values.get(_name(flag))
        if value is not None:
            value = tuple(value) if isinstance(value, list) else value
            chosen[name] = not value if flag.startswith("--no-") else value
    return group(**chosen)


def _fields(group: Any) -> Iterator[tuple[str, Any, Any]]:
    """Name, type and default of every field."""
    hints = typing.get_type_hints(group)
    return ((field.name, hints[field.name], field.default) for field in fields(group))


def _leaves(group: Any) -> Iterator[tuple[str, Any, Any]]:
    """As `_fields`, with groups replaced by their fields."""
    for field in _fields(group):
        yield from _leaves(field[1]) if is_dataclass(field[1]) else [field]


def _name(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _parameters_of_options() -> Iterator[inspect.Parameter]:
    """A parameter for each of `_OPTIONS`, as typer reads them."""
    found = {flag_of(name): (kind, default) for name, kind, default in _leaves(UpscaleOptions)}
    # The one option that is not a field: `read_prompt` converts it.
    found["--prompt-file"] = (Path | None, None)
    for flags, option in _OPTIONS.items():
        flag = flags.partition("/")[0]
        kind, default = found.pop(flag)
        if flag.startswith("--no-"):
            default = not default
        yield inspect.Parameter(
            _name(flag),
            inspect.Parameter.KEYWORD_ONLY,
            default=None if default == () else default,
            annotation=Annotated[_TYPES.get(flag, kind), option],
        )
    if found:
        raise TypeError(f"options without an entry: {', '.join(found)}")


PARAMETERS = {parameter.name: parameter for parameter in _parameters_of_options()}
"""The options of a job by flag name, without leading dashes and with `_` for inner ones."""


def takes_upscale_options(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command every flag of `PARAMETERS`; it receives them as its parameter `options`.

    A parameter `given` (with `context`) receives the explicitly given values, by name.
    """
    every = _parameters(command)
    own = [p for name, p in every.items() if name not in ("options", "given")]

    @functools.wraps(command)
    def wrapper(**values: Any) -> int:
        chosen = {name: values.pop(name) for name in PARAMETERS}
        if "given" in every:
            values["given"] = _written(values["context"], chosen)
        return command(options=collect_options(**chosen), **values)

    _sign(wrapper, [*own, *PARAMETERS.values()])
    return wrapper


@functools.cache
def option_command() -> Any:
    """The flags of `PARAMETERS` as a command that returns the explicitly given values, by name."""

    def written(context: typer.Context, **values: Any) -> dict[str, Any]:
        return _written(context, values)

    _sign(written, [_parameters(written)["context"], *PARAMETERS.values()])
    app = typer.Typer(add_completion=False)
    app.command()(written)
    return typer.main.get_command(app)


def _written(context: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    def source(name: str) -> str:
        found = context.get_parameter_source(name)
        return found.name if found else ""

    return {name: value for name, value in values.items() if source(name) == "COMMANDLINE"}


def _sign(function: Callable[..., Any], parameters: Sequence[inspect.Parameter]) -> None:
    """Set a function's signature for typer to read."""
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
    function.__signature__ = inspect.Signature(named)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in named}


def _parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    return {
        name: parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(function).parameters.items()
    }
