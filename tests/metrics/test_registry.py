"""Which metrics are computed, which are left out and why; pyiqa's by a stand-in."""

from __future__ import annotations

import importlib.machinery
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch

from starvsr.errors import UsageError, WeightsError
from starvsr.metrics import learned, registry, vmaf
from starvsr.metrics.registry import METRICS, choose_metrics, open_meters, too_small
from tests.metrics.pictures import blurred, frame, photo

USUAL = ("psnr_y", "ssim_y", "vmaf", "vmaf_neg", "niqe", "brisque", "e_warp", "tof")


class FakeMetric:
    """Takes what pyiqa's metrics take."""

    def __init__(self, name: str, device: str) -> None:
        self.name, self.device = name, device

    def __call__(self, *pictures: torch.Tensor) -> torch.Tensor:
        for picture in pictures:
            assert picture.shape == (1, 3, 24, 32)
            assert picture.dtype == torch.float32
            assert float(picture.min()) >= 0 and float(picture.max()) <= 1
        first = pictures[0]
        return (first - pictures[1]).abs().mean() if len(pictures) > 1 else first.mean()


@pytest.fixture
def fake_pyiqa(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("pyiqa")
    module.__spec__ = importlib.machinery.ModuleSpec("pyiqa", None)
    module.made = []  # type: ignore[attr-defined]

    def create_metric(name: str, *, device: str, as_loss: bool) -> FakeMetric:
        assert as_loss is False
        module.made.append((name, device))
        return FakeMetric(name, device)

    module.create_metric = create_metric  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyiqa", module)
    return module


def test_all_but_learned_ones_are_usual() -> None:
    assert choose_metrics(None) == (USUAL, {})


def test_asked_for_come_in_the_order_of_tables() -> None:
    assert choose_metrics(["niqe", "psnr_y", "niqe"]) == (("psnr_y", "niqe"), {})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["psnr"], r"--metrics psnr is unknown: did you mean psnr_y\? choose from"),
        (["dover"], "--metrics dover is not supported: no installable package"),
        ([], "--metrics is empty: choose from psnr_y, "),
        (["lpips"], r"--metrics lpips needs the extra iqa \(pip install 'starvsr\[iqa\]'"),
    ],
)
def test_refused(names: list[str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned, "find_spec", lambda _: None)
    with pytest.raises(UsageError, match=message):
        choose_metrics(names)


def test_what_is_not_installed_is_left_out_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_cv2(name: str) -> object:
        return None if name == "cv2" else find_spec(name)

    monkeypatch.setattr(registry, "find_spec", without_cv2)
    # An import of a module that is None fails as if it were not there.
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    vmaf.missing.cache_clear()
    try:
        names, left_out = choose_metrics(None)
    finally:
        vmaf.missing.cache_clear()
    assert names == ("psnr_y", "ssim_y", "niqe", "brisque")
    reason = "needs the extra metrics (pip install 'starvsr[metrics]')"
    assert left_out == dict.fromkeys(("vmaf", "vmaf_neg", "e_warp", "tof"), reason)


@pytest.mark.parametrize(
    ("name", "size", "found"),
    [
        ("psnr_y", (2, 2), ""),
        ("ssim_y", (64, 10), "frames are 64x10: at least 11x11 pixels are needed"),
        ("vmaf_neg", (31, 64), "frames are 31x64: at least 32x32 pixels are needed"),
        ("tof", (64, 31), "frames are 64x31: at least 32x32 pixels are needed"),
        ("niqe", (191, 95), "frames are 191x95: at least two blocks of 96x96 pixels are needed"),
        ("niqe", (192, 96), ""),
    ],
)
def test_sizes_that_have_no_figure(name: str, size: tuple[int, int], found: str) -> None:
    assert too_small(name, size) == found


def test_meters_give_a_figure_per_frame_for_what_was_asked() -> None:
    names = ("ssim_y", "vmaf_neg", "tof")
    a, b = frame(blurred(photo(48, 64))), frame(photo(48, 64))
    with open_meters(names, (64, 48)) as meters:
        for _ in range(3):
            for meter in meters:
                meter.add(a, b)
        curves = {name: curve for meter in meters for name, curve in meter.finish().items()}
    assert set(curves) == set(names)
    assert [figure is None for figure in curves["tof"]] == [True, False, False]
    assert all(len(curve) == 3 for curve in curves.values())
    assert None not in curves["ssim_y"] + curves["vmaf_neg"]


@pytest.mark.parametrize(
    "name", [name for name, m in METRICS.items() if m.full_reference and m.source != "pyiqa"]
)
def test_metrics_that_compare_refuse_a_lone_frame(name: str) -> None:
    with open_meters([name], (64, 48)) as meters, pytest.raises(ValueError, match="need"):
        meters[0].add(frame(photo(48, 64)), None)


def test_learned_metrics_go_through_pyiqa(fake_pyiqa: ModuleType) -> None:
    names, left_out = choose_metrics(["musiq", "lpips", "clip_iqa"])
    assert (names, left_out) == (("lpips", "musiq", "clip_iqa"), {})
    a, b = frame(blurred(photo(24, 32))), frame(photo(24, 32))
    curves: dict[str, list[float | None]] = {}
    with open_meters(names, (32, 24)) as meters:
        for meter in meters:
            # As measuring does: those without a reference are given it all the same.
            meter.add(a, b)
            curves |= meter.finish()
    assert fake_pyiqa.made == [("lpips", "cpu"), ("musiq", "cpu"), ("clipiqa", "cpu")]
    difference = abs(a.rgb.astype(float) - b.rgb).mean() / 255
    assert curves["lpips"] == pytest.approx([difference], abs=1e-5)
    assert curves["musiq"] == curves["clip_iqa"] == pytest.approx([a.rgb.mean() / 255], abs=1e-5)


def test_what_is_no_number_is_no_figure(
    fake_pyiqa: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeMetric, "__call__", lambda *_: torch.tensor(torch.nan))
    with open_meters(["musiq"], (32, 24)) as (meter,):
        meter.add(frame(photo(24, 32)), None)
        assert meter.finish() == {"musiq": [None]}


def test_weights_that_cannot_be_had_are_told(
    fake_pyiqa: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create_metric(name: str, **_: object) -> FakeMetric:
        raise OSError("no route to host")

    monkeypatch.setattr(fake_pyiqa, "create_metric", create_metric)
    with (
        pytest.raises(
            WeightsError, match=r"dists: pyiqa cannot create it \(no route to host\): run it once"
        ),
        open_meters(["dists"], (32, 24)),
    ):
        pass
