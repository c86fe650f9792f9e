"""CLIP's text tower under the names of open_clip, as transformers names it.

The tensors are the same; open_clip has query, key and value in one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from torch import Tensor

_WHOLE = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_LAYERS = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)[._](weight|bias)")
_FUSED = "attn.in_proj"


def is_open_clip(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are named as open_clip names them."""
    return any(_BLOCK.fullmatch(name) for name in tensors)


def from_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the text tower as `text_model.*`, views of those given.

    What is not the tower's is left out: the vision tower, the projection into the space that both share, the
    temperature. An unknown tensor inside the tower keeps its name behind `text_model.`.
    """
    return {f"text_model.{name}": part for name, part in _parts(tensors)}


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tensors.items():
        if name in _WHOLE:
            yield _WHOLE[name], tensor
        elif found := _BLOCK.fullmatch(name):
            number, layer, leaf = found.groups()
            place = f"encoder.layers.{number}"
            if layer == _FUSED:
                for part, third in zip("qkv", tensor.chunk(3), strict=False):
                    yield f"{place}.self_attn.{part}_proj.{leaf}", third
            else:
                yield f"{place}.{_LAYERS.get(layer, layer)}.{leaf}", tensor
        elif name.startswith("transformer."):
            yield name, tensor
