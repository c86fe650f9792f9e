"""A small seeded STAR in the layout in which the weights are published, and in the layout we keep them in.

Everything that `download-weights` fetches for a real model exists here at toy size: the network's pickle under
`state_dict`, the autoencoder in half precision, CLIP with a vision tower that nobody needs and with its vocabulary.
Use `small_models` around whatever has to find the model by its name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor

from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.build import counted
from starvsr.models.unet import StarUNet
from starvsr.specs import COMPONENTS, SPECS, Component, SourceFile
from starvsr.types import AutoencoderSpec, ModelSpec, SizeRule, TextSpec, UNetConfig, WindowSpec
from starvsr.zoo.components import make_component
from starvsr.zoo.convert import to_published
from tests.golden.seeded_init import seeded_parameter, seeded_state_dict

SMALL_STAR = counted(
    ModelSpec(
        name="small-star",
        summary="STAR as published, at toy size, seeded weights",
        licence="MIT",
        network=UNetConfig(
            latent_channels=4,
            width=32,
            multipliers=(1, 2),
            residual_blocks=1,
            head_width=16,
            first_heads=2,
            context_width=32,
            attention_scales=(1.0, 0.5),
            control=True,
        ),
        autoencoder=AutoencoderSpec(
            kind="temporal_vae",
            factor=8,
            weights="small-vae",
            scaling_factor=0.18215,
            posterior="sample",
            chunk_frames=4,
            chunk_overlap=1,
            tile=16,
            tile_overlap=4,
        ),
        size_rule=SizeRule(multiple=2, height_remainder=0),
        min_size=(4, 4),
        start="noised",
        solver="dpmpp_2m_sde",
        noise_level=900,
        steps=15,
        cfg=7.5,
        cfg_rescale=0.2,
        upsampling="bilinear",
        color_fix="adain",
        windows=WindowSpec(
            chunk_frames=8, chunk_overlap=4, tile_height=12, tile_width=12, tile_overlap=4
        ),
        segment_frames=32,
        context_frames=2,
        context_tokens=77,
        text=TextSpec(
            weights="small-clip",
            prompt="a good video",
            prompt_suffix="Cinematic,   sharp.",
            negative_prompt="painting, blurring",
        ),
    )
)

_STAR, _VAE, _CLIP = "small/STAR", "small/video-diffusion", "small/CLIP"

SMALL_COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        Component(
            name="small-star",
            kind="network",
            summary=SMALL_STAR.summary,
            licence="MIT",
            sources=(SourceFile(_STAR, "I2VGen-XL-based/light_deg.pt"),),
        ),
        Component(
            name="small-vae",
            kind="autoencoder",
            summary="temporal autoencoder at toy size",
            licence="Stability AI Community License",
            sources=(
                SourceFile(_VAE, "vae/diffusion_pytorch_model.fp16.safetensors"),
                SourceFile(_VAE, "vae/config.json"),
            ),
            gated=True,
        ),
        Component(
            name="small-clip",
            kind="text_encoder",
            summary="CLIP at toy size",
            licence="MIT",
            sources=(
                SourceFile(
                    _CLIP,
                    "model.safetensors",
                    alternatives=(
                        SourceFile(_CLIP, "open_clip_model.safetensors"),
                        SourceFile(_CLIP, "open_clip_pytorch_model.bin"),
                    ),
                ),
                *(SourceFile(_CLIP, path) for path in ("config.json", "vocab.json", "merges.txt")),
            ),
        ),
    )
}

VAE_CONFIG: dict[str, Any] = {
    "_class_name": "AutoencoderKLTemporalDecoder",
    "_diffusers_version": "0.24.0.dev0",
    "block_out_channels": [32, 32, 32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "force_upcast": True,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 1,
    "out_channels": 3,
    "sample_size": 64,
    "scaling_factor": 0.18215,
}

_MERGES = ("i n", "a n", "e r", "o d</w>", "g o", "go od</w>", "in g</w>")


def _byte_letters() -> list[str]:
    """The letters that stand for bytes in byte-level vocabularies, in CLIP's order: printable ones first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(others))]


def vocabulary() -> dict[str, int]:
    """CLIP's vocabulary at toy size: bytes, bytes at the end of a word, merges, the two special tokens."""
    letters = _byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [merge.replace(" ", "") for merge in _MERGES]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: number for number, word in enumerate(words)}


def _clip_config() -> dict[str, Any]:
    """As transformers of the time wrote it."""
    size = len(vocabulary())
    text = {
        "hidden_act": "gelu",
        "hidden_size": 32,
        "intermediate_size": 64,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "projection_dim": 32,
        "vocab_size": size,
        "bos_token_id": size - 2,
        "eos_token_id": size - 1,
    }
    vision = {
        "hidden_act": "gelu",
        "hidden_size": 32,
        "image_size": 16,
        "intermediate_size": 64,
        "model_type": "clip_vision_model",
        "num_attention_heads": 2,
        "num_hidden_layers": 1,
        "patch_size": 8,
        "projection_dim": 32,
    }
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": 32,
        "text_config": text,
        "vision_config": vision,
    }


def published_network(spec: ModelSpec = SMALL_STAR, seed: int = 0) -> dict[str, Tensor]:
    """The seeded network under its published names."""
    with torch.device("meta"):
        shapes = to_published(StarUNet(spec.network).state_dict())
    return seeded_state_dict({name: tuple(tensor.shape) for name, tensor in shapes.items()}, seed)


def _seeded(like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        key: seeded_parameter(key, value.shape)
        for key, value in like.items()
        if value.is_floating_point()
    }


def open_clip_state() -> dict[str, Tensor]:
    """The seeded CLIP as open_clip names it, with a vision tower that nobody needs."""
    clip, layers = _clip_state(), range(_clip_config()["text_config"]["num_hidden_layers"])
    state = {
        "positional_embedding": clip["text_model.embeddings.position_embedding.weight"],
        "token_embedding.weight": clip["text_model.embeddings.token_embedding.weight"],
        "text_projection": clip["text_projection.weight"].T.contiguous(),
        "logit_scale": torch.tensor(4.6),
        "visual.conv1.weight": torch.zeros(32, 3, 8, 8),
        "visual.transformer.resblocks.0.ln_1.weight": torch.ones(32),
    }
    for leaf in ("weight", "bias"):
        state[f"ln_final.{leaf}"] = clip[f"text_model.final_layer_norm.{leaf}"]
        for number in layers:
            old, new = f"text_model.encoder.layers.{number}", f"transformer.resblocks.{number}"
            fused = [clip[f"{old}.self_attn.{part}_proj.{leaf}"] for part in "qkv"]
            state[f"{new}.attn.in_proj_{leaf}"] = torch.cat(fused)
            state[f"{new}.attn.out_proj.{leaf}"] = clip[f"{old}.self_attn.out_proj.{leaf}"]
            for norm in (1, 2):
                state[f"{new}.ln_{norm}.{leaf}"] = clip[f"{old}.layer_norm{norm}.{leaf}"]
            state[f"{new}.mlp.c_fc.{leaf}"] = clip[f"{old}.mlp.fc1.{leaf}"]
            state[f"{new}.mlp.c_proj.{leaf}"] = clip[f"{old}.mlp.fc2.{leaf}"]
    return state


def vae_state() -> dict[str, Tensor]:
    """The seeded autoencoder in half precision, as it is published."""
    with torch.device("meta"):
        network = TemporalVAE.build(VAE_CONFIG)
    return {key: value.half() for key, value in _seeded(network.state_dict()).items()}


def _clip_state() -> dict[str, Tensor]:
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        network = CLIPModel(CLIPConfig(**_clip_config()))
    # Files of the time hold the positions' numbers too.
    numbers = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    return {**_seeded(network.state_dict()), **numbers}


def write_published(folder: Path) -> None:
    """Write every published file as `folder/owner/repository/path`. The same bytes' worth each time, seeded."""
    for component in SMALL_COMPONENTS.values():
        for source in component.sources:
            (folder / source.repository / source.path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"state_dict": published_network()}, folder / _STAR / "I2VGen-XL-based" / "light_deg.pt"
    )
    vae, clip = folder / _VAE / "vae", folder / _CLIP
    save_file(vae_state(), vae / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    (vae / "config.json").write_text(json.dumps(VAE_CONFIG, indent=2))
    save_file(_clip_state(), clip / "model.safetensors", {"format": "pt"})
    (clip / "config.json").write_text(json.dumps(_clip_config(), indent=2))
    (clip / "vocab.json").write_text(json.dumps(vocabulary(), ensure_ascii=False), "utf-8")
    merges = "".join(f"{merge}\n" for merge in ("#version: 0.2", *_MERGES))
    (clip / "merges.txt").write_text(merges, "utf-8")


def sources_of(component: Component, folder: Path) -> dict[str, Path]:
    """The local file of each of a component's sources below what `write_published` was given."""
    return {source.path: folder / source.repository / source.path for source in component.sources}


@contextmanager
def small_models() -> Iterator[None]:
    """The product knows `SMALL_STAR` and its components by name, beside the real ones."""
    with ExitStack() as stack:
        stack.enter_context(patch.dict(SPECS, {SMALL_STAR.name: SMALL_STAR}))
        stack.enter_context(patch.dict(COMPONENTS, SMALL_COMPONENTS))
        yield


def install_small(folder: Path) -> Path:
    """Fill a weights folder with all components of `SMALL_STAR`, made from published files; gives the folder."""
    published = folder / ".published"
    write_published(published)
    with small_models():
        for component in SMALL_COMPONENTS.values():
            make_component(
                component,
                sources_of(component, published),
                folder / f"{component.name}.safetensors",
                source_sha256="0" * 64,
            )
    return folder
