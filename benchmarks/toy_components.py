"""Build the components of a toy STAR: a linear latent autoencoder, and a byte-level text encoder.

    python benchmarks/toy_components.py --config configs/toy.toml --data DIR --output RUN

Writes `toy-vae.safetensors` and `toy-text.safetensors`, and prints what the autoencoder keeps of the clips. Its latents
are principal components of blocks of pixels in the teacher's pictures. The text encoder's weights stay as they are
drawn: what the network needs is that texts differ. The bank of clips is built in RUN, where training with the same
configuration finds it.
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
import torch.nn.functional as F
from torch import Tensor

from starvsr.models.text import END, START, byte_letters
from starvsr.specs import TOY
from starvsr.train.config import TrainConfig, read_config
from starvsr.train.data import StepSampler, TrainingClips, load_clips
from starvsr.train.sources import find_sources
from starvsr.train.teacher import Teacher
from starvsr.zoo.components import COMPONENT_KEY, MERGES_KEY, VOCAB_KEY
from starvsr.zoo.tensorfile import write_tensors

BLOCKS: dict[str, Any] = {
    "factor": TOY.autoencoder.factor,
    "latent_channels": TOY.network.latent_channels,
}
EVENED = 0.5
"""How far the deviations of the components are made equal: at 0 they are those of the pixels, at 1 all are 1. At 0
noise drowns the fine ones; at 1 these weigh as much as the coarse ones."""


def taught(config: TrainConfig, base: Path, data: Path, output: Path) -> Iterator[Tensor]:
    """What the teacher makes of every clip of the bank, `t 3 h w` in [-1, 1]."""
    if config.data.bank is None or config.teacher is None:
        raise SystemExit("the configuration must have a bank and a teacher")
    teacher = Teacher(config.teacher, base, config.data.scale)
    sources = find_sources(config.data.made, data)
    clips = TrainingClips(config.data, sources, config.seed, output, teacher)
    for clip in load_clips(clips, StepSampler(range(config.data.bank.clips), 1, 1), workers=0):
        if clip.taught is None:
            raise SystemExit(
                "the teacher must restore every clip: leave out [teacher] degradations"
            )
        yield clip.taught[0] * 2 - 1


def principal_components(pictures: Iterator[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of blocks of pixels, flat: their mean, the components' deviations in descending order, and the components."""
    size = 3 * BLOCKS["factor"] ** 2
    count = 0
    sums, products = (torch.zeros(shape, dtype=torch.float64) for shape in (size, (size, size)))
    for clip in pictures:
        blocks = F.pixel_unshuffle(clip, BLOCKS["factor"]).movedim(1, -1).flatten(0, -2).double()
        count += len(blocks)
        sums += blocks.sum(0)
        products += blocks.T @ blocks
    mean = sums / count
    variances, vectors = torch.linalg.eigh(products / count - mean.outer(mean))
    return mean, variances.flip(0).clamp(min=0).sqrt(), vectors.flip(1).T


def write_autoencoder(pictures: Iterator[Tensor], output: Path) -> None:
    """Write the autoencoder of what is restored, and print what it leaves out."""
    mean, deviations, components = principal_components(pictures)
    kept = BLOCKS["latent_channels"]
    lost = deviations[kept:].square().sum() / len(deviations) / 4
    print(f"{kept} of {len(deviations)} components hold {-10 * math.log10(lost):.2f} dB")
    by, rows = deviations[:kept, None] ** -EVENED, components[:kept]
    shape = (kept, 3, BLOCKS["factor"], BLOCKS["factor"])
    # Blocks have the mean of their colour, except for what the components hold.
    rest = (mean - rows.T @ (rows @ mean)).reshape(3, -1).mean(1)
    state = {
        "encoder.weight": (by * rows).reshape(shape),
        "encoder.bias": -(by[:, 0] * (rows @ mean)),
        "decoder.weight": (rows / by).reshape(shape),
        "decoder.bias": rest,
    }
    write(output / "toy-vae.safetensors", "autoencoder", state, BLOCKS, {}, torch.float32)


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
    dtype: torch.dtype = torch.float16,
) -> None:
    """A component's file."""
    tensors = {name: value.detach().to(dtype).contiguous() for name, value in state.items()}
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
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    config = read_config(options.config)
    write_text_encoder(options.output, config.seed)
    pictures = taught(config, options.config.parent, options.data, options.output)
    write_autoencoder(pictures, options.output)


if __name__ == "__main__":
    main()
