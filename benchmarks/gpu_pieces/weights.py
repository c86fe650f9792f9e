"""Full-size weights without a download: drawn on the device, and those of the golden runs to the bit."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from tests.zoo.published import SMALL_STAR
from tests.zoo.published import VAE_CONFIG as SMALL_VAE
from torch import Tensor

from gpu_pieces.setting import DTYPES, Setting
from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.build import counted, empty_network
from starvsr.models.causal_vae import CausalVAE
from starvsr.models.network import VideoNetwork
from starvsr.models.offload import assign_weights, placed
from starvsr.specs import STAR_LIGHT
from starvsr.types import ModelSpec, NetworkConfig
from starvsr.zoo.components import COMPONENT_KEY
from starvsr.zoo.load import LoadedModel, load_model, save_model
from starvsr.zoo.tensorfile import write_tensors

VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "layers_per_block": 2,
}
"""Of Stable Video Diffusion's autoencoder, as published."""

Coder = TypeVar("Coder", TemporalVAE, CausalVAE)

_WRAP = 1 << 64
_MASK = _WRAP - 1


def star(setting: Setting) -> ModelSpec:
    """The model that is measured: star-light, its context zeros, so that no text encoder is needed."""
    spec = setting.pick(STAR_LIGHT, SMALL_STAR)
    return dataclasses.replace(spec, name="seeded-star", text=None)


def vae_config(setting: Setting) -> Mapping[str, Any]:
    """Of its autoencoder."""
    return setting.pick(VAE, SMALL_VAE)


# Tensors that are made in inference mode cannot become weights that move between devices.
outside_inference = torch.inference_mode(False)


def drawn(name: str, shape: Sequence[int], device: torch.device, dtype: torch.dtype) -> Tensor:
    """A parameter that keeps the deviation of what it is applied to, seeded by its name."""
    generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
    middle, spread = 0.0, 0.1
    if len(shape) > 1:
        spread = math.sqrt(3 / math.prod(shape[1:]))
    elif name.endswith("weight"):
        middle = 1.0
    numbers = torch.empty(tuple(shape), device=device)
    numbers.uniform_(middle - spread, middle + spread, generator=generator)
    return numbers.to(dtype)


@outside_inference
def drawn_network(config: NetworkConfig, device: torch.device, dtype: torch.dtype) -> VideoNetwork:
    """A network on the device, ready to run."""
    network = empty_network(config).eval()
    shapes = {name: parameter.shape for name, parameter in network.named_parameters()}
    assign_weights(
        network,
        {
            name: placed(drawn(name, shape, device, dtype), device, dtype)
            for name, shape in shapes.items()
        },
    )
    return network


@outside_inference
def drawn_vae(
    kind: type[Coder],
    config: Mapping[str, Any],
    device: torch.device,
    dtype: torch.dtype,
) -> Coder:
    """An autoencoder on the device, ready to run."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in kind.build(config).state_dict().items()}
    state = {name: drawn(name, shape, device, dtype) for name, shape in shapes.items()}
    return kind.from_state(config, state, 0.18215, device, dtype)


@outside_inference
def star_file(setting: Setting) -> Path:
    """A model file of `star`, with its autoencoder beside it, both in half precision; made once."""
    spec = counted(star(setting))
    path = setting.folder / f"{spec.name}.safetensors"
    if not path.exists():
        half, device = torch.float16, setting.device
        with torch.device("meta"):
            vae = TemporalVAE.build(vae_config(setting)).state_dict()
        about = {
            "name": spec.autoencoder.weights,
            "kind": "autoencoder",
            "source_sha256": "0" * 64,
            "config": dict(vae_config(setting)),
        }
        write_tensors(
            setting.folder / f"{spec.autoencoder.weights}.safetensors",
            {name: drawn(name, like.shape, device, half).cpu() for name, like in vae.items()},
            {COMPONENT_KEY: json.dumps(about)},
        )
        shapes = empty_network(spec.network).named_parameters()
        save_model(
            path, spec, {name: drawn(name, p.shape, device, half).cpu() for name, p in shapes}
        )
    return path


@outside_inference
def loaded_star(setting: Setting, precision: str, **options: Any) -> LoadedModel:
    """`star` as a job loads it; options: of `load_model`. The last one is kept."""
    key = repr((precision, sorted(options.items())))
    if setting.kept.get("key") != key:
        setting.release()
        setting.kept["model"] = load_model(
            str(star_file(setting)),
            device=str(setting.device),
            precision=precision,  # type: ignore[arg-type]
            **options,
        )
        setting.kept["key"] = key
    model: LoadedModel = setting.kept["model"]
    return model


def golden_parameter(key: str, shape: Sequence[int], device: torch.device) -> Tensor:
    """`seeded_parameter` of the golden runs, bit for bit, computed on the device."""
    shape = tuple(shape)
    r = _unit_noise(key, math.prod(shape), device)
    # As a tensor: a number would be turned into a factor, which rounds differently.
    root = torch.tensor(math.sqrt(math.prod(shape[1:])), dtype=torch.float64, device=device)
    if ".local1." in key or ".local2." in key:
        values = (r * 0.7 / root).reshape(shape)
        values[(0, 0, *(n // 2 for n in shape[2:]))] -= 2.0
    elif len(shape) >= 2:
        values = r / root
    elif key.endswith(".weight"):
        values = r * 0.1 + 1.0
    else:
        values = r * 0.1
    return values.reshape(shape).to(DTYPES["fp32"])


def _unit_noise(key: str, count: int, device: torch.device) -> Tensor:
    """SplitMix64 in integers with a sign, which wrap as those without do."""
    base = _signed(zlib.crc32(key.encode()) << 32)
    z = torch.arange(1, count + 1, dtype=torch.int64, device=device)
    z = z * _signed(0x9E3779B97F4A7C15) + base
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        z = (z ^ _shifted(z, shift)) * _signed(factor)
    z = z ^ _shifted(z, 31)
    noise = _shifted(z, 40).double()
    return (noise * 2.0**-23 - 1.0) * math.sqrt(3.0)


def _signed(number: int) -> int:
    number &= _MASK
    return number - _WRAP if number >> 63 else number


def _shifted(z: Tensor, count: int) -> Tensor:
    """Without copies of the sign."""
    return (z >> count) & ((1 << (64 - count)) - 1)
