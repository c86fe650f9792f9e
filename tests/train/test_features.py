"""Features as a loss: nothing for equal pictures, more for less alike ones; a run with it resumes as any other."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from starvsr.errors import UsageError, WeightsError
from starvsr.train.config import config_from_toml
from starvsr.train.features import Features, FeaturesConfig, cut_alike
from starvsr.train.tables import to_toml
from starvsr.train.trainer import train
from tests.train.ncnn_files import tagged, write_ncnn
from tests.train.test_ncnn import classifier
from tests.train.toys import assert_same_run, config_of, log_of, options


def features(folder: Path, dtype: torch.dtype = torch.float32) -> Features:
    classifier(folder)
    return Features(FeaturesConfig("net.param"), folder, torch.device("cpu"), 0, dtype=dtype)


def pictures(seed: int) -> Tensor:
    return torch.rand(2, 3, 2, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_loss_is_zero_for_equal_pictures_and_grows_with_what_is_added(tmp_path: Path) -> None:
    measure = features(tmp_path)
    target, other = pictures(0), pictures(1)
    losses = [float(measure.loss(torch.lerp(target, other, f), target, 0)) for f in (0, 0.2, 0.6)]
    assert losses[0] == 0
    assert 0 < losses[1] < losses[2]


def test_its_gradient_leads_to_the_target(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        measure = features(tmp_path, dtype)
        target = pictures(0)
        picture = torch.lerp(target, pictures(1), 0.5).requires_grad_()
        loss = measure.loss(picture, target, 0)
        loss.backward()  # type: ignore[no-untyped-call]
        assert picture.grad is not None
        stepped = picture.detach() - 0.1 * picture.grad / picture.grad.abs().max()
        assert float(measure.loss(stepped, target, 0)) < float(loss.detach())


def test_strides_do_not_meet_blocks_of_pixels_always_at_one_place() -> None:
    rows = torch.arange(24.0)[:, None].expand(24, 24)
    places = torch.stack([rows, rows.T, rows])[None, :, None]
    corners = set()
    for step in range(200):
        one, other = cut_alike((places, -places), 0, step)
        assert one.shape == (1, 3, 1, 16, 16)
        assert torch.equal(one, -other)
        corners.add((int(one[0, 0, 0, 0, 0]), int(one[0, 1, 0, 0, 0])))
    assert len(corners) > 50
    assert {top for top, _ in corners} == {left for _, left in corners} == set(range(8))


def test_a_dim_frame_counts_as_much_as_a_bright_one(tmp_path: Path) -> None:
    measure = features(tmp_path)
    target = pictures(0)[:, :, :1]
    # The network has no bias: half the light is half of every feature.
    dim = (target + 1) / 2 - 1
    worse = torch.lerp(target, pictures(1)[:, :, :1], 0.2)
    bright = measure.loss(worse, target, 0)
    torch.testing.assert_close(measure.loss((worse + 1) / 2 - 1, dim, 0), bright)


def test_a_run_is_changed_by_it_and_resumes(root: Path) -> None:
    classifier(root)
    config = config_of(root, features=FeaturesConfig("net.param", weight=0.5), steps=4)
    at = {"base": root}
    train(config, options(root, "whole", **at))
    for steps in (2, 4):
        train(dataclasses.replace(config, steps=steps), options(root, "parts", **at))
    assert_same_run(root, "whole", "parts")
    train(dataclasses.replace(config, features=None), options(root, "without", **at))
    noted = log_of(root, "whole")[0]
    assert noted["loss"] == pytest.approx(
        log_of(root, "without")[0]["loss"] + 0.5 * noted["features"]
    )
    assert config_from_toml(to_toml(config)) == config


def test_what_cannot_be_a_measure_is_refused(root: Path) -> None:
    for text, named in (
        ("path = 'net.onnx'", "must end in .param"),
        ("path = 'net.param'\nweight = 0.0", "must be above 0"),
        ("path = 'net.param'\nlayers = ['']", "must be names of layers"),
    ):
        with pytest.raises(UsageError, match=named):
            config_from_toml(f"[features]\n{text}")
    config = config_of(root, features=FeaturesConfig("net.param"))
    with pytest.raises(UsageError, match=r"\[features\] path: .*net\.param is not a file"):
        train(config, options(root, base=root))
    classifier(root)
    config = config_of(root, features=FeaturesConfig("net.param", layers=("conv", "deep")))
    assert config_from_toml(to_toml(config)) == config
    with pytest.raises(
        UsageError, match=r"\[features\] layers: .*net\.param: there is no layer 'deep'"
    ):
        train(config, options(root, base=root))
    grey = ["Input in 0 1 data", "Convolution c 1 1 data out 0=2 1=1 5=0 6=2"]
    write_ncnn(root / "net.param", grey, tagged(torch.zeros(2)))
    config = config_of(root, features=FeaturesConfig("net.param"))
    with pytest.raises(UsageError, match=r"\[features\] path = .* does not take RGB pictures"):
        train(config, options(root, base=root))
    (root / "net.param").write_text("hello\n")
    with pytest.raises(WeightsError, match=r"net\.param"):
        train(config, options(root, base=root))
