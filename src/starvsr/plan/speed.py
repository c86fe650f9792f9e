"""`--speed`: named sets of options with which a model of many steps computes less for nearly the same picture.

They were chosen and measured on the trained toy and counted on the full-size network (`benchmarks/speed_presets.py`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from starvsr.options import SamplingOptions, Speed, WindowOptions
from starvsr.types import ModelSpec


@dataclass(frozen=True)
class SpeedSet:
    """A preset's values for options that are not given."""

    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    """Where it has None, the model's own."""
    chunk_overlap: float | None = None
    """Fraction of a chunk's frames; None: the model's own."""


_GUIDED = (0.3, 0.8)
SPEEDS: dict[Speed, SpeedSet] = {
    "exact": SpeedSet(),
    "balanced": SpeedSet(SamplingOptions(guidance_interval=_GUIDED, cache=0.008)),
    "fast": SpeedSet(SamplingOptions(guidance_interval=_GUIDED, cache=0.025), 1 / 8),
    "draft": SpeedSet(SamplingOptions(steps=4, cfg=1.0), 1 / 8),
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
    given = {name: value for name, value in vars(sampling).items() if value is not None}
    sampling = SamplingOptions(**{**vars(speed.sampling), **given})
    if windows.chunk_overlap is None and speed.chunk_overlap is not None:
        frames = windows.chunk_frames or spec.windows.chunk_frames
        # Chunks that share nothing would be hard cuts; of one frame there is nothing to share.
        shared = max(int(frames * speed.chunk_overlap), min(1, frames // 2))
        windows = dataclasses.replace(windows, chunk_overlap=shared)
    return sampling, windows
