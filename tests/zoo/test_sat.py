"""SAT's checkpoints: every key accounted for, updates merged, strangers refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.models.cogvideox import StarCogVideoX
from starvsr.types import CogVideoXConfig
from starvsr.zoo.sat import config_of, from_sat, to_sat
from tests.golden.seeded_init import seeded_state_dict
from tests.models.helpers import relative_error
from tests.models.test_cogvideox import ADDED, SMALL, Plain, call, diffusers_output, inputs
from tests.zoo.published_cogvideox import SMALL_2B

MANIFEST = json.loads(
    (Path(__file__).parent.parent / "golden" / "cogvideox_sat_keys.json").read_text()
)
PREFIX = "model.diffusion_model."
TABLES = (*MANIFEST["buffers"], f"{PREFIX}transformer.position_embeddings.weight")
RANK = 3


def shapes_of(tensors: dict[str, Tensor]) -> dict[str, list[int]]:
    return {f"{PREFIX}{name}": list(tensor.shape) for name, tensor in tensors.items()}


def state_of(config: CogVideoXConfig) -> dict[str, Tensor]:
    """The network's parameters without numbers."""
    with torch.device("meta"):
        return StarCogVideoX(config).state_dict()


def published(*, rank: int = 0) -> dict[str, Tensor]:
    """A seeded small checkpoint's tensors as SAT lays them out, with all that belongs to no network of ours."""
    shapes = {name: tuple(s) for name, s in shapes_of(to_sat(state_of(SMALL), rank=rank)).items()}
    # Twice as wide: updates of this size are seen.
    tensors = {n: 2 * t if "matrix" in n else t for n, t in seeded_state_dict(shapes).items()}
    rest = {
        TABLES[0]: torch.rand(8, 32),
        TABLES[1]: torch.rand(8, 32),
        TABLES[2]: torch.rand(32, 64),
        "first_stage_model.encoder.conv_in.conv.weight": torch.rand(1),
        "conditioner.embedders.0.transformer.shared.weight": torch.rand(1),
    }
    return {**tensors, **rest}


@pytest.mark.parametrize("lora", [False, True])
def test_every_key_of_the_manifest(lora: bool) -> None:
    base = {name: shape for name, shape in MANIFEST["base"].items() if name not in TABLES}
    assert set(MANIFEST["base"]) - set(base) == set(TABLES)
    if lora:
        for name in list(base):
            layer, _, leaf = name.rpartition(".")
            if layer.endswith(("attention.query_key_value", "attention.dense")):
                base[f"{layer}.original.{leaf}"] = base.pop(name)
        base |= MANIFEST["lora"]
    state = state_of(CogVideoXConfig())
    assert shapes_of(to_sat(state, rank=512 if lora else 0)) == base
    given = {name: torch.empty(shape, device="meta") for name, shape in base.items()}
    back = from_sat({"module": given}, state)
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in state.items()}


@pytest.mark.parametrize("rank", [0, RANK])
@pytest.mark.parametrize("config", [CogVideoXConfig(), SMALL, ADDED, SMALL_2B], ids=range(4))
def test_sizes_are_read_from_shapes(config: CogVideoXConfig, rank: int) -> None:
    given = {
        f"{PREFIX}{name}": tensor for name, tensor in to_sat(state_of(config), rank=rank).items()
    }
    if not config.rotary:
        given[f"{PREFIX}mixins.pos_embed.pos_embedding"] = torch.zeros(1, 9, config.width)
    for known in (CogVideoXConfig(), SMALL):
        known = dataclasses.replace(known, context_width=config.context_width)
        assert config_of({"module": given}, known) == config
    back = from_sat(given, state_of(config))
    assert {n: t.shape for n, t in back.items()} == {
        n: t.shape for n, t in state_of(config).items()
    }


def test_sizes_that_no_tensor_says_are_those_known() -> None:
    assert config_of({"anything": torch.zeros(1)}, SMALL) == SMALL
    strange = {f"{PREFIX}mixins.adaln_layer.query_layernorm_list.0.weight": torch.zeros(0)}
    assert config_of(strange, SMALL).heads == 64
    many = {f"transformer.layers.{n}.x": torch.zeros(1) for n in range(999)}
    assert config_of(many, SMALL).layers == 64


@torch.no_grad()
def test_there_and_back() -> None:
    given, state = published(), state_of(SMALL)
    ours = from_sat({"iteration": 1, "module": given}, state)
    back = to_sat(ours)
    own = {name for name in given if name.startswith(PREFIX)} - set(TABLES)
    assert {f"{PREFIX}{name}" for name in back} == own
    assert all(torch.equal(tensor, given[f"{PREFIX}{name}"]) for name, tensor in back.items())
    bare = {name.removeprefix(PREFIX): tensor for name, tensor in given.items()}
    assert all(torch.equal(tensor, ours[name]) for name, tensor in from_sat(bare, state).items())


@torch.no_grad()
def test_parts_land_where_they_belong() -> None:
    given = published()
    ours = from_sat(given, state_of(SMALL))
    modulations = given[f"{PREFIX}mixins.adaln_layer.adaLN_modulations.1.1.weight"].chunk(12)
    names = ["attention", "mlp"]
    # The published order: of the image for attention and for the feed-forward, then of the text.
    for kind, first in (("image", 0), ("text", 6)):
        for number, name in enumerate(names):
            linear = ours[f"transformer_blocks.1.norm{number + 1}.linear.weight"].chunk(6)
            half = linear[:3] if kind == "image" else linear[3:]
            wanted = modulations[first + 3 * number : first + 3 * number + 3]
            assert all(map(torch.equal, half, wanted)), (kind, name)
    fused = given[f"{PREFIX}transformer.layers.2.attention.query_key_value.bias"]
    assert torch.equal(ours["transformer_blocks.2.attn1.to_k.bias"], fused[64:128])


@torch.no_grad()
@pytest.mark.parametrize("rank", [0, RANK])
def test_a_converted_checkpoint_without_liem_is_diffusers_transformer(rank: int) -> None:
    converted = from_sat({"module": published(rank=rank)}, state_of(SMALL))
    network = StarCogVideoX(dataclasses.replace(SMALL, liem=False)).eval()
    network.load_state_dict({n: t for n, t in converted.items() if ".processor." not in n})
    given = inputs((3, 6, 10), batch=2)
    assert relative_error(call(network, *given), diffusers_output(network, *given)) < 1e-5


@torch.no_grad()
def test_updates_are_merged() -> None:
    given = published(rank=RANK)
    network = StarCogVideoX(SMALL).eval()
    network.load_state_dict(dict(from_sat({"module": given}, state_of(SMALL))))
    name = f"{PREFIX}transformer.layers.1.attention"
    # The update as it works in SAT: beside the layer, on the layer's own input.
    tokens = torch.rand(5, 64)
    beside = torch.cat(
        [
            tokens
            @ given[f"{name}.query_key_value.matrix_A.{j}"].T
            @ given[f"{name}.query_key_value.matrix_B.{j}"].T
            for j in range(3)
        ],
        dim=1,
    )
    plain = tokens @ given[f"{name}.query_key_value.original.weight"].T
    state = network.state_dict()
    merged = torch.cat(
        [tokens @ state[f"transformer_blocks.1.attn1.to_{part}.weight"].T for part in "qkv"], dim=1
    )
    torch.testing.assert_close(merged, plain + beside / RANK, rtol=1e-5, atol=1e-5)
    assert (beside / RANK).norm() > 0.05 * plain.norm(), "seen at all"
    x, t, y, hint = inputs((2, 4, 6))
    wanted = Plain(network)(x[0], int(t[0]), y[0], hint[0])
    assert relative_error(call(network, x, t, y, hint)[0], wanted) < 1e-5


@pytest.mark.parametrize("rank", [0, RANK])
def test_the_published_type_stays(rank: int) -> None:
    given = {name: tensor.bfloat16() for name, tensor in published(rank=rank).items()}
    ours = from_sat(given, state_of(SMALL))
    assert {tensor.dtype for tensor in ours.values()} == {torch.bfloat16}


LAYER = f"{PREFIX}transformer.layers.0"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({f"{LAYER}.spa_local.conv1.weight": None}, "layers.0.spa_local.conv1.weight is missing"),
        ({f"{PREFIX}extra": torch.rand(1)}, "extra is unexpected"),
        ({f"{LAYER}.extra.weight": torch.rand(1)}, "extra.weight is unexpected"),
        (
            {f"{PREFIX}mixins.patch_embed.text_proj.weight": torch.rand(48, 12)},
            r"text_proj.weight is \(48, 12\) instead of \(64, 12\)",
        ),
        (
            {f"{LAYER}.attention.dense.matrix_A.0": torch.rand(3, 64)},
            "dense.original.bias is missing",
        ),
        ({f"{PREFIX}step": 3}, "entries that are not tensors"),
    ],
)
def test_strangers_are_refused(change: dict[str, object], message: str) -> None:
    given = {name: value for name, value in {**published(), **change}.items() if value is not None}
    with pytest.raises(WeightsError, match=message):
        from_sat({"module": given}, state_of(SMALL))


def test_an_update_without_its_other_half_is_refused() -> None:
    given = published(rank=RANK)
    del given[f"{LAYER}.attention.query_key_value.matrix_B.2"]
    with pytest.raises(WeightsError, match=r"query_key_value.matrix_B.2 is missing"):
        from_sat(given, state_of(SMALL))


def test_a_name_of_ours_that_is_none() -> None:
    with pytest.raises(WeightsError, match="not a parameter of STAR's CogVideoX"):
        to_sat({"transformer_blocks.0.gate.weight": torch.rand(1)})
