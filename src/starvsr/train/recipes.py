"""What may be drawn: the ranges of a degradation, the presets `light` and `heavy`, and the draw.

`heavy` has the two stages and ranges that STAR's paper names (resize 0.15 to 1.5 and 0.3 to 1.2, noise 1 to 30 and
1 to 25, JPEG 30 to 95, a random codec and bit rate in each); what that leaves out is Real-ESRGAN's (Wang et al.,
2021), and how hard the codecs compress is ours. `light` is a clean reduction and one mild x264.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field

import numpy as np

from starvsr.train.codecs import VideoCodec, is_available
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


_HEAVY_CODECS = (
    CodecConfig("libx264", "crf", (20, 36)),
    CodecConfig("libx264", "bits_per_pixel", (0.05, 0.5)),
    CodecConfig("libx265", "crf", (22, 38)),
    CodecConfig("mpeg4", "bits_per_pixel", (0.1, 1.0)),
    CodecConfig("mpeg4", "qscale", (2, 14)),
    CodecConfig("mpeg2video", "qscale", (2, 16)),
    CodecConfig("libvpx-vp9", "crf", (25, 50)),
)

PRESETS: dict[str, DegradationConfig] = {
    "light": DegradationConfig(
        stages=(StageConfig(codec=1.0, codecs=(CodecConfig("libx264", "crf", (18, 32)),)),),
        final_modes=("bicubic-antialias",),
    ),
    "heavy": DegradationConfig(
        stages=(
            StageConfig(
                blur=1.0, resize=(0.15, 1.5), noise=1.0, jpeg=1.0, codec=1.0, codecs=_HEAVY_CODECS
            ),
            StageConfig(
                blur=0.8,
                sigma=(0.2, 1.5),
                resize=(0.3, 1.2),
                resize_of="target",
                up_down_keep=(0.3, 0.4, 0.3),
                noise=1.0,
                gaussian_sigma=(1.0, 25.0),
                poisson_scale=(0.05, 2.5),
                jpeg=1.0,
                codec=1.0,
                codecs=_HEAVY_CODECS,
            ),
        ),
        final_sinc=0.8,
        compress_last=0.75,
    ),
}


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
    )


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
