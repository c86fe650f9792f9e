"""What is measured while training: means over what could be measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from starvsr.errors import UsageError
from starvsr.metrics.frame import Frame
from starvsr.metrics.niqe import niqe
from starvsr.train.config import DataConfig, ValidationConfig
from starvsr.train.validation import Measured, Validation, means, niqe_of


def test_means_are_of_what_was_measured() -> None:
    measured = [
        Measured("a", "light", 30.0, 29.0, 5.0),
        Measured("b", "light", 32.0, 29.0, None),
        Measured("a", "heavy", 25.0, 23.0, None),
    ]
    figures = means(measured)
    assert figures["psnr_y"] == 29.0
    assert figures["psnr_y_light"] == 31.0
    assert figures["upsampled_psnr_y_heavy"] == 23.0
    assert figures["niqe"] == figures["niqe_light"] == 5.0
    assert "niqe_heavy" not in figures


def test_niqe_of_a_picture_is_that_of_its_frame() -> None:
    picture = torch.rand(3, 192, 192, generator=torch.Generator().manual_seed(0))
    pixels = np.rint(picture.numpy().transpose(1, 2, 0) * 65535).astype(np.uint16)
    assert niqe_of(picture) == pytest.approx(niqe(Frame(pixels)))
    assert niqe_of(2 * picture - 0.5) == niqe_of((2 * picture - 0.5).clamp(0, 1))
    assert niqe_of(picture[:, :96, :96]) is None


@pytest.mark.parametrize("crop", [(3, 64), (64, 1)])
def test_a_crop_below_the_scale_is_refused(tmp_path: Path, crop: tuple[int, int]) -> None:
    config = ValidationConfig(crop=crop)
    with pytest.raises(UsageError, match=r"\[validation\] crop = .* give the scale, 4, or more"):
        Validation(config, DataConfig(scale=4), (), tmp_path, 0)
    assert (
        Validation(ValidationConfig(crop=(4, 0)), DataConfig(scale=4), (), tmp_path, 0).tasks == []
    )
