"""A small seeded STAR on CogVideoX in the layout in which the weights are published, and in the layout we keep them in.

A SAT checkpoint with low-rank updates, CogVideoX's autoencoder, T5 in two files with its word pieces. Use
`small_cogvideox` around whatever has to find the model by its name.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from starvsr.models.build import build_network, counted
from starvsr.models.t5 import build_t5
from starvsr.specs import COMPONENTS, SPECS, Component, SourceFile
from starvsr.types import (
    AutoencoderSpec,
    CogVideoXConfig,
    ModelSpec,
    SizeRule,
    TextSpec,
    WindowSpec,
)
from starvsr.zoo.components import make_component
from starvsr.zoo.sat import to_sat
from tests.golden.seeded_init import seeded_parameter, seeded_state_dict
from tests.models.test_causal_vae import CONFIG as VAE_CONFIG
from tests.models.test_causal_vae import causal_vae_state
from tests.zoo.published import sources_of

SMALL_COGVIDEOX = counted(
    ModelSpec(
        name="small-cogvideox",
        summary="STAR on CogVideoX as published, at toy size, seeded weights",
        licence="CogVideoX License",
        network=CogVideoXConfig(
            latent_channels=4, layers=2, heads=2, head_width=16, time_width=16, context_width=24
        ),
        autoencoder=AutoencoderSpec(
            kind="causal_vae",
            factor=8,
            weights="small-causal-vae",
            scaling_factor=0.7,
            posterior="sample",
            tile=12,
            tile_overlap=4,
            time_factor=4,
        ),
        size_rule=SizeRule(multiple=2, height_remainder=0),
        min_size=(2, 2),
        start="noise",
        solver="vpsde_dpmpp_2m",
        schedule="scaled_linear_zero_snr",
        noise_level=1000,
        steps=50,
        cfg=6.0,
        cfg_dynamic=True,
        cfg_rescale=0.0,
        half="bf16",
        upsampling="bicubic",
        color_fix="adain",
        windows=WindowSpec(
            chunk_frames=3,
            chunk_overlap=1,
            tile_height=20,
            tile_width=24,
            tile_overlap=6,
            whole_tiles=True,
        ),
        segment_frames=17,
        context_frames=2,
        context_tokens=24,
        text=TextSpec(
            weights="small-t5", prompt="a good video", prompt_suffix="", negative_prompt=None
        ),
    )
)

SMALL_2B = CogVideoXConfig(
    latent_channels=4,
    layers=3,
    heads=3,
    head_width=16,
    time_width=16,
    context_width=24,
    rotary=False,
)
"""What a file published as the same model may contain."""

_STAR, _BASE = "small/STAR", "small/CogVideoX"
T5_FILES = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

SMALL_COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        Component(
            name="small-cogvideox",
            kind="network",
            summary=SMALL_COGVIDEOX.summary,
            licence="CogVideoX License",
            sources=(SourceFile(_STAR, "CogVideoX-5B-based/1/mp_rank_00_model_states.pt"),),
        ),
        Component(
            name="small-causal-vae",
            kind="autoencoder",
            summary="causal autoencoder at toy size",
            licence="CogVideoX License",
            sources=(
                SourceFile(_BASE, "vae/diffusion_pytorch_model.safetensors"),
                SourceFile(_BASE, "vae/config.json"),
            ),
        ),
        Component(
            name="small-t5",
            kind="text_encoder",
            summary="T5 at toy size",
            licence="Apache 2.0",
            sources=(
                *(SourceFile(_BASE, f"text_encoder/{name}") for name in T5_FILES),
                SourceFile(_BASE, "text_encoder/config.json"),
                SourceFile(_BASE, "tokenizer/spiece.model"),
            ),
        ),
    )
}

_WORDS = (
    "a good video of ants and bees in the morning",
    "a good dog sees a video of the other dog",
    "the painting of a morning is good and the bees are blurring",
)


def word_pieces() -> bytes:
    """A small `spiece.model` with T5's numbers of the special tokens."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_WORDS),
        model_writer=model,
        model_type="unigram",
        vocab_size=48,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return model.getvalue()


T5_CONFIG: dict[str, Any] = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 2,
    "num_heads": 3,
    "num_decoder_layers": 2,
    "vocab_size": 64,
    "feed_forward_proj": "gated-gelu",
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
    "torch_dtype": "float32",
}


def t5_state() -> dict[str, Tensor]:
    """Seeded parameters under their published names, the shared table once."""
    with torch.device("meta"):
        shapes = build_t5(T5_CONFIG).state_dict()
    shapes.pop("encoder.embed_tokens.weight")
    return {name: seeded_parameter(name, tuple(t.shape)) for name, t in shapes.items()}


def sat_checkpoint(
    config: CogVideoXConfig = SMALL_COGVIDEOX.network, rank: int = 4
) -> dict[str, Any]:
    """A seeded checkpoint's content as SAT writes it."""
    with torch.device("meta"):
        laid_out = to_sat(build_network(config).state_dict(), rank=rank)
    shapes = {f"model.diffusion_model.{name}": tuple(t.shape) for name, t in laid_out.items()}
    named = ("freqs_sin", "freqs_cos") if config.rotary else ("pos_embedding",)
    tables = {f"model.diffusion_model.mixins.pos_embed.{name}": torch.rand(9, 8) for name in named}
    # What else a training run writes.
    rest = {
        "iteration": 1,
        "random_rng_state": random.Random(0).getstate(),
        "np_rng_state": np.random.RandomState(0).get_state(),
        "torch_rng_state": torch.get_rng_state(),
        "param_shapes": [{name: torch.Size(shape) for name, shape in shapes.items()}],
        "sparse_tensor_module_names": set(),
        "ds_config": {"bf16": {"enabled": True}, "optimizer": None},
    }
    return {**rest, "module": {**seeded_state_dict(shapes), **tables}}


def write_published_cogvideox(
    folder: Path, network: CogVideoXConfig = SMALL_COGVIDEOX.network
) -> None:
    """Write every published file as `folder/owner/repository/path`. The same bytes' worth each time, seeded."""
    for component in SMALL_COMPONENTS.values():
        for source in component.sources:
            (folder / source.repository / source.path).parent.mkdir(parents=True, exist_ok=True)
    torch.save(
        sat_checkpoint(network), folder / _STAR / "CogVideoX-5B-based/1/mp_rank_00_model_states.pt"
    )
    base = folder / _BASE
    save_file(causal_vae_state(), base / "vae/diffusion_pytorch_model.safetensors")
    (base / "vae/config.json").write_text(json.dumps(VAE_CONFIG))
    state = t5_state()
    for number, name in enumerate(T5_FILES):
        part = {key: value for key, value in state.items() if (".block.1." in key) == bool(number)}
        save_file(part, base / "text_encoder" / name)
    (base / "text_encoder/config.json").write_text(json.dumps(T5_CONFIG))
    (base / "tokenizer/spiece.model").write_bytes(word_pieces())


@contextmanager
def small_cogvideox(spec: ModelSpec = SMALL_COGVIDEOX) -> Iterator[None]:
    """The product knows the model and its components by name, beside the real ones."""
    with ExitStack() as stack:
        stack.enter_context(patch.dict(SPECS, {spec.name: spec}))
        stack.enter_context(patch.dict(COMPONENTS, SMALL_COMPONENTS))
        yield


def install_small_cogvideox(
    folder: Path,
    components: Mapping[str, Component] = SMALL_COMPONENTS,
    network: CogVideoXConfig = SMALL_COGVIDEOX.network,
) -> Path:
    """Fill a weights folder with components made from published files; gives the folder."""
    published = folder / ".published"
    write_published_cogvideox(published, network)
    with small_cogvideox():
        for component in components.values():
            make_component(
                component,
                sources_of(component, published),
                folder / f"{component.name}.safetensors",
                source_sha256="0" * 64,
            )
    return folder
