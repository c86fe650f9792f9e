"""Degradation of clips: every step does what it says, nothing but the seed and the draw decides, JSON keeps all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from starvsr.train.codecs import VideoCodec
from starvsr.train.defects import Chroma, Sharpening
from starvsr.train.degrade import (
    RESIZE_MODES,
    Degradation,
    Noise,
    Stage,
    add_noise,
    resize,
)
from starvsr.train.kernels import Kernel, blur
from tests.train.clips import moving_clip, psnr

PLAIN = Degradation(
    scale=4,
    stages=(),
    final_mode="bicubic-antialias",
    final_kernel=None,
    compress_last=True,
    seed=7,
)
FULL = dataclasses.replace(
    PLAIN,
    stages=(
        Stage(
            kernel=Kernel("gaussian", 9, 1.5, 1.0, 0.3),
            resize=0.6,
            resize_mode="bilinear",
            noise=Noise("gaussian", 10.0, gray=False),
            jpeg_quality=60,
            codec=VideoCodec("mpeg4", "qscale", 6),
            fields="weave",
            chroma=Chroma(1.5, 0.5, 2.0),
            sharpening=Sharpening(0.5, 1.0),
        ),
        Stage(
            kernel=Kernel("sinc", 7, cutoff=1.5),
            resize=0.3,
            noise=Noise("poisson", 1.0, gray=True),
            jpeg_quality=80,
            codec=VideoCodec("libx264", "crf", 30),
        ),
    ),
    final_mode="area",
    final_kernel=Kernel("sinc", 9, cutoff=2.0),
)
"""Every step there is."""
CLIP = moving_clip(3)


def with_stage(stage: Stage, **changes: object) -> Degradation:
    return dataclasses.replace(PLAIN, stages=(stage,), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("compress_last", [True, False])
def test_a_clip_becomes_a_quarter_in_range_and_the_same_every_time(compress_last: bool) -> None:
    degradation = dataclasses.replace(FULL, compress_last=compress_last)
    got = degradation.apply(CLIP)
    assert got.shape == (3, 3, 16, 20)
    assert got.dtype == torch.float32
    assert float(got.min()) >= 0
    assert float(got.max()) <= 1
    assert torch.equal(degradation.apply(CLIP), got)
    assert psnr(got, PLAIN.apply(CLIP)) < 32


@pytest.mark.parametrize("degradation", [PLAIN, FULL])
def test_json_keeps_everything(degradation: Degradation) -> None:
    replayed = Degradation.from_json(json.loads(json.dumps(degradation.to_json())))
    assert replayed == degradation
    assert torch.equal(replayed.apply(CLIP), degradation.apply(CLIP))


@pytest.mark.parametrize("broken", [{}, {"scale": 4}, {**PLAIN.to_json(), "more": 1}])
def test_json_of_something_else_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not a degradation"):
        Degradation.from_json(broken)


def test_every_step_matters() -> None:
    whole = FULL.apply(CLIP)
    for number, stage in enumerate(FULL.stages):
        names = [n for n, value in vars(stage).items() if n != "resize_mode" and value is not None]
        assert len(names) == (8, 5)[number]
        for name in names:
            stages = list(FULL.stages)
            stages[number] = dataclasses.replace(stage, **{name: None})  # type: ignore[arg-type]
            without = dataclasses.replace(FULL, stages=tuple(stages)).apply(CLIP)
            assert not torch.equal(without, whole), (number, name)
    for change in ({"final_kernel": None}, {"final_mode": "bicubic"}, {"compress_last": False}):
        other = dataclasses.replace(FULL, **change)
        assert not torch.equal(other.apply(CLIP), whole), change


def test_without_stages_it_is_the_plain_reduction() -> None:
    wanted = F.interpolate(CLIP, size=(16, 20), mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(PLAIN.apply(CLIP), wanted, rtol=0, atol=1e-6)


def test_the_picture_does_not_shift() -> None:
    clip = moving_clip(1, 128, 128)
    low = with_stage(Stage(kernel=Kernel("gaussian", 21, 2.0, 2.0), resize=0.4)).apply(clip)
    back = F.interpolate(low, size=(128, 128), mode="bicubic")
    inner = (slice(None), slice(None), slice(16, -16), slice(16, -16))
    here = psnr(back[inner], clip[inner])
    for shift in (-1, 1):
        for axis in (2, 3):
            assert psnr(back.roll(shift, axis)[inner], clip[inner]) < here


def test_noise_belongs_to_frame_stage_and_seed() -> None:
    still = torch.full((3, 3, 64, 64), 0.5)
    stage = Stage(noise=Noise("gaussian", 20.0, gray=False))
    one = with_stage(stage, scale=1)
    noisy = one.apply(still)
    assert not torch.equal(noisy[0], noisy[1])
    assert torch.equal(one.apply(still[:1])[0], noisy[0])
    assert not torch.equal(dataclasses.replace(one, seed=8).apply(still), noisy)
    second = dataclasses.replace(one, stages=(Stage(), stage)).apply(still)
    assert not torch.equal(second, noisy)


def test_all_else_is_the_same_in_every_frame() -> None:
    still = CLIP[:1].expand(4, -1, -1, -1)
    quiet = dataclasses.replace(
        FULL,
        stages=tuple(dataclasses.replace(s, noise=None, codec=None) for s in FULL.stages),
    )
    got = quiet.apply(still)
    assert all(torch.equal(frame, got[0]) for frame in got)
    drifting = dataclasses.replace(quiet, drift=0.5, drift_frames=4.0).apply(still)
    assert not torch.equal(drifting[0], drifting[1])


def test_drift_is_a_wave_about_what_was_drawn() -> None:
    drifting = dataclasses.replace(PLAIN, drift=0.3, drift_frames=40.0, drift_phase=0.25)
    factors = [drifting.strength(number) for number in range(41)]
    assert factors[0] == pytest.approx(np.exp(0.3)) == pytest.approx(factors[40])
    assert factors[20] == pytest.approx(np.exp(-0.3))
    assert np.prod(factors[:40]) == pytest.approx(1)
    assert max(abs(a - b) for a, b in pairwise(factors)) < 0.1
    assert PLAIN.strength(11) == 1


def test_it_streams() -> None:
    degradation = dataclasses.replace(
        FULL, stages=tuple(dataclasses.replace(s, codec=None) for s in FULL.stages)
    )
    taken = 0

    def frames() -> Iterator[Tensor]:
        nonlocal taken
        for frame in CLIP:
            taken += 1
            yield frame

    flow = degradation.stream(frames())
    first = next(flow)
    assert taken == 1
    torch.testing.assert_close(torch.stack([first, *flow]), degradation.apply(CLIP), rtol=0, atol=0)


@pytest.mark.parametrize("gray", [False, True])
@pytest.mark.parametrize("kind", ["gaussian", "poisson"])
def test_noise_has_its_strength(kind: str, gray: bool) -> None:
    light = 0.4
    frame = torch.full((3, 200, 200), light)
    noisy = add_noise(frame, Noise(kind, 8.0, gray), 0.5, np.random.default_rng(0)) - frame
    expected = 4 / 255 if kind == "gaussian" else 4 * (light * 255) ** 0.5 / 255
    if kind == "gaussian":
        assert float(noisy.std()) == pytest.approx(expected, rel=0.02)
    else:
        # Wide enough to be clipped at black, so that only its middle is as it was drawn.
        middle = noisy.flatten().quantile(torch.tensor([0.3085, 0.6915]))
        assert float(middle[1] - middle[0]) == pytest.approx(expected, rel=0.1)
    assert torch.allclose(noisy[0], noisy[1]) == gray


def test_shot_noise_grows_with_the_light() -> None:
    dark, bright = (
        add_noise(
            torch.full((3, 100, 100), light),
            Noise("poisson", 1.0, gray=False),
            1.0,
            np.random.default_rng(0),
        ).std()
        for light in (0.1, 0.4)
    )
    assert float(bright / dark) == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("mode", RESIZE_MODES)
def test_resizes_keep_the_mean_and_the_range(mode: str) -> None:
    frame = (CLIP[0] > 0.5).float()
    got = resize(frame, (40, 50), mode)
    assert got.shape == (3, 40, 50)
    assert float(got.min()) >= 0
    assert float(got.max()) <= 1
    torch.testing.assert_close(got.mean((1, 2)), frame.mean((1, 2)), rtol=0, atol=0.03)


def test_a_frame_of_the_size_wanted_is_only_clamped() -> None:
    assert torch.equal(resize(CLIP[0] * 2, (64, 80), "bicubic"), (CLIP[0] * 2).clamp(0, 1))


def test_blur_comes_before_the_reduction() -> None:
    kernel = Kernel("gaussian", 21, 3.0, 3.0)
    got = with_stage(Stage(kernel=kernel)).apply(CLIP[:1])[0]
    wanted = resize(blur(CLIP[0], kernel), (16, 20), "bicubic-antialias")
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-6)


def test_half_precision_clips_are_degraded_in_float32() -> None:
    half = CLIP.half()
    assert torch.equal(FULL.apply(half), FULL.apply(half.float()))


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (torch.zeros(0, 3, 16, 16), "at least one frame"),
        (torch.zeros(3, 16, 16), "t 3 h w"),
        (torch.zeros(2, 1, 16, 16), "t 3 h w"),
        (torch.zeros(2, 3, 18, 16), "multiples of the scale 4"),
    ],
)
def test_clips_that_cannot_be_degraded(clip: Tensor, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PLAIN.apply(clip)


def test_meaningless_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="resize mode 'nearest'"):
        Stage(resize_mode="nearest")
    with pytest.raises(ValueError, match="resize mode ''"):
        dataclasses.replace(PLAIN, final_mode="")
    with pytest.raises(ValueError, match="noise 'salt'"):
        Noise("salt", 1.0, gray=False)
    for kind, size in (("grain", 0.0), ("gaussian", 1.0)):
        with pytest.raises(ValueError, match="grain alone has a size"):
            Noise(kind, 1.0, gray=False, size=size)
    with pytest.raises(ValueError, match="fields 'comb' must be one of weave"):
        Stage(fields="comb")


def test_a_draw_of_an_earlier_version_is_read() -> None:
    data = FULL.to_json()
    for stage in data["stages"]:
        for name in ("fields", "chroma", "sharpening"):
            del stage[name]
        del stage["noise"]["size"]
    stages = tuple(
        dataclasses.replace(stage, fields=None, chroma=None, sharpening=None)
        for stage in FULL.stages
    )
    assert Degradation.from_json(data) == dataclasses.replace(FULL, stages=stages)


def test_grain_is_a_noise_with_the_drifts_strength() -> None:
    frame = torch.full((3, 64, 64), 0.5)
    grain = Noise("grain", 8.0, gray=True, size=0.8)
    weak, strong = (
        add_noise(frame, grain, strength, np.random.default_rng(0)) - frame for strength in (1, 2)
    )
    torch.testing.assert_close(strong, 2 * weak)
    assert float(weak[0].std()) == pytest.approx(8 / 255, rel=0.01)
