"""The map between published and own parameter names is one-to-one, complete, and refuses strangers."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.models.unet import StarUNet
from starvsr.types import UNetConfig
from starvsr.zoo.convert import from_published, to_published
from tests.models.helpers import TINY, seeded_net

GOLDEN = Path(__file__).resolve().parent.parent / "golden"

VARIANTS = [
    TINY,
    dataclasses.replace(TINY, control=False, residual_blocks=3),
    dataclasses.replace(TINY, multipliers=(1,), attention_scales=(1.0,)),
    dataclasses.replace(TINY, multipliers=(2, 1, 3), attention_scales=(1.0, 0.25)),
    dataclasses.replace(TINY, multipliers=(1, 1, 2, 2, 2), attention_scales=(), residual_blocks=2),
]


def on_meta(config: UNetConfig) -> StarUNet:
    """The network without numbers."""
    with torch.device("meta"):
        return StarUNet(config)


@pytest.mark.parametrize(
    ("file", "config"),
    [
        ("i2vgenxl_unet_keys.json", UNetConfig()),
        ("unet_small_keys.json", UNetConfig(width=64, head_width=32, first_heads=3)),
    ],
)
def test_every_published_key_and_shape(file: str, config: UNetConfig) -> None:
    published = {
        name: tuple(shape) for name, shape in json.loads((GOLDEN / file).read_text()).items()
    }
    assert len(published) == 2247
    ours = on_meta(config).state_dict()
    there = {name: tuple(tensor.shape) for name, tensor in to_published(ours).items()}
    assert there == published
    given = {name: torch.empty(shape, device="meta") for name, shape in published.items()}
    back = {name: tensor.shape for name, tensor in from_published(given).items()}
    assert back == {name: tensor.shape for name, tensor in ours.items()}


@pytest.mark.parametrize("config", VARIANTS)
def test_round_trip_of_any_size(config: UNetConfig) -> None:
    state = seeded_net(config).state_dict()
    published = to_published(state)
    assert len(published) == len(state)
    back = from_published(published)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)
    StarUNet(config).load_state_dict(back)


def test_own_names_say_what_they_are() -> None:
    names = on_meta(UNetConfig()).state_dict()
    assert not any("temopral" in name or "local" in name for name in names)
    assert {name.split(".")[0] for name in names} == {
        "control",
        "decoder",
        "encoder",
        "head",
        "middle",
        "time_embedding",
    }


def test_wrapped_checkpoints_and_dtypes() -> None:
    published = {
        name: tensor.half() for name, tensor in to_published(seeded_net(TINY).state_dict()).items()
    }
    bare, wrapped = from_published(published), from_published({"state_dict": published, "step": 3})
    assert bare.keys() == wrapped.keys()
    assert all(tensor.dtype == torch.float16 for tensor in bare.values())


class TestRefusals:
    """What is not a STAR network is refused by name."""

    @staticmethod
    def published() -> dict[str, Tensor]:
        return to_published(on_meta(TINY).state_dict())

    def test_missing(self) -> None:
        state = self.published()
        del state["middle_block.3.out_layers.3.weight"], state["out.2.bias"]
        with pytest.raises(
            WeightsError, match=r"missing: middle_block\.3\.out_layers\.3\.weight, out\.2\.bias$"
        ):
            from_published(state)

    def test_unexpected(self) -> None:
        state = self.published()
        state["ema.decay"] = torch.zeros(1)
        with pytest.raises(WeightsError, match=r"unexpected: ema\.decay"):
            from_published(state)

    def test_each_key_is_needed(self) -> None:
        state = self.published()
        for name in state:
            lacking = {other: tensor for other, tensor in state.items() if other != name}
            with pytest.raises(WeightsError):
                from_published(lacking)

    def test_each_own_key_is_needed(self) -> None:
        state = on_meta(TINY).state_dict()
        for name in state:
            with pytest.raises(WeightsError):
                to_published({other: tensor for other, tensor in state.items() if other != name})

    def test_kernel_that_is_no_point(self) -> None:
        state = self.published()
        name = "VideoControlNet.zero_convs.0.0.weight"
        state[name] = torch.empty(32, 32, 3, 3, device="meta")
        with pytest.raises(WeightsError, match="the last 2 must be 1"):
            from_published(state)

    @pytest.mark.parametrize("state", [{}, {"weight": torch.zeros(1)}])
    def test_nothing_like_it(self, state: dict[str, Tensor]) -> None:
        with pytest.raises(WeightsError, match="not those of a STAR network"):
            from_published(state)

    def test_not_tensors(self) -> None:
        with pytest.raises(WeightsError, match="not tensors: epoch"):
            from_published({"epoch": 3})
        with pytest.raises(WeightsError, match="not a mapping"):
            from_published({"state_dict": [1]})
