"""Pictures made with integers only, the same on every machine."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from starvsr.metrics.frame import Frame

Picture = npt.NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 1) -> npt.NDArray[np.int64]:
    """0..255, without visible order."""
    count = np.arange(height * width, dtype=np.uint64).reshape(height, width) + np.uint64(
        seed << 32
    )
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        count = (count ^ (count >> np.uint64(shift))) * np.uint64(factor)
    return ((count >> np.uint64(33)) % np.uint64(256)).astype(np.int64)


def smooth(height: int, width: int, seed: int = 1, *, passes: int = 3) -> npt.NDArray[np.int64]:
    """Noise averaged over ever larger squares, 0..255: blobs of several sizes."""
    total = np.zeros((height, width), np.int64)
    for step in range(passes):
        size = 4 << step
        sums = np.pad(
            noise(height + size, width + size, seed + step).cumsum(0).cumsum(1), ((1, 0), (1, 0))
        )
        box = sums[size:, size:] - sums[:-size, size:] - sums[size:, :-size] + sums[:-size, :-size]
        mean = box[:height, :width] // size**2
        low, high = mean.min(), mean.max()
        total += (mean - low) * 255 // max(1, high - low)
    return total // passes


def photo(height: int, width: int, seed: int = 1) -> Picture:
    """An RGB picture with structure and grain."""
    blobs, grain = smooth(height, width, seed), noise(height, width, seed + 50)
    gray = blobs * 7 // 8 + grain // 16
    return np.stack([gray, gray * 9 // 10, 255 - gray], axis=-1).astype(np.uint8)


def moving(count: int, height: int, width: int, step: tuple[int, int] = (2, 1)) -> list[Picture]:
    """A picture that moves by so many columns and rows a frame."""
    dx, dy = step
    margin = count * max(abs(dx), abs(dy)) + 1
    large = photo(height + 2 * margin, width + 2 * margin)
    cuts = ((margin - i * dy, margin - i * dx) for i in range(count))
    return [np.ascontiguousarray(large[y : y + height, x : x + width]) for y, x in cuts]


def blurred(picture: Picture) -> Picture:
    """The mean of each pixel and its eight neighbours."""
    padded = np.pad(picture.astype(np.int64), ((1, 1), (1, 1), (0, 0)), mode="edge")
    height, width = picture.shape[:2]
    total = sum(padded[y : y + height, x : x + width] for y in range(3) for x in range(3))
    return (np.asarray(total) // 9).astype(np.uint8)


def frame(picture: Picture) -> Frame:
    """A picture as the metrics take it."""
    return Frame(picture.astype(np.uint16) * 257)
