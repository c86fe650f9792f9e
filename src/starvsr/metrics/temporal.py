"""Steadiness in time, by the optical flow of the reference: the warping error E*warp, and tOF."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from starvsr.metrics.frame import Frame

Flow = npt.NDArray[np.float32]

LEAST_FLOW_SIDE = 32
"""Pixels; smaller frames contain too few of the 8x8 patches that DIS tracks."""

# Sundaram et al. (2010): a flow and its way back may differ by this fraction of their lengths, and half a pixel.
_SHARE, _SLACK = 0.01, 0.5


class OpticalFlow:
    """Dense optical flow between grey pictures: OpenCV's DIS at its medium preset."""

    def __init__(self) -> None:
        import cv2

        # Its result depends on the number of threads.
        cv2.setNumThreads(1)
        # The annotations of OpenCV 4 and 5 differ, and neither allows what is documented.
        self._dis: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, first: Frame, second: Frame) -> Flow:
        """Position of each pixel of `first` in `second`: (height, width, 2), columns and rows, pixels."""
        return np.asarray(self._dis.calc(first.gray, second.gray, None), np.float32)


def warped(picture: npt.NDArray[np.float32], flow: Flow) -> npt.NDArray[np.float32]:
    """The values where `flow` points, per pixel: (height, width, channels), bilinear, the border repeated."""
    import cv2

    height, width = flow.shape[:2]
    columns, rows = np.meshgrid(
        np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
    )
    taken = cv2.remap(
        picture,
        columns + flow[..., 0],
        rows + flow[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(taken, np.float32)


def followed(there: Flow, back: Flow) -> npt.NDArray[np.bool_]:
    """Pixels (height, width) that stay inside the frame and whose flow is consistent forward and backward."""
    returned = warped(back, there)
    miss = np.square(there + returned).sum(-1)
    lengths = np.square(there).sum(-1) + np.square(returned).sum(-1)
    height, width = miss.shape
    x = np.arange(width) + there[..., 0]
    y = np.arange(height)[:, None] + there[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    visible: npt.NDArray[np.bool_] = (miss < _SHARE * lengths + _SLACK) & inside
    return visible


class TemporalErrors:
    """A meter of the errors between each frame and the one before; stores one frame of each video.

    `e_warp`: mean squared difference (RGB in 0..1, times 1000) between the result's previous frame and its present one
    brought back along the reference's flow, over the pixels that can be tracked; None if there are none. `tof`: mean
    distance between the flows of result and reference, pixels.
    """

    def __init__(self) -> None:
        self._flow = OpticalFlow()
        self._before: tuple[Frame, Frame] | None = None
        self._found: list[tuple[float | None, float | None]] = []

    def add(self, result: Frame, reference: Frame | None) -> None:
        """Add the next frame."""
        if reference is None:
            raise ValueError("temporal errors need a reference")
        self._found.append(self._errors(result, reference))
        self._before = result, reference

    def finish(self) -> dict[str, list[float | None]]:
        """Both curves; None for the first frame."""
        return {name: [each[i] for each in self._found] for i, name in enumerate(("e_warp", "tof"))}

    def _errors(self, result: Frame, reference: Frame) -> tuple[float | None, float | None]:
        before = self._before
        if before is None:
            return None, None
        there = self._flow(before[1], reference)
        visible = followed(there, self._flow(reference, before[1]))
        own = self._flow(before[0], result)
        tof = float(np.sqrt(np.square(own - there).sum(-1)).mean(dtype=np.float64))
        if not visible.any():
            return None, tof
        first, second = (np.float32(1 / 255) * each.rgb for each in (before[0], result))
        error = np.square(first - warped(second, there)).mean(-1)[visible]
        return 1000 * float(error.mean(dtype=np.float64)), tof
