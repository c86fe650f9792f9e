"""The metrics, what each needs, and meters that compute the requested ones frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol

from starvsr.errors import UsageError, did_you_mean
from starvsr.metrics import learned, vmaf
from starvsr.metrics.brisque import LEAST_SIDE, brisque
from starvsr.metrics.fidelity import WINDOW_SIDE, psnr_y, ssim_y
from starvsr.metrics.frame import Frame
from starvsr.metrics.niqe import BLOCK, measurable, niqe
from starvsr.metrics.temporal import LEAST_FLOW_SIDE, TemporalErrors


@dataclass(frozen=True)
class Metric:
    """Description of a metric."""

    name: str
    title: str
    unit: str
    """Empty for a plain number."""
    better: str
    """`higher` or `lower`."""
    decimals: int
    """Worth showing in a table."""
    full_reference: bool
    """Whether it compares with a reference."""
    source: str
    """What computes it: `numpy`, `opencv`, `ffmpeg` or `pyiqa`."""


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr_y", "PSNR-Y", "dB", "higher", 2, True, "numpy"),
        Metric("ssim_y", "SSIM-Y", "", "higher", 4, True, "numpy"),
        Metric("vmaf", "VMAF", "", "higher", 2, True, "ffmpeg"),
        Metric("vmaf_neg", "VMAF-NEG", "", "higher", 2, True, "ffmpeg"),
        Metric("niqe", "NIQE", "", "lower", 3, False, "numpy"),
        Metric("brisque", "BRISQUE", "", "lower", 2, False, "numpy"),
        Metric("e_warp", "E*warp", "1e-3", "lower", 3, True, "opencv"),
        Metric("tof", "tOF", "px", "lower", 3, True, "opencv"),
        Metric("lpips", "LPIPS", "", "lower", 4, True, "pyiqa"),
        Metric("dists", "DISTS", "", "lower", 4, True, "pyiqa"),
        Metric("musiq", "MUSIQ", "", "higher", 2, False, "pyiqa"),
        Metric("clip_iqa", "CLIP-IQA", "", "higher", 4, False, "pyiqa"),
    )
}


def why_missing(name: str) -> str:
    """Why a metric cannot be computed in this installation; empty if it can."""
    source = METRICS[name].source
    if source == "opencv" and find_spec("cv2") is None:
        return "needs the extra metrics (pip install 'starvsr[metrics]')"
    if source == "ffmpeg":
        return vmaf.missing()
    if source == "pyiqa":
        return learned.missing()
    return ""


def too_small(name: str, size: tuple[int, int]) -> str:
    """Why a metric has no score for frames of a size (width, height); empty if it has."""
    least = {
        "ssim_y": WINDOW_SIDE,
        "brisque": LEAST_SIDE,
        **dict.fromkeys(vmaf.NAMES, vmaf.LEAST_SIDE),
        "e_warp": LEAST_FLOW_SIDE,
        "tof": LEAST_FLOW_SIDE,
    }.get(name, 1)
    if min(size) < least:
        return f"frames are {size[0]}x{size[1]}: at least {least}x{least} pixels are needed"
    if name == "niqe" and not measurable(*size):
        return f"frames are {size[0]}x{size[1]}: at least two blocks of {BLOCK}x{BLOCK} pixels are needed"
    return ""


def choose_metrics(names: Sequence[str] | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The metrics to compute, in the order of `METRICS`, and why others are left out.

    names: as requested; None: all that need no download (not pyiqa's). Raises UsageError for an unknown or unavailable
    name.
    """
    if names is None:
        usual = [name for name, metric in METRICS.items() if metric.source != "pyiqa"]
        left_out = {name: reason for name in usual if (reason := why_missing(name))}
        return tuple(name for name in usual if name not in left_out), left_out
    for name in names:
        if name == "dover":
            raise UsageError("--metrics dover is not supported: no installable package provides it")
        if name not in METRICS:
            raise UsageError(
                f"--metrics {name} is unknown: {did_you_mean(name, METRICS)}choose from {', '.join(METRICS)}"
            )
        if reason := why_missing(name):
            raise UsageError(f"--metrics {name} {reason}")
    if not names:
        raise UsageError(f"--metrics is empty: choose from {', '.join(METRICS)}")
    return tuple(name for name in METRICS if name in names), {}


class Meter(Protocol):
    """Computes one or more metrics over the frames of one video; scores are per frame, None if there is none."""

    def add(self, result: Frame, reference: Frame | None) -> None:
        """Add the next frame."""

    def finish(self) -> dict[str, list[float | None]]:
        """The curve of each metric."""


@contextmanager
def open_meters(
    names: Sequence[str], size: tuple[int, int], *, matrix: int = 1, device: str = "cpu"
) -> Iterator[list[Meter]]:
    """Meters for these metrics of `METRICS` over frames of one size (width, height); closed on leaving.

    matrix: ISO/IEC 23091-2 code of the reference's luma, for VMAF. device: torch's, for pyiqa's metrics.
    """
    with ExitStack() as stack:
        meters: list[Meter] = []
        for name in names:
            if name in _FUNCTIONS:
                meters.append(_FrameMeter(name, _FUNCTIONS[name]))
            elif METRICS[name].source == "pyiqa":
                meters.append(_FrameMeter(name, learned.learned_metric(name, device)))
        if wanted := [name for name in vmaf.NAMES if name in names]:
            meter = stack.enter_context(closing(vmaf.VmafMeter(*size, matrix)))
            meters.append(_Only(meter, wanted))
        if wanted := [name for name in ("e_warp", "tof") if name in names]:
            meters.append(_Only(TemporalErrors(), wanted))
        yield meters


_FUNCTIONS: dict[str, Callable[..., float | None]] = {
    "psnr_y": psnr_y,
    "ssim_y": ssim_y,
    "niqe": niqe,
    "brisque": brisque,
}
"""Of a frame, and of its reference if the metric takes one."""


class _Only:
    """Some of the curves of a meter."""

    def __init__(self, meter: Meter, names: Sequence[str]) -> None:
        self._meter, self._names, self.add = meter, names, meter.add

    def finish(self) -> dict[str, list[float | None]]:
        curves = self._meter.finish()
        return {name: curves[name] for name in self._names}


class _FrameMeter:
    """One score per frame."""

    def __init__(self, name: str, function: Callable[..., float | None]) -> None:
        self._name, self._function = name, function
        self._curve: list[float | None] = []

    def add(self, result: Frame, reference: Frame | None) -> None:
        frames = [result]
        if METRICS[self._name].full_reference:
            if reference is None:
                raise ValueError(f"{self._name} needs a reference")
            frames.append(reference)
        self._curve.append(self._function(*frames))

    def finish(self) -> dict[str, list[float | None]]:
        return {self._name: self._curve}
