"""Clips from stills: a camera that pans, zooms and rotates smoothly, with subpixel precision.

Resampling is band-limited, so that a frame's sharpness does not depend on where between pixels it falls: the still is
low-passed once for the widest view of the clip, upsampled 2x by a windowed sinc, and only then read
between samples.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

Values = npt.NDArray[np.float64]

MOST_PAN_PX = 4.0
"""Of the output, a frame, at strength 1."""
_MOST_TURN = 0.06
"""Radians over a clip."""
_MOST_TILT = 0.1
"""Radians by which a whole clip may be turned."""
_MOST_ZOOM = 0.06
"""Logarithm of the change over a clip."""
_MOST_SHAKE_PX = 0.6
_ATTEMPTS = 6
# Taps of the sinc to either side, and so what is needed around a view.
_REACH = 6


@dataclass(frozen=True)
class CameraPath:
    """Where the camera looks in every frame, in pixels of the still; its upper left corner is (0, 0)."""

    rows: Values
    columns: Values
    """Of the view's centre."""
    zoom: Values
    """Pixels of the still per pixel of the clip."""
    angle: Values
    """Radians, clockwise."""

    @property
    def frames(self) -> int:
        """Number of frames."""
        return len(self.zoom)


def draw_path(
    rng: np.random.Generator,
    frames: int,
    view: tuple[int, int],
    still: tuple[int, int],
    *,
    zoom: float = 1.0,
    strength: float = 1.0,
) -> CameraPath:
    """A smooth path of `frames` views that stay inside the still, drawn from `rng` alone.

    view, still: rows and columns. zoom: pixels of the still per pixel of the clip, about which it wanders (at least 1,
    and less where the still is too small for it). strength: of the motion; 0 stands still. Raises ValueError for a
    view larger than the still.
    """
    room = min(still[0] / view[0], still[1] / view[1])
    if room < 1:
        raise ValueError(f"a view of {view} (rows, columns) does not fit in a still of {still}")
    zoom = min(max(zoom, 1.0), room)
    time = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)
    heading = rng.uniform(0, 2 * math.pi)
    # Slow motion is as common as fast, on a logarithmic scale.
    pan = MOST_PAN_PX * math.exp(rng.uniform(-4, 0)) * max(frames - 1, 0) * zoom
    shake = _MOST_SHAKE_PX * rng.uniform(0, 1) * zoom
    moves = np.stack(
        [
            pan * math.sin(heading) * time + shake * _wave(rng, frames),
            pan * math.cos(heading) * time + shake * _wave(rng, frames),
            rng.uniform(-_MOST_ZOOM, _MOST_ZOOM) * time,
            rng.uniform(-_MOST_TURN, _MOST_TURN) * time + rng.uniform(-_MOST_TILT, _MOST_TILT),
        ]
    )
    place = rng.uniform(0, 1, 2)
    for attempt in range(_ATTEMPTS + 1):
        damped = moves * (strength * 0.5**attempt if attempt < _ATTEMPTS else 0.0)
        path = _placed(damped, zoom, view, still, place)
        if path is not None:
            return path
    raise AssertionError("a view that stands still fits")


def _wave(rng: np.random.Generator, frames: int) -> Values:
    """A slow wave in -1 .. 1, as of a handheld camera."""
    period, phase = rng.uniform(6, 24), rng.uniform(0, 2 * math.pi)
    return np.asarray(np.sin(2 * math.pi * np.arange(frames) / period + phase))


def _placed(
    moves: Values, zoom: float, view: tuple[int, int], still: tuple[int, int], place: Values
) -> CameraPath | None:
    """The path with its start at `place` (fractions of the free room), or None where it would leave the still."""
    # Narrower than `zoom` is not wanted, and wider not possible where the still is small.
    zooms = zoom * np.exp(moves[2] - moves[2].min())
    angle = moves[3]
    height, width = (side * zooms / 2 for side in view)
    half_rows = height * np.abs(np.cos(angle)) + width * np.abs(np.sin(angle))
    half_columns = width * np.abs(np.cos(angle)) + height * np.abs(np.sin(angle))
    centres = []
    for move, half, side, share in zip(
        moves[:2], (half_rows, half_columns), still, place, strict=True
    ):
        low, high = float((half - move).max()), float((side - half - move).min())
        if low > high + 1e-9:
            return None
        centres.append(low + share * max(high - low, 0.0) + move)
    return CameraPath(centres[0], centres[1], zooms, angle)


def render(still: Tensor, path: CameraPath, view: tuple[int, int]) -> Tensor:
    """What the camera sees: `t c h w` float32, not clamped. still: `c h w` float; view: rows and columns."""
    still, top, left = _needed(still, path, view)
    rows, columns = still.shape[1:]
    widest = float(path.zoom.max())
    if widest > 1:
        size = (max(1, round(rows / widest)), max(1, round(columns / widest)))
        still = F.interpolate(
            still[None], size=size, mode="bicubic", align_corners=False, antialias=True
        )[0]
    dense = _doubled(still)
    grids = torch.stack(
        [_grid(path, number, view, (top, left), (rows, columns)) for number in range(path.frames)]
    )
    source = dense.expand(path.frames, -1, -1, -1)
    return F.grid_sample(source, grids, "bicubic", padding_mode="border", align_corners=False)


def _needed(still: Tensor, path: CameraPath, view: tuple[int, int]) -> tuple[Tensor, int, int]:
    """The part of the still that the path sees, with what filters need around it; its first row and column."""
    reach = path.zoom * (math.hypot(*view) / 2 + _REACH + 2)
    spans = []
    for centre, side in ((path.rows, still.shape[1]), (path.columns, still.shape[2])):
        first = max(0, math.floor((centre - reach).min()))
        spans.append((first, min(side, math.ceil((centre + reach).max()))))
    (top, bottom), (left, right) = spans
    return still[:, top:bottom, left:right].float(), top, left


def _grid(
    path: CameraPath,
    number: int,
    view: tuple[int, int],
    corner: tuple[int, int],
    size: tuple[int, int],
) -> Tensor:
    """Where every pixel of a frame lies, `h w 2` in -1 .. 1 of the part that starts at `corner` and has `size`."""
    down, right = (torch.arange(side, dtype=torch.float64) + 0.5 - side / 2 for side in view)
    zoom, angle = float(path.zoom[number]), float(path.angle[number])
    sine, cosine = zoom * math.sin(angle), zoom * math.cos(angle)
    rows = float(path.rows[number]) + down[:, None] * cosine + right[None, :] * sine
    columns = float(path.columns[number]) - down[:, None] * sine + right[None, :] * cosine
    rows = (rows - corner[0]) * (2 / size[0]) - 1
    columns = (columns - corner[1]) * (2 / size[1]) - 1
    return torch.stack([columns, rows], dim=-1).float()


def _doubled(still: Tensor) -> Tensor:
    """`c h w` at twice the density by a windowed sinc: sample j lies at (j + 0.5) / 2."""
    kernels = _phases()
    padded = F.pad(still[:, None], (_REACH,) * 4, mode="replicate")
    wide = F.conv2d(padded, kernels[:, None, None, :])
    # The phase before a pixel looks from the pixel itself, the one after it too: both have 2 * _REACH + 1 taps.
    wide = wide.movedim(1, -1).flatten(-2)[:, None]
    tall = F.conv2d(wide, kernels[:, None, :, None])
    return tall.movedim(1, 2).flatten(1, 2)


@cache
def _phases() -> Tensor:
    """The two kernels (2, 2 * _REACH + 1) that give the samples a quarter before and after a pixel's centre."""
    taps = torch.arange(-_REACH, _REACH + 1, dtype=torch.float64)
    kernels = []
    for shift in (-0.25, 0.25):
        distance = taps - shift
        window = torch.cos(math.pi * distance / (2 * (_REACH + 1))) ** 2
        kernel = torch.sinc(distance) * window
        kernels.append(kernel / kernel.sum())
    return torch.stack(kernels).float()


def blob_mask(
    rng: np.random.Generator, frames: int, view: tuple[int, int], *, strength: float = 1.0
) -> Tensor:
    """The mask `t 1 h w` in [0, 1] of a foreground: a soft-edged rounded shape that crosses the view smoothly."""
    height, width = view
    time = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)
    heading = rng.uniform(0, 2 * math.pi)
    pan = strength * 2 * MOST_PAN_PX * math.exp(rng.uniform(-3, 0)) * max(frames - 1, 0)
    centre_row = rng.uniform(0.2, 0.8) * height + pan * math.sin(heading) * time
    centre_column = rng.uniform(0.2, 0.8) * width + pan * math.cos(heading) * time
    radius_row, radius_column = (rng.uniform(0.1, 0.35) * side for side in view)
    power = rng.uniform(2, 5)
    rows = torch.arange(height, dtype=torch.float32)[None, :, None] + 0.5
    columns = torch.arange(width, dtype=torch.float32)[None, None, :] + 0.5
    down = (rows - torch.from_numpy(centre_row).float()[:, None, None]).abs() / radius_row
    right = (columns - torch.from_numpy(centre_column).float()[:, None, None]).abs() / radius_column
    distance = (down**power + right**power) ** (1 / power)
    # An edge of about one pixel, as a lens has it.
    edge = (1 - distance) * min(radius_row, radius_column) + 0.5
    return edge.clamp(0, 1)[:, None]
