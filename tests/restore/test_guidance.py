"""Classifier-free guidance. Its agreement with published runs is tested with the samplers."""

from __future__ import annotations

import torch
from torch import Tensor

from starvsr.restore.guidance import dynamic_scale, guide

SHAPE = (2, 4, 3, 5, 6)


def pair() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    v_pos, v_neg = torch.randn(2, *SHAPE, dtype=torch.float64, generator=generator)
    return v_pos, v_neg * torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1, 1)


def test_guide_is_its_equation_sample_by_sample() -> None:
    v_pos, v_neg = pair()
    out = guide(v_pos, v_neg, scale=7.5, rescale=0.2)
    for pos, neg, got in zip(v_pos, v_neg, out, strict=True):
        v = neg + 7.5 * (pos - neg)
        expected = v * (0.2 * pos.std() / v.std() + 0.8)
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-6)


def test_samples_do_not_see_each_other() -> None:
    v_pos, v_neg = pair()
    out = guide(v_pos, v_neg, scale=7.5, rescale=0.2)
    torch.testing.assert_close(
        out[:1], guide(v_pos[:1], v_neg[:1], scale=7.5, rescale=0.2), rtol=0, atol=0
    )


def test_full_rescale_restores_the_contrast() -> None:
    v_pos, v_neg = pair()
    out = guide(v_pos, v_neg, scale=5.0, rescale=1.0)
    dims = (1, 2, 3, 4)
    torch.testing.assert_close(out.std(dim=dims), v_pos.std(dim=dims), rtol=1e-5, atol=0)
    assert torch.equal(guide(v_pos, v_neg, scale=5.0, rescale=0.0), v_neg + 5.0 * (v_pos - v_neg))


def test_scale_zero_follows_the_negative_prompt() -> None:
    v_pos, v_neg = pair()
    assert torch.equal(guide(v_pos, v_neg, scale=0.0, rescale=0.0), v_neg)


def test_statistics_span_what_it_is_given() -> None:
    """Whole: both halves of the frame share one factor. In parts: each has its own."""
    v_pos, v_neg = pair()
    v_pos[..., :3] *= 4
    whole = guide(v_pos, v_neg, scale=7.5, rescale=0.2)
    parts = [
        guide(v_pos[..., s], v_neg[..., s], scale=7.5, rescale=0.2)
        for s in (slice(0, 3), slice(3, 6))
    ]
    plain = v_neg + 7.5 * (v_pos - v_neg)
    factor = (whole / plain)[0]
    torch.testing.assert_close(factor, torch.full_like(factor, float(factor.mean())))
    assert not torch.allclose(torch.cat(parts, dim=-1), whole, rtol=1e-3)


def test_flat_predictions_stay_finite() -> None:
    flat = torch.full(SHAPE, 0.5)
    torch.testing.assert_close(guide(flat, flat, scale=7.5, rescale=0.2), flat)
    assert torch.equal(guide(flat * 0, flat * 0, scale=7.5, rescale=0.2), flat * 0)


def test_half_precision_statistics_do_not_overflow() -> None:
    v_pos, v_neg = (300 * v.half() for v in pair())
    out = guide(v_pos, v_neg, scale=7.5, rescale=0.2)
    assert out.dtype == torch.float16 and bool(out.isfinite().all())


# As printed in the description of the published sampler, in order of its 50 steps.
DYNAMIC = """
2.291 2.544 6.974 6.42 2.788 4.272 1.038 4.17 1.618 6.983 1.005 2.872 6.977 1.633 4.33 2.437 6.377 6.007 3.448 3.198
1.655 6.61 1.195 4.295 6.985 1.521 1.762 1.058 4.128 1.482 2.003 5.948 4.143 6.531 6.14 7.0 6.168 1.12 2.098 6.685
6.999 2.343 6.213 1.251 7.0 6.864 1.064 1.0 1.0 1.123
"""


def test_the_dynamic_scale_is_the_published_one() -> None:
    found = [dynamic_scale(t, steps=50, scale=6) for t in range(999, 0, -20)]
    assert [round(scale, 3) for scale in found] == [float(printed) for printed in DYNAMIC.split()]


def test_the_dynamic_scale_stays_in_its_range() -> None:
    scales = [dynamic_scale(t, steps=20, scale=3) for t in range(1000)]
    assert min(scales) >= 1 and max(scales) <= 4
    assert dynamic_scale(20, steps=20, scale=3) == 1
    assert dynamic_scale(0, steps=20, scale=3) == 4
