"""The colour fixes against published results, and their properties."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from starvsr.restore.colorfix import COLOR_FIXES, adain, apply_color_fix, wavelet

Fix = Callable[[Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    return load_file(Path(__file__).parents[1] / "golden" / "color_fix.safetensors")


def frames(seed: int, *shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize(
    ("fix", "source", "result"),
    [
        (adain, "same", "adain_same"),
        (adain, "small", "adain_small"),
        (wavelet, "same", "wavelet_same"),
    ],
)
@pytest.mark.parametrize(
    # Sums in float32 depend on how wide a processor's vectors are: the published results are up to 1e-4 from exact
    # arithmetic, ours met them to 2e-5 with AVX2 and to 3.1e-5 with AVX-512. The target is in 0..255; in float32,
    # mapping it to [-1, 1] costs up to a bit and a half of its own.
    ("dtype", "tolerance"),
    [(torch.float64, 5e-5), (torch.float32, 6e-5)],
)
def test_published_results(
    golden: dict[str, Tensor],
    fix: Fix,
    source: str,
    result: str,
    dtype: torch.dtype,
    tolerance: float,
) -> None:
    target = golden["target"].permute(0, 3, 1, 2).to(dtype) / 127.5 - 1
    fixed = fix(target, golden[f"source_{source}"])
    assert fixed.dtype == torch.float32
    published = golden[result].permute(0, 3, 1, 2)
    torch.testing.assert_close((fixed + 1) * 127.5, published, rtol=0, atol=tolerance)


def test_adain_gives_the_statistics_of_the_source() -> None:
    target, source = 0.4 * frames(1, 3, 3, 40, 48) + 0.2, 0.5 * frames(2, 3, 3, 11, 9) - 0.1
    fixed = adain(target, source)
    dims = (2, 3)
    torch.testing.assert_close(fixed.mean(dims), source.mean(dims), rtol=0, atol=1e-5)
    torch.testing.assert_close(fixed.std(dims), source.std(dims), rtol=1e-3, atol=0)


def test_adain_is_frame_by_frame_and_channel_by_channel() -> None:
    target, source = frames(1, 3, 3, 16, 24), frames(2, 3, 3, 8, 8)
    fixed = adain(target, source)
    for i in range(3):
        for c in range(3):
            one = adain(target[i : i + 1, c : c + 1], source[i : i + 1, c : c + 1])
            torch.testing.assert_close(fixed[i : i + 1, c : c + 1], one, rtol=0, atol=1e-6)


def test_wavelet_takes_tone_from_source_and_detail_from_target() -> None:
    target = 0.2 * frames(1, 2, 3, 64, 80)
    torch.testing.assert_close(wavelet(target + 0.3, target), target, rtol=0, atol=1e-6)
    checks = 0.1 * (torch.arange(80) % 2 * 2.0 - 1).expand(2, 3, 64, 80)
    flat = torch.full_like(target, 0.25)
    # The finest detail survives away from the border, where repeating a pixel is not a checkerboard.
    torch.testing.assert_close(
        wavelet(flat + checks, -flat)[..., 32:48], (checks - flat)[..., 32:48], rtol=0, atol=1e-6
    )


def test_wavelet_agrees_with_the_sum_of_details() -> None:
    """The decomposition as it is usually written, with dilated convolutions, in float64."""
    kernel = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float64)
    weight = (kernel[:, None] * kernel)[None, None]

    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.double().flatten(0, 1)[:, None]
        detail = torch.zeros_like(x)
        for level in range(5):
            low = F.conv2d(F.pad(x, (2**level,) * 4, mode="replicate"), weight, dilation=2**level)
            detail, x = detail + (x - low), low
        return detail, x

    target, source = 0.5 * frames(1, 2, 3, 37, 51), 0.3 * frames(2, 2, 3, 37, 51)
    expected = (split(target)[0] + split(source)[1]).reshape(target.shape).clamp(-1, 1)
    torch.testing.assert_close(wavelet(target, source).double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fix", [adain, wavelet])
def test_results_are_clamped_and_inputs_untouched(fix: Fix) -> None:
    target, source = 3 * frames(1, 2, 3, 12, 20), torch.full((2, 3, 12, 20), 0.95)
    source[..., ::2] = -0.95
    kept = target.clone(), source.clone()
    fixed = fix(target, source)
    assert float(fixed.min()) == -1 and float(fixed.max()) == 1
    assert torch.equal(target, kept[0]) and torch.equal(source, kept[1])


@pytest.mark.parametrize("fix", [adain, wavelet])
def test_memory_layout_does_not_matter(fix: Fix) -> None:
    target, source = frames(1, 2, 3, 12, 20), frames(2, 2, 3, 12, 20)
    interleaved = [x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) for x in (target, source)]
    torch.testing.assert_close(fix(*interleaved), fix(target, source), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fix", [adain, wavelet])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened(fix: Fix, dtype: torch.dtype) -> None:
    target, source = frames(1, 1, 3, 16, 16).to(dtype), frames(2, 1, 3, 16, 16).to(dtype)
    assert torch.equal(fix(target, source), fix(target.float(), source.float()))


def test_smallest_frames() -> None:
    pixel = torch.full((1, 3, 1, 1), 0.3)
    torch.testing.assert_close(adain(frames(1, 1, 3, 1, 1), pixel), pixel)
    torch.testing.assert_close(wavelet(frames(1, 1, 3, 1, 1), pixel), pixel)
    assert bool(adain(frames(1, 1, 3, 4, 4), pixel).isfinite().all())


def test_dispatch_by_name() -> None:
    target, low, upsampled = frames(1, 2, 3, 16, 24), frames(2, 2, 3, 4, 6), frames(3, 2, 3, 16, 24)
    expected = {"adain": adain(target, low), "wavelet": wavelet(target, upsampled), "none": target}
    assert set(expected) == set(COLOR_FIXES)
    for name, result in expected.items():
        assert torch.equal(apply_color_fix(name, target, low, upsampled), result)
    with pytest.raises(ValueError, match="one of adain, wavelet, none, got 'lab'"):
        apply_color_fix("lab", target, low, upsampled)


@pytest.mark.parametrize(
    ("fix", "target", "source"),
    [
        (adain, (2, 3, 8, 8), (3, 3, 8, 8)),
        (adain, (2, 3, 8, 8), (2, 1, 8, 8)),
        (adain, (3, 8, 8), (3, 8, 8)),
        (wavelet, (2, 3, 8, 8), (2, 3, 4, 4)),
        (wavelet, (2, 3, 8, 8), (1, 3, 8, 8)),
    ],
)
def test_frames_that_do_not_correspond_are_refused(
    fix: Fix, target: tuple[int, ...], source: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="frames that correspond"):
        fix(torch.zeros(target), torch.zeros(source))
