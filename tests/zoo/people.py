"""Small seeded files as people have them: STAR's in every layout, other kinds, and two models that share a network."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from safetensors.torch import save_file
from torch import Tensor

from starvsr.specs import COMPONENTS, SPECS, Component, SourceFile
from tests.zoo.published import SMALL_COMPONENTS, SMALL_STAR, published_network

MODELS = ("small-light", "small-heavy")
_TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@contextmanager
def two_models(hashes: Mapping[str, str] | None = None) -> Iterator[None]:
    """The product knows `MODELS`, whose networks have the same shapes. hashes: published ones of files, by model."""
    with ExitStack() as stack:
        for name in MODELS:
            path = f"I2VGen-XL-based/{name.removeprefix('small-')}_deg.pt"
            source = SourceFile("small/STAR", path, sha256=(hashes or {}).get(name, ""))
            component = Component(name, "network", name, "MIT", (source,))
            spec = dataclasses.replace(SMALL_STAR, name=name)
            stack.enter_context(patch.dict(SPECS, {name: spec}))
            stack.enter_context(patch.dict(COMPONENTS, {name: component}))
        parts = {name: SMALL_COMPONENTS[name] for name in ("small-vae", "small-clip")}
        stack.enter_context(patch.dict(COMPONENTS, parts))
        yield


def star(seed: int = 0) -> dict[str, Tensor]:
    """The network under its published names."""
    return published_network(seed=seed)


def write_star(path: Path, layout: str = "state_dict", seed: int = 0) -> Path:
    """Write the network as `state_dict`, `bare`, `module.`, both, or safetensors in `fp32`, `fp16` or `bf16`."""
    state: dict[str, Tensor] = star(seed)
    if layout in _TYPES:
        save_file({name: tensor.to(_TYPES[layout]) for name, tensor in state.items()}, path)
        return path
    if "module." in layout:
        state = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save({"state_dict": state} if "state_dict" in layout else state, path)
    return path


def write_tensors_named(path: Path, *names: str, wrapper: str = "") -> Path:
    """Write tensors of a few numbers: a pickle, under a key if given, or safetensors by the path's extension."""
    state = {name: torch.ones(2, 2) for name in names}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({wrapper: state} if wrapper else state, path)
    return path


def cut(path: Path, fraction: float = 0.6) -> Path:
    """Truncate a file."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * fraction)])
    return path
