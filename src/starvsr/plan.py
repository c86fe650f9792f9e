"""What a job will do, worked out before anything heavy: sizes, segments, windows, cost. Pure; no torch, no I/O."""

from __future__ import annotations

import dataclasses
import itertools
import json
from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

from starvsr.errors import UsageError
from starvsr.options import RangeOptions, SamplingOptions, UpscaleOptions, WindowOptions
from starvsr.types import DeviceInfo, ModelSpec, VideoIndex, VideoInfo, WindowSpec
from starvsr.windows import Grid, Span, even_spans, legal_latent, legal_spans, output_size

# A segment's latents live in memory about four times over (code, result, accumulator, pixels of a window).
SEGMENT_BYTES = 1 << 30
_COPIES = 4


@dataclass(frozen=True)
class Segment:
    """Consecutive frames of one shot that are restored as a unit: core plus the frames shared with neighbours."""

    index: int
    first: int
    """Absolute index of the first restored frame."""
    last: int
    """Absolute index behind the last restored frame."""
    head: int
    """Frames at the beginning that are shared with the segment before."""
    tail: int
    """Frames at the end that are shared with the segment behind."""

    @property
    def frames(self) -> int:
        """Number of restored frames."""
        return self.last - self.first

    @property
    def core(self) -> Span:
        """Absolute indices of the frames that only this segment restores."""
        return self.first + self.head, self.last - self.tail


@dataclass(frozen=True)
class Plan:
    """Everything about a job that follows from its input and options."""

    model: str
    device: str
    first: int
    """Absolute index of the first frame of the output."""
    last: int
    width: int
    """Columns of the output, pixels."""
    height: int
    latent: tuple[int, int]
    """Rows and columns of the padded latent."""
    windows: WindowSpec
    segments: tuple[Segment, ...]
    rows: tuple[Span, ...]
    """Tiles along the latent's rows."""
    columns: tuple[Span, ...]
    network_calls: int
    """Calls of the network on one window over the whole job."""
    overlap_cost: float
    """Latent elements computed over latent elements needed; 1 is no overlap."""

    @property
    def frames(self) -> int:
        """Number of frames of the output."""
        return self.last - self.first

    def grid(self, frames: int) -> Grid:
        """The windows over a segment of `frames` frames."""
        return Grid(chunk_spans(frames, self.windows), self.rows, self.columns)

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {**dataclasses.asdict(self), "frames": self.frames}

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
) -> Plan:
    """Plan the restoration of the frames that `options.range` selects.

    even: whether the output's pixel format needs even sides.
    Raises UsageError for a range without frames, an output that is too large, or windows that cannot be laid.
    """
    first, last = frame_range(info, index, options.range)
    width, height = output_size(info.width, info.height, options.size, even=even)
    factor = spec.autoencoder.factor
    latent = legal_latent(-(-height // factor), -(-width // factor), spec.size_rule, spec.min_size)
    windows = resolve_windows(spec, options.windows)
    longest = options.windows.segment_frames or _bounded_segment(spec, latent)
    segments = _segments(index, first, last, longest, spec.context_frames, options.windows)
    rows, columns = tile_spans(spec, windows, latent)
    plan = Plan(
        model=spec.name,
        device=device.name,
        first=first,
        last=last,
        width=width,
        height=height,
        latent=latent,
        windows=windows,
        segments=segments,
        rows=rows,
        columns=columns,
        network_calls=0,
        overlap_cost=1.0,
    )
    grids = [plan.grid(segment.frames) for segment in segments]
    computed = sum(_volume(grid) for grid in grids)
    return dataclasses.replace(
        plan,
        network_calls=sum(len(grid) for grid in grids) * calls_per_window(spec, options.sampling),
        overlap_cost=computed / (plan.frames * latent[0] * latent[1]),
    )


def frame_range(info: VideoInfo, index: VideoIndex, options: RangeOptions) -> Span:
    """Absolute indices (first, behind last) of the selected frames; a frame belongs to where it begins.

    Raises UsageError where no frame is selected.
    """
    base = index.pts[0]
    start = options.start_s or 0.0
    end = start + options.duration_s if options.duration_s is not None else options.end_s

    def at(seconds: float) -> int:
        # Half a tick of tolerance: 0.04 s typed by a person means the frame at 1/25 s.
        return bisect_left(index.pts, base + seconds / float(info.time_base) - 0.5)

    first = at(start)
    last = index.frames if end is None else at(end)
    if options.frames is not None:
        last = min(last, first + options.frames)
    if first >= last:
        length = float((index.pts[-1] + index.durations[-1] - base) * info.time_base)
        raise UsageError(
            f"no frame lies in the range that --start, --end and --duration give: the video is {length:.3f} s long"
        )
    return first, last


def resolve_windows(spec: ModelSpec, options: WindowOptions) -> WindowSpec:
    """The windows of the options, completed by the model's; output pixels become latent elements.

    Raises UsageError where the overlap leaves no room.
    """
    ours, factor = spec.windows, spec.autoencoder.factor
    chunk_frames = options.chunk_frames or ours.chunk_frames
    chunk_overlap = ours.chunk_overlap if options.chunk_overlap is None else options.chunk_overlap
    if options.chunk_frames is not None and options.chunk_overlap is None:
        chunk_overlap = min(chunk_overlap, chunk_frames // 2)
    if 2 * chunk_overlap > chunk_frames:
        raise UsageError(
            f"--chunk-overlap {chunk_overlap} is more than half of --chunk-frames {chunk_frames}"
        )
    tile_overlap = (
        ours.tile_overlap
        if options.tile_overlap_px is None
        else -(-options.tile_overlap_px // factor)
    )
    tile: tuple[int | None, int | None] = (ours.tile_height, ours.tile_width)
    if options.tile_px is not None:
        side = options.tile_px // factor
        tile = (side, side) if side else (None, None)
        least = 2 * tile_overlap + 2 * spec.size_rule.multiple
        if options.tile_px and side < max(least, *spec.min_size):
            raise UsageError(
                f"--tile {options.tile_px} is too small: at least {max(least, *spec.min_size) * factor} pixels "
                f"with an overlap of {tile_overlap * factor}"
            )
    return WindowSpec(chunk_frames, chunk_overlap, tile[0], tile[1], tile_overlap)


def chunk_spans(frames: int, windows: WindowSpec) -> tuple[Span, ...]:
    """The temporal windows over `frames` frames."""
    return even_spans(frames, windows.chunk_frames, windows.chunk_overlap)


def tile_spans(
    spec: ModelSpec, windows: WindowSpec, latent: tuple[int, int]
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The spatial windows over a legal latent (rows, columns)."""
    rule = spec.size_rule
    rows, columns = (
        legal_spans(
            size, longest or size, windows.tile_overlap, multiple=rule.multiple, remainder=remainder
        )
        for size, longest, remainder in (
            (latent[0], windows.tile_height, rule.height_remainder),
            (latent[1], windows.tile_width, 0),
        )
    )
    return rows, columns


def ineffective_options(spec: ModelSpec, options: SamplingOptions) -> list[str]:
    """Flags of the sampling options that are given and change nothing for this model."""
    if spec.solver != "one_step":
        return []
    given = {
        "--steps": options.steps,
        "--solver-mode": options.solver_mode,
        "--cfg": options.cfg,
        "--cfg-rescale": options.cfg_rescale,
        "--noise-level": options.noise_level,
        "--seed": options.seed,
    }
    return [flag for flag, value in given.items() if value is not None]


def calls_per_window(spec: ModelSpec, options: SamplingOptions) -> int:
    """Network calls that one window costs: one a step, twice with guidance."""
    if spec.solver == "one_step":
        return 1
    steps = options.steps or spec.steps
    guided = (spec.cfg if options.cfg is None else options.cfg) != 1
    # The published schedules drop one of their steps for the multistep solver; Heun's evaluates twice.
    evaluations = steps - 1 if spec.solver == "dpmpp_2m_sde" else 2 * steps - 1
    return max(1, evaluations) * (2 if guided else 1)


def _bounded_segment(spec: ModelSpec, latent: tuple[int, int]) -> int:
    """The model's segment length, shortened so that its latents stay within SEGMENT_BYTES."""
    frame_bytes = 4 * spec.network.latent_channels * latent[0] * latent[1]
    fits = SEGMENT_BYTES // (_COPIES * frame_bytes)
    return max(2 * spec.context_frames + 1, min(spec.segment_frames, fits))


def _segments(
    index: VideoIndex, first: int, last: int, longest: int, context: int, options: WindowOptions
) -> tuple[Segment, ...]:
    if context and longest <= 2 * context:
        raise UsageError(
            f"--segment-frames {longest} is too short: this model needs at least {2 * context + 1}"
        )
    cuts = [cut for cut in index.cuts if first < cut < last] if options.scene_detect else []
    segments: list[Segment] = []
    for start, stop in itertools.pairwise([first, *cuts, last]):
        spans = even_spans(stop - start, longest, context)
        for place, (a, b) in enumerate(spans):
            head = context if place > 0 else 0
            tail = context if place + 1 < len(spans) else 0
            segments.append(Segment(len(segments), start + a, start + b, head, tail))
    return tuple(segments)


def _volume(grid: Grid) -> int:
    frames, rows, columns = (
        sum(stop - start for start, stop in spans)
        for spans in (grid.frames, grid.rows, grid.columns)
    )
    return frames * rows * columns
