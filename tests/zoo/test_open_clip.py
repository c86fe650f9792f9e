"""CLIP's text tower under open_clip's names is the same network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from starvsr.errors import WeightsError
from starvsr.zoo.components import make_component
from starvsr.zoo.open_clip import from_open_clip, is_open_clip
from starvsr.zoo.text import load_encoder
from tests.zoo.published import SMALL_COMPONENTS, open_clip_state, sources_of

CLIP = SMALL_COMPONENTS["small-clip"]
HEADS = 2


def plainly(state: dict[str, Tensor], ids: Tensor) -> Tensor:
    """The tower up to its last layer but one, then its final norm, from torch's own modules under open_clip's names."""
    width = state["positional_embedding"].shape[1]
    x = state["token_embedding.weight"][ids] + state["positional_embedding"]
    mask = torch.full((len(ids), len(ids)), float("-inf")).triu(1)

    def norm(name: str, value: Tensor) -> Tensor:
        return F.layer_norm(value, (width,), state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(name: str, value: Tensor) -> Tensor:
        return F.linear(value, state[f"{name}.weight"], state[f"{name}.bias"])

    for number in range(2):
        block = f"transformer.resblocks.{number}"
        attention = nn.MultiheadAttention(width, HEADS)
        inside = {
            n.removeprefix(f"{block}.attn."): t
            for n, t in state.items()
            if n.startswith(f"{block}.attn.")
        }
        attention.load_state_dict(inside)
        y = norm(f"{block}.ln_1", x)
        x = x + attention(y, y, y, attn_mask=mask, need_weights=False)[0]
        x = x + linear(
            f"{block}.mlp.c_proj", F.gelu(linear(f"{block}.mlp.c_fc", norm(f"{block}.ln_2", x)))
        )
    return norm("ln_final", x)


@torch.no_grad()
@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_the_tower_is_that_of_plain_equations(published: Path, tmp_path: Path, name: str) -> None:
    state, path = open_clip_state(), tmp_path / name
    torch.save(state, path) if name.endswith(".bin") else save_file(state, path)
    target = tmp_path / "clip.safetensors"
    sources = {**sources_of(CLIP, published), "model.safetensors": path}
    make_component(CLIP, sources, target, source_sha256="")
    encoder = load_encoder(target)
    ids = torch.tensor(encoder.tokenizer("a good video", 77))
    torch.testing.assert_close(
        encoder("a good video", 77)[0], plainly(state, ids), rtol=1e-5, atol=1e-5
    )


def test_the_rest_of_clip_is_left_out() -> None:
    state = open_clip_state()
    assert is_open_clip(state)
    tower = from_open_clip(state)
    assert not any("visual" in name or "projection" in name for name in tower)
    assert not is_open_clip(tower)
    fused = state["transformer.resblocks.0.attn.in_proj_weight"]
    part = tower["text_model.encoder.layers.0.self_attn.k_proj.weight"]
    assert part.data_ptr() == fused[32:].data_ptr()


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        ("transformer.resblocks.1.attn.in_proj_weight", torch.zeros(95, 32), "instead of (32, 32)"),
        ("transformer.resblocks.1.adapter.weight", torch.zeros(2), "adapter.weight is unexpected"),
        ("transformer.extra", torch.zeros(2), "transformer.extra is unexpected"),
        ("ln_final.bias", None, "text_model.final_layer_norm.bias is missing"),
    ],
)
def test_every_key_of_the_tower_is_accounted_for(
    published: Path, tmp_path: Path, name: str, tensor: Tensor | None, words: str
) -> None:
    state = {**open_clip_state(), name: tensor}
    path = tmp_path / "open_clip_model.safetensors"
    save_file({key: value for key, value in state.items() if value is not None}, path)
    sources = {**sources_of(CLIP, published), "model.safetensors": path}
    with pytest.raises(WeightsError) as caught:
        make_component(CLIP, sources, tmp_path / "clip.safetensors", source_sha256="")
    assert words in str(caught.value)
