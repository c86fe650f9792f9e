"""Checkpoints of SwissArmyTransformer (SAT), the framework that STAR on CogVideoX was trained in, as our parameters.

Each of ours is one or more equal parts of a published tensor: a third of a fused projection, six of twelve modulations.
Low-rank updates (LoRA) of attention may be merged into the weights or stored beside them; then they are merged here.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.models.cogvideox import PATCH
from starvsr.types import CogVideoXConfig
from starvsr.zoo.checkpoint import MisfitError, misfits, not_plain
from starvsr.zoo.convert import published_tensors

_PREFIX = "model.diffusion_model."
# Autoencoder and text encoder, which are separate components.
_OTHER_PARTS = ("first_stage_model.", "conditioner.")
# Computed position tables, which are added or which turn, and one that was never read.
_ADDED_TABLE = "mixins.pos_embed.pos_embedding"
_TABLES = (
    _ADDED_TABLE,
    "mixins.pos_embed.freqs_sin",
    "mixins.pos_embed.freqs_cos",
    "transformer.position_embeddings.weight",
)
_MOST_LAYERS = 64
_LORA_LAYERS = {"attention.query_key_value": 3, "attention.dense": 1}
"""Layers with low-rank updates, and their number, stacked."""
_FIRST_UPDATE = "transformer.layers.0.attention.dense.matrix_A.0"


class _Source(NamedTuple):
    """Where one of our parameters is: some of the equal parts, along the first axis, of a published tensor."""

    name: str
    parts: int = 1
    taken: tuple[int, ...] = (0,)


_WHOLE = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "patch_embed.proj": "mixins.patch_embed.proj_sr",
    "patch_embed.text_proj": "mixins.patch_embed.text_proj",
    "norm_final": "transformer.final_layernorm",
    "norm_out.norm": "mixins.final_layer.norm_final",
    "norm_out.linear": "mixins.final_layer.adaLN_modulation.1",
    "proj_out": "mixins.final_layer.linear",
}
_ADAPTIVE = "mixins.adaln_layer."
_BLOCK = {
    "norm1.norm": _Source("transformer.layers.{i}.input_layernorm"),
    # Shift, scale and gate: of the image in attention and in the feed-forward, then of the text in both.
    "norm1.linear": _Source(f"{_ADAPTIVE}adaLN_modulations.{{i}}.1", 12, (0, 1, 2, 6, 7, 8)),
    "norm2.linear": _Source(f"{_ADAPTIVE}adaLN_modulations.{{i}}.1", 12, (3, 4, 5, 9, 10, 11)),
    "attn1.to_q": _Source("transformer.layers.{i}.attention.query_key_value", 3, (0,)),
    "attn1.to_k": _Source("transformer.layers.{i}.attention.query_key_value", 3, (1,)),
    "attn1.to_v": _Source("transformer.layers.{i}.attention.query_key_value", 3, (2,)),
    "attn1.norm_q": _Source(f"{_ADAPTIVE}query_layernorm_list.{{i}}"),
    "attn1.norm_k": _Source(f"{_ADAPTIVE}key_layernorm_list.{{i}}"),
    "attn1.to_out.0": _Source("transformer.layers.{i}.attention.dense"),
    "attn1.processor.space": _Source("transformer.layers.{i}.spa_local.conv1"),
    "attn1.processor.time": _Source("transformer.layers.{i}.temp_local.conv1"),
    "norm2.norm": _Source("transformer.layers.{i}.post_attention_layernorm"),
    "ff.net.0.proj": _Source("transformer.layers.{i}.mlp.dense_h_to_4h"),
    "ff.net.2": _Source("transformer.layers.{i}.mlp.dense_4h_to_h"),
}


def from_sat(content: Mapping[str, object], wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Our parameters from a checkpoint's content: under `module` or bare, named within the whole model or the network.

    wanted: the network's parameters, of which only names and shapes count. Each is built on request, in the
    published type, so that at most one is in memory. Raises WeightsError if a tensor of the network is missing,
    unknown or of another shape.
    """
    tensors = dict(_network_tensors(published_tensors(content)))
    rank = tensors[_FIRST_UPDATE].shape[0] if _FIRST_UPDATE in tensors else 0
    problems = misfits(to_sat(wanted, rank=rank), tensors) or not_plain(tensors)
    if problems:
        raise MisfitError("the parameters are not those of this network", problems)
    return Parts({name: partial(_made, _source(name), tensors) for name in wanted})


def config_of(content: Mapping[str, object], known: CogVideoXConfig) -> CogVideoXConfig:
    """The sizes of the network in a checkpoint's content, read from its shapes.

    The text's width, which the encoder sets, and what no tensor says are as in `known`, so that misfits can be named
    against it. Raises WeightsError if there are no tensors.
    """
    tensors = published_tensors(content)
    shapes = {name.removeprefix(_PREFIX): tensor.shape for name, tensor in tensors.items()}

    def size(name: str, axis: int, otherwise: int) -> int:
        shape = shapes.get(name, ())
        return int(shape[axis]) if axis < len(shape) else otherwise

    layers = {m[1] for m in map(re.compile(r"transformer\.layers\.(\d+)\.").match, shapes) if m}
    width = size("transformer.final_layernorm.weight", 0, known.width)
    head = size("mixins.adaln_layer.query_layernorm_list.0.weight", 0, known.head_width)
    latent = size("mixins.final_layer.linear.weight", 0, PATCH**2 * known.latent_channels)
    return dataclasses.replace(
        known,
        latent_channels=latent // PATCH**2,
        layers=min(len(layers), _MOST_LAYERS) or known.layers,
        heads=max(width // max(head, 1), 1),
        head_width=head,
        time_width=size("time_embed.0.weight", 0, known.time_width),
        rotary=_ADDED_TABLE not in shapes,
    )


def to_sat(state: Mapping[str, Tensor], *, rank: int = 0) -> dict[str, Tensor]:
    """The inverse of `from_sat`, without the prefix.

    rank: of low-rank updates to store beside the weights of attention, all zero; 0 is none.
    """
    parts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in state.items():
        source = _source(name)
        chunks = tensor.chunk(len(source.taken))
        parts.setdefault(source.name, {}).update(zip(source.taken, chunks, strict=True))
    whole = {
        name: torch.cat([found[place] for place in sorted(found)]) if len(found) > 1 else found[0]
        for name, found in parts.items()
    }
    return dict(_with_updates(whole, rank)) if rank else whole


class Parts(Mapping[str, Tensor]):
    """Tensors that are built of parts again on every request."""

    def __init__(self, makers: Mapping[str, Callable[[], Tensor]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> Tensor:
        return self._makers[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)


def _source(name: str) -> _Source:
    """Where one of our parameters is. Raises WeightsError for an unknown name."""
    layer, _, leaf = name.rpartition(".")
    block = re.fullmatch(r"transformer_blocks\.(\d+)\.(.+)", layer)
    if block and block[2] in _BLOCK:
        source = _BLOCK[block[2]]
        return source._replace(name=f"{source.name.format(i=block[1])}.{leaf}")
    if layer in _WHOLE:
        return _Source(f"{_WHOLE[layer]}.{leaf}")
    raise WeightsError(f"{name} is not a parameter of STAR's CogVideoX network")


def _network_tensors(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        bare = name.removeprefix(_PREFIX)
        if bare not in _TABLES and not name.startswith(_OTHER_PARTS):
            yield bare, tensor


def _made(source: _Source, tensors: Mapping[str, Tensor]) -> Tensor:
    chunks = _merged(source.name, tensors).chunk(source.parts)
    taken = [chunks[place] for place in source.taken]
    return torch.cat(taken) if len(taken) > 1 else taken[0]


def _merged(name: str, tensors: Mapping[str, Tensor]) -> Tensor:
    """A published tensor, its low-rank updates `B A / rank` added in float32."""
    if name in tensors:
        return tensors[name]
    layer, _, leaf = name.rpartition(".")
    original = tensors[f"{layer}.original.{leaf}"]
    if leaf == "bias":
        return original
    updates = [
        tensors[f"{layer}.matrix_B.{j}"].float() @ tensors[f"{layer}.matrix_A.{j}"].float()
        for j in range(_updates_of(layer))
    ]
    rank = tensors[f"{layer}.matrix_A.0"].shape[0]
    return (original.float() + torch.cat(updates) / rank).to(original.dtype)


def _updates_of(layer: str) -> int:
    return next((n for end, n in _LORA_LAYERS.items() if layer.endswith(f".{end}")), 0)


def _with_updates(tensors: Mapping[str, Tensor], rank: int) -> Iterable[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        layer, _, leaf = name.rpartition(".")
        count = _updates_of(layer)
        yield (f"{layer}.original.{leaf}" if count else name), tensor
        if leaf == "weight":
            rows, columns = tensor.shape[0] // max(count, 1), tensor.shape[-1]
            for j in range(count):
                yield f"{layer}.matrix_A.{j}", tensor.new_zeros(rank, columns)
                yield f"{layer}.matrix_B.{j}", tensor.new_zeros(rows, rank)
