"""STAR's CogVideoX network: against diffusers' without LIEM, and against plain equations with it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from starvsr.models.attention import Backend
from starvsr.models.cogvideox import GatedAttention, StarCogVideoX, rotary_turns
from starvsr.models.liem import FrameGate, SpatialGate
from starvsr.types import CogVideoXConfig
from tests.golden.seeded_init import fill_module, seeded_input
from tests.models.helpers import relative_error

SMALL = CogVideoXConfig(
    latent_channels=4, layers=3, heads=2, head_width=32, time_width=16, context_width=12
)
ADDED = dataclasses.replace(SMALL, rotary=False)
GRIDS = [(1, 2, 2), (3, 6, 10), (2, 10, 4)]


def seeded(config: CogVideoXConfig = SMALL) -> StarCogVideoX:
    network = StarCogVideoX(config).eval()
    fill_module(network, 0)
    return network


def inputs(size: tuple[int, int, int], batch: int = 1) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, t, the text's context, hint."""
    shape = (batch, SMALL.latent_channels, *size)
    return (
        seeded_input("x", shape),
        torch.tensor([999, 19])[:batch],
        seeded_input("y", (batch, 5, SMALL.context_width)),
        seeded_input("hint", shape),
    )


def call(network: StarCogVideoX, x: Tensor, t: Tensor, context: Tensor, hint: Tensor) -> Tensor:
    out: Tensor = network(x, t, network.embed(context), network.see(hint))
    return out


def diffusers_output(
    network: StarCogVideoX, x: Tensor, t: Tensor, y: Tensor, hint: Tensor
) -> Tensor:
    """diffusers' whole transformer and its own table of places, with the network's parameters."""
    import diffusers
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    library: Any = diffusers
    model = library.CogVideoXTransformer3DModel(
        num_attention_heads=SMALL.heads,
        attention_head_dim=SMALL.head_width,
        in_channels=2 * SMALL.latent_channels,
        out_channels=SMALL.latent_channels,
        time_embed_dim=SMALL.time_width,
        text_embed_dim=SMALL.context_width,
        num_layers=SMALL.layers,
        norm_eps=1e-6,
        max_text_seq_length=y.shape[1],
        use_rotary_positional_embeddings=network.config.rotary,
    ).eval()
    state = {k: v for k, v in network.state_dict().items() if ".processor." not in k}
    model.load_state_dict(state)
    frames, rows, columns = x.shape[2], x.shape[3] // 2, x.shape[4] // 2
    places = get_3d_rotary_pos_embed(
        SMALL.head_width, ((0, 0), (rows, columns)), (rows, columns), frames
    )
    both = rearrange(torch.cat([x, hint], 1), "b c f h w -> b f c h w")
    out = model(both, y, t, image_rotary_emb=places if network.config.rotary else None).sample
    video: Tensor = rearrange(out, "b f c h w -> b c f h w")
    return video


@pytest.mark.parametrize("size", GRIDS)
@pytest.mark.parametrize("config", [SMALL, ADDED], ids=["5B", "2B"])
@torch.no_grad()
def test_without_liem_it_is_diffusers_transformer(
    config: CogVideoXConfig, size: tuple[int, int, int]
) -> None:
    network = seeded(dataclasses.replace(config, liem=False))
    given = inputs(size, batch=2)
    assert relative_error(call(network, *given), diffusers_output(network, *given)) < 1e-5


@torch.no_grad()
def test_open_gates_are_no_liem() -> None:
    with_gates, without = seeded(), seeded(dataclasses.replace(SMALL, liem=False))
    given = inputs((3, 6, 10))
    plain = call(without, *given)
    assert relative_error(call(with_gates, *given), plain) > 1e-2
    for gate in with_gates.modules():
        if isinstance(gate, (SpatialGate, FrameGate)):
            # At a weight of 1e4 for the largest channel, which is above zero, sigmoid gives 1.
            gate.weight.zero_()
            gate.weight[(0, 0) if isinstance(gate, FrameGate) else (0, 0, 3, 3)] = 1e4
    assert relative_error(call(with_gates, *given), plain) < 1e-5


class Plain:
    """The network written down again from its description, one token sequence and no module of ours or diffusers'."""

    def __init__(self, network: StarCogVideoX) -> None:
        self.state = {name: value.double() for name, value in network.state_dict().items()}
        self.config = network.config

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps=1e-6)

    def time(self, t: int) -> Tensor:
        half = self.config.width // 2
        angles = torch.tensor([t * 10000 ** (-i / half) for i in range(half)], dtype=torch.float64)
        embedded = torch.cat([angles.cos(), angles.sin()])
        hidden = F.silu(self.linear("time_embedding.linear_1", embedded))
        return self.linear("time_embedding.linear_2", hidden)

    def liem(self, name: str, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        frames, rows, columns = grid
        planes = x.reshape(frames, rows, columns, -1).permute(0, 3, 1, 2)
        features = torch.cat([planes.amax(1, keepdim=True), planes.mean(1, keepdim=True)], 1)
        planes = planes * torch.sigmoid(
            F.conv2d(features, self.state[f"{name}.space.weight"], padding=3)
        )
        tokens = planes.permute(2, 3, 0, 1)
        features = torch.stack([tokens.amax(-1), tokens.mean(-1)], -1)
        tokens = tokens * torch.sigmoid(F.linear(features, self.state[f"{name}.time.weight"]))
        return tokens.permute(2, 0, 1, 3).reshape(x.shape)

    def turned(self, x: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Each pair of channels as a complex number, turned by its place's angle."""
        d = x.shape[-1]
        out = x.clone()
        for index in range(len(x)):
            t, rest = divmod(index, grid[1] * grid[2])
            h, w = divmod(rest, grid[2])
            angles = [
                place * 10000 ** (-2 * i / width)
                for place, width in ((t, d // 4), (h, 3 * d // 8), (w, 3 * d // 8))
                for i in range(width // 2)
            ]
            for pair, angle in enumerate(angles):
                a, b = x[index, 2 * pair], x[index, 2 * pair + 1]
                out[index, 2 * pair] = a * math.cos(angle) - b * math.sin(angle)
                out[index, 2 * pair + 1] = b * math.cos(angle) + a * math.sin(angle)
        return out

    def placed(self, image: Tensor, grid: tuple[int, int, int]) -> Tensor:
        """Of a place's waves: those of the frame, then of the column and of the row, 1.875 to a step."""
        c = image.shape[-1]
        waves = []
        for index in range(len(image)):
            t, rest = divmod(index, grid[1] * grid[2])
            h, w = divmod(rest, grid[2])
            row: list[float] = []
            for place, width in ((t, c // 4), (w / 1.875, 3 * c // 8), (h / 1.875, 3 * c // 8)):
                angles = [place * 10000 ** (-2 * i / width) for i in range(width // 2)]
                row += [*map(math.sin, angles), *map(math.cos, angles)]
            waves.append(row)
        return image + torch.tensor(waves, dtype=torch.float64)

    def attend(self, name: str, tokens: Tensor, m: int, grid: tuple[int, int, int]) -> Tensor:
        d, heads = self.config.head_width, []
        q, k, v = (self.linear(f"{name}.to_{part}", tokens) for part in "qkv")
        for head in range(self.config.heads):
            own = slice(head * d, (head + 1) * d)
            turned = []
            for part, norm in ((q, "norm_q"), (k, "norm_k")):
                normed = self.norm(f"{name}.{norm}", part[:, own])
                image = self.turned(normed[m:], grid) if self.config.rotary else normed[m:]
                turned.append(torch.cat([normed[:m], image]))
            weights = torch.softmax(turned[0] @ turned[1].T / math.sqrt(d), dim=-1)
            heads.append(weights @ v[:, own])
        return self.linear(f"{name}.to_out.0", torch.cat(heads, -1))

    def block(
        self, name: str, image: Tensor, text: Tensor, time: Tensor, grid: tuple[int, int, int]
    ) -> tuple[Tensor, Tensor]:
        m = len(text)
        shift, scale, gate, text_shift, text_scale, text_gate = self.linear(
            f"{name}.norm1.linear", F.silu(time)
        ).chunk(6)
        normed = self.norm(f"{name}.norm1.norm", image) * (1 + scale) + shift
        normed_text = self.norm(f"{name}.norm1.norm", text) * (1 + text_scale) + text_shift
        gated = self.liem(f"{name}.attn1.processor", normed, grid)
        mixed = self.attend(f"{name}.attn1", torch.cat([normed_text, gated]), m, grid)
        image, text = image + gate * mixed[m:], text + text_gate * mixed[:m]
        shift, scale, gate, text_shift, text_scale, text_gate = self.linear(
            f"{name}.norm2.linear", F.silu(time)
        ).chunk(6)
        normed = self.norm(f"{name}.norm2.norm", image) * (1 + scale) + shift
        normed_text = self.norm(f"{name}.norm2.norm", text) * (1 + text_scale) + text_shift
        hidden = self.linear(f"{name}.ff.net.0.proj", torch.cat([normed_text, normed]))
        mixed = self.linear(f"{name}.ff.net.2", F.gelu(hidden, approximate="tanh"))
        return image + gate * mixed[m:], text + text_gate * mixed[:m]

    def __call__(self, x: Tensor, t: int, y: Tensor, hint: Tensor) -> Tensor:
        """x, hint: `c f h w`; y: `m k`."""
        frames, rows, columns = x.shape[1:]
        grid = frames, rows // 2, columns // 2
        video = torch.cat([x, hint]).double().permute(1, 0, 2, 3)
        weight, bias = (self.state[f"patch_embed.proj.{part}"] for part in ("weight", "bias"))
        patches = F.conv2d(video, weight, bias, stride=2)
        image = patches.permute(0, 2, 3, 1).reshape(math.prod(grid), -1)
        image = image if self.config.rotary else self.placed(image, grid)
        text, time = self.linear("patch_embed.text_proj", y.double()), self.time(t)
        for number in range(self.config.layers):
            image, text = self.block(f"transformer_blocks.{number}", image, text, time, grid)
        shift, scale = self.linear("norm_out.linear", F.silu(time)).chunk(2)
        image = self.norm("norm_out.norm", self.norm("norm_final", image)) * (1 + scale) + shift
        patches = self.linear("proj_out", image).reshape(*grid, -1, 2, 2)
        return patches.permute(3, 0, 1, 4, 2, 5).reshape(x.shape)


@pytest.mark.parametrize("config", [SMALL, ADDED], ids=["5B", "2B"])
@torch.no_grad()
def test_with_liem_it_is_what_the_description_says(config: CogVideoXConfig) -> None:
    network, (x, t, y, hint) = seeded(config), inputs((3, 6, 10), batch=2)
    plain = Plain(network)
    wanted = torch.stack([plain(x[i], int(t[i]), y[i], hint[i]) for i in range(2)])
    assert relative_error(call(network, x, t, y, hint), wanted) < 1e-5


def test_full_size() -> None:
    with torch.device("meta"):
        network = StarCogVideoX(CogVideoXConfig())
    sizes = {name: value.numel() for name, value in network.named_parameters()}
    gates = sum(size for name, size in sizes.items() if ".processor." in name)
    assert (sum(sizes.values()) - gates, gates) == (5_570_479_680, 4_200)


def test_full_size_of_2b() -> None:
    import diffusers

    library: Any = diffusers
    with torch.device("meta"):
        ours = StarCogVideoX(CogVideoXConfig(layers=30, heads=30, rotary=False)).state_dict()
        # Its defaults are CogVideoX-2B's, but for the hint's channels.
        theirs = library.CogVideoXTransformer3DModel(in_channels=32, norm_eps=1e-6).state_dict()
    plain = {name: value.shape for name, value in ours.items() if ".processor." not in name}
    assert plain == {name: value.shape for name, value in theirs.items()}
    assert len(ours) - len(plain) == 60


def test_a_larger_grid_counts_on() -> None:
    small, large = (rotary_turns((2, 3, columns), 32, torch.device("cpu")) for columns in (4, 7))
    for a, b in zip(small, large, strict=True):
        assert torch.equal(a.view(2, 3, 4, 16), b.view(2, 3, 7, 16)[:, :, :4])


@torch.no_grad()
def test_the_backend_is_that_of_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    network, seen = seeded(), []

    def noted(q: Tensor, k: Tensor, v: Tensor, backend: Backend) -> Tensor:
        seen.append(backend)
        return v

    monkeypatch.setattr("starvsr.models.cogvideox.attention", noted)
    network.use_attention(Backend.XFORMERS)
    call(network, *inputs((1, 2, 2)))
    assert seen == [Backend.XFORMERS] * SMALL.layers
    assert sum(isinstance(m, GatedAttention) for m in network.modules()) == SMALL.layers


@torch.no_grad()
def test_half_precision_is_close() -> None:
    network, (x, t, y, hint) = seeded(), inputs((3, 6, 10))
    exact = call(network, x, t, y, hint)
    half = call(network.bfloat16(), x.bfloat16(), t, y.bfloat16(), hint.bfloat16())
    assert half.dtype == torch.bfloat16
    assert relative_error(half, exact) < 3e-2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(1, 3, 1, 2, 2)}, "x must be b 4 f h w"),
        ({"x": torch.zeros(1, 4, 1, 3, 2)}, "multiples of 2; pad it first"),
        ({"t": torch.zeros(2)}, "one time per batch item"),
        ({"context": torch.zeros(1, 5, 12)}, "context must be 1 n 64"),
        ({"hint": torch.zeros(1, 4, 1, 2, 2)}, "hint must be what `see` returns"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Tensor], message: str) -> None:
    x = torch.zeros(1, 4, 1, 2, 2)
    context, hint = torch.zeros(1, 5, 64), torch.zeros(1, 64, 1, 1)
    given = {"x": x, "t": torch.zeros(1), "context": context, "hint": hint} | change
    with pytest.raises(ValueError, match=message):
        seeded()(**given)


def test_other_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 16"):
        StarCogVideoX(dataclasses.replace(SMALL, head_width=24))
    with pytest.raises(ValueError, match="context must be b n 12"):
        seeded().embed(torch.zeros(1, 5, 13))
    with pytest.raises(ValueError, match="hint must be b 4 f h w"):
        seeded().see(torch.zeros(1, 8, 1, 2, 2))
