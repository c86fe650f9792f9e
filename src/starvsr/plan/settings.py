"""The settings of a model: the user's options, completed by `--speed` and by the model's own values.

The one place that knows what None means in `SamplingOptions`, `WindowOptions` and `LookOptions`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from starvsr.errors import UsageError
from starvsr.options import (
    BYTES_PER_ELEMENT,
    DEFAULT_SEED,
    DEFAULT_SOLVER_MODE,
    LookOptions,
    SamplingOptions,
    SolverMode,
    Speed,
    WindowOptions,
    flag_of,
)
from starvsr.plan.speed import has_speeds, with_speed
from starvsr.plan.windows import Span, frames_of, latent_frames
from starvsr.specs import SPECS
from starvsr.types import DeviceInfo, ModelSpec, WindowSpec

PRECISION_VARIABLE = "STARVSR_PRECISION"
# Noise levels up to this have nothing to go through fast (`schedule.FAST_SPLIT_TIME` + 1).
FAST_SPLIT_LEVEL = 501

Value = TypeVar("Value")


@dataclass(frozen=True)
class Settings:
    """Options resolved for one model, without those that have no effect on it."""

    speed: Speed
    steps: int
    solver_mode: SolverMode
    cfg: float
    """Guidance scale; 1 is none."""
    cfg_dynamic: bool
    """Whether `cfg` is the strength of `guidance.dynamic_scale`."""
    cfg_rescale: float
    """CFG rescale factor, 0 to 1."""
    guidance_interval: tuple[float, float] | None
    """Fractions (0..1) of the steps between which guidance is applied; None is all."""
    cache: float
    """Largest expected error of skipping steps; 0 skips none."""
    noise_level: int
    """1..1000."""
    seed: int
    color_fix: str
    windows: WindowSpec
    """The network's, for frames of any size (see `layout.windows_for`)."""
    tile_given: bool
    """Whether the user chose the tiles, which are then not made smaller to save memory."""
    chunk_frames_given: bool
    """Likewise for `windows.chunk_frames`."""
    parity: bool
    """Whether to work like the published code."""
    is_guided: bool
    """Whether there is guidance, within `guidance_interval`."""
    evaluations: int
    """Steps in which the network is evaluated."""
    guided_steps: Span
    """Steps (first, exclusive end) of `evaluations` with guidance, which costs a second call."""
    idle: tuple[str, ...]
    """Flags of given options of guidance, which `--speed` turned off."""
    without_effect: tuple[str, ...]
    """Given flags without effect on this model or with the other flags."""

    @property
    def idle_text(self) -> str:
        """What to say of `idle`; empty where there are none."""
        if not self.idle:
            return ""
        flags = listed_flags(self.idle)
        return f"{flags} will have no effect with --speed {self.speed}, unless --cfg is given"

    @property
    def calls_per_window(self) -> int:
        """Network calls that one window costs at most."""
        first, last = self.guided_steps
        return self.evaluations + last - first


def resolve(
    spec: ModelSpec,
    sampling: SamplingOptions | None = None,
    windows: WindowOptions | None = None,
    look: LookOptions | None = None,
) -> Settings:
    """The settings of a model under the user's options.

    Raises UsageError for impossible windows, and for a detail of a model that has one picture.
    """
    check_detail(spec, look.detail if look else None)
    given, asked = sampling or SamplingOptions(), windows or WindowOptions()
    # A single step has one level, and nothing to guide or to skip.
    chosen = SamplingOptions() if spec.solver == "one_step" else given
    chosen, asked = with_speed(spec, chosen, asked)
    cfg = _or(chosen.cfg, spec.cfg)
    is_guided = spec.solver != "one_step" and cfg != 1
    could_guide = spec.solver != "one_step" and _or(given.cfg, spec.cfg) != 1
    steps = _or(chosen.steps, spec.steps)
    solver_mode = chosen.solver_mode or DEFAULT_SOLVER_MODE
    noise_level = _or(chosen.noise_level, spec.noise_level)
    evaluations = _evaluations(spec, steps, solver_mode, noise_level)
    interval = chosen.guidance_interval
    return Settings(
        speed=given.speed,
        steps=steps,
        solver_mode=solver_mode,
        cfg=cfg,
        cfg_dynamic=spec.cfg_dynamic and chosen.cfg is None,
        cfg_rescale=_or(chosen.cfg_rescale, spec.cfg_rescale),
        guidance_interval=interval,
        cache=chosen.cache or 0.0,
        noise_level=noise_level,
        seed=_or(chosen.seed, DEFAULT_SEED),
        color_fix=(look and look.color_fix) or spec.color_fix,
        windows=_windows(spec, asked),
        tile_given=asked.tile_px is not None,
        chunk_frames_given=asked.chunk_frames is not None,
        parity=asked.parity,
        is_guided=is_guided,
        evaluations=evaluations,
        guided_steps=_guided_steps(evaluations, interval) if is_guided else (0, 0),
        idle=_given(given, _GUIDANCE) if could_guide and not is_guided else (),
        without_effect=_without_effect(spec, given, asked, is_guided=could_guide),
    )


_GUIDANCE = ("cfg_rescale", "negative_prompt", "guidance_interval")


def listed_flags(flags: Sequence[str]) -> str:
    """Flags as in a sentence."""
    *more, last = flags
    return " and ".join(filter(None, (", ".join(more), last)))


def check_detail(spec: ModelSpec, detail: float | None) -> None:
    """Raise UsageError if there is a detail and the model has weights of one picture only."""
    if detail is not None and not spec.faithful:
        others = [f"--model {name}" for name, each in SPECS.items() if each.faithful]
        advice = " or ".join(["leave it out", *(f"give {other}" for other in others)])
        raise UsageError(
            f"--detail {detail:g} is not for {spec.name}, which has one picture: {advice}"
        )


def _or(value: Value | None, default: Value) -> Value:
    return default if value is None else value


def _evaluations(spec: ModelSpec, steps: int, solver_mode: str, noise_level: int) -> int:
    """As published, the multistep solver leaves one of the fast steps out."""
    fast = solver_mode == "fast" and noise_level > FAST_SPLIT_LEVEL
    fast = fast and spec.schedule == "logsnr_cosine_interp"
    return max(1, steps - 1) if spec.solver == "dpmpp_2m_sde" and fast else steps


def _guided_steps(steps: int, interval: tuple[float, float] | None) -> Span:
    first, last = interval or (0, 1)
    return math.floor(first * steps + 0.5), math.floor(last * steps + 0.5)


def _windows(spec: ModelSpec, options: WindowOptions) -> WindowSpec:
    """The model's windows, changed as the options say: output pixels become latent elements, frames latent frames.

    Raises UsageError if an overlap leaves no room.
    """
    ours, factor, time_factor = spec.windows, spec.autoencoder.factor, spec.autoencoder.time_factor
    frames, overlap = ours.chunk_frames, ours.chunk_overlap
    if options.chunk_frames is not None:
        frames = latent_frames(options.chunk_frames, time_factor)
        overlap = min(overlap, frames // 2)
    if options.chunk_overlap is not None:
        overlap = -(-options.chunk_overlap // time_factor)
    longest = options.chunk_frames or frames_of(frames, time_factor)
    check_overlap(overlap, frames, given=(options.chunk_overlap or overlap, longest))
    tile, tile_overlap = (ours.tile_height, ours.tile_width), ours.tile_overlap
    if options.tile_overlap_px is not None:
        tile_overlap = -(-options.tile_overlap_px // factor)
    if options.tile_px is not None:
        side = options.tile_px // factor
        tile = (side, side) if side else (None, None)
        if options.tile_overlap_px is None:
            tile_overlap = min(tile_overlap, side // 4)
        # Legal sizes need room beside two overlaps.
        least = max(2 * tile_overlap, 2 * spec.size_rule.multiple) + 2 * spec.size_rule.multiple
        if options.tile_px and side < least:
            raise UsageError(
                f"--tile {options.tile_px} is too small: at least {least * factor} pixels with an overlap of "
                f"{tile_overlap * factor}"
            )
    return dataclasses.replace(
        ours,
        chunk_frames=frames,
        chunk_overlap=overlap,
        tile_height=tile[0],
        tile_width=tile[1],
        tile_overlap=tile_overlap,
    )


def check_overlap(overlap: int, frames: int, *, given: Span) -> None:
    """Raise UsageError where chunks of so many latent frames would share more than half; given: both as frames."""
    if 2 * overlap > frames:
        raise UsageError(
            f"--chunk-overlap {given[0]} is more than half of --chunk-frames {given[1]}"
        )


def _without_effect(
    spec: ModelSpec, sampling: SamplingOptions, windows: WindowOptions, *, is_guided: bool
) -> tuple[str, ...]:
    """Flags of given options that are not part of the settings."""
    names: list[str] = []
    if not has_speeds(spec) and sampling.speed != "exact":
        names.append("speed")
    if spec.solver == "one_step":
        names += ["steps", "solver_mode", "cfg", "cfg_rescale", "noise_level", "seed"]
        names += ["guidance_interval", "cache", "parity"]
    if spec.start == "noise":
        names += ["solver_mode", "noise_level", "parity"]
    if spec.solver != "one_step" and not is_guided:
        names += _GUIDANCE
    if spec.text is None:
        names += ["prompt", "negative_prompt"]
    return (*_given(sampling, names), *_given(windows, names))


def _given(group: SamplingOptions | WindowOptions, names: Sequence[str]) -> tuple[str, ...]:
    """Flags of those of the named options that are given."""
    given = {name: vars(group).get(name) for name in names}
    # By identity: 0 is given, and equals False.
    return tuple(
        flag_of(name) for name, value in given.items() if value is not None and value is not False
    )


def resolve_precision(precision: str, device: DeviceInfo, spec: ModelSpec) -> str:
    """What `--precision` means for a model on a device: `fp32`, `fp16` or `bf16`.

    For `auto`, the variable STARVSR_PRECISION may say what it is. Raises UsageError for another value there.
    """
    if precision == "auto":
        precision = os.environ.get(PRECISION_VARIABLE, "") or precision
        if precision not in (*BYTES_PER_ELEMENT, "auto"):
            raise UsageError(
                f"{PRECISION_VARIABLE}={precision} is not allowed: give auto, {', '.join(BYTES_PER_ELEMENT)}"
            )
    if precision != "auto":
        return precision
    if device.name != "cpu":
        return spec.half
    # Attention and norms of the others are slower in bfloat16 even there.
    return "bf16" if device.quick_bf16 and spec.network.recurrent else "fp32"
