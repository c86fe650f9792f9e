"""Fast forms of the layers against torch's plain ones."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from starvsr.models import transformers
from starvsr.models.layers import (
    Downsample,
    FrameConv,
    GroupNorm,
    SpatialConv,
    TimeEmbedding,
    Upsample,
)
from starvsr.models.transformers import FeedForward
from tests.models.helpers import relative_error

TO_TORCH, FROM_TORCH = "b f h w c -> b c f h w", "b c f h w -> b f h w c"
SIZES = [(1, 1, 4, 4), (2, 1, 3, 5), (1, 3, 6, 4), (2, 4, 1, 1)]


def video(size: tuple[int, int, int, int], width: int = 64) -> Tensor:
    """A random video `b f h w c`."""
    return torch.randn(*size, width)


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_group_norm_over_all_frames_is_that_of_a_volume(size: tuple[int, int, int, int]) -> None:
    norm, x = GroupNorm(64, per_frame=False, eps=1e-6), video(size)
    torch.nn.init.normal_(norm.weight)
    expected = F.group_norm(rearrange(x, TO_TORCH), 32, norm.weight, norm.bias, 1e-6)
    assert relative_error(norm(x), rearrange(expected, FROM_TORCH)) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_group_norm_per_frame(size: tuple[int, int, int, int]) -> None:
    norm, x = GroupNorm(64, per_frame=True), video(size)
    torch.nn.init.normal_(norm.bias)
    for frame in range(size[1]):
        expected = F.group_norm(rearrange(x[:, frame], "b h w c -> b c h w"), 32, bias=norm.bias)
        got = rearrange(norm(x)[:, frame], "b h w c -> b c h w")
        assert relative_error(got, expected) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_frame_conv_is_a_3x1x1_volume_convolution(size: tuple[int, int, int, int]) -> None:
    conv, x = FrameConv(64), video(size)
    expected = F.conv3d(
        rearrange(x, TO_TORCH), conv.weight[..., None], conv.bias, padding=(1, 0, 0)
    )
    assert relative_error(conv(x), rearrange(expected, FROM_TORCH)) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("size", [(1, 1, 58, 96), (1, 3, 58, 96), (2, 1, 58, 96), (2, 3, 58, 96)])
def test_views_are_taken_as_channels_last(size: tuple[int, int, int, int]) -> None:
    # Strides of dimensions of size 1 could hide it, and then torch would copy into another order and back.
    norm = GroupNorm(32, per_frame=False)
    layers = [FrameConv(32), norm, SpatialConv(32, 32), GroupNorm(32, per_frame=True), norm]
    for layer in layers:
        layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = video(size, 32)
    with torch.profiler.profile() as profile:
        for layer in layers:
            x = layer(x)
    names = {event.key for event in profile.key_averages()}
    assert "aten::mkldnn_convolution" in names
    assert not names & {"aten::copy_", "aten::clone"}


@torch.no_grad()
def test_down_and_up() -> None:
    x = video((1, 2, 6, 8), 32)
    down = Downsample(32)(x)
    assert down.shape == (1, 2, 4, 4, 32)
    up = Upsample(32)
    up.conv.weight.zero_()
    for channel in range(32):
        up.conv.weight[channel, channel, 1, 1] = 1
    assert up.conv.bias is not None
    up.conv.bias.zero_()
    expected = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, 1:-1]
    torch.testing.assert_close(up(x), expected)


@torch.no_grad()
def test_time_embedding_has_cosines_first() -> None:
    embedding = TimeEmbedding(32)
    seen: list[Tensor] = []
    embedding.first.register_forward_hook(lambda _module, inputs, _result: seen.append(inputs[0]))
    embedding(torch.tensor([0, 700]))
    torch.testing.assert_close(seen[0][0], torch.cat([torch.ones(16), torch.zeros(16)]))
    angles = 700 * 10000 ** (-torch.arange(16, dtype=torch.float64) / 16)
    expected = torch.cat([angles.cos(), angles.sin()])
    torch.testing.assert_close(seen[0][1].double(), expected, rtol=0, atol=1e-4)


def test_feed_forward_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = FeedForward(16), torch.randn(3, 7, 16)
    value, gate = layer.expand(x).chunk(2, dim=-1)
    plain = layer.contract(value * F.gelu(gate)).detach()
    assert relative_error(layer(x).detach(), plain) < 1e-6
    with torch.no_grad():
        for elements in (1, 64 * 5, 2**22):
            monkeypatch.setattr(transformers, "HIDDEN_ELEMENTS", elements)
            assert relative_error(layer(x), plain) < 1e-6
