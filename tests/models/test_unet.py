"""The network's door, sizes, variants, gradients and precision."""

from __future__ import annotations

import copy
import dataclasses
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from starvsr.models.layers import Branch
from starvsr.models.unet import StarUNet, UNetConfig
from tests.models.helpers import SMALL, TINY, relative_error, seeded_inputs, seeded_net

NANO_LIKE = UNetConfig(
    latent_channels=12,
    width=32,
    multipliers=(1, 2, 4),
    head_width=32,
    first_heads=1,
    context_width=32,
    attention_scales=(0.25,),
    control=False,
)


def count(net: StarUNet, part: str) -> int:
    """Modules of the network by the last part of their name."""
    return sum(name.split(".")[-1] == part for name, _ in net.named_modules())


def test_config_is_the_one_of_types() -> None:
    from starvsr import types

    assert UNetConfig is types.UNetConfig


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"multipliers": (1,), "attention_scales": (1.0,)}, (2, 5, 3)),
        ({"multipliers": (2, 1), "attention_scales": ()}, (2, 4, 4)),
        ({"multipliers": (1, 2, 2), "attention_scales": (1.0, 0.25)}, (2, 6, 8)),
        ({"multipliers": (1, 1, 1, 1, 2), "attention_scales": (0.0625,)}, (1, 18, 16)),
        ({"residual_blocks": 3, "width": 64, "head_width": 64}, (2, 4, 2)),
        ({"control": False, "latent_channels": 7}, (3, 4, 6)),
        ({"first_heads": 1}, (33, 4, 4)),
        ({"norm_groups": 4}, (2, 4, 6)),
        ({}, (40, 4, 4)),
    ],
)
def test_variants_run_and_keep_the_shape(
    changes: dict[str, Any], size: tuple[int, int, int]
) -> None:
    config = dataclasses.replace(TINY, **changes)
    net = seeded_net(config)
    inputs = seeded_inputs(config, size, batch=2)
    with torch.no_grad():
        out = net(*inputs)
        precise = copy.deepcopy(net).double()(
            *(tensor.double() if tensor is not None else None for tensor in inputs)
        )
    assert out.shape == inputs[0].shape
    assert out.is_contiguous()
    assert relative_error(out, precise) < 1e-5


@torch.no_grad()
def test_groups_of_several_channels_keep_the_size_of_each() -> None:
    """A norm of single channels gives the same for a brighter picture."""
    x = torch.rand(1, 1, 4, 6, 32)
    brighter = x + 3 * (torch.arange(32) == 5)
    for groups, kept in ((32, False), (4, True)):
        norm = StarUNet(dataclasses.replace(TINY, norm_groups=groups)).head.norm
        assert torch.allclose(norm(brighter), norm(x), atol=1e-3) is not kept


def test_attention_is_only_where_the_config_says() -> None:
    with torch.device("meta"):
        nano, full = StarUNet(NANO_LIKE), StarUNet(UNetConfig())
    # Two blocks of the encoder, three of the decoder, one in the middle; the stem has a temporal one as well.
    assert count(nano, "spatial") == 6
    assert count(nano, "temporal") == 6
    assert count(nano, "stem_temporal") == 1
    assert count(full, "spatial") == (6 + 9 + 1) + (6 + 1)
    assert sum(parameter.numel() for parameter in full.parameters()) == 2_041_121_910


def test_batch_items_do_not_see_each_other() -> None:
    net = seeded_net(TINY)
    x, t, context, hint = seeded_inputs(TINY, (3, 4, 6), batch=3)
    assert hint is not None
    with torch.no_grad():
        together = net(x, t, context, hint)
        alone = torch.cat(
            [net(x[i : i + 1], t[i : i + 1], context[i : i + 1], hint[i : i + 1]) for i in range(3)]
        )
    assert relative_error(together, alone) < 1e-5


def test_time_may_be_a_float(small_net: StarUNet, golden: dict[str, Tensor]) -> None:
    x, t, context, hint = (golden[f"one_frame.{name}"] for name in ("x", "t", "y", "hint"))
    with torch.no_grad():
        assert torch.equal(small_net(x, t, context, hint), small_net(x, t.float(), context, hint))


def test_inputs_are_left_alone() -> None:
    net = seeded_net(TINY)
    inputs = seeded_inputs(TINY, (2, 4, 4))
    before = [tensor.clone() for tensor in inputs if tensor is not None]
    with torch.no_grad():
        first = net(*inputs)
        assert torch.equal(net(*inputs), first)
    assert all(torch.equal(a, b) for a, b in zip(before, inputs, strict=True) if b is not None)


def test_bfloat16(small_net: StarUNet, golden: dict[str, Tensor]) -> None:
    net = copy.deepcopy(small_net).bfloat16()
    x, t, context, hint = (golden[f"traced.{name}"] for name in ("x", "t", "y", "hint"))
    with torch.no_grad():
        out = net(x.bfloat16(), t, context.bfloat16(), hint.bfloat16())
    assert out.dtype == torch.bfloat16
    assert relative_error(out, golden["traced.out64"]) < 4e-2


def test_cpu_run_does_not_import_xformers(small_net: StarUNet, golden: dict[str, Tensor]) -> None:
    with torch.no_grad():
        small_net(*(golden[f"one_frame.{name}"] for name in ("x", "t", "y", "hint")))
    assert "xformers" not in sys.modules


class TestDoor:
    """Inputs that do not fit are refused before anything is computed."""

    net = seeded_net(dataclasses.replace(TINY, multipliers=(1, 1, 1), attention_scales=(0.25,)))

    @pytest.mark.parametrize("rows", range(1, 15))
    @pytest.mark.parametrize("columns", range(1, 10))
    def test_sizes(self, rows: int, columns: int) -> None:
        inputs = seeded_inputs(self.net.config, (1, rows, columns))
        legal = rows % 4 == 2 and columns % 4 == 0
        if legal:
            with torch.no_grad():
                assert self.net(*inputs).shape == inputs[0].shape
        else:
            with pytest.raises(ValueError, match=f"{rows}x{columns}.*rows 2 modulo 4"):
                self.net(*inputs)

    @pytest.mark.parametrize(
        ("name", "wrong", "message"),
        [
            ("x", torch.zeros(1, 3, 2, 6, 4), r"x must be b 4 f h w, and is \(1, 3, 2, 6, 4\)"),
            ("x", torch.zeros(4, 2, 6, 4), "x must be b 4 f h w"),
            ("x", torch.zeros(1, 4, 0, 6, 4), "0 frames"),
            ("t", torch.tensor(5), "one time per batch item"),
            ("t", torch.tensor([5, 6]), "one time per batch item"),
            ("context", torch.zeros(2, 3, 24), "context must be 1 n 24"),
            ("context", torch.zeros(1, 3, 8), "context must be 1 n 24"),
            ("context", torch.zeros(1, 0, 24), "n >= 1"),
            ("hint", torch.zeros(1, 4, 1, 6, 4), "hint must have the shape of x"),
            ("hint", None, "needs a hint"),
        ],
    )
    def test_shapes(self, name: str, wrong: Tensor | None, message: str) -> None:
        x, t, context, hint = seeded_inputs(self.net.config, (2, 6, 4))
        given = {"x": x, "t": t, "context": context, "hint": hint} | {name: wrong}
        with pytest.raises(ValueError, match=message):
            self.net(**given)

    def test_superfluous_hint(self) -> None:
        config = dataclasses.replace(TINY, control=False)
        x, t, context, _ = seeded_inputs(config, (2, 4, 4))
        with pytest.raises(ValueError, match="takes no hint"):
            StarUNet(config)(x, t, context, x)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"width": 48}, "multiple of 32"),
            ({"norm_groups": 5}, "norm_groups 5 must be a divisor of 32"),
            ({"norm_groups": 0}, "norm_groups 0"),
            ({"multipliers": ()}, "at least one level"),
            ({"residual_blocks": 0}, "one residual block"),
            ({"attention_scales": (0.3,)}, "attention scale 0.3"),
            ({"head_width": 48}, "multiple of the head width"),
        ],
    )
    def test_configs(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            StarUNet(dataclasses.replace(TINY, **changes))


class TestTraining:
    """The same modules carry gradients."""

    def test_gradients_reach_every_parameter_and_are_right(self) -> None:
        net = seeded_net(TINY).double()
        x, t, context, hint = seeded_inputs(TINY, (3, 4, 6), batch=2)
        assert hint is not None
        inputs = (x.double(), t, context.double(), hint.double())

        def loss() -> Tensor:
            value: Tensor = net(*inputs).square().mean()
            return value

        torch.autograd.backward(loss())
        idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
        assert not idle
        # Along the gradient the loss must rise as the gradient says.
        slope = sum(p.grad.square().sum() for p in net.parameters() if p.grad is not None)
        step = 1e-6 / float(slope) ** 0.5
        values = []
        for sign in (1, -2):
            with torch.no_grad():
                for p in net.parameters():
                    assert p.grad is not None
                    p.add_(p.grad, alpha=sign * step)
            values.append(loss().item())
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(slope), rel=1e-5)

    def test_new_network_is_trainable_from_zero_exits(self) -> None:
        net = StarUNet(TINY)
        out = net(*seeded_inputs(TINY, (2, 4, 4)))
        assert not out.any()
        (out - 1).square().mean().backward()
        grad = net.head.conv.weight.grad
        assert grad is not None and bool(grad.any())


class TestSkipping:
    """Branches with a zero exit are left out, and nobody can tell."""

    def net_with_identities(self) -> tuple[StarUNet, int]:
        net = seeded_net(TINY)
        branches = [module for module in net.modules() if isinstance(module, Branch)][::2]
        for branch in branches:
            layer = branch.exit_layer()
            torch.nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            torch.nn.init.zeros_(layer.bias)
        return net, len(branches)

    def test_result_is_the_same_to_the_bit(self) -> None:
        net, zeros = self.net_with_identities()
        inputs = seeded_inputs(TINY, (3, 4, 6), batch=2)
        with torch.no_grad():
            before = net(*inputs)
            assert net.skip_identity_branches() == zeros
            assert torch.equal(net(*inputs), before)

    def test_skipped_branches_are_not_computed(self) -> None:
        net, _ = self.net_with_identities()
        net.skip_identity_branches()
        called = []
        for branch in net.modules():
            if isinstance(branch, Branch):
                branch.exit_layer().register_forward_hook(
                    lambda layer, _inputs, _result: called.append(bool(layer.weight.any()))
                )
        with torch.no_grad():
            net(*seeded_inputs(TINY, (2, 4, 4)))
        assert called and all(called)

    def test_a_bias_alone_keeps_a_branch(self) -> None:
        net = seeded_net(TINY)
        torch.nn.init.zeros_(net.encoder.stem_temporal.exit.weight)
        assert net.skip_identity_branches() == 0

    def test_zero_exits_still_learn(self) -> None:
        net, _ = self.net_with_identities()
        net.skip_identity_branches()
        net(*seeded_inputs(TINY, (2, 4, 4))).sum().backward()
        assert all(p.grad is not None for p in net.parameters())

    def test_loading_weights_undoes_it(self) -> None:
        net, _ = self.net_with_identities()
        net.skip_identity_branches()
        other = seeded_net(TINY, seed=1)
        net.load_state_dict(other.state_dict())
        inputs = seeded_inputs(TINY, (2, 4, 4))
        with torch.no_grad():
            assert torch.equal(net(*inputs), other(*inputs))


def test_kernels_are_channels_last_however_they_are_loaded() -> None:
    state = {name: tensor.contiguous() for name, tensor in seeded_net(TINY).state_dict().items()}
    with torch.device("meta"):
        net = StarUNet(TINY)
    net.load_state_dict(state, assign=True)
    kernels = [p for p in net.parameters() if p.ndim == 4]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_small_config_is_the_published_shape() -> None:
    with torch.device("meta"):
        assert len(StarUNet(SMALL).state_dict()) == 2247


@pytest.mark.parametrize("multipliers", [(1,), (1, 2), (1, 2, 2, 4, 4)])
def test_any_number_of_levels_with_the_default_attention(multipliers: tuple[int, ...]) -> None:
    """The default attention scales go down to 1/4, and networks need not."""
    config = UNetConfig(
        latent_channels=4,
        width=32,
        multipliers=multipliers,
        head_width=16,
        first_heads=2,
        context_width=8,
    )
    side = 2 ** (len(multipliers) - 1)
    x = torch.randn(1, 4, 2, 2 % side + 2 * side, 2 * side)
    with torch.inference_mode():
        v = StarUNet(config)(x, torch.tensor([5]), torch.randn(1, 3, 8), x)
    assert v.shape == x.shape
