"""Draws: within their ranges, decided by the generator alone, coherent over a clip."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from starvsr.train.defects import FIELDS
from starvsr.train.degrade import Degradation, Stage
from starvsr.train.presets import PRESETS
from starvsr.train.recipes import CodecConfig, DegradationConfig, StageConfig, clip_rng, draw
from tests.train.clips import moving_clip, psnr

HEAVY, LIGHT = PRESETS["heavy"], PRESETS["light"]


def draws(config: DegradationConfig, count: int = 400) -> list[Degradation]:
    rng = np.random.default_rng(0)
    return [draw(config, rng) for _ in range(count)]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_seed_decides(preset: str) -> None:
    def one(seed: int) -> Degradation:
        return draw(PRESETS[preset], np.random.default_rng(seed))

    assert one(3) == one(3)
    assert one(3) != one(4)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_degrade_small_clips(preset: str) -> None:
    clip = moving_clip(2)
    for seed in range(4):
        degradation = draw(PRESETS[preset], np.random.default_rng(seed))
        got = degradation.apply(clip)
        assert got.shape == (2, 3, 16, 20)
        assert torch.equal(Degradation.from_json(degradation.to_json()).apply(clip), got)


def test_light_is_a_clean_reduction_and_one_x264() -> None:
    for drawn in draws(LIGHT, 50):
        (stage,) = drawn.stages
        assert stage.codec is not None
        assert stage.codec.encoder == "libx264"
        assert stage.codec.rate == "crf"
        assert 18 <= stage.codec.amount <= 32
        assert (stage.kernel, stage.resize, stage.noise, stage.jpeg_quality) == (None,) * 4
        assert drawn.final_mode == "bicubic-antialias"
        assert drawn.compress_last
        assert drawn.final_kernel is None


def drawn_of(preset: str) -> list[Stage]:
    """The last stages of many draws."""
    return [each.stages[-1] for each in draws(PRESETS[preset], 100)]


@pytest.mark.parametrize(
    ("preset", "encoders"),
    [
        ("dvd", {"mpeg2video"}),
        ("dv", {"dvvideo"}),
        ("vhs", {"mpeg4", "mpeg2video", "libx264"}),
        ("film", {"libx264", "mpeg2video"}),
        ("phone", {"libx265"}),
        ("web", {"libx264", "libvpx-vp9", "mpeg4"}),
    ],
)
def test_what_people_have_has_its_codecs(preset: str, encoders: set[str]) -> None:
    codecs = [stage.codec for stage in drawn_of(preset) if stage.codec is not None]
    assert len(codecs) == 100
    assert {codec.encoder for codec in codecs} == encoders


def test_what_people_have_has_its_defects() -> None:
    def among(preset: str, field: str) -> float:
        stages = drawn_of(preset)
        return sum(getattr(stage, field) is not None for stage in stages) / len(stages)

    assert among("vhs", "chroma") == 1
    assert {each.fields for each in drawn_of("vhs")} == {None, *FIELDS}
    assert all(
        stage.noise is not None and stage.noise.kind == "grain" for stage in drawn_of("film")
    )
    for preset, field, share in (
        ("dvd", "sharpening", 0.8),
        ("dvd", "fields", 0.4),
        ("dv", "fields", 0.6),
        ("phone", "sharpening", 0.7),
        ("web", "chroma", 0.0),
        ("film", "fields", 0.0),
    ):
        assert among(preset, field) == pytest.approx(share, abs=0.15), (preset, field)


def test_web_video_has_few_bits() -> None:
    clip = moving_clip(2)
    for drawn in draws(PRESETS["web"], 20):
        for stage in drawn.stages:
            assert stage.codec is not None
            assert stage.codec.amount <= 0.3
        assert drawn.apply(clip).shape == (2, 3, 16, 20)


def test_a_step_that_never_happens_changes_no_draw() -> None:
    """Banks and seeds of earlier versions stay what they were."""
    for preset in ("light", "heavy"):
        for stage in drawn_of(preset):
            assert (stage.fields, stage.chroma, stage.sharpening) == (None,) * 3
    rare = dataclasses.replace(HEAVY.stages[0], sharpen=1e-9, chroma=1e-9, fields=1e-9)
    other = dataclasses.replace(HEAVY, stages=(rare, HEAVY.stages[1]))
    first, second = (draw(each, np.random.default_rng(1)) for each in (HEAVY, other))
    assert first.stages[0] == second.stages[0]
    assert first.stages[1] != second.stages[1]


def test_heavy_stays_in_the_published_ranges_and_reaches_their_ends() -> None:
    drawn = draws(HEAVY)
    for number, (low, high), sigma in ((0, (0.15, 1.5), 30), (1, (0.3 / 4, 1.2 / 4), 25)):
        stages = [each.stages[number] for each in drawn]
        factors = [stage.resize for stage in stages if stage.resize is not None]
        assert len(factors) == len(stages)
        assert low <= min(factors) < low * 1.2 < high / 1.1 < max(factors) <= high
        qualities = [stage.jpeg_quality for stage in stages if stage.jpeg_quality is not None]
        assert (min(qualities), max(qualities)) == (30, 95)
        noises = [stage.noise for stage in stages if stage.noise is not None]
        amounts = [noise.amount for noise in noises if noise.kind == "gaussian"]
        assert 1 <= min(amounts) < 2 < sigma - 1 < max(amounts) <= sigma
        assert {noise.kind for noise in noises} == {"gaussian", "poisson"}
        codecs = {stage.codec.encoder for stage in stages if stage.codec is not None}
        assert codecs == {"libx264", "libx265", "mpeg4", "mpeg2video", "libvpx-vp9"}
        assert all(stage.codec is not None for stage in stages)


def test_heavy_kernels() -> None:
    drawn = draws(HEAVY)
    first = [each.stages[0].kernel for each in drawn]
    kernels = [kernel for kernel in first if kernel is not None]
    assert len(kernels) == len(first)
    assert {kernel.shape for kernel in kernels} == {"gaussian", "generalized", "plateau", "sinc"}
    assert {kernel.size for kernel in kernels} == set(range(7, 22, 2))
    for kernel in kernels:
        assert 0.2 <= kernel.sigma_x <= 3
        assert 0.2 <= kernel.sigma_y <= 3
        assert math.pi / 5 <= kernel.cutoff <= math.pi
        assert 0.5 <= kernel.beta <= 4
    round_ones = [k.sigma_x == k.sigma_y for k in kernels if k.shape != "sinc"]
    assert 0.57 < np.mean(round_ones) < 0.77
    second = [each.stages[1].kernel is None for each in drawn]
    assert 0.1 < np.mean(second) < 0.3
    assert 0.7 < np.mean([each.final_kernel is not None for each in drawn]) < 0.9
    assert 0.65 < np.mean([each.compress_last for each in drawn]) < 0.85


def test_shares_of_enlarging_reducing_and_keeping() -> None:
    factors = [each.stages[0].resize or 0.0 for each in draws(HEAVY, 1000)]
    shares = [np.mean([f > 1 for f in factors]), np.mean([f < 1 for f in factors])]
    assert shares[0] == pytest.approx(0.2, abs=0.05)
    assert shares[1] == pytest.approx(0.7, abs=0.05)


def test_drift_is_drawn_only_where_it_is_wanted() -> None:
    assert all(each.drift == 0 for each in draws(HEAVY, 20))
    drifting = draws(dataclasses.replace(HEAVY, drift=0.3), 50)
    assert min(each.drift for each in drifting) > 0
    assert 0.2 < max(each.drift for each in drifting) <= 0.3


def test_heavy_is_worse_than_light() -> None:
    clip = moving_clip(2, 96, 96)
    plain = dataclasses.replace(LIGHT, stages=())
    wanted = draw(plain, np.random.default_rng(0)).apply(clip)

    def median(config: DegradationConfig) -> float:
        got = [draw(config, np.random.default_rng(seed)).apply(clip) for seed in range(7)]
        return float(np.median([psnr(each, wanted) for each in got]))

    assert median(HEAVY) < median(LIGHT) - 3


def test_codecs_that_are_not_there_are_not_drawn() -> None:
    there, missing = CodecConfig("mpeg4", "qscale", (2, 9)), CodecConfig("libnone", "crf", (1, 2))
    some = DegradationConfig(stages=(StageConfig(codec=1.0, codecs=(there, missing)),))
    drawn = {each.stages[0].codec for each in draws(some, 40)}
    assert {codec.encoder for codec in drawn if codec is not None} == {"mpeg4"}
    assert len(drawn) == 8
    for codecs in ((missing,), ()):
        none = DegradationConfig(stages=(StageConfig(codec=1.0, codecs=codecs),))
        with pytest.raises(ValueError, match="none of the encoders"):
            draw(none, np.random.default_rng(0))


def test_a_meaningless_scale_is_refused() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        DegradationConfig(scale=0)


def test_a_clips_draw_is_its_names() -> None:
    def numbers(seed: int, name: str) -> list[float]:
        return list(clip_rng(name, seed).random(4))

    assert numbers(1, "a.mp4") == numbers(1, "a.mp4")
    assert numbers(1, "a.mp4") != numbers(1, "b.mp4")
    assert numbers(1, "a.mp4") != numbers(2, "a.mp4")
