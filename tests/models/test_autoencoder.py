"""The lossless autoencoder."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from starvsr.models.autoencoder import Autoencoder, PixelUnshuffle


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_round_trip_is_exact(factor: int) -> None:
    coder: Autoencoder = PixelUnshuffle(factor)
    frames = torch.rand(2, 3, 5, 4 * factor, 3 * factor) * 2 - 1
    latent = coder.encode(frames)
    assert latent.shape == (2, coder.latent_channels, 5, 4, 3)
    assert torch.equal(coder.decode(latent), frames)


def test_channels_are_those_of_pixel_unshuffle() -> None:
    frames = torch.rand(1, 3, 2, 8, 8)
    latent = PixelUnshuffle(4).encode(frames)
    for frame in range(2):
        assert torch.equal(latent[:, :, frame], F.pixel_unshuffle(frames[:, :, frame], 4))


def test_frames_do_not_depend_on_each_other() -> None:
    assert PixelUnshuffle().context_frames == 0


def test_refusals() -> None:
    with pytest.raises(ValueError, match="multiples of 4"):
        PixelUnshuffle(4).encode(torch.zeros(1, 3, 1, 8, 6))
    with pytest.raises(ValueError, match="b 3 t h w"):
        PixelUnshuffle(4).encode(torch.zeros(1, 1, 1, 8, 8))
    with pytest.raises(ValueError, match="b 48 t h w"):
        PixelUnshuffle(4).decode(torch.zeros(1, 4, 1, 8, 8))
    with pytest.raises(ValueError, match="at least 1"):
        PixelUnshuffle(0)
