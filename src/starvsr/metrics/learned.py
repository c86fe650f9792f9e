"""Learned metrics through pyiqa, if that package and its weights are installed: LPIPS, DISTS, MUSIQ, CLIP-IQA.

pyiqa downloads a metric's weights when it is created; nothing is downloaded for metrics that were not requested.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch

from starvsr.errors import WeightsError
from starvsr.metrics.frame import Frame

PYIQA_NAMES = {"lpips": "lpips", "dists": "dists", "musiq": "musiq", "clip_iqa": "clipiqa"}
"""pyiqa's names of our metrics."""


def missing() -> str:
    """Why these metrics are unavailable; empty if the package is installed."""
    if find_spec("pyiqa") is None:
        return "needs the extra iqa (pip install 'starvsr[iqa]'; pyiqa is licensed for noncommercial use)"
    return ""


def learned_metric(name: str, device: str) -> Callable[..., float | None]:
    """One of pyiqa's metrics as a function of a frame, and its reference if it takes one; None for NaN or Inf.

    name: of `PYIQA_NAMES`. device: torch's. Raises WeightsError if pyiqa cannot create the metric.
    """
    import pyiqa

    try:
        metric: Any = pyiqa.create_metric(PYIQA_NAMES[name], device=device, as_loss=False)
    # pyiqa passes on whatever its download libraries raise.
    except Exception as error:
        raise WeightsError(
            f"{name}: pyiqa cannot create it ({error}): run it once with a connection to download its weights, "
            "or leave this metric out of --metrics"
        ) from error

    def measure(*frames: Frame) -> float | None:
        with torch.no_grad():
            value = float(metric(*(_tensor(frame, device) for frame in frames)))
        # JSON has no NaN.
        return value if math.isfinite(value) else None

    return measure


def _tensor(frame: Frame, device: str) -> torch.Tensor:
    """`1 3 h w`, 0..1."""
    rgb = torch.from_numpy(frame.rgb).to(device, torch.float32)
    return (rgb / 255).permute(2, 0, 1)[None]
