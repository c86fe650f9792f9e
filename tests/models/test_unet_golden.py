"""The network computes what upstream's does: outputs, control outputs and the trace of every block."""

from __future__ import annotations

import json

import pytest
import torch
from einops import rearrange
from safetensors import safe_open
from torch import Tensor, nn

from starvsr.models.unet import StarUNet
from tests.models.helpers import GOLDEN, load_golden, relative_error

TOLERANCE = 1e-5
CASES = ("one_frame", "traced", "batch2", "eight_frames")
PARTS = ("residual", "spatial", "temporal")


def run(net: StarUNet, golden: dict[str, Tensor], case: str) -> Tensor:
    """The network's output on one recorded case."""
    with torch.no_grad():
        out: Tensor = net(*(golden[f"{case}.{name}"] for name in ("x", "t", "y", "hint")))
    return out


@pytest.mark.parametrize("case", CASES)
def test_output_is_the_recorded_one(
    small_net: StarUNet, golden: dict[str, Tensor], case: str
) -> None:
    out = run(small_net, golden, case)
    assert relative_error(out, golden[f"{case}.out"]) < TOLERANCE
    assert relative_error(out, golden[f"{case}.out64"]) < TOLERANCE


def test_autograd_computes_the_same(small_net: StarUNet, golden: dict[str, Tensor]) -> None:
    x = golden["traced.x"].clone().requires_grad_()
    out = small_net(x, *(golden[f"traced.{name}"] for name in ("t", "y", "hint")))
    assert relative_error(out.detach(), golden["traced.out"]) < TOLERANCE


def test_control_outputs_are_the_recorded_ones(
    small_net: StarUNet, golden: dict[str, Tensor]
) -> None:
    assert small_net.control is not None
    outputs: list[Tensor] = []
    handle = small_net.control.register_forward_hook(
        lambda _module, _inputs, result: outputs.extend(part.clone() for part in result)
    )
    run(small_net, golden, "traced")
    handle.remove()
    assert len(outputs) == 13
    for number, output in enumerate(outputs):
        wanted = golden[f"traced.control.{number}"]
        assert relative_error(rearrange(output, "b f h w c -> (b f) c h w"), wanted) < TOLERANCE


def our_place(published: str) -> str:
    """Our module for a module of the published network with two residual blocks a level."""
    if published.startswith("VideoControlNet."):
        return f"control.{our_place(published.removeprefix('VideoControlNet.'))}"
    if published in ("time_embed", "input_hint_block"):
        return {"time_embed": "time_embedding", "input_hint_block": "hint"}[published]
    name, *numbers = published.split(".")
    first, part = int(numbers[0]), int(numbers[1]) if numbers[1:] else None
    if name == "middle_block":
        return "middle.exit" if first == 3 else f"middle.entry.{PARTS[first]}"
    if name == "input_blocks" and first == 0:
        return "encoder.stem_temporal" if part == 1 else "encoder.stem"
    if name == "input_blocks":
        level, block = divmod(first - 1, 3)
        place = "down" if part is None else f"blocks.{block}.{PARTS[part]}"
        return f"encoder.levels.{level}.{place}"
    level, block = divmod(first, 3)
    assert part is not None
    is_up = part == 3 or (first == 2 and part == 1)
    return f"decoder.levels.{level}." + ("up" if is_up else f"blocks.{block}.{PARTS[part]}")


def load_trace() -> tuple[dict[str, Tensor], dict[str, list[int]], int]:
    """Of each block's recorded output, by name: every n-th value; its shape; and n."""
    path = GOLDEN / "unet_small_trace.safetensors"
    with safe_open(path, "pt") as file:
        about = file.metadata()
    shapes = json.loads(about["shapes"])
    trace = load_golden("unet_small_trace")
    return (
        {name.removeprefix("traced.trace."): values for name, values in trace.items()},
        {name.removeprefix("traced.trace."): shape for name, shape in shapes.items()},
        int(about["every"]),
    )


def test_every_block_of_the_trace(small_net: StarUNet, golden: dict[str, Tensor]) -> None:
    trace, shapes, every = load_trace()
    seen: dict[str, Tensor] = {}

    def record(published: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        # A later layer may take the result over, so keep a copy.
        return module.register_forward_hook(
            lambda _module, _inputs, result: seen.__setitem__(published, result.clone())
        )

    handles = [record(name, small_net.get_submodule(our_place(name))) for name in trace]
    run(small_net, golden, "traced")
    for handle in handles:
        handle.remove()
    assert seen.keys() == trace.keys()
    wrong = {}
    for name, wanted in trace.items():
        got = seen[name]
        if len(shapes[name]) == 4:
            got = rearrange(got, "b f h w c -> (b f) c h w")
        elif len(shapes[name]) == 5:
            got = rearrange(got, "b f h w c -> b c f h w")
        assert list(got.shape) == shapes[name]
        error = relative_error(got.flatten()[::every], wanted)
        if error >= TOLERANCE:
            wrong[name] = error
    assert not wrong
