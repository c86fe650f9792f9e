"""Where weights wait changes no bit of a result, and nothing stays on the device that has no work there."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from starvsr.models import offload
from starvsr.models.offload import Offloaded, assign_weights, offload_blocks, placed, units
from starvsr.models.transformers import TemporalTransformer
from starvsr.models.unet import StarUNet
from starvsr.types import UNetConfig
from starvsr.zoo.convert import from_published
from tests.golden.seeded_init import seeded_state_dict
from tests.models.helpers import GOLDEN, SMALL, TINY, relative_error, seeded_inputs, seeded_net

CPU = torch.device("cpu")
CASES = ("one_frame", "traced", "batch2", "eight_frames")
BOUNDS = {torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 4e-2}


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """The golden network's weights as they stand in a file: kernels are not channels-last."""
    keys = json.loads((GOLDEN / "unet_small_keys.json").read_text())
    return from_published(seeded_state_dict(keys))


def empty(config: UNetConfig) -> StarUNet:
    with torch.device("meta"):
        return StarUNet(config).eval()


def homes(net: StarUNet) -> dict[str, int]:
    """Where every weight is."""
    return {name: parameter.data_ptr() for name, parameter in net.named_parameters()}


def inputs(golden: dict[str, Tensor], case: str, dtype: torch.dtype) -> list[Tensor]:
    x, t, y, hint = (golden[f"{case}.{name}"] for name in ("x", "t", "y", "hint"))
    return [x.to(dtype), t, y.to(dtype), hint.to(dtype)]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", list(BOUNDS))
def test_every_mode_computes_the_same_bits(
    weights: dict[str, Tensor], golden: dict[str, Tensor], dtype: torch.dtype
) -> None:
    none, model, block = (empty(SMALL) for _ in range(3))
    assign_weights(none, {name: placed(value, CPU, dtype) for name, value in weights.items()})
    assign_weights(model, weights)
    assign_weights(block, weights)
    whole = Offloaded(model, CPU, dtype)
    offload_blocks(block, CPU, dtype)
    before = homes(block)
    assert homes(model) == before
    for case in CASES if dtype == torch.float32 else CASES[:2]:
        given = inputs(golden, case, dtype)
        with torch.inference_mode():
            wanted = none(*given)
            with whole.at_work():
                assert torch.equal(model(*given), wanted), case
            assert torch.equal(block(*given), wanted), case
        assert relative_error(wanted, golden[f"{case}.out"]) < BOUNDS[dtype], case
    assert homes(block) == homes(model) == before


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_files_in_single_precision(
    weights: dict[str, Tensor], golden: dict[str, Tensor], dtype: torch.dtype
) -> None:
    net = empty(SMALL)
    assign_weights(net, {name: value.to(dtype) for name, value in weights.items()})
    offload_blocks(net, CPU, torch.float32)
    with torch.inference_mode():
        out = net(*inputs(golden, "traced", torch.float32))
    assert out.dtype == torch.float32
    assert relative_error(out, golden["traced.out"]) < BOUNDS[dtype]


@pytest.mark.parametrize("config", [TINY, SMALL, UNetConfig()])
def test_every_weight_is_in_one_unit(config: UNetConfig) -> None:
    net = empty(config)
    moved = [id(parameter) for unit in units(net) for parameter in unit.parameters()]
    assert len(moved) == len(set(moved))
    assert set(moved) == {id(parameter) for parameter in net.parameters()}
    total = sum(parameter.numel() for parameter in net.parameters())
    largest = max(sum(p.numel() for p in unit.parameters()) for unit in units(net))
    if config == UNetConfig():
        assert largest < 0.05 * total


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many units are away from home after each move."""
    away: list[int] = [0]
    bring, send_home = Offloaded.bring, Offloaded.send_home

    def note_bring(self: Offloaded) -> None:
        bring(self)
        away.append(away[-1] + 1)

    def note_home(self: Offloaded) -> None:
        send_home(self)
        away.append(max(away[-1] - 1, 0))

    monkeypatch.setattr(Offloaded, "bring", note_bring)
    monkeypatch.setattr(Offloaded, "send_home", note_home)
    yield away


def test_one_unit_is_away_at_a_time(moves: list[int]) -> None:
    net = seeded_net(TINY)
    number = offload_blocks(net, CPU, torch.float32)
    with torch.no_grad():
        net(*seeded_inputs(TINY, (2, 4, 4)))
    assert max(moves) == 1
    # The time embedding of either encoder, and everything else, works once.
    assert moves.count(1) == number


def test_a_failed_call_leaves_nothing_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    net = seeded_net(TINY)
    before = homes(net)
    offload_blocks(net, CPU, torch.float64)

    def fail(_x: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(net.middle.entry.temporal, "forward", fail)
    x, t, context, hint = seeded_inputs(TINY, (2, 4, 4))
    assert hint is not None
    with torch.no_grad(), pytest.raises(torch.OutOfMemoryError):
        net(x.double(), t, context.double(), hint.double())
    assert homes(net) == before
    monkeypatch.undo()
    with torch.no_grad():
        out = net(x.double(), t, context.double(), hint.double())
    assert out.dtype == torch.float64
    assert homes(net) == before


def test_a_move_that_fails_midway_ends_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    net = seeded_net(TINY)
    before = homes(net)
    whole = Offloaded(net, CPU, torch.float64)
    left = 20

    def out_of_memory(*args: object) -> Tensor:
        nonlocal left
        left -= 1
        if left < 0:
            raise torch.OutOfMemoryError("out of memory")
        return placed(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(offload, "placed", out_of_memory)
    with pytest.raises(torch.OutOfMemoryError), whole.at_work():
        raise AssertionError("not reached")
    assert homes(net) == before
    offload_blocks(net, CPU, torch.float64)
    left = 20
    x, t, context, hint = seeded_inputs(TINY, (1, 4, 4))
    assert hint is not None
    with torch.no_grad(), pytest.raises(torch.OutOfMemoryError):
        net(x.double(), t, context.double(), hint.double())
    assert left < 0
    assert homes(net) == before


def test_branches_that_are_left_out_are_not_brought(moves: list[int]) -> None:
    net = seeded_net(TINY)
    branches = [part for part in net.modules() if isinstance(part, TemporalTransformer)]
    with torch.no_grad():
        for branch in branches:
            nn.init.zeros_(branch.exit.weight)
            nn.init.zeros_(branch.exit.bias)
        given = seeded_inputs(TINY, (2, 4, 4))
        wanted = copy.deepcopy(net)(*given)
        number = offload_blocks(net, CPU, torch.float32)
        assert net.skip_identity_branches() == len(branches)
        assert torch.equal(net(*given), wanted)
    assert moves.count(1) == number - len(branches)


def test_in_and_out_of_inference_mode() -> None:
    net = seeded_net(TINY)
    given = seeded_inputs(TINY, (1, 4, 4))
    with torch.no_grad():
        wanted = net(*given)
    offload_blocks(net, CPU, torch.float32)
    with torch.inference_mode():
        first = net(*given)
    with torch.no_grad():
        second = net(*given)
    assert torch.equal(first, wanted)
    assert torch.equal(second, wanted)


def test_weights_are_placed_in_the_order_of_their_use() -> None:
    kernel, matrix = torch.randn(4, 3, 3, 3), torch.randn(4, 3)
    assert placed(matrix, CPU, torch.float32) is matrix
    moved = placed(kernel, CPU, torch.float32)
    assert moved.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved, kernel)
    assert placed(moved, CPU, torch.float32) is moved
    half = placed(kernel, CPU, torch.float16)
    assert half.dtype == torch.float16
    assert half.is_contiguous(memory_format=torch.channels_last)


def test_assigning_takes_weights_as_they_are(weights: dict[str, Tensor]) -> None:
    net = empty(SMALL)
    assign_weights(net, weights)
    for name, parameter in net.named_parameters():
        assert parameter.data_ptr() == weights[name].data_ptr()
        assert not parameter.requires_grad
    lacking = {name: value for name, value in weights.items() if name != "head.conv.bias"}
    with pytest.raises(KeyError, match=r"head\.conv\.bias"):
        assign_weights(empty(SMALL), lacking)
