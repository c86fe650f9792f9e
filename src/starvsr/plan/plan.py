"""Planning a job: sizes, segments, windows, cost. Pure; no torch, no I/O."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starvsr.errors import UsageError
from starvsr.options import (
    BYTES_PER_ELEMENT,
    DEFAULT_SCALE,
    MOST_SIDE_PX,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.plan.fitting import fitted_layout
from starvsr.plan.layout import Layout, all_tile_spans, chunks, plain_layout
from starvsr.plan.memory import HEAP_SHARE, RESERVE_BYTES
from starvsr.plan.ranges import frame_range
from starvsr.plan.segments import Segment, least_segment, segments_of, shots_of
from starvsr.plan.settings import Settings, resolve, resolve_precision
from starvsr.plan.strips import strip_margin
from starvsr.plan.windows import Grid, Span, latent_frames
from starvsr.types import DeviceInfo, ModelSpec, VideoIndex, VideoInfo, WindowSpec

# A run's latents live in memory about five times over: code, noisy latent, velocity, estimate, spare.
RUN_BYTES = 1 << 30
_COPIES = 5
# Models are trained to restore at this factor; what people mix of the input into small results.
_USUAL_FACTOR, _START_OF_BLEND = 4, 0.5


@dataclass(frozen=True)
class Plan:
    """Everything about a job that follows from its input and options."""

    model: str
    device: str
    first: int
    """Absolute index of the first frame of the output."""
    last: int
    width: int
    """Width of the output, pixels."""
    height: int
    restored_size: tuple[int, int]
    """Columns and rows at which the model restores: the output's, but with `--model-scale`."""
    layout: Layout
    precision: str
    """Of the network: `fp32`, `fp16` or `bf16`."""
    limit_bytes: int | None
    """Device memory that may be used; None is no limit."""
    segments: tuple[Segment, ...]
    rows: tuple[Span, ...]
    """Tiles along the latent's rows."""
    columns: tuple[Span, ...]
    speed: str
    """`exact`, `balanced`, `fast` or `draft`; the other fields and the layout have what it stands for."""
    guidance_interval: tuple[float, float] | None
    """Fractions of the steps between which guidance is applied; None is all."""
    cache: float
    """Largest expected error of skipping steps."""
    steps: int
    """Sampling steps as asked for; the published solver leaves one of them out."""
    cfg: float
    """Guidance scale, or strength of one that changes from step to step; 1 is none."""
    network_calls: int = 0
    """Calls of the network on one window over the whole job; with a cache, the maximum."""
    overlap_cost: float = 1.0
    """Latent elements computed over latent elements needed; 1 is no overlap."""
    memory_bytes: int = 0
    """What the latents of the longest run take in RAM, roughly; and its frames, if decoded at once."""

    @property
    def frames(self) -> int:
        """Number of frames of the output."""
        return self.last - self.first

    @property
    def pictures(self) -> int:
        """Number of pictures that the output shows: its frames, but for those that repeat the one before."""
        return self.segments[-1].picture + self.segments[-1].pictures - self.segments[0].picture

    @property
    def repeats(self) -> int:
        """Number of frames of the output that show the picture before them again."""
        return self.frames - self.pictures

    @property
    def latent(self) -> tuple[int, int]:
        """Rows and columns of the padded latent."""
        return self.layout.latent

    @property
    def windows(self) -> WindowSpec:
        """The network's windows."""
        return self.layout.windows

    def runs(self, segment: Segment) -> tuple[Span, ...]:
        """Absolute pictures (first, exclusive end) of each run, whose latents are in memory at once."""
        return run_spans(self.layout, segment.picture, segment.picture + segment.pictures)

    def grid(self, frames: int) -> Grid:
        """The windows over a run of `frames` pictures."""
        length = latent_frames(frames, self.layout.autoencoder.time_factor)
        return Grid(chunks(self.layout, length), self.rows, self.columns)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        counts = {"frames": self.frames, "pictures": self.pictures, "repeats": self.repeats}
        return {**dataclasses.asdict(self), **counts}

    def __str__(self) -> str:
        return json.dumps(self.to_json())


def make_plan(
    info: VideoInfo,
    index: VideoIndex,
    spec: ModelSpec,
    device: DeviceInfo,
    options: UpscaleOptions,
    *,
    even: bool,
    still: bool = False,
) -> Plan:
    """Plan the restoration of the frames that `options.range` selects; even: whether both sides must be even.

    still: one picture, in strips if large. Raises UsageError for no frames, too large an output, or impossible windows.
    """
    settings = resolve(spec, options.sampling, options.windows, options.look)
    first, last = frame_range(info, index, options.range)
    (width, height), restored = _sizes(info, options.size, even=even)
    precision = resolve_precision(options.device.precision, device, spec)
    shots = shots_of(options.windows, index, (first, last))
    limit_bytes = usable_bytes(options.device.memory_limit_bytes or device.memory_bytes, device)
    layout = fitted_layout(
        spec,
        settings,
        restored[::-1],
        most_at_once(spec, options.windows, sum(map(len, shots))),
        options.device,
        bytes_per_element=BYTES_PER_ELEMENT[precision],
        limit_bytes=limit_bytes,
        margin=_margin(spec, settings, options, info, restored) if still else 0,
    )
    rows, columns = all_tile_spans(spec, layout)
    plan = Plan(
        model=spec.name,
        device=device.name,
        first=first,
        last=last,
        width=width,
        height=height,
        restored_size=restored,
        layout=layout,
        precision=precision,
        limit_bytes=limit_bytes,
        segments=_segments(spec, options.windows, layout, shots, index.repeats),
        rows=rows,
        columns=columns,
        speed=settings.speed,
        guidance_interval=settings.guidance_interval,
        cache=settings.cache,
        steps=settings.steps,
        cfg=settings.cfg if settings.is_guided else 1.0,
    )
    return _with_costs(plan, spec, settings)


def _margin(
    spec: ModelSpec,
    settings: Settings,
    options: UpscaleOptions,
    info: VideoInfo,
    restored: tuple[int, int],
) -> int:
    """Of a picture's strips (see `strip_margin`); restored: columns and rows."""
    if options.size.model_scale is not None:
        # Strips are not resized.
        return 0
    latent = plain_layout(spec, settings, restored[::-1], 1).latent
    return strip_margin(spec, settings, options.look, latent, restored[1] / info.height)


def _sizes(
    info: VideoInfo, options: SizeOptions, *, even: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Columns and rows of the output, and those at which the model restores."""
    size = output_size(info.width, info.height, options, even=even)
    if options.model_scale is None:
        return size, size
    own = SizeOptions(scale=options.model_scale)
    return size, output_size(info.width, info.height, own, even=False)


def _segments(
    spec: ModelSpec,
    options: WindowOptions,
    layout: Layout,
    shots: Sequence[Sequence[Span]],
    repeats: Sequence[int],
) -> tuple[Segment, ...]:
    longest, context = segment_frames(spec, options, layout, sum(map(len, shots)))
    return segments_of(shots, longest, context, repeats)


def _with_costs(plan: Plan, spec: ModelSpec, settings: Settings) -> Plan:
    """The plan with derived values: calls, overlap cost, RAM."""
    rows, columns = plan.latent
    grids = [plan.grid(segment.pictures) for segment in plan.segments]
    computed = sum(_volume(grid) for grid in grids)
    needed = latent_frames(plan.pictures, spec.autoencoder.time_factor) * rows * columns
    runs = (run for segment in plan.segments for run in plan.runs(segment))
    latent = plan.layout.largest.latent
    return dataclasses.replace(
        plan,
        network_calls=sum(len(grid) for grid in grids) * settings.calls_per_window,
        overlap_cost=computed / needed,
        memory_bytes=max(_run_bytes(spec, latent, last - first) for first, last in runs),
    )


def repeats_said(plan: Plan, options: UpscaleOptions) -> list[str]:
    """A sentence where frames of the output repeat the one before."""
    if not plan.repeats:
        return []
    alike = ", but for traces of compression," if options.look.repeats == "near" else ""
    return [
        f"frames to restore: {plan.pictures} of {plan.frames}; the others repeat{alike} the one before (--repeats off "
        "restores all)"
    ]


def size_advice(spec: ModelSpec, info: VideoInfo, plan: Plan, options: UpscaleOptions) -> list[str]:
    """A sentence where the model restores smaller frames than it was trained on, with what to do."""
    longest, shortest = max(spec.trained_size), min(spec.trained_size)
    if max(plan.restored_size) >= longest and min(plan.restored_size) >= shortest:
        return []
    sides = (longest / max(info.width, info.height), shortest / min(info.width, info.height))
    factor = min(math.ceil(max(sides)), _USUAL_FACTOR)
    ways = []
    if factor > plan.restored_size[0] / info.width:
        ways.append(f"--model-scale {factor} restores larger ones and reduces the result")
    if not options.look.blend:
        ways.append(f"--blend {_START_OF_BLEND:g} mixes the input back, as a start")
    trained, size = ("x".join(map(str, each)) for each in (spec.trained_size, plan.restored_size))
    advice = f": {', and '.join(ways)}" if ways else ""
    return [
        f"{spec.name} was trained on frames of {trained} and restores ones of {size} here, which may come out too "
        f"sharp{advice}"
    ]


def usable_bytes(limit_bytes: int, device: DeviceInfo) -> int | None:
    """What of a device's memory is left for weights and activations; None where nobody knows how much there is."""
    if limit_bytes and device.name.startswith("cuda"):
        return max(1, limit_bytes - RESERVE_BYTES)
    return int(limit_bytes * HEAP_SHARE) or None


def output_size(width: int, height: int, options: SizeOptions, *, even: bool) -> tuple[int, int]:
    """Columns and rows of the output for an input of `width` x `height`.

    Each side is rounded on its own, then where `even` (a subsampled pixel format) to the nearest even number,
    down on a tie, at least 2. Raises UsageError for a result over 65535 pixels a side.
    """
    if options.resolution is not None:
        factors = (options.resolution / min(width, height),) * 2
    elif options.width is not None or options.height is not None:
        across = None if options.width is None else options.width / width
        down = None if options.height is None else options.height / height
        factors = (across or down or 1.0, down or across or 1.0)
    else:
        factors = (DEFAULT_SCALE if options.scale is None else options.scale,) * 2
    longest = max(width * factors[0], height * factors[1])
    if options.max_resolution is not None and longest > options.max_resolution:
        shrink = options.max_resolution / longest
        factors = (factors[0] * shrink, factors[1] * shrink)
    result = (_rounded(width * factors[0], even), _rounded(height * factors[1], even))
    if max(result) > MOST_SIDE_PX:
        raise UsageError(
            f"an output of {result[0]}x{result[1]} is too large: a side has at most {MOST_SIDE_PX} pixels; give a "
            f"smaller --scale, or --max-resolution {MOST_SIDE_PX}"
        )
    return result


def _rounded(size: float, even: bool) -> int:
    whole = max(1, math.floor(size + 0.5))
    return max(2, whole - whole % 2) if even else whole


def run_spans(layout: Layout, first: int, last: int) -> tuple[Span, ...]:
    """The runs of a segment from picture `first` to before `last`.

    Chunks that share no frames need not wait for each other, so each is a run of its own.
    """
    if layout.windows.chunk_overlap or layout.autoencoder.time_factor > 1:
        return ((first, last),)
    return tuple((first + a, first + b) for a, b in chunks(layout, last - first))


def most_at_once(spec: ModelSpec, options: WindowOptions, frames: int) -> int:
    """Frames of the longest segment that there may be in a video of so many, before its layout is known."""
    return min(frames, _longest(options, frames, spec.segment_frames))


def _longest(options: WindowOptions, frames: int, own: int) -> int:
    """Of the segments of so many frames: all of them as published, or as asked for, or the model's own."""
    return frames if options.parity else options.segment_frames or own


def segment_frames(
    spec: ModelSpec, options: WindowOptions, layout: Layout, frames: int
) -> tuple[int, int]:
    """Of a video of so many frames: those of its longest segment, and those that neighbours share.

    Raises UsageError if there is no frame between two seams.
    """
    longest = _longest(options, frames, _longest_segment(spec, layout))
    context = 0 if options.parity else spec.context_frames
    if longest < least_segment(context):
        raise UsageError(
            f"--segment-frames {longest} is too short: this model needs at least {least_segment(context)}"
        )
    return longest, context


def _longest_segment(spec: ModelSpec, layout: Layout) -> int:
    """The model's segment length; where a segment is one run, shortened so that it stays within RUN_BYTES."""
    if not layout.windows.chunk_overlap or spec.autoencoder.time_factor > 1:
        return spec.segment_frames
    fits = RUN_BYTES // _run_bytes(spec, layout.latent, 1)
    return max(least_segment(spec.context_frames), min(spec.segment_frames, fits))


def _run_bytes(spec: ModelSpec, latent: tuple[int, int], frames: int) -> int:
    area, ours = latent[0] * latent[1], spec.autoencoder
    length = latent_frames(frames, ours.time_factor)
    pictures = 3 * ours.factor**2 * frames if ours.time_factor > 1 else 0
    return int(4 * area * (_COPIES * spec.network.latent_channels * length + pictures))


def _volume(grid: Grid) -> int:
    frames, rows, columns = (
        sum(stop - start for start, stop in spans)
        for spans in (grid.frames, grid.rows, grid.columns)
    )
    return frames * rows * columns
