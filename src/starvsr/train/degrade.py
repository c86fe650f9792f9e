"""Degradation of clips as in Real-ESRGAN (Wang et al., 2021), with video codecs as STAR adds them.

`draw` picks every parameter once for a clip, so that it degrades coherently in time, and gives a `Degradation`: plain
data that can be logged, stored as JSON and applied again with the same result. What differs from frame to frame is the
noise itself, and with `drift` a slow wave in how strong blur, noise and JPEG are.

A stage is blur, resize, fields, chroma, noise, sharpening, JPEG and a video codec, in this order. After the last stage
comes the resize to 1/scale and maybe a sinc; the last stage's compression may come after those instead, since most
videos were compressed at their final size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.train.codecs import VideoCodec, jpeg, recode
from starvsr.train.defects import (
    FIELDS,
    Chroma,
    Sharpening,
    add_grain,
    interlaced,
    sharpen,
    spoil_chroma,
)
from starvsr.train.kernels import Kernel, blur

RESIZE_MODES = ("area", "bilinear", "bicubic", "bicubic-antialias")
NOISES = ("gaussian", "poisson", "grain")
# A smaller frame has nothing left to restore.
_LEAST_SIDE_PX = 4
_LUMA = (0.299, 0.587, 0.114)
_Part = TypeVar("_Part")


@dataclass(frozen=True)
class Noise:
    """Drawn noise. Each frame has its own, made from the degradation's seed and the frame's number."""

    kind: str
    """`gaussian`, `poisson` (shot noise, which grows with the square root of the light) or `grain` (of film)."""
    amount: float
    """Standard deviation in 8-bit levels of `gaussian`, and of `grain` at medium grey; of `poisson` the multiple of the
    shot noise of 255 photons."""
    gray: bool
    """Whether the three channels share it."""
    size: float = 0.0
    """Of `grain`: standard deviation of a grain, pixels."""

    def __post_init__(self) -> None:
        if self.kind not in NOISES:
            raise ValueError(f"noise {self.kind!r} must be one of {', '.join(NOISES)}")
        if (self.kind == "grain") != (self.size > 0):
            raise ValueError(
                f"noise {self.kind!r} of size {self.size}: grain alone has a size, above 0"
            )


@dataclass(frozen=True)
class Stage:
    """Drawn parameters of one stage; None is a step left out."""

    kernel: Kernel | None = None
    resize: float | None = None
    """Size after the resize relative to the clip's, per axis."""
    resize_mode: str = "area"
    noise: Noise | None = None
    jpeg_quality: int | None = None
    codec: VideoCodec | None = None
    fields: str | None = None
    """One of `defects.FIELDS`."""
    chroma: Chroma | None = None
    sharpening: Sharpening | None = None

    def __post_init__(self) -> None:
        _check_mode(self.resize_mode)
        if self.fields is not None and self.fields not in FIELDS:
            raise ValueError(f"fields {self.fields!r} must be one of {', '.join(FIELDS)}")


@dataclass(frozen=True)
class Degradation:
    """Everything that was drawn for one clip."""

    scale: int
    """The result has 1/scale of the rows and columns."""
    stages: tuple[Stage, ...]
    final_mode: str
    """Of the resize to 1/scale."""
    final_kernel: Kernel | None
    """The last sinc."""
    compress_last: bool
    """Whether JPEG and codec of the last stage come after the last resize."""
    seed: int
    """Of the noise."""
    drift: float = 0.0
    """How far strengths wander: between `exp(-drift)` and `exp(drift)` times what was drawn."""
    drift_frames: float = 1.0
    """Period of that wave."""
    drift_phase: float = 0.0
    """Of the first frame, in periods."""

    def __post_init__(self) -> None:
        _check_mode(self.final_mode)

    def apply(self, clip: Tensor) -> Tensor:
        """The clip `t c h w` (RGB in [0, 1], float) degraded: `t c h/scale w/scale` float32, clamped to [0, 1].

        Bit for bit the same each time on one machine and number of threads. Raises ValueError for a clip without
        frames, for sizes that `scale` does not divide, and where libav lacks a drawn codec.
        """
        if clip.ndim != 4 or clip.shape[0] < 1 or clip.shape[1] != 3:
            raise ValueError(
                f"a clip must be t 3 h w with at least one frame, got {(*clip.shape,)}"
            )
        return torch.stack(list(self.stream(clip)))

    def stream(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same for frames `3 h w` one after the other, as many and in order.

        Buffers a few frames and the codecs' lookahead, whatever the clip's length.
        """
        source = iter(frames)
        first = next(source, None)
        if first is None:
            return
        size = self._legal_size(first)
        flow: Iterator[Tensor] = chain([first.float()], (frame.float() for frame in source))
        for number, stage in enumerate(self.stages):
            flow = self._spoil(flow, stage, number, size)
            if not (self.compress_last and number == len(self.stages) - 1):
                flow = self._compress(flow, stage)
        flow = self._finish(flow, (size[0] // self.scale, size[1] // self.scale))
        if self.compress_last and self.stages:
            flow = self._compress(flow, self.stages[-1])
        yield from flow

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Degradation:
        """The degradation that `to_json` gave. Raises ValueError for anything else."""
        try:
            stages = tuple(
                Stage(
                    **{
                        **stage,
                        "kernel": _made(Kernel, stage["kernel"]),
                        "noise": _made(Noise, stage["noise"]),
                        "codec": _made(VideoCodec, stage["codec"]),
                        # Draws of earlier versions have neither.
                        "chroma": _made(Chroma, stage.get("chroma")),
                        "sharpening": _made(Sharpening, stage.get("sharpening")),
                    }
                )
                for stage in data["stages"]
            )
            final = _made(Kernel, data["final_kernel"])
            return cls(**{**data, "stages": stages, "final_kernel": final})
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is not a degradation of this version: {error}") from error

    def strength(self, number: int) -> float:
        """The drift's factor on the strengths at a frame."""
        turns = number / self.drift_frames + self.drift_phase
        return math.exp(self.drift * math.sin(2 * math.pi * turns))

    def _legal_size(self, frame: Tensor) -> tuple[int, int]:
        height, width = frame.shape[-2:]
        if height % self.scale or width % self.scale:
            raise ValueError(
                f"frames of {height}x{width} (rows x columns) must be multiples of the scale {self.scale}"
            )
        return height, width

    def _spoil(
        self, flow: Iterator[Tensor], stage: Stage, number: int, size: tuple[int, int]
    ) -> Iterator[Tensor]:
        """All of a stage but compression; size: of the clip, rows and columns."""
        flow = self._reduce(flow, stage, size)
        if stage.fields is not None:
            flow = interlaced(flow, stage.fields)
        for place, frame in enumerate(flow):
            strength = self.strength(place)
            if stage.chroma is not None:
                frame = spoil_chroma(frame, stage.chroma)
            if stage.noise is not None:
                entropy = np.random.SeedSequence([self.seed, number, place])
                frame = add_noise(frame, stage.noise, strength, np.random.default_rng(entropy))
            if stage.sharpening is not None:
                frame = sharpen(frame, stage.sharpening, strength)
            yield frame

    def _reduce(
        self, flow: Iterator[Tensor], stage: Stage, size: tuple[int, int]
    ) -> Iterator[Tensor]:
        for place, frame in enumerate(flow):
            strength = self.strength(place)
            if stage.kernel is not None:
                frame = blur(frame, stage.kernel, strength).clamp_(0, 1)
            if stage.resize is not None:
                height, width = (max(_LEAST_SIDE_PX, round(side * stage.resize)) for side in size)
                frame = resize(frame, (height, width), stage.resize_mode)
            yield frame

    def _compress(self, flow: Iterator[Tensor], stage: Stage) -> Iterator[Tensor]:
        if stage.jpeg_quality is not None:
            flow = self._jpeg(flow, stage.jpeg_quality)
        return flow if stage.codec is None else recode(flow, stage.codec)

    def _jpeg(self, flow: Iterator[Tensor], quality: int) -> Iterator[Tensor]:
        for place, frame in enumerate(flow):
            loss = (100 - quality) * self.strength(place)
            yield jpeg(frame, min(100, max(1, round(100 - loss))))

    def _finish(self, flow: Iterator[Tensor], size: tuple[int, int]) -> Iterator[Tensor]:
        for place, frame in enumerate(flow):
            frame = resize(frame, size, self.final_mode)
            if self.final_kernel is not None:
                frame = blur(frame, self.final_kernel, self.strength(place)).clamp_(0, 1)
            yield frame


def resize(frame: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """A frame `c h w` in [0, 1] at another size (rows, columns), clamped; mode: one of `RESIZE_MODES`.

    All but `area` and `bicubic-antialias` alias where they reduce, as cheap scalers do.
    """
    if tuple(frame.shape[1:]) == size:
        return frame.clamp(0, 1)
    name, _, antialias = mode.partition("-")
    options = {} if name == "area" else {"align_corners": False, "antialias": bool(antialias)}
    return F.interpolate(frame[None], size=size, mode=name, **options)[0].clamp_(0, 1)


def add_noise(frame: Tensor, noise: Noise, strength: float, rng: np.random.Generator) -> Tensor:
    """A frame `3 h w` in [0, 1] with noise, clamped; strength: multiplies the amount."""
    if noise.kind == "grain":
        return add_grain(frame, noise.amount * strength, noise.size, gray=noise.gray, rng=rng)
    light = frame
    if noise.gray:
        light = (frame * torch.tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
    shape = tuple(light.shape)
    if noise.kind == "gaussian":
        levels = rng.standard_normal(shape, np.float32)
    else:
        photons = light.clamp(0, 1).double().numpy() * 255
        levels = (rng.poisson(photons) - photons).astype(np.float32)
    return (frame + torch.from_numpy(levels) * (noise.amount * strength / 255)).clamp_(0, 1)


def _check_mode(mode: str) -> None:
    if mode not in RESIZE_MODES:
        raise ValueError(f"resize mode {mode!r} must be one of {', '.join(RESIZE_MODES)}")


def _made(kind: Callable[..., _Part], data: Mapping[str, Any] | None) -> _Part | None:
    return None if data is None else kind(**data)
