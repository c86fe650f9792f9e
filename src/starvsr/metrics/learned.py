"""Learned metrics through pyiqa, where that package and its weights are there: LPIPS, DISTS, MUSIQ, CLIP-IQA.

pyiqa fetches the weights of a metric when it is made; nothing is fetched for a metric that was not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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


def learned_metric(name: str, device: str) -> Callable[..., float | None]:
    """One of pyiqa's metrics as a function of a frame, and of its reference where it compares; None is no number.

    name: of `PYIQA_NAMES`. device: torch's. Raises WeightsError where pyiqa cannot make the metric.
    """
    import pyiqa

    try:
        metric: Any = pyiqa.create_metric(PYIQA_NAMES[name], device=device, as_loss=False)
    # pyiqa lets through whatever its many ways of fetching raise.
    except Exception as error:
        raise WeightsError(
            f"{name}: pyiqa cannot make it ({error}): let it fetch its weights once with a connection, "
            "or leave this metric out of --metrics"
        ) from error

    def measure(*frames: Frame) -> float | None:
        with torch.no_grad():
            value = float(metric(*(_tensor(frame, device) for frame in frames)))
        # JSON has no word for what is no number.
        return value if math.isfinite(value) else None

    return measure


def _tensor(frame: Frame, device: str) -> torch.Tensor:
    """`1 3 h w`, 0..1."""
    rgb = torch.from_numpy(frame.rgb).to(device, torch.float32)
    return (rgb / 255).permute(2, 0, 1)[None]
