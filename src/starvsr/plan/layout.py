"""How work on frames of one size is split: windows over the latent, the autoencoder's tiles, strips."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starvsr.errors import UsageError
from starvsr.plan.settings import Settings, check_overlap
from starvsr.plan.strips import Strip, strips
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
    margin: int = 0
    """Latent rows around each strip of a large picture (`plan.strips`), which windows then split; 0: it is whole."""

    @property
    def strips(self) -> tuple[Strip, ...]:
        """The strips that are restored one after the other; one if the frame is whole."""
        return strips(self.latent, self.margin)

    def of_strip(self, strip: Strip) -> Layout:
        """The layout of one of `strips`, with its margins, as a frame."""
        left, right, top, bottom = self.padding
        first, last = strip.outer[0] == 0, strip.outer[1] == self.latent[0]
        return dataclasses.replace(
            self,
            latent=(strip.outer[1] - strip.outer[0], self.latent[1]),
            padding=(left, right, top * first, bottom * last),
            margin=0,
        )

    @property
    def largest(self) -> Layout:
        """The layout of the largest strip, or of the whole frame."""
        if not self.margin:
            return self
        return self.of_strip(max(self.strips, key=lambda each: each.outer[1] - each.outer[0]))

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


def largest_window(spec: ModelSpec, layout: Layout) -> tuple[int, int, int]:
    """Frames, rows and columns of the largest block that the network sees."""
    rows, columns = tile_spans(spec, layout.windows, layout.largest.latent)
    frames = layout.windows.chunk_frames
    if layout.published:
        # The last one may be longer (`published_chunks`).
        frames += frames // 4
    return min(frames, layout.frames), rows[0][1], columns[0][1]


def largest_picture(layout: Layout) -> tuple[int, int, int]:
    """Frames, rows and columns (latent elements) of the largest block that the autoencoder sees."""
    latent = layout.largest.latent
    tile = layout.autoencoder.tile or max(latent)
    frames = layout.autoencoder.chunk_frames or layout.windows.chunk_frames
    if layout.autoencoder.time_factor > 1:
        frames = layout.frames
    return min(frames, layout.frames), min(tile, latent[0]), min(tile, latent[1])


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


def all_tile_spans(spec: ModelSpec, layout: Layout) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """As `tile_spans`, over all strips."""
    rows: list[Span] = []
    for strip in layout.strips:
        inner, columns = tile_spans(spec, layout.windows, layout.of_strip(strip).latent)
        rows += ((strip.outer[0] + a, strip.outer[0] + b) for a, b in inner)
    return tuple(rows), columns


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
