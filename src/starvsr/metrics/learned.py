"""Learned metrics through pyiqa, where that package and its weights are there: LPIPS, DISTS, MUSIQ, CLIP-IQA.

pyiqa fetches the weights of a metric when it is made; nothing is fetched for a metric that was not asked for.
"""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import Any

import torch

from starvsr.errors import WeightsError
from starvsr.metrics.frame import Frame

PYIQA_NAMES = {
    "lpips": "lpips",
    "dists": "dists",
    "musiq": "musiq",
    "clip_iqa": "clipiqa",
}
"""What pyiqa calls our metrics."""


def missing() -> str:
    """Why these metrics cannot be had; empty where the package is there."""
    if find_spec("pyiqa") is None:
        return "needs the extra iqa (pip install 'starvsr[iqa]'; pyiqa is licensed for noncommercial use)"
    return ""


class LearnedMeter:
    """One of pyiqa's metrics, frame by frame."""

    def __init__(self, name: str, device: str, *, full_reference: bool) -> None:
        """name: of `PYIQA_NAMES`. device: torch's. full_reference: whether it compares with a reference.

        Raises WeightsError where pyiqa cannot make the metric.
        """
        import pyiqa

        self._name, self._device, self._full_reference = name, device, full_reference
        try:
            self._metric: Any = pyiqa.create_metric(PYIQA_NAMES[name], device=device, as_loss=False)
        # pyiqa lets through whatever its many ways of fetching raise.
        except Exception as error:
            raise WeightsError(
                f"{name}: pyiqa cannot make it ({error}): let it fetch its weights once with a connection, "
                "or leave this metric out of --metrics"
            ) from error
        self._curve: list[float | None] = []

    def add(self, result: Frame, reference: Frame | None) -> None:
        """Take the next frame; a reference is used only by metrics that compare."""
        if self._full_reference and reference is None:
            raise ValueError(f"{self._name} needs a reference")
        pictures = [result, reference] if self._full_reference and reference else [result]
        with torch.no_grad():
            value = float(self._metric(*(self._tensor(each) for each in pictures)))
        # JSON has no word for what is no number.
        self._curve.append(value if math.isfinite(value) else None)

    def _tensor(self, frame: Frame) -> torch.Tensor:
        """`1 3 h w`, 0..1."""
        rgb = torch.from_numpy(frame.rgb).to(self._device, torch.float32)
        return (rgb / 255).permute(2, 0, 1)[None]

    def finish(self) -> dict[str, list[float | None]]:
        """The curve."""
        return {self._name: self._curve}

    def close(self) -> None:
        """Let go of the network."""
        self._metric = None
