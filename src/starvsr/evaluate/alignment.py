"""Whether a result is aligned with its reference: shifts by pixels or frames ruin every metric but are hard to see.

Shifts are reported, never corrected: only the user knows which of the two files is wrong.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from starvsr.metrics.frame import Plane

MOST_LAG = 5
"""Frames searched in each direction."""
LEAST_SHIFT = 0.5
"""Pixels from which a shift is reported; one of a grid's origin at 4x is 1.5."""

# Frames sampled to detect a shift, which is the same in all frames.
_SAMPLES = 8
# Cycles per pixel: what a result of a poor input has in common with its reference lies below.
_BAND = 0.04
# Fraction of the spectrum that must agree on one shift; noise and flat frames are far below.
_LEAST_AGREEMENT = 0.25
# A shift is reported if moving the result back reduces the difference this much: 5 to 50 % for one pixel. The errors of
# a poor input agree on some shift too, but it explains nothing.
_BETTER = 0.98
# A lag is reported if it explains the frames this much better than none.
_CLEARLY = 0.8
# Mean squared difference of thumbnails in levels of 255: below it nothing moves.
_STILL = 0.01
_SMALL_SIDE = 48


@dataclass(frozen=True)
class Alignment:
    """How a result is aligned with its reference."""

    right: float
    """Pixels by which the result's content is to the right of the reference's."""
    down: float
    late: int
    """Frames by which the result lags."""

    def warnings(self) -> list[str]:
        """One sentence for each shift worth reporting."""
        said = []
        if self.late:
            way = "late" if self.late > 0 else "early"
            count = "1 frame" if abs(self.late) == 1 else f"{abs(self.late)} frames"
            said.append(
                f"the result is {count} {way}: the metrics compare frames that do not match"
            )
        elif math.hypot(self.right, self.down) >= LEAST_SHIFT:
            said.append(
                f"the result is shifted by {_tenths(self.right)} pixels to the right and {_tenths(self.down)} down: "
                "the metrics compare positions that do not match"
            )
        return said


class AlignmentCheck:
    """Processes frames as they come; stores two spectra and a few thumbnails."""

    def __init__(self, frames: int) -> None:
        """frames: how many will come."""
        self._every = max(1, frames // _SAMPLES)
        self._seen = 0
        # Cross-spectra with every frequency counting alike, which is sharp, and as they are, which is not misled.
        self._spectrum: npt.NDArray[np.complex128] | None = None
        self._cross: npt.NDArray[np.complex128] | float = 0.0
        self._energies = np.zeros(2)
        self._samples = 0
        self._shape = (0, 0)
        self._recent: tuple[deque[Plane], deque[Plane]] = (
            deque(maxlen=MOST_LAG + 1),
            deque(maxlen=MOST_LAG + 1),
        )
        self._errors = {lag: [0.0, 0] for lag in range(-MOST_LAG, MOST_LAG + 1)}

    def add(self, result: Plane, reference: Plane) -> None:
        """Take the luma of the next frame of both, (height, width)."""
        if self._seen % self._every == 0:
            self._add_spectrum(result, reference)
        self._seen += 1
        for recent, luma in zip(self._recent, (result, reference), strict=True):
            recent.append(_small(luma))
        results, references = self._recent
        for back in range(len(results)):
            # The newest result with an older reference, and the other way round.
            for lag, x, y in (
                (back, results[-1], references[-1 - back]),
                (-back, results[-1 - back], references[-1]),
            ):
                total = self._errors[lag]
                total[0] += float(np.mean((x - y) ** 2))
                total[1] += 1

    def _add_spectrum(self, result: Plane, reference: Plane) -> None:
        height, width = self._shape = result.shape
        window = np.hanning(height)[:, None] * np.hanning(width)
        x, y = (np.fft.rfft2((plane - plane.mean()) * window) for plane in (result, reference))
        cross = x * np.conj(y)
        self._cross = self._cross + cross
        band = _frequencies(self._shape)[2]
        self._energies += [(band * np.square(np.abs(each))).sum() for each in (x, y)]
        cross /= np.abs(cross) + 1e-6 * np.abs(cross).max() + 1e-12
        self._spectrum = cross if self._spectrum is None else self._spectrum + cross
        self._samples += 1

    def finish(self) -> Alignment:
        """The shift found; zeros if there is no evidence of one."""
        right, down = self._shift()
        return Alignment(right, down, self._lag())

    def _lag(self) -> int:
        means = {lag: total / count for lag, (total, count) in self._errors.items() if count >= 2}
        if not means or means[0] < _STILL:
            return 0
        best = min(means, key=lambda lag: (means[lag], abs(lag)))
        return best if means[best] < _CLEARLY * means[0] else 0

    def _shift(self) -> tuple[float, float]:
        if self._spectrum is None:
            return 0.0, 0.0
        rows, columns, band = _frequencies(self._shape)
        surface = np.fft.irfft2(self._spectrum * band, s=self._shape)
        whole = np.fft.irfft2(band, s=self._shape)[0, 0] * self._samples
        row, column = np.unravel_index(int(np.argmax(surface)), self._shape)
        if surface[row, column] < _LEAST_AGREEMENT * whole:
            return 0.0, 0.0
        right, down = _peak(surface[row], int(column)), _peak(surface[:, column], int(row))
        turned = self._cross * np.exp(2j * math.pi * (columns * right + rows * down))
        still, moved = (float((band * each).real.sum()) for each in (self._cross, turned))
        energy = float(np.prod(self._energies))
        clearly = energy - moved**2 < _BETTER * (energy - still**2)
        return (right, down) if clearly else (0.0, 0.0)


def _frequencies(shape: tuple[int, int]) -> tuple[Plane, Plane, Plane]:
    """Of a spectrum's rows and columns, cycles per pixel, and how much each place counts."""
    rows = np.asarray(np.fft.fftfreq(shape[0])[:, None], np.float64)
    columns = np.asarray(np.fft.rfftfreq(shape[1]), np.float64)
    return rows, columns, np.exp(-(rows**2 + columns**2) / (2 * _BAND**2))


def _tenths(pixels: float) -> str:
    # No minus before zero.
    return f"{round(pixels, 1) + 0.0:+.1f}"


def _peak(line: Plane, at: int) -> float:
    """Position of a Gaussian's peak around the highest sample, as a signed distance from 0 on a circle."""
    size = len(line)
    before, here, behind = (max(float(line[(at + step) % size]), 1e-30) for step in (-1, 0, 1))
    curve = math.log(before) - 2 * math.log(here) + math.log(behind)
    part = 0.5 * (math.log(before) - math.log(behind)) / curve if curve < 0 else 0.0
    place = at + max(-0.5, min(0.5, part))
    return place - size if place > size / 2 else place


def _small(luma: Plane) -> Plane:
    """Block means without their overall mean, so that a change of brightness is no difference."""
    factor = max(1, min(luma.shape) // _SMALL_SIDE)
    height, width = (side // factor for side in luma.shape)
    blocks = luma[: height * factor, : width * factor].reshape(height, factor, width, factor)
    small = blocks.mean(axis=(1, 3))
    return np.asarray(small - small.mean())
