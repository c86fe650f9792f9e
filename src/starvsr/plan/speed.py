"""`--speed`: named sets of options with which a model of many steps computes less for nearly the same picture.

They were chosen and measured on the trained toy and counted on the full-size network (`benchmarks/speed_presets.py`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from starvsr.options import SamplingOptions, Speed, WindowOptions
from starvsr.types import ModelSpec


@dataclass(frozen=True)
class SpeedSet:
    """A preset's values for options that are not given; None is the model's own."""

    guidance_interval: tuple[float, float] | None = None
    cache: float | None = None
    chunk_overlap: float | None = None
    """Fraction of a chunk's frames."""


SPEEDS: dict[Speed, SpeedSet] = {
    "exact": SpeedSet(),
    "balanced": SpeedSet(guidance_interval=(0.3, 0.8), cache=0.008),
    "fast": SpeedSet(guidance_interval=(0.3, 0.8), cache=0.015, chunk_overlap=0.25),
}


def has_speeds(spec: ModelSpec) -> bool:
    """Whether the presets apply to this model: STAR's video UNet with its own solver."""
    return spec.start == "noised" and spec.solver == "dpmpp_2m_sde"


def with_speed(
    spec: ModelSpec, sampling: SamplingOptions, windows: WindowOptions
) -> tuple[SamplingOptions, WindowOptions]:
    """The options, completed by the preset `sampling.speed` if it applies to the model."""
    if not has_speeds(spec):
        return sampling, windows
    speed = SPEEDS[sampling.speed]
    if sampling.guidance_interval is None:
        sampling = dataclasses.replace(sampling, guidance_interval=speed.guidance_interval)
    if sampling.cache is None:
        sampling = dataclasses.replace(sampling, cache=speed.cache)
    if windows.chunk_overlap is None and speed.chunk_overlap is not None:
        frames = windows.chunk_frames or spec.windows.chunk_frames
        windows = dataclasses.replace(windows, chunk_overlap=int(frames * speed.chunk_overlap))
    return sampling, windows
