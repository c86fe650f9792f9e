"""VEnhancer's checkpoints as STAR's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.models.build import build_network
from starvsr.zoo.base import read_base
from starvsr.zoo.convert import to_published
from tests.golden.seeded_init import fill_module
from tests.zoo.published import SMALL_STAR

GATES = ("local1", "local2")


def fresh() -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(SMALL_STAR.network).state_dict()


def venhancer_of() -> dict[str, Tensor]:
    """A seeded checkpoint's tensors: no LIEM, and in the control branch the two embeddings that STAR dropped."""
    star = to_published(fill_module(build_network(SMALL_STAR.network), 0).state_dict())
    tensors = {n: t.half() for n, t in star.items() if not any(gate in n for gate in GATES)}
    width = SMALL_STAR.network.width
    for layer, shape in (
        ("hint_time_zero_linear", (4 * width, 4 * width)),
        ("scale_cond.0", (4 * width, width)),
        ("scale_cond.2", (4 * width, 4 * width)),
    ):
        tensors[f"VideoControlNet.{layer}.weight"] = torch.zeros(shape).half()
        tensors[f"VideoControlNet.{layer}.bias"] = torch.zeros(shape[0]).half()
    return tensors


def write(path: Path, tensors: Mapping[str, Tensor]) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save({"state_dict": dict(tensors)}, path)
    return path


@pytest.mark.parametrize("name", ["venhancer_v2.pt", "venhancer_v2.safetensors"])
def test_all_but_the_gates_is_the_checkpoints(name: str, tmp_path: Path) -> None:
    start, given = fresh(), venhancer_of()
    state = read_base(write(tmp_path / name, given), start)
    assert state.keys() == start.keys()
    gates = {name for name in state if ".gate" in name}
    assert len(gates) == 34
    assert all(torch.equal(state[name], start[name]) for name in gates)
    rest = to_published(
        {name: tensor for name, tensor in state.items() if name not in gates}
        | {name: start[name] for name in gates}
    )
    kept = [name for name in given if name in rest]
    assert len(kept) == len(given) - 6
    assert all(torch.equal(rest[name], given[name]) for name in kept)


def test_stars_own_checkpoint_keeps_its_gates(tmp_path: Path) -> None:
    network = fill_module(build_network(SMALL_STAR.network), 0).state_dict()
    state = read_base(write(tmp_path / "light_deg.pt", to_published(network)), fresh())
    assert all(torch.equal(tensor, network[name]) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"out.2.bias": None}, "in 1 tensors: out.2.bias is missing"),
        ({"out.2.bias": torch.zeros(3)}, r"out.2.bias is \(3,\) instead of \(4,\)"),
        ({"lora.down.weight": torch.zeros(3)}, "lora.down.weight is unexpected"),
        ({"out.2.bias": torch.zeros(4, dtype=torch.int64)}, "out.2.bias is torch.int64"),
    ],
)
def test_other_networks_are_refused(
    damage: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    tensors = {n: t for n, t in {**venhancer_of(), **damage}.items() if t is not None}
    path = write(tmp_path / "base.pt", tensors)
    with pytest.raises(WeightsError, match=f"base.pt has neither VEnhancer's.*{message}"):
        read_base(path, fresh())


def test_a_file_of_another_kind_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "base.pt", {"unet.attn.to_q.lora_A.weight": torch.zeros(2)})
    with pytest.raises(
        WeightsError, match=r"base.pt is a LoRA, which .*, and has neither VEnhancer"
    ):
        read_base(path, fresh())
