"""The largest layout that fits a memory limit, and ever smaller ones.

Pure: which windows fit follows from the model, the options and `memory`'s cost model alone, so a plan and the
restoration that follows it agree without talking to each other.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from starvsr.errors import MemoryLimitError
from starvsr.options import DeviceOptions
from starvsr.plan.layout import (
    Layout,
    largest_picture,
    largest_window,
    network_grid,
    plain_layout,
)
from starvsr.plan.memory import autoencoder_stage_bytes, network_stage_bytes, shared_bytes
from starvsr.plan.settings import Settings
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
    margin: int = 0,
) -> Layout:
    """The largest layout whose predicted peak stays within `limit_bytes`; `plain_layout` where there is no limit.

    The autoencoder's pieces shrink first, then weights leave the device, then the network's windows shrink, but for
    what the user gave. margin: of a picture's strips, to which windows and memory then belong. Where even the
    smallest is too large, it is returned all the same, but under `--memory-limit` MemoryLimitError is raised. Raises
    UsageError as `windows_for`.
    """
    whole = dataclasses.replace(plain_layout(spec, settings, size, frames), margin=margin)
    if margin:
        fitted = _fitted(spec, settings, whole.largest, options, bytes_per_element, limit_bytes)
        return dataclasses.replace(
            fitted, latent=whole.latent, padding=whole.padding, margin=margin
        )
    return _fitted(spec, settings, whole, options, bytes_per_element, limit_bytes)


def _fitted(
    spec: ModelSpec,
    settings: Settings,
    plain: Layout,
    options: DeviceOptions,
    bytes_per_element: int,
    limit_bytes: int | None,
) -> Layout:
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


def moved_weights(
    spec: ModelSpec,
    layout: Layout,
    offload: str,
    *,
    bytes_per_element: int,
    limit_bytes: int | None,
) -> Layout:
    """The same windows with the weights kept as `offload` says, and the peak that is predicted for that."""
    predictor = _Predictor(spec, bytes_per_element)
    largest = dataclasses.replace(layout.largest, offload=offload, shared=False)
    moved = predictor.predicted(largest)
    if layout.shared:
        moved = predictor.sharing(moved, limit_bytes)
    return dataclasses.replace(
        layout, offload=offload, shared=moved.shared, peak_bytes=moved.peak_bytes
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
