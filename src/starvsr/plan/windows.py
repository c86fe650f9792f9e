"""Integer geometry: legal latent sizes and overlapping windows. No torch, no I/O.

A *span* is a half-open range `(start, stop)` of elements along one axis; a *grid* is the product of the
spans of the three axes of a latent (frames, rows, columns).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from starvsr.types import SizeRule

Span = tuple[int, int]


@dataclass(frozen=True)
class Block:
    """One window of a grid: where it lies along each axis."""

    frames: Span
    rows: Span
    columns: Span

    def of(self, tensor: Any) -> Any:
        """The part of a `... t h w` tensor (of the grid's size) that lies in this window, as a view."""
        return tensor[..., slice(*self.frames), slice(*self.rows), slice(*self.columns)]


@dataclass(frozen=True)
class Grid:
    """Overlapping windows over a `t h w` volume: every combination of the three axes' spans."""

    frames: tuple[Span, ...]
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]

    @property
    def size(self) -> tuple[int, int, int]:
        """Frames, rows and columns covered."""
        return self.frames[-1][1], self.rows[-1][1], self.columns[-1][1]

    def __len__(self) -> int:
        return len(self.frames) * len(self.rows) * len(self.columns)


def even_spans(length: int, longest: int, overlap: int) -> tuple[Span, ...]:
    """As few spans as cover `length` with none longer than `longest`; neighbours share exactly `overlap`.

    Lengths differ by at most one, so that no short rest is left at the end.
    Raises ValueError if `overlap` is more than half of `longest` and more than one span is needed.
    """
    if length <= longest:
        return ((0, length),)
    if 2 * overlap > longest or longest == overlap:
        raise ValueError(f"an overlap of {overlap} is more than half of a span of {longest}")
    count = math.ceil((length - overlap) / (longest - overlap))
    starts = [index * (length - overlap) // count for index in range(count + 1)]
    return tuple((a, b + overlap) for a, b in itertools.pairwise(starts))


def legal_spans(
    length: int, longest: int, overlap: int, *, multiple: int, remainder: int, whole: bool = False
) -> tuple[Span, ...]:
    """Spans of one legal size (`remainder` modulo `multiple`) that cover a legal `length`.

    Neighbours share at least `overlap`. The size is the smallest that needs no more spans than the largest
    legal size up to `longest` does, so that little is computed twice; `whole`: that largest size itself.
    Raises ValueError if `length` is not legal or `longest` leaves no room beside the overlap.
    """
    if length % multiple != remainder % multiple:
        raise ValueError(f"{length} is not {remainder} modulo {multiple}")
    if length <= longest:
        return ((0, length),)
    limit = longest - (longest - remainder) % multiple
    if limit <= 2 * overlap:
        raise ValueError(f"a window of {longest} leaves no room beside two overlaps of {overlap}")
    count = math.ceil((length - overlap) / (limit - overlap))
    least = limit if whole else math.ceil((length + (count - 1) * overlap) / count)
    size = legal_size(least, multiple, remainder)
    starts = [index * (length - size) // (count - 1) for index in range(count)]
    return tuple((start, start + size) for start in starts)


def legal_size(length: int, multiple: int, remainder: int, minimum: int = 1) -> int:
    """The smallest size of at least `length` and `minimum` that is `remainder` modulo `multiple`."""
    least = max(length, minimum, 1)
    return least + (remainder - least) % multiple


def latent_frames(frames: int, time_factor: int) -> int:
    """Latent frames of a run: its first frame has its own, and each `time_factor` after it, or the rest, share one."""
    return 1 - (1 - frames) // time_factor


def frames_of(latent: int, time_factor: int) -> int:
    """Frames of a complete run of `latent` latent frames."""
    return time_factor * (latent - 1) + 1


def legal_latent(
    height: int, width: int, rule: SizeRule, minimum: tuple[int, int]
) -> tuple[int, int]:
    """The smallest legal latent (rows, columns) that contains `height` x `width` elements."""
    return (
        legal_size(height, rule.multiple, rule.height_remainder, minimum[0]),
        legal_size(width, rule.multiple, 0, minimum[1]),
    )


def published_chunks(frames: int, longest: int) -> tuple[Span, ...]:
    """The temporal windows of the released STAR code: half overlapped, the last up to 1.25 times as long."""
    overlap = longest // 2
    spans: list[Span] = []
    start = 0
    while True:
        if frames - start <= longest + longest // 4:
            return (*spans, (start, frames))
        spans.append((start, start + longest))
        start += longest - overlap


def published_padding(
    size: tuple[int, int], rule: SizeRule, minimum: tuple[int, int], factor: int
) -> tuple[int, int, int, int]:
    """Pixels (left, right, top, bottom) that the released STAR code pads an upscaled frame with.

    size: rows and columns, pixels; minimum: of the latent; factor: pixels per latent element. A side under the minimum
    (720x1280 for the published model) is centred in it; a longer one grows at its end to the next legal size (16
    modulo 64 rows, 0 modulo 64 columns), and by a whole 64 where it is legal already.
    """
    multiple = rule.multiple * factor
    top, bottom = _published_side(
        size[0], minimum[0] * factor, rule.height_remainder * factor, multiple
    )
    left, right = _published_side(size[1], minimum[1] * factor, 0, multiple)
    return left, right, top, bottom


def _published_side(size: int, minimum: int, remainder: int, multiple: int) -> Span:
    if size <= minimum:
        before = (minimum - size) // 2
        return before, minimum - size - before
    return 0, (remainder - size - 1) % multiple + 1


def cuts_at_half_overlap(spans: Sequence[Span]) -> tuple[int, ...]:
    """Where each span but the first takes over under a hard cut in the middle of its overlap."""
    return tuple(b[0] + (a[1] - b[0]) // 2 for a, b in itertools.pairwise(spans))
