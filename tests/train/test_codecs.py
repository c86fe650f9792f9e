"""Compression in memory: as many frames as went in, in order, worse as it is asked for, and always the same."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from starvsr.train.codecs import VideoCodec, from_yuv, is_available, jpeg, recode, to_bytes, to_yuv
from tests.train.clips import moving_clip, psnr

ENCODERS = [
    ("libx264", "crf", 20, 40),
    ("libx264", "bits_per_pixel", 2.0, 0.02),
    ("libx265", "crf", 20, 40),
    ("libx265", "bits_per_pixel", 2.0, 0.02),
    ("mpeg4", "qscale", 2, 20),
    ("mpeg4", "bits_per_pixel", 2.0, 0.02),
    ("mpeg2video", "qscale", 2, 20),
    ("libvpx-vp9", "crf", 10, 60),
    ("libvpx-vp9", "bits_per_pixel", 2.0, 0.02),
]


def recoded(clip: Tensor, encoder: str, rate: str, amount: float) -> Tensor:
    return torch.stack(list(recode(clip, VideoCodec(encoder, rate, amount))))


@pytest.mark.parametrize(("encoder", "rate", "mild", "hard"), ENCODERS)
def test_harder_is_worse_and_the_same_every_time(
    encoder: str, rate: str, mild: float, hard: float
) -> None:
    assert is_available(encoder)
    clip = moving_clip(8, 96, 128)
    good, bad = recoded(clip, encoder, rate, mild), recoded(clip, encoder, rate, hard)
    assert good.shape == bad.shape == clip.shape
    assert good.dtype == torch.float32
    assert float(good.min()) >= 0
    assert float(good.max()) <= 1
    assert psnr(good, clip) > 30
    assert psnr(bad, clip) < psnr(good, clip) - 1
    assert torch.equal(recoded(clip, encoder, rate, hard), bad)


@pytest.mark.parametrize(
    ("encoder", "rate", "amount"), [(e, rate, hard) for e, rate, _, hard in ENCODERS]
)
@pytest.mark.parametrize(("rows", "columns"), [(48, 50), (118, 209)])
def test_what_was_in_memory_before_changes_nothing(
    encoder: str, rate: str, amount: float, rows: int, columns: int
) -> None:
    noise = torch.Generator().manual_seed(0)
    clip = moving_clip(12, rows, columns)
    clip = (clip + 0.04 * torch.randn(clip.shape, generator=noise)).clamp(0, 1)
    made = []
    for seed in range(6):
        # What is freed here is what an encoder is given next.
        random = np.random.default_rng(seed)
        rubbish = [random.bytes(int(size)) for size in random.integers(1_000, 300_000, 20)]
        del rubbish
        made.append(recoded(clip, encoder, rate, amount))
    assert all(torch.equal(each, made[0]) for each in made)


@pytest.mark.parametrize("encoder", ["libx264", "libx265", "mpeg4", "mpeg2video", "libvpx-vp9"])
@pytest.mark.parametrize("frames", [1, 2, 60])
def test_frames_come_in_order_and_none_is_lost(encoder: str, frames: int) -> None:
    # A ramp that B-frames would show out of order.
    clip = torch.linspace(0.1, 0.9, frames)[:, None, None, None].expand(frames, 3, 17, 9)
    amount = ("qscale", 2) if encoder.startswith("mpeg") else ("crf", 10)
    got = recoded(clip, encoder, *amount)
    assert got.shape == clip.shape
    torch.testing.assert_close(got.mean((1, 2, 3)), clip.mean((1, 2, 3)), rtol=0, atol=0.03)


def test_recoding_streams() -> None:
    ahead = most = 0

    def frames() -> Iterator[Tensor]:
        nonlocal ahead
        for frame in moving_clip(3, 64, 64).repeat(60, 1, 1, 1):
            ahead += 1
            yield frame

    for _ in recode(frames(), VideoCodec("libx264", "crf", 30)):
        most = max(most, ahead)
        ahead -= 1
    assert ahead == 0
    assert 0 < most < 100


def test_no_frames_are_no_frames() -> None:
    assert list(recode([], VideoCodec("libx264", "crf", 30))) == []


def test_an_encoder_that_is_not_there() -> None:
    assert not is_available("libnone")
    with pytest.raises(ValueError, match="libnone is missing"):
        list(recode(moving_clip(1), VideoCodec("libnone", "crf", 30)))
    with pytest.raises(ValueError, match="one of crf"):
        VideoCodec("libx264", "quality", 30)
    for encoder, rate in (("dvvideo", "crf"), ("libx264", "fixed")):
        with pytest.raises(ValueError, match=f"{encoder} does not have the rate '{rate}'"):
            VideoCodec(encoder, rate, 0)


@pytest.mark.parametrize(("rows", "columns"), [(48, 50), (118, 209), (600, 730)])
def test_dv_compresses_frames_of_any_size_one_by_one(rows: int, columns: int) -> None:
    clip = moving_clip(2, rows, columns)
    noise = torch.rand(clip.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    clip = (clip + noise).clamp(0, 1)
    got = recoded(clip, "dvvideo", "fixed", 0)
    assert got.shape == clip.shape
    # Noise is more than its bits can hold.
    plain = torch.stack([from_yuv(to_yuv(frame), rows, columns) for frame in clip])
    assert 12 < psnr(got, plain) < 40
    assert torch.equal(recoded(clip.flip(0), "dvvideo", "fixed", 0).flip(0), got)


@pytest.mark.parametrize("sides", [(64, 80), (64, 73), (35, 21)])
def test_yuv_there_and_back(sides: tuple[int, int]) -> None:
    frame = moving_clip(1, 64, 80)[0][:, : sides[0], : sides[1]]
    back = from_yuv(to_yuv(frame), *sides)
    assert back.shape == frame.shape
    assert psnr(back, frame) > 36
    grey = frame.mean(0, keepdim=True).expand(3, -1, -1)
    # A level of 219.
    assert float((from_yuv(to_yuv(grey), *sides) - grey).abs().max()) < 0.6 / 219 + 1e-6


@pytest.mark.parametrize(
    ("color", "samples"),
    [
        ((0, 0, 0), (16, 128, 128)),
        ((1, 1, 1), (235, 128, 128)),
        ((1, 0, 0), (81, 90, 240)),
        ((0, 1, 0), (145, 54, 34)),
        ((0, 0, 1), (41, 240, 110)),
    ],
)
def test_yuv_is_bt601(color: tuple[int, int, int], samples: tuple[int, int, int]) -> None:
    frame = torch.tensor(color, dtype=torch.float32)[:, None, None].expand(3, 64, 64)
    yuv = to_yuv(frame)
    assert (yuv[0, 0], yuv[64, 0], yuv[-1, -1]) == samples


def test_jpeg_is_worse_with_lower_quality() -> None:
    frame = moving_clip(1, 64, 81)[0]
    by_quality = [psnr(jpeg(frame, quality), frame) for quality in (10, 30, 60, 95)]
    assert by_quality == sorted(by_quality)
    assert by_quality[0] < 32 < 36 < by_quality[-1]
    assert torch.equal(jpeg(frame, 40), jpeg(frame, 40))


def test_bytes_are_rounded_and_clamped() -> None:
    values = torch.tensor([-1.0, 0.0, 0.49 / 255, 0.51 / 255, 1.0, 2.0])
    assert to_bytes(values).tolist() == [0, 0, 0, 1, 255, 255]
