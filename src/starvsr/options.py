"""The user's options: frozen dataclasses, checked once; None = taken from the model.

Messages name the command-line flag, since that is what most callers typed.
"""

from __future__ import annotations

import math
import re
import typing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from starvsr.errors import UsageError

SolverMode = Literal["fast", "normal"]
Speed = Literal["exact", "balanced", "fast", "draft"]
ColorFix = Literal["adain", "wavelet", "none"]
Deinterlace = Literal["auto", "on", "off", "field"]
Detelecine = Literal["auto", "on", "off"]
Attention = Literal["auto", "sdpa", "xformers"]
Precision = Literal["auto", "fp32", "fp16", "bf16"]
Offload = Literal["auto", "none", "model", "block"]
Subtitles = Literal["copy", "none"]
Gaps = Literal["auto", "close", "keep"]
Repeats = Literal["exact", "near", "off"]

# Defaults of options that come from neither the model nor the source.
DEFAULT_SCALE, DEFAULT_FPS = 4.0, Fraction(25)
DEFAULT_SOLVER_MODE: SolverMode = "fast"
DEFAULT_SEED = 666
DEFAULT_CODEC, DEFAULT_CRF, DEFAULT_PRESET = "libx264", 17, "veryfast"

BYTES_PER_ELEMENT = {"fp32": 4, "fp16": 2, "bf16": 2}
# Limits of libav's encoders, and of what a rate is divided by.
MOST_SIDE_PX, MOST_FPS, RATE_DIVISOR = 65535, 1000, 100_000
# More workers are a typing error; there are no more noise levels.
MOST_WORKERS, MOST_STEPS = 256, 1000


def _check(ok: bool, flag: str, value: object, allowed: str) -> None:
    if not ok:
        given = f"{value:g}" if isinstance(value, float) else value
        raise UsageError(f"{flag} {given} is not allowed: give {allowed}")


def _check_range(flag: str, value: float | None, least: float, most: float, allowed: str) -> None:
    _check(value is None or least <= value <= most, flag, value, allowed)


def _check_choices(group: Any) -> None:
    """Of the fields whose type is a `Literal`, or one or None."""
    for name, hint in typing.get_type_hints(type(group)).items():
        for kind in (hint, *typing.get_args(hint)):
            if typing.get_origin(kind) is Literal:
                allowed, value = typing.get_args(kind), getattr(group, name)
                ok = value in allowed or value == getattr(type(group), name)
                _check(ok, flag_of(name), repr(value), f"one of {', '.join(allowed)}")


_FLAGS = {"extra": "-e", "folder": "--weights-dir", "count": "--workers"}
_NEGATED = ("chapters", "metadata", "attachments", "faststart", "provenance")


def flag_of(field: str) -> str:
    """The flag of a field of `UpscaleOptions` or of one of its groups; `--no-` flags negate it."""
    usual = "--no-" if field in _NEGATED else "--"
    return _FLAGS.get(field, usual + re.sub("_(px|s|bytes)$", "", field).replace("_", "-"))


def shares_text(shares: tuple[float, float]) -> str:
    """Fractions as typed: `0.2:0.8`."""
    return f"{shares[0]:g}:{shares[1]:g}"


@dataclass(frozen=True)
class InputOptions:
    """How the input is read."""

    fps: Fraction | None = None
    """Of an image sequence or a raw stream (a float becomes a fraction); None is `DEFAULT_FPS`, or what it states."""
    video_stream: int | None = None
    """Index among the file's video streams; None is the film (see `media.choice`)."""
    gaps: Gaps = "auto"
    """Gaps of over 10 s in all streams: `auto` closes those of a recording's clock, `close` all, `keep` none."""

    def __post_init__(self) -> None:
        _check_range("--video-stream", self.video_stream, 0, math.inf, "0 or more")
        ok = self.fps is None or 0 < self.fps <= MOST_FPS
        _check(ok, "--fps", self.fps, f"a rate above 0 and at most {MOST_FPS}")
        if self.fps is not None:
            object.__setattr__(self, "fps", Fraction(self.fps).limit_denominator(RATE_DIVISOR))
        _check_choices(self)


@dataclass(frozen=True)
class SizeOptions:
    """Size of the output; at most one of `scale`, `resolution` and `width`/`height` is given."""

    scale: float | None = None
    """Factor of both sides, above 0 and at most `MOST_SIDE_PX`; `DEFAULT_SCALE` if no size is given."""
    resolution: int | None = None
    """Short side of the output, pixels."""
    width: int | None = None
    """Pixels of the output, as `height`; alone, either follows from the other and the aspect."""
    height: int | None = None
    max_resolution: int | None = None
    """Upper bound of the output's long side, pixels; a larger result is scaled down to it."""
    model_scale: float | None = None
    """Factor at which the model restores, before the result is resized to the output; None is the output's own."""

    def __post_init__(self) -> None:
        factors = f"a number above 0 and at most {MOST_SIDE_PX}, such as 2 or 1.5"
        for flag, factor in (("--scale", self.scale), ("--model-scale", self.model_scale)):
            _check(factor is None or 0 < factor <= MOST_SIDE_PX, flag, factor, factors)
        pixels = f"a number of pixels from 1 to {MOST_SIDE_PX}"
        for name in ("resolution", "width", "height", "max_resolution"):
            _check_range(flag_of(name), getattr(self, name), 1, MOST_SIDE_PX, pixels)
        sides = self.width or self.height
        ways = {"--scale": self.scale, "--resolution": self.resolution, "--width/--height": sides}
        given = [flag for flag, value in ways.items() if value is not None]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} contradict each other: give one of them")


@dataclass(frozen=True)
class RangeOptions:
    """Which part of the input is restored; audio and subtitles are cut with it. Seconds from the first frame."""

    start_s: float | None = None
    end_s: float | None = None
    duration_s: float | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        for flag, time_s in (("--start", self.start_s), ("--end", self.end_s)):
            _check_range(flag, time_s, 0, math.inf, "a time of 0 or more")
        ok = self.duration_s is None or self.duration_s > 0
        _check(ok, "--duration", self.duration_s, "a time above 0")
        _check_range("--frames", self.frames, 1, math.inf, "1 or more")
        if self.end_s is not None and self.duration_s is not None:
            raise UsageError("--end and --duration contradict each other: give one of them")
        start, end = self.start_s or 0.0, self.end_s
        if end is not None and end <= start:
            raise UsageError(f"--end {end:g} is not after --start {start:g}: give a later one")


@dataclass(frozen=True)
class PreviewOptions:
    """Which part of the input a before/after preview shows."""

    seconds: float
    at_s: float | None = None
    """Its start, seconds from the first frame; None is the first frame."""

    def __post_init__(self) -> None:
        _check(self.seconds > 0, "--preview", self.seconds, "a time above 0")
        _check_range("--at", self.at_s, 0, math.inf, "a time of 0 or more")


@dataclass(frozen=True)
class SamplingOptions:
    """How the diffusion is run; what is None comes from the model."""

    steps: int | None = None
    solver_mode: SolverMode | None = None
    """`fast`: 4 of 15 steps above time 500, the rest below; `normal`: evenly spaced."""
    cfg: float | None = None
    """Guidance scale; 1 is none and halves the work."""
    cfg_rescale: float | None = None
    """CFG rescale factor, 0 to 1."""
    noise_level: int | None = None
    """Noise added before sampling: 1 (almost none) to 1000 (all noise)."""
    seed: int | None = None
    """Seed of all noise; noise is drawn per frame, so windows and segments do not change it."""
    prompt: str | None = None
    """What the video shows; the model's quality words are appended."""
    negative_prompt: str | None = None
    guidance_interval: tuple[float, float] | None = None
    """Fractions (0..1) of the steps between which guidance is applied; other steps cost half."""
    cache: float | None = None
    """Largest expected error, relative to the latent, of skipping steps; 0, as None, skips none."""
    speed: Speed = "exact"
    """Preset for options that are not given; `exact` changes nothing."""

    def __post_init__(self) -> None:
        _check_choices(self)
        _check_range("--steps", self.steps, 1, MOST_STEPS, f"1 to {MOST_STEPS}")
        ok = self.cfg is None or 1 <= self.cfg < math.inf
        _check(ok, "--cfg", self.cfg, "1 (no guidance) or more")
        _check_range("--cfg-rescale", self.cfg_rescale, 0, 1, "a fraction from 0 to 1")
        _check_range("--noise-level", self.noise_level, 1, 1000, "1 to 1000")
        _check_range("--cache", self.cache, 0, 1, "an error from 0 (none) to 1")
        interval = self.guidance_interval
        _check(
            interval is None or 0 <= interval[0] < interval[1] <= 1,
            "--guidance-interval",
            interval and shares_text(interval),
            "two increasing fractions of the steps from 0 to 1, such as 0.2:0.8",
        )


@dataclass(frozen=True)
class WindowOptions:
    """How the work is split; what is None comes from the model. Frames in time, output pixels in space."""

    chunk_frames: int | None = None
    chunk_overlap: int | None = None
    tile_px: int | None = None
    """Side of a square tile; 0 is no tiles."""
    tile_overlap_px: int | None = None
    segment_frames: int | None = None
    scene_detect: bool = True
    """Split segments at shot changes, so that nothing is blended across one."""
    parity: bool = False
    """Work as the published code does: white padding to its sizes, no tiles, hard cuts in time, guidance per window,
    decoding in groups of 3 frames, 8-bit frames by truncation, all frames at once regardless of shots."""

    def __post_init__(self) -> None:
        _check_range("--chunk-frames", self.chunk_frames, 1, math.inf, "1 or more")
        _check_range("--chunk-overlap", self.chunk_overlap, 0, math.inf, "0 or more")
        _check_range("--tile", self.tile_px, 0, math.inf, "0 or more")
        _check_range("--tile-overlap", self.tile_overlap_px, 0, math.inf, "0 or more")
        _check_range("--segment-frames", self.segment_frames, 1, math.inf, "1 or more")
        against = ("chunk_overlap", "tile_px", "tile_overlap_px", "segment_frames")
        names = [flag_of(name) for name in against if getattr(self, name) is not None]
        if self.parity and names:
            flags = " and ".join(["--parity", *names])
            raise UsageError(f"{flags} contradict each other: leave one out")


@dataclass(frozen=True)
class LookOptions:
    """Image processing before and after the network."""

    color_fix: ColorFix | None = None
    """Match the colours to the input's: `adain` (mean and deviation), `wavelet` (low frequencies), `none`."""
    detail: float | None = None
    """From the most faithful picture (0) to the most detailed (1, as None) of models whose weights have both."""
    blend: float = 0.0
    """Fraction (0..1) of the plainly upsampled input in the output."""
    sharpen: float = 0.0
    """Amplification of fine detail; below 0, attenuation."""
    deinterlace: Deinterlace = "auto"
    """`auto`: flagged frames; `on`: all; `off`: none; `field`: each field of flagged ones, or of all, for itself."""
    detelecine: Detelecine = "auto"
    """Undo pull-down of film: `auto`, where it is certain; `on`, with less proof, or of whole frames; `off`, never."""
    repeats: Repeats = "exact"
    """Restore once what frames share: `exact`, equal ones; `near`, but for compression; `off`, none, as `parity`."""

    def __post_init__(self) -> None:
        _check_choices(self)
        for flag, fraction in (("--detail", self.detail), ("--blend", self.blend)):
            _check_range(flag, fraction, 0, 1, "a fraction from 0 to 1")
        _check_range("--sharpen", self.sharpen, -1, 2, "a number from -1 to 2")


@dataclass(frozen=True)
class EncodeOptions:
    """How the output's video stream is encoded, in ffmpeg's terms."""

    codec: str = "auto"
    """An encoder of this libav build, such as `ffv1` or `prores_ks`; `auto` is `libx264` (`libx265` for HDR and, in mp4
    and mov, above 8 bits), for WebM `libvpx-vp9` (`libsvtav1` above 8 bits), and for images by extension."""
    crf: float | None = None
    """Constant rate factor; `DEFAULT_CRF` if not given and the encoder has one."""
    preset: str | None = None
    """Encoder preset; if not given, `DEFAULT_PRESET` of libx264, and every other encoder's own default."""
    pix_fmt: str = "auto"
    """`source` keeps the source's depth and subsampling if the encoder supports them; `auto` too, but is 4:2:0 in mp4,
    mov and webm; `compatible` is what most players decode; or a name of libav's."""
    extra: tuple[tuple[str, str], ...] = ()
    """More encoder options as key and value, passed on unchanged."""

    def __post_init__(self) -> None:
        _check(self.crf is None or math.isfinite(self.crf), "--crf", self.crf, "a number")


@dataclass(frozen=True)
class StreamOptions:
    """Other streams and metadata of the output."""

    audio: str = "copy"
    """`copy` (re-encoded where the container supports no copy), `none`, or an encoder for all, such as `aac`."""
    subtitles: Subtitles = "copy"
    chapters: bool = True
    metadata: bool = True
    attachments: bool = True
    faststart: bool = True
    """Write the index of mp4 and mov in front, so that a browser plays the file while it loads."""
    provenance: bool = True
    """Write version, model, sizes and options (no prompts, no paths) to the output's tags."""

    def __post_init__(self) -> None:
        allowed = "copy, none or an audio encoder such as aac"
        _check(bool(self.audio), "--audio", repr(self.audio), allowed)
        _check_choices(self)


@dataclass(frozen=True)
class DeviceOptions:
    """Where and how the network runs, and where the input is decoded."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    attention: Attention = "auto"
    """`auto`, `sdpa` or `xformers` (CUDA only)."""
    precision: Precision = "auto"
    """Of the network: `fp32`, `fp16`, `bf16`; for `auto` see `settings.resolve_precision`."""
    offload: Offload = "auto"
    """What stays in RAM until used: `none`; `model`, the network while the autoencoder works and vice versa;
    `block`, every block of the network too. `auto` takes the first that fits."""
    memory_limit_bytes: int | None = None
    """Maximum device memory to use; None is the device's free memory."""
    hwaccel: str = "none"
    """libav's name of the device type that decodes the input; `auto` takes the first that can."""
    compile: bool = False
    """Compile the network's repeated parts for the device first; not with `offload` of `block`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "device", self.device.lower())
        ok = re.fullmatch("auto|cpu|cuda(:[0-9]{1,4})?|mps", self.device) is not None
        names = "auto, cpu, cuda (NVIDIA, AMD), cuda:N or mps (Apple)"
        _check(ok, "--device", repr(self.device), names)
        _check_choices(self)
        ok = self.memory_limit_bytes is None or self.memory_limit_bytes > 0
        _check(ok, "--memory-limit", self.memory_limit_bytes, "a size such as 8GB or 900MB")
        if self.compile and self.offload == "block":
            raise UsageError("--compile and --offload block contradict each other: leave one out")


@dataclass(frozen=True)
class WeightsOptions:
    """Where model files are."""

    folder: Path | None = None
    """The weights folder; None is `STARVSR_WEIGHTS`, else `starvsr` in Hugging Face's home."""
    offline: bool = False


@dataclass(frozen=True)
class ResumeOptions:
    """Where a job stores finished parts, and whether it resumes from them."""

    resume: bool = True
    """False starts over."""
    work_dir: Path | None = None
    """None is `OUTPUT.starvsr` beside the output."""


@dataclass(frozen=True)
class WorkerOptions:
    """Which processes restore segments."""

    count: int = 1
    """Processes on this machine, one per GPU if there are several; 1 is the caller's own."""
    cluster: str | None = None
    """Address of a Ray cluster that restores segments, or `auto` for this machine's."""

    def __post_init__(self) -> None:
        _check_range("--workers", self.count, 1, MOST_WORKERS, f"1 to {MOST_WORKERS}")
        allowed = "auto or an address such as 10.0.0.1:6379"
        _check(self.cluster != "", "--cluster", repr(self.cluster), allowed)
        if self.cluster is not None and self.count > 1:
            raise UsageError("--workers and --cluster contradict each other: give one of them")


@dataclass(frozen=True)
class UpscaleOptions:
    """All options of one job."""

    model: str = "auto"
    """A model's name, or the path of a model file, also as `NAME=PATH`; `auto` takes the best available."""
    input: InputOptions = field(default_factory=InputOptions)
    size: SizeOptions = field(default_factory=SizeOptions)
    range: RangeOptions = field(default_factory=RangeOptions)
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    windows: WindowOptions = field(default_factory=WindowOptions)
    look: LookOptions = field(default_factory=LookOptions)
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    streams: StreamOptions = field(default_factory=StreamOptions)
    device: DeviceOptions = field(default_factory=DeviceOptions)
    weights: WeightsOptions = field(default_factory=WeightsOptions)
    resume: ResumeOptions = field(default_factory=ResumeOptions)
    workers: WorkerOptions = field(default_factory=WorkerOptions)
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.windows.parity:
            for flag, value in (("speed", self.sampling.speed), ("repeats", self.look.repeats)):
                flags = f"--parity and --{flag} {value}"
                if value not in ("exact", "off"):
                    raise UsageError(f"{flags} contradict each other: leave one out")
