import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from starvsr.restore.sharpen import sharpen_luma_, sharpened

LUMA = torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None]


def pictures(*shape: int) -> Tensor:
    noise = torch.rand(*shape, generator=torch.Generator().manual_seed(0))
    return 0.4 * (2 * noise - 1)


def filtered(picture: Tensor, amount: float, sigma: float) -> Tensor:
    """The same by scipy."""
    values = picture.double().numpy()
    blurred = [gaussian_filter(plane, sigma, mode="nearest", truncate=3.0) for plane in values]
    return torch.from_numpy(values + amount * (values - np.stack(blurred))).float()


@pytest.mark.parametrize("sigma", [0.375, 1.5, 3.0])
@pytest.mark.parametrize("amount", [-1.0, -0.25, 0.5])
def test_an_unsharp_mask(amount: float, sigma: float) -> None:
    x = pictures(3, 20, 31)
    expected = filtered(x, amount, sigma).clamp(-1, 1)
    torch.testing.assert_close(sharpened(x, amount, sigma=sigma), expected, rtol=0, atol=2e-6)


def test_detail_is_stronger_and_light_the_same() -> None:
    x = pictures(2, 3, 2, 24, 24)
    sharp = sharpened(x, 0.5, sigma=1.5)
    inner = (..., slice(6, -6), slice(6, -6))
    blurred = x - (sharp - x) / 0.5
    assert blurred[inner].var() < 0.1 * x[inner].var()
    assert 1.3 < float(sharp[inner].std() / x[inner].std()) < 1.5
    torch.testing.assert_close(sharp.mean(), x.mean(), rtol=0, atol=2e-3)


def test_what_is_flat_stays_and_white_does_not_overflow() -> None:
    flat = torch.full((1, 3, 9, 9), 0.25)
    torch.testing.assert_close(sharpened(flat, 2.0, sigma=1.5), flat)
    edge = torch.ones(1, 3, 9, 9)
    edge[..., :4] = -1
    assert sharpened(edge, 2.0, sigma=1.5).abs().max() == 1


def test_luma_alone_is_sharpened() -> None:
    x = pictures(2, 3, 20, 31)
    sharp = sharpen_luma_(x.clone(), 0.7, sigma=1.5)
    added = sharp - x
    # The same is added to every channel, so that their differences stay.
    torch.testing.assert_close(added, added[:, :1].expand(-1, 3, -1, -1), rtol=0, atol=1e-6)
    luma, expected = (LUMA * sharp).sum(1), filtered((LUMA * x).sum(1), 0.7, 1.5)
    torch.testing.assert_close(luma, expected, rtol=0, atol=1e-5)


def test_a_picture_smaller_than_the_gaussian() -> None:
    x = pictures(1, 3, 2, 3)
    expected = filtered(x[0], 0.5, 3.0)
    torch.testing.assert_close(sharpened(x, 0.5, sigma=3.0)[0], expected, rtol=0, atol=2e-6)
