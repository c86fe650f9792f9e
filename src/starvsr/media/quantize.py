"""16-bit samples to the fewer bits of an encoder's format, dithered so that gradients do not band.

The dither is an 8x8 matrix of thresholds, less than one level, the same in every frame: it does not depend on which
part of a video is encoded, and still areas stay still. Samples exactly on a level stay on it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from av.video.plane import VideoPlane

Samples = npt.NDArray[np.uint16]


def to_levels(values: Samples, depth: int) -> Samples:
    """Values 0..65535 (rows, columns and maybe channels) as levels 0..2**depth - 1."""
    if depth == 16:
        return values
    rows, columns = values.shape[:2]
    offsets = _offsets(depth, rows, columns)
    if values.ndim == 3:
        # One offset for all channels, so that grey stays grey.
        offsets = offsets[..., None]
    scaled = values * np.float32(((1 << depth) - 1) / 65535)
    scaled += offsets
    return scaled.astype(np.uint16)


def to_depth(samples: Samples, depth: int) -> Samples:
    """16-bit samples, none above the last whole level, truncated to their first `depth` bits."""
    if depth == 16:
        return samples
    offsets = _offsets(depth, *samples.shape) * (1 << 16 - depth)
    return np.right_shift(samples + offsets.astype(np.uint16), 16 - depth)


@lru_cache(maxsize=8)
def _offsets(depth: int, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """Offsets added before truncating fractions of a level: 64 steps in Bayer's order, repeated over a frame.

    They leave out the ends of 0..1, by as much as 16 bits are uncertain.
    """
    order = np.zeros((1, 1), np.int64)
    for _ in range(3):
        order = np.block([[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]])
    span = 1 - 2.0 ** (depth - 15)
    cell = (0.5 + ((2 * order + 1) / 128 - 0.5) * span).astype(np.float32)
    return np.tile(cell, (-(-rows // 8), -(-columns // 8)))[:rows, :columns]


def repeated_bits(levels: Samples, depth: int) -> Samples:
    """Levels of `depth` bits, at least 8, spread over 16 by repeating their bits; the first bits are the levels."""
    if depth == 16:
        return levels
    spread: Samples = np.left_shift(levels, 16 - depth)
    spread |= np.right_shift(levels, 2 * depth - 16)
    return spread


@lru_cache(maxsize=8)
def limited_to(depth: int, *, full: bool) -> tuple[Samples, Samples, Samples]:
    """Tables for Y, Cb and Cr from 16-bit limited-range samples to those of the requested range, still 16 bits.

    None is above the last level of `depth` bits, shifted up.
    """
    samples = np.arange(65536, dtype=np.float64)
    top = ((1 << depth) - 1) << 16 - depth
    luma = chroma = samples
    if full:
        luma = (samples - (16 << 8)) * top / (219 << 8)
        chroma = (samples - (128 << 8)) * top / (224 << 8) + (1 << 15)
    y, c = (np.rint(np.clip(each, 0, top)).astype(np.uint16) for each in (luma, chroma))
    return y, c, c


def samples_of(plane: VideoPlane, depth: int) -> npt.NDArray[Any]:
    """Samples, uint8 for 8 bits and uint16 for more, of a plane (rows, columns) without the padding of its lines."""
    kind = np.uint8 if depth == 8 else np.uint16
    rows = np.frombuffer(memoryview(plane), kind).reshape(plane.height, -1)
    return rows[:, : plane.width]


def fill(plane: VideoPlane, samples: npt.NDArray[Any], depth: int) -> None:
    """Write samples (rows, columns) of a depth into a plane."""
    kind = np.uint8 if depth == 8 else np.uint16
    rows = np.zeros((plane.height, plane.line_size // kind().itemsize), kind)
    rows[:, : plane.width] = samples
    plane.update(rows.tobytes())
