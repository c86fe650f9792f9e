"""What earlier handling has left in a picture: noise, blocks of a codec, an empty part of the spectrum, fields.

Pure functions of luma planes, without a reference. Each estimates one number that can be made on purpose, which is how
they are tested: noise of a known deviation, JPEG of a known quality, a known enlargement, known fields.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from starvsr.metrics.frame import Plane

LEAST_SIDE = 48
"""Pixels; smaller pictures have too few blocks and frequencies."""

PERIODS = tuple(8 * factor for factor in (1.0, 1.5, 2.0, 2.25, 3.0))
"""Pixels between the borders of blocks as codecs make them, and as usual enlargements leave them."""

# Side of the blocks among which flat ones are looked for, and which fraction of them counts as flat.
_BLOCK, _FLAT = 8, 0.25
# Levels of black and white, near which clipping and borders hide the noise.
_BLACK, _WHITE = 20.0, 231.0
# Of a normal distribution: its deviation over its median magnitude; and how much the second differences of both
# directions amplify independent noise.
_MAD_TO_SIGMA, _GAIN = 1.4826, 6.0

# Spectrum: frequencies, cycles per pixel, that every picture fills; below which fraction of their mean a frequency is
# empty, weighted by its square, which makes the spectrum of a natural picture level; and how many bands in a row are.
_FILLED, _EMPTY = (0.04, 0.12), 0.25
_BANDS, _IN_A_ROW = 24, 2
_MOST_FACTOR = 4.0

# Levels by which a pixel has to change to be moving, and by which it has to differ from both rows beside it to comb.
_MOVES, _COMBS = 10.0, 10.0
_LEAST_MOVING = 0.002


def noise_sigma(luma: Plane) -> float | None:
    """Standard deviation of the noise, levels of BT.601 luma (16..235); None if no part is neither black nor white.

    luma: (height, width), each at least `LEAST_SIDE`. The response to second differences in both directions, which
    edges and slopes along either do not have, in the flattest quarter of 8x8 blocks; its median ignores what detail
    is left there. Noise that was enlarged or smoothed with the picture responds less than it is seen.
    """
    response = _second(_second(luma).T).T
    rows, columns = (side // _BLOCK for side in response.shape)
    rows_px, columns_px = rows * _BLOCK, columns * _BLOCK
    blocks = _blocks(response[:rows_px, :columns_px])
    inside = luma[1 : 1 + rows_px, 1 : 1 + columns_px]
    parts = _blocks(inside)
    means = parts.mean(axis=(1, 2))
    # Means of halves, which noise hardly changes.
    half = _BLOCK // 2
    left, upper = parts[:, :, :half].mean(axis=(1, 2)), parts[:, :half].mean(axis=(1, 2))
    slope = np.abs(left - means) + np.abs(upper - means)
    shown = (means > _BLACK) & (means < _WHITE)
    if not shown.any():
        return None
    flat = shown & (slope <= np.quantile(slope[shown], _FLAT))
    return float(_MAD_TO_SIGMA * np.median(np.abs(blocks[flat])) / _GAIN)


def blockiness(luma: Plane, periods: Sequence[float] = PERIODS) -> float:
    """How many times larger steps between pixels are at the borders of a codec's blocks than elsewhere; 1: no blocks.

    luma: (height, width), each at least `LEAST_SIDE`. periods: pixels from one border to the next, of which the one
    with the largest steps counts; the grid may begin anywhere. Of both directions the smaller one, so that a picture's
    own stripes do not count.
    """
    across, down = _steps(luma), _steps(luma.T)
    return 1.0 + max(min(_excess(across, each), _excess(down, each)) for each in periods)


def detail_factor(luma: Plane) -> float:
    """By how much the picture could be reduced without losing what it shows: 1 (sharp) to 4.

    luma: (height, width), each at least `LEAST_SIDE`. Half a cycle per pixel over the frequency above which the
    spectrum is empty, of the sharper direction. A picture that was enlarged N times has about N, and so has one that
    is out of focus or compressed as much; noise on top of it fills the spectrum again.
    """
    return min(_filled_factor(luma), _filled_factor(luma.T))


def combing(before: Plane, luma: Plane) -> float | None:
    """Fraction (-1..1) of moving pixels that comb as two fields of different times do; None if too little moves.

    before, luma: two frames in a row, (height, width). A pixel combs if it is brighter, or darker, than both
    neighbours above and below by 10 levels; those that do so beside each other in a row, which detail does as often,
    are subtracted. About 0 for whole frames.
    """
    moving = np.abs(luma - before) > _MOVES
    moving = moving[1:-1, 1:-1]
    if moving.mean() < _LEAST_MOVING:
        return None
    rows, columns = _extremes(luma)[:, 1:-1], _extremes(luma.T).T[1:-1]
    return float((rows & moving).sum() - (columns & moving).sum()) / float(moving.sum())


def detail(luma: Plane) -> float:
    """Mean magnitude of the steps between neighbouring pixels, levels."""
    return float((np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()) / 2)


def _second(values: Plane) -> Plane:
    return values[:-2] - 2 * values[1:-1] + values[2:]


def _blocks(values: Plane) -> Plane:
    """(blocks, 8, 8) of a plane of whole blocks."""
    rows, columns = (side // _BLOCK for side in values.shape)
    grid = values.reshape(rows, _BLOCK, columns, _BLOCK).transpose(0, 2, 1, 3)
    return grid.reshape(rows * columns, _BLOCK, _BLOCK)


def _extremes(luma: Plane) -> npt.NDArray[np.bool_]:
    above, below = luma[1:-1] - luma[:-2], luma[1:-1] - luma[2:]
    found: npt.NDArray[np.bool_] = np.sign(above) == np.sign(below)
    found &= np.minimum(np.abs(above), np.abs(below)) > _COMBS
    return found


def _steps(luma: Plane) -> Plane:
    """Steps between columns over the mean step, less those beside them: a border is seen where these are smaller."""
    steps = np.abs(np.diff(luma, axis=1))
    excess = steps[:, 1:-1] - (steps[:, :-2] + steps[:, 2:]) / 2
    return np.asarray(excess.mean(axis=0) / max(float(steps.mean()), 1e-3))


def _excess(steps: Plane, period: float) -> float:
    """Of the grid of a period that has the largest steps, over the next best that is not beside it."""
    # The median ignores edges of the picture; what was enlarged has a grid of its own, finer than that of blocks.
    found = [
        float(np.median(steps[np.arange(phase, len(steps), period).astype(int)]))
        for phase in range(round(period))
    ]
    best = int(np.argmax(found))
    beside = (best - 1) % len(found), best, (best + 1) % len(found)
    return max(0.0, found[best] - max(each for i, each in enumerate(found) if i not in beside))


def _filled_factor(luma: Plane) -> float:
    """`detail_factor` along the rows."""
    width = luma.shape[1]
    window = np.hanning(width)
    rows = luma - luma.mean(axis=1, keepdims=True)
    power = np.square(np.abs(np.fft.rfft(rows * window, axis=1))).mean(axis=0)
    frequency = np.arange(len(power)) / width
    level = power * frequency**2
    # Whole levels are noise of a twelfth of a level squared, which is no detail.
    rounding = np.square(window).sum() / 12 * frequency**2
    level = np.maximum(level - 2 * rounding, 0)
    band = np.minimum(frequency * 2 * _BANDS, _BANDS - 1).astype(int)
    means = np.bincount(band, level) / np.bincount(band)
    centres = (np.arange(_BANDS) + 0.5) / (2 * _BANDS)
    reference = means[(centres > _FILLED[0]) & (centres < _FILLED[1])].mean()
    empty = means <= _EMPTY * reference
    for first in range(int(_FILLED[1] * 2 * _BANDS) - 1, _BANDS - 1):
        if empty[first : first + _IN_A_ROW].all():
            return float(np.clip(_BANDS / first, 1.0, _MOST_FACTOR))
    return 1.0
