"""Build the components of a toy STAR: train its small latent autoencoder, and draw its byte-level text encoder.

    python benchmarks/toy_components.py --config configs/nano.toml --data DIR --output DIR [--steps 3000]

Writes `toy-vae.safetensors` and `toy-text.safetensors`, and prints the reconstruction PSNR of training crops and the
standard deviation of the latents. The encoder's weights stay as they are drawn: what the network needs is that texts
differ.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from starvsr.models.autoencoder import TinyVAE
from starvsr.models.text import END, START, byte_letters
from starvsr.specs import TOY
from starvsr.train.config import PixelLossConfig, TrainConfig, read_config
from starvsr.train.data import StepSampler, TrainingClips, load_clips
from starvsr.train.pixel_losses import pixel_losses
from starvsr.train.sources import find_sources
from starvsr.zoo.components import COMPONENT_KEY, MERGES_KEY, VOCAB_KEY
from starvsr.zoo.tensorfile import write_tensors

VAE: dict[str, Any] = {
    "encoder_block_out_channels": [32, 32, 32],
    "num_encoder_blocks": [1, 1, 2],
    "decoder_block_out_channels": [32, 32, 32],
    "num_decoder_blocks": [2, 1, 1],
    "latent_channels": TOY.network.latent_channels,
}
LOSS = PixelLossConfig(kind="charbonnier", fft=0.02)
BATCH, CROP_PX, LR = 4, 64, 3e-3
NOISE = 0.05
"""Deviation of what is added to latents, beside their own: neighbours then decode to what is alike."""
LARGE = 1e-3
"""Weight of the latents' mean square, which keeps them in range."""


def truths(config: TrainConfig, data: Path, output: Path, steps: int) -> Iterator[Tensor]:
    """Crops of training clips without degradation, `b 3 t h w` in [-1, 1]."""
    clips = TrainingClips(config.data, find_sources(config.data.made, data), config.seed, output)
    for clip in load_clips(clips, StepSampler(range(steps), BATCH, BATCH), workers=0):
        yield rearrange(clip.truth[..., :CROP_PX, :CROP_PX] * 2 - 1, "b t c h w -> b c t h w")


def train_vae(config: TrainConfig, data: Path, output: Path, steps: int) -> None:
    """Train the autoencoder on frames, and write it."""
    torch.manual_seed(config.seed)
    vae = TinyVAE.build(VAE)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LR, total_steps=steps, pct_start=0.05, cycle_momentum=False
    )
    errors: list[float] = []
    for step, truth in enumerate(truths(config, data, output, steps)):
        z = vae.encode(rearrange(truth, "b c t h w -> (b t) c h w")).latents
        decoded = vae.decode(z + NOISE * z.detach().std() * torch.randn_like(z)).sample
        restored = rearrange(decoded, "(b t) c h w -> b c t h w", b=len(truth))
        optimizer.zero_grad()
        block = truth.shape[-1] // z.shape[-1]
        (pixel_losses(restored, truth, LOSS, block)["loss"] + LARGE * z.square().mean()).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        errors.append((restored.clamp(-1, 1) - truth).square().mean().item() / 4)
        if step % 50 == 49:
            psnr = -10 * math.log10(sum(errors[-50:]) / 50)
            print(f"step {step + 1}: {psnr:.2f} dB, latents' deviation {z.std():.3f}", flush=True)
    write(output / "toy-vae.safetensors", "autoencoder", vae.state_dict(), VAE, {})


def write_text_encoder(output: Path, seed: int) -> None:
    """CLIP's text tower at toy size, with a vocabulary of bytes and no merges."""
    from transformers import CLIPTextConfig, CLIPTextModel

    letters = byte_letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    config = {
        "vocab_size": len(words),
        "hidden_size": TOY.network.context_width,
        "intermediate_size": 2 * TOY.network.context_width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": TOY.context_tokens,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": len(words) - 2,
        "eos_token_id": len(words) - 1,
    }
    torch.manual_seed(seed)
    # Wider than usual: with the library's deviation of 0.02 attention would be the same everywhere.
    module = CLIPTextModel(CLIPTextConfig(**config, initializer_factor=5.0))
    state = {
        f"text_model.{name.removeprefix('text_model.')}": value
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }
    vocabulary = json.dumps({word: number for number, word in enumerate(words)})
    metadata = {VOCAB_KEY: vocabulary, MERGES_KEY: "#version: 0.2\n"}
    write(output / "toy-text.safetensors", "text_encoder", state, config, metadata)


def write(
    path: Path,
    kind: str,
    state: dict[str, Tensor],
    config: dict[str, Any],
    metadata: dict[str, str],
) -> None:
    """A component's file, in half precision."""
    tensors = {name: value.detach().half().contiguous() for name, value in state.items()}
    digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in tensors.values()))
    # Cached embeddings are identified by it.
    about = {"name": path.stem, "kind": kind, "source_sha256": digest.hexdigest(), "config": config}
    write_tensors(path, tensors, {COMPONENT_KEY: json.dumps(about, sort_keys=True), **metadata})
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    config = read_config(options.config)
    write_text_encoder(options.output, config.seed)
    train_vae(config, options.data, options.output, options.steps)


if __name__ == "__main__":
    main()
