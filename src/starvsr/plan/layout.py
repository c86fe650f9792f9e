"""How work on frames of one size is split: windows over the latent, the autoencoder's tiles, and smaller ones.

Pure: which windows fit a memory limit follows from the model, the options and `memory`'s cost model alone, so a plan
and the restoration that follows it agree without talking to each other.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from starvsr.errors import MemoryLimitError, UsageError
from starvsr.options import DeviceOptions
from starvsr.plan.memory import autoencoder_stage_bytes, network_stage_bytes, shared_bytes
from starvsr.plan.settings import Settings, check_overlap
from starvsr.plan.windows import (
    Grid,
    Span,
    even_spans,
    frames_of,
    latent_frames,
    legal_latent,
    legal_spans,
    published_chunks,
    published_padding,
)
from starvsr.types import AutoencoderSpec, ModelSpec, WindowSpec

OFFLOAD_STEPS = ("none", "model", "block")
"""From fastest to least memory."""


def offload_steps(first: str = "none", *, compiled: bool = False) -> tuple[str, ...]:
    """The ways to keep weights from the device, from `first` on. Weights that come for a block's call do so from hooks
    on its parts, and a compiled part is one piece."""
    steps = OFFLOAD_STEPS[:-1] if compiled else OFFLOAD_STEPS
    return steps[steps.index(first) :]


# A prior that was trained on 720x1280 still knows what it sees in a quarter of that; below, time is given up first.
_COMFORTABLE_TILE = 50 * 80
_COMFORTABLE_FRAMES = 8
_LEAST_TILE = 26


@dataclass(frozen=True)
class Layout:
    """How a model's work on frames of one size is split."""

    latent: tuple[int, int]
    """Rows and columns of the padded latent."""
    windows: WindowSpec
    """Of the network."""
    frames: int
    """Most latent frames of a run."""
    autoencoder: AutoencoderSpec
    """With the tiles and chunks that are used."""
    offload: str = "none"
    """`none`, `model` or `block`."""
    peak_bytes: int = 0
    """Predicted peak of device memory; 0 if not predicted."""
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Pixels left, right, above and below the picture that complete the latent."""
    shared: bool = False
    """Whether the halves of the guidance share what they compute before the text: a choice of memory, no bit of a
    result depends on it."""
    published: bool = False
    """Whether everything is split as in the published code: white padding, hard cuts in time, guidance per window."""

    def windows_json(self) -> dict[str, Any]:
        """All windows as plain data."""
        return {
            "network": dataclasses.asdict(self.windows),
            "autoencoder": dataclasses.asdict(self.autoencoder),
        }

    def with_windows(self, data: Mapping[str, Any]) -> Layout:
        """The layout with the windows that `windows_json` gave."""
        return dataclasses.replace(
            self,
            windows=WindowSpec(**data["network"]),
            autoencoder=AutoencoderSpec(**data["autoencoder"]),
        )


def plain_layout(spec: ModelSpec, settings: Settings, size: tuple[int, int], frames: int) -> Layout:
    """The layout for runs of up to `frames` frames of an output of `size` (rows, columns) where memory does not matter.

    Raises UsageError as `windows_for`.
    """
    factor = spec.autoencoder.factor
    if settings.parity and spec.start == "noise":
        raise UsageError(f"--parity is not supported by the model {spec.name}: leave it out")
    if settings.parity:
        return _published_layout(spec, settings, size, frames)
    latent = legal_latent(
        -(-size[0] // factor), -(-size[1] // factor), spec.size_rule, spec.min_size
    )
    padding = (0, latent[1] * factor - size[1], 0, latent[0] * factor - size[0])
    windows = windows_for(spec, settings, latent)
    length = latent_frames(frames, spec.autoencoder.time_factor)
    return Layout(latent, windows, length, spec.autoencoder, padding=padding)


def _published_layout(
    spec: ModelSpec, settings: Settings, size: tuple[int, int], frames: int
) -> Layout:
    factor = spec.autoencoder.factor
    padding = published_padding(size, spec.size_rule, spec.min_size, factor)
    left, right, top, bottom = padding
    latent = ((size[0] + top + bottom) // factor, (size[1] + left + right) // factor)
    windows = dataclasses.replace(
        settings.windows,
        chunk_overlap=settings.windows.chunk_frames // 2,
        tile_height=None,
        tile_width=None,
    )
    autoencoder = dataclasses.replace(
        spec.autoencoder, posterior="sample", chunk_frames=3, chunk_overlap=0, tile=None
    )
    return Layout(latent, windows, frames, autoencoder, padding=padding, published=True)


def windows_for(spec: ModelSpec, settings: Settings, latent: tuple[int, int]) -> WindowSpec:
    """The windows of the settings for a latent of `latent` rows and columns, on which chunks may be shorter.

    Raises UsageError if their overlap leaves no room.
    """
    windows, ours = settings.windows, spec.autoencoder
    if windows.call_elements and not settings.chunk_frames_given:
        fitting = max(1, windows.call_elements // (latent[0] * latent[1]))
        frames, overlap = min(windows.chunk_frames, fitting), windows.chunk_overlap
        check_overlap(overlap, frames, given=(overlap, frames_of(frames, ours.time_factor)))
        windows = dataclasses.replace(windows, chunk_frames=frames)
    try:
        tile_spans(spec, windows, latent)
    except ValueError as error:
        side = min(windows.tile_height or latent[0], windows.tile_width or latent[1])
        raise UsageError(
            f"--tile-overlap {windows.tile_overlap * ours.factor} leaves no room in tiles of {side * ours.factor} "
            "pixels: give a smaller one or a larger --tile"
        ) from error
    return windows


@dataclass(frozen=True)
class _Predictor:
    """Predicts the device memory of a layout."""

    spec: ModelSpec
    bytes_per_element: int

    def network_peak(self, layout: Layout) -> int:
        window = largest_window(self.spec, layout)
        count = len(network_grid(self.spec, layout, layout.frames))
        return network_stage_bytes(
            self.spec, window, self.bytes_per_element, layout.offload, windows=count
        )

    def predicted(self, layout: Layout) -> Layout:
        autoencoder_peak = autoencoder_stage_bytes(
            self.spec, largest_picture(layout), self.bytes_per_element, layout.offload
        )
        peak = max(self.network_peak(layout), autoencoder_peak)
        return dataclasses.replace(layout, peak_bytes=peak)

    def sharing(self, layout: Layout, limit_bytes: int | None) -> Layout:
        """With halves of the guidance that share what they can, if there is room left for it."""
        window = largest_window(self.spec, layout)
        more = shared_bytes(self.spec.network, window, self.bytes_per_element)
        peak = max(layout.peak_bytes, self.network_peak(layout) + more)
        if not more or (limit_bytes is not None and peak > limit_bytes):
            return layout
        return dataclasses.replace(layout, shared=True, peak_bytes=peak)


def fitted_layout(
    spec: ModelSpec,
    settings: Settings,
    size: tuple[int, int],
    frames: int,
    options: DeviceOptions,
    *,
    bytes_per_element: int,
    limit_bytes: int | None,
) -> Layout:
    """The largest layout whose predicted peak stays within `limit_bytes`; `plain_layout` where there is no limit.

    The autoencoder's pieces shrink first, then weights leave the device, then the network's windows shrink, but for
    what the user gave. Where even the smallest is too large, it is returned all the same, but under `--memory-limit`
    MemoryLimitError is raised. Raises UsageError as `windows_for`.
    """
    plain = plain_layout(spec, settings, size, frames)
    ladder = tuple(
        _network_ladder(
            spec, plain, keep_tile=settings.tile_given, keep_frames=settings.chunk_frames_given
        )
    )
    steps: tuple[str, ...] = (options.offload,)
    if options.offload == "auto":
        steps = offload_steps(compiled=options.compile)
    predictor = _Predictor(spec, bytes_per_element)
    pieces = tuple(_autoencoder_ladder(plain))
    for windows, step, autoencoder in itertools.product(ladder, steps, pieces):
        layout = predictor.predicted(
            dataclasses.replace(plain, windows=windows, autoencoder=autoencoder, offload=step)
        )
        if limit_bytes is None or layout.peak_bytes <= limit_bytes:
            return predictor.sharing(layout, limit_bytes) if settings.is_guided else layout
    if limit_bytes is None or options.memory_limit_bytes is None:
        return layout
    raise MemoryLimitError(
        f"the model {spec.name} needs {format_memory(layout.peak_bytes)} even with the smallest windows allowed, and "
        f"{format_memory(limit_bytes)} can be used: {_advice(settings, options)}"
    )


def format_memory(count: int) -> str:
    """Bytes as people say them: `1.50 GiB`, `70 MiB`."""
    if count < 2**20:
        return f"{count / 2**10:.0f} KiB"
    return f"{count / 2**20:.0f} MiB" if count < 2**30 else f"{count / 2**30:.2f} GiB"


def _advice(settings: Settings, options: DeviceOptions) -> str:
    ways = ["give a larger --memory-limit"]
    if options.offload in ("none", "model") and not options.compile:
        ways.append("--offload block")
    given = {
        "--parity": settings.parity,
        "--tile": settings.tile_given,
        "--chunk-frames": settings.chunk_frames_given,
        "--compile": options.compile,
    }
    ways += [f"leave out {flag}" for flag, is_given in given.items() if is_given]
    return " or ".join((", ".join(ways[:-1]), ways[-1]) if len(ways) > 1 else ways)


def largest_window(spec: ModelSpec, layout: Layout) -> tuple[int, int, int]:
    """Frames, rows and columns of the largest block that the network sees."""
    rows, columns = tile_spans(spec, layout.windows, layout.latent)
    frames = layout.windows.chunk_frames
    if layout.published:
        # The last one may be longer (`published_chunks`).
        frames += frames // 4
    return min(frames, layout.frames), rows[0][1], columns[0][1]


def largest_picture(layout: Layout) -> tuple[int, int, int]:
    """Frames, rows and columns (latent elements) of the largest block that the autoencoder sees."""
    tile = layout.autoencoder.tile or max(layout.latent)
    frames = layout.autoencoder.chunk_frames or layout.windows.chunk_frames
    if layout.autoencoder.time_factor > 1:
        frames = layout.frames
    return min(frames, layout.frames), min(tile, layout.latent[0]), min(tile, layout.latent[1])


def smaller_network(spec: ModelSpec, layout: Layout) -> Layout | None:
    """With halves of the guidance that share nothing, else with the next smaller windows of the network; None where
    they cannot be smaller."""
    if layout.shared:
        return dataclasses.replace(layout, shared=False)
    windows = next(itertools.islice(_network_ladder(spec, layout), 1, None), None)
    return None if windows is None else dataclasses.replace(layout, windows=windows)


def smaller_autoencoder(layout: Layout) -> Layout | None:
    """With the next smaller tiles or chunks of the autoencoder; None where they cannot be smaller."""
    smaller = next(itertools.islice(_autoencoder_ladder(layout), 1, None), None)
    return None if smaller is None else dataclasses.replace(layout, autoencoder=smaller)


def _network_ladder(
    spec: ModelSpec, layout: Layout, *, keep_tile: bool = False, keep_frames: bool = False
) -> Iterator[WindowSpec]:
    """The layout's windows and ever smaller ones, each about half of the one before, but for what is kept."""
    frames, rows, columns = largest_window(spec, layout)
    windows = dataclasses.replace(layout.windows, chunk_frames=frames)
    yield layout.windows
    while not layout.published:
        tile_is_large = not keep_tile and rows * columns > _COMFORTABLE_TILE
        tile_can_shrink = not keep_tile and max(rows, columns) >= 2 * _LEAST_TILE
        few_frames = keep_frames or frames <= _COMFORTABLE_FRAMES
        if tile_is_large or (few_frames and tile_can_shrink):
            rows, columns = _halved(rows, columns)
            overlap = min(windows.tile_overlap, min(rows, columns) // 4)
            windows = dataclasses.replace(
                windows, tile_height=rows, tile_width=columns, tile_overlap=overlap
            )
        elif frames > 1 and not keep_frames:
            frames = max(1, frames // 2)
            overlap = min(windows.chunk_overlap, frames // 2)
            windows = dataclasses.replace(windows, chunk_frames=frames, chunk_overlap=overlap)
        else:
            return
        yield windows


def _halved(rows: int, columns: int) -> tuple[int, int]:
    """With the longer side halved, but for room that legal sizes need."""
    if rows > columns:
        return max(_LEAST_TILE, rows // 2 + 2), columns
    return rows, max(_LEAST_TILE, columns // 2)


def _autoencoder_ladder(layout: Layout) -> Iterator[AutoencoderSpec]:
    """The layout's autoencoder and ever smaller pieces of its work."""
    ours = layout.autoencoder
    yield ours
    frames, rows, columns = largest_picture(layout)
    tile, whole_runs = max(rows, columns), ours.time_factor > 1
    while (ours.chunk_frames is not None or whole_runs) and not layout.published:
        if tile > 32:
            tile = -(-tile // 2)
            overlap = min(ours.tile_overlap, tile // 4)
            ours = dataclasses.replace(ours, tile=tile, tile_overlap=overlap)
        elif frames > 1 and not whole_runs:
            frames = -(-frames // 2)
            overlap = min(ours.chunk_overlap, frames // 2)
            ours = dataclasses.replace(ours, chunk_frames=frames, chunk_overlap=overlap)
        else:
            return
        yield ours


def network_grid(spec: ModelSpec, layout: Layout, frames: int) -> Grid:
    """The network's windows over a run of `frames` latent frames."""
    return Grid(chunks(layout, frames), *tile_spans(spec, layout.windows, layout.latent))


def autoencoder_grid(layout: Layout, frames: int) -> Grid:
    """The autoencoder's windows over a run of `frames` latent frames, in latent elements."""
    ours = layout.autoencoder
    times: tuple[Span, ...]
    if ours.time_factor > 1:
        times = ((0, frames),)
    elif layout.published:
        times = tuple((a, min(a + 3, frames)) for a in range(0, frames, 3))
    elif ours.chunk_frames is None:
        times = chunks(layout, frames)
    else:
        times = even_spans(frames, ours.chunk_frames, ours.chunk_overlap)
    return Grid(
        times, *(even_spans(side, ours.tile or side, ours.tile_overlap) for side in layout.latent)
    )


def chunks(layout: Layout, frames: int) -> tuple[Span, ...]:
    """The temporal windows of the network over `frames` latent frames."""
    windows = layout.windows
    if layout.published:
        return published_chunks(frames, windows.chunk_frames)
    return even_spans(frames, windows.chunk_frames, windows.chunk_overlap)


def tile_spans(
    spec: ModelSpec, windows: WindowSpec, latent: tuple[int, int]
) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The spatial windows of network calls over a legal latent (rows, columns)."""
    rule = spec.size_rule
    rows, columns = (
        legal_spans(
            size,
            longest or size,
            windows.tile_overlap,
            multiple=rule.multiple,
            remainder=remainder,
            whole=windows.whole_tiles,
        )
        for size, longest, remainder in (
            (latent[0], windows.tile_height, rule.height_remainder),
            (latent[1], windows.tile_width, 0),
        )
    )
    return rows, columns
