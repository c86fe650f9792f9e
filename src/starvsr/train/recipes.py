"""What may be drawn: the ranges of a degradation, and the draw."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field

import numpy as np

from starvsr.train.codecs import VideoCodec, is_available
from starvsr.train.defects import FIELDS, Chroma, Sharpening
from starvsr.train.degrade import Degradation, Noise, Stage
from starvsr.train.kernels import Kernel

Range = tuple[float, float]


@dataclass(frozen=True)
class CodecConfig:
    """One encoder and a range of one of its rates (see `VideoCodec`)."""

    encoder: str
    rate: str
    amount: Range


@dataclass(frozen=True)
class StageConfig:
    """Ranges of one stage; a probability of 0 leaves a step out."""

    blur: float = 0.0
    """Probability of a blur."""
    sinc: float = 0.1
    """Probability that it is a sinc."""
    shapes: tuple[tuple[str, float], ...] = (
        ("gaussian", 0.7),
        ("generalized", 0.15),
        ("plateau", 0.15),
    )
    """Otherwise: kernel shapes and their weights."""
    isotropic: float = 0.67
    """Probability that both sigmas are the same."""
    sigma: Range = (0.2, 3.0)
    """Pixels."""
    generalized_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    kernel_size: tuple[int, int] = (7, 21)
    """Odd, both included."""
    resize: Range | None = None
    """Lowest and highest factor; None leaves the size as it is."""
    resize_of: str = "source"
    """What the factor is of: `source`, the clip's size, or `target`, 1/scale of it."""
    up_down_keep: tuple[float, float, float] = (0.2, 0.7, 0.1)
    """Weights of a factor above 1, below 1, and 1."""
    modes: tuple[str, ...] = ("area", "bilinear", "bicubic")
    noise: float = 0.0
    """Probability of noise."""
    gaussian: float = 0.5
    """Probability that it is Gaussian; Poisson otherwise."""
    gaussian_sigma: Range = (1.0, 30.0)
    """8-bit levels."""
    poisson_scale: Range = (0.05, 3.0)
    gray: float = 0.4
    """Probability that the channels share their noise."""
    jpeg: float = 0.0
    """Probability of JPEG."""
    jpeg_quality: tuple[int, int] = (30, 95)
    codec: float = 0.0
    """Probability of a video codec."""
    codecs: tuple[CodecConfig, ...] = ()
    """Each equally likely."""
    fields: float = 0.0
    """Probability of badly deinterlaced fields, each kind equally likely."""
    chroma: float = 0.0
    """Probability of shifted and bleeding colour."""
    chroma_shift: Range = (-2.0, 2.0)
    """Pixels, along rows; a quarter of it along columns."""
    chroma_bleed: Range = (0.5, 4.0)
    """Standard deviation, pixels."""
    grain: float = 0.0
    """Probability that noise is film grain."""
    grain_sigma: Range = (2.0, 14.0)
    """8-bit levels."""
    grain_size: Range = (0.4, 1.2)
    """Pixels."""
    sharpen: float = 0.0
    """Probability of sharpening."""
    sharpen_amount: Range = (0.3, 2.0)
    sharpen_sigma: Range = (0.6, 1.6)
    """Pixels."""


@dataclass(frozen=True)
class DegradationConfig:
    """Ranges of a whole degradation."""

    scale: int = 4
    stages: tuple[StageConfig, ...] = ()
    final_modes: tuple[str, ...] = ("area", "bilinear", "bicubic")
    final_sinc: float = 0.0
    """Probability of a sinc after the last resize."""
    final_kernel_size: tuple[int, int] = (7, 21)
    compress_last: float = 1.0
    """Probability that the last stage's compression comes after the last resize."""
    drift: float = 0.0
    """Most that strengths wander, as a logarithm: 0.2 is by a fifth either way."""
    drift_frames: Range = field(default=(50.0, 200.0))
    """Period of that."""

    def __post_init__(self) -> None:
        if self.scale < 1:
            raise ValueError(f"scale {self.scale} must be 1 or more")


def clip_rng(name: str, *seeds: int) -> np.random.Generator:
    """What a clip's degradation is drawn from: the same for a file name, whatever else is in its folder."""
    return np.random.default_rng([*seeds, zlib.crc32(name.encode("utf-8", "surrogateescape"))])


def draw(config: DegradationConfig, rng: np.random.Generator) -> Degradation:
    """Draw every parameter of one clip's degradation, from `rng` alone.

    Codecs that this libav build lacks are not drawn, so that another build may draw others. Raises ValueError if a
    codec is to be drawn and none of those given is available.
    """
    rings = rng.random() < config.final_sinc
    return Degradation(
        scale=config.scale,
        stages=tuple(_stage(stage, config.scale, rng) for stage in config.stages),
        final_mode=_one_of(config.final_modes, rng),
        final_kernel=_sinc(_odd(config.final_kernel_size, rng), rng) if rings else None,
        compress_last=bool(rng.random() < config.compress_last),
        seed=int(rng.integers(2**53)),
        drift=_between((0.0, config.drift), rng),
        drift_frames=_between(config.drift_frames, rng),
        drift_phase=float(rng.random()),
    )


def _stage(config: StageConfig, scale: int, rng: np.random.Generator) -> Stage:
    return Stage(
        kernel=_kernel(config, rng) if rng.random() < config.blur else None,
        resize=_resize(config, scale, rng),
        resize_mode=_one_of(config.modes, rng),
        noise=_noise(config, rng) if rng.random() < config.noise else None,
        jpeg_quality=_whole(config.jpeg_quality, rng) if rng.random() < config.jpeg else None,
        codec=_codec(config.codecs, rng) if rng.random() < config.codec else None,
        fields=_one_of(FIELDS, rng) if _happens(config.fields, rng) else None,
        chroma=_chroma(config, rng) if _happens(config.chroma, rng) else None,
        sharpening=_sharpening(config, rng) if _happens(config.sharpen, rng) else None,
    )


def _happens(probability: float, rng: np.random.Generator) -> bool:
    """Nothing is drawn for what never happens, so presets without it draw what they always drew."""
    return probability > 0 and bool(rng.random() < probability)


def _chroma(config: StageConfig, rng: np.random.Generator) -> Chroma:
    shift_x, shift_y = (_between(config.chroma_shift, rng) for _ in range(2))
    return Chroma(shift_x, shift_y / 4, _between(config.chroma_bleed, rng))


def _sharpening(config: StageConfig, rng: np.random.Generator) -> Sharpening:
    return Sharpening(_between(config.sharpen_amount, rng), _between(config.sharpen_sigma, rng))


def _kernel(config: StageConfig, rng: np.random.Generator) -> Kernel:
    size = _odd(config.kernel_size, rng)
    if rng.random() < config.sinc:
        return _sinc(size, rng)
    names, weights = zip(*config.shapes, strict=True)
    shape = str(rng.choice(names, p=np.divide(weights, sum(weights))))
    sigma_x = sigma_y = _between(config.sigma, rng)
    angle = 0.0
    if rng.random() >= config.isotropic:
        sigma_y, angle = _between(config.sigma, rng), _between((0.0, math.pi), rng)
    beta = 1.0
    if shape != "gaussian":
        low, high = config.generalized_beta if shape == "generalized" else config.plateau_beta
        # Below and above 1 equally often: one side would otherwise dominate.
        beta = _between(
            (low, 1.0) if low < 1 and rng.random() < 0.5 else (max(1.0, low), high), rng
        )
    return Kernel(shape, size, sigma_x, sigma_y, angle, beta)


def _sinc(size: int, rng: np.random.Generator) -> Kernel:
    # A small kernel cannot contain the rings of a low cutoff.
    lowest = math.pi / 3 if size < 13 else math.pi / 5
    return Kernel("sinc", size, cutoff=_between((lowest, math.pi), rng))


def _resize(config: StageConfig, scale: int, rng: np.random.Generator) -> float | None:
    if config.resize is None:
        return None
    way = rng.choice(3, p=np.divide(config.up_down_keep, sum(config.up_down_keep)))
    low, high = config.resize
    factor = (_between((1.0, high), rng), _between((low, 1.0), rng), 1.0)[way]
    return factor / scale if config.resize_of == "target" else factor


def _noise(config: StageConfig, rng: np.random.Generator) -> Noise:
    gray = bool(rng.random() < config.gray)
    if _happens(config.grain, rng):
        size = _between(config.grain_size, rng)
        return Noise("grain", _between(config.grain_sigma, rng), gray, size)
    if rng.random() < config.gaussian:
        return Noise("gaussian", _between(config.gaussian_sigma, rng), gray)
    return Noise("poisson", _between(config.poisson_scale, rng), gray)


def _codec(codecs: tuple[CodecConfig, ...], rng: np.random.Generator) -> VideoCodec:
    there = [codec for codec in codecs if is_available(codec.encoder)]
    if not there:
        names = ", ".join(codec.encoder for codec in codecs) or "none given"
        raise ValueError(f"this libav build has none of the encoders to draw from ({names})")
    chosen = there[rng.integers(len(there))]
    low, high = chosen.amount
    if chosen.rate == "bits_per_pixel":
        amount = math.exp(_between((math.log(low), math.log(high)), rng))
    else:
        amount = float(_whole((round(low), round(high)), rng))
    return VideoCodec(chosen.encoder, chosen.rate, amount)


def _between(span: Range, rng: np.random.Generator) -> float:
    return float(rng.uniform(*span))


def _whole(span: tuple[int, int], rng: np.random.Generator) -> int:
    return int(rng.integers(span[0], span[1] + 1))


def _odd(span: tuple[int, int], rng: np.random.Generator) -> int:
    return 2 * _whole((span[0] // 2, span[1] // 2), rng) + 1


def _one_of(values: tuple[str, ...], rng: np.random.Generator) -> str:
    return values[rng.integers(len(values))]
