"""The one-to-one map between the parameter names of published checkpoints and ours.

A published name is a module's position in a flat list plus a leaf; ours says what it is:

    input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight
    encoder.levels.1.blocks.0.spatial.block.cross_attention.k.weight

Our kernels of one element are matrices, so the trailing ones of shapes are removed and restored. Dtypes stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from starvsr.errors import WeightsError

_CONTROL = "VideoControlNet."
_WRAPPERS = ("state_dict", "module", "model_state_dict", "model")
_PARALLEL = "module."
"""Before each name of a network that was saved from inside PyTorch's wrapper for several devices."""


class _Leaf(NamedTuple):
    """A layer: its published name and ours, the extra trailing ones in the published weight's shape, its parameters."""

    published: str
    ours: str
    ones: int = 0
    names: tuple[str, ...] = ("weight", "bias")


_RESIDUAL = (
    _Leaf("in_layers.0", "norm_in"),
    _Leaf("in_layers.2", "conv_in"),
    _Leaf("emb_layers.1", "time"),
    _Leaf("out_layers.0", "norm_out"),
    _Leaf("out_layers.3", "conv_out"),
    *(_Leaf(f"temopral_conv.conv{n + 1}.0", f"temporal_conv.stages.{n}.norm") for n in range(4)),
    *(
        _Leaf(f"temopral_conv.conv{n + 1}.{conv}", f"temporal_conv.stages.{n}.conv", 1)
        for n, conv in enumerate((2, 3, 3, 3))
    ),
)
_SKIP = _Leaf("skip_connection", "skip", 2)


def _attention(published: str, ours: str) -> tuple[_Leaf, ...]:
    projections = (_Leaf(f"{published}.to_{n}", f"{ours}.{n}", names=("weight",)) for n in "qkv")
    return (*projections, _Leaf(f"{published}.to_out.0", f"{ours}.out"))


def _transformer(
    attentions: tuple[str, str], norms: tuple[str, str], gates: tuple[str, ...], ones: int
) -> tuple[_Leaf, ...]:
    """Leaves of both kinds of transformer; `ones` is the number of extra ones in the projections' shapes."""
    inside = [
        *(leaf for i in (0, 1) for leaf in _attention(f"attn{i + 1}", attentions[i])),
        *(_Leaf(f"norm{i + 1}", norms[i]) for i in (0, 1)),
        _Leaf("norm3", "norm_feed_forward"),
        _Leaf("ff.net.0.proj", "feed_forward.expand"),
        _Leaf("ff.net.2", "feed_forward.contract"),
        *(_Leaf(f"local{i}.conv1", gate, 0, ("weight",)) for i, gate in enumerate(gates, start=1)),
    ]
    return (
        _Leaf("norm", "norm"),
        _Leaf("proj_in", "entry", ones),
        *(
            leaf._replace(
                published=f"transformer_blocks.0.{leaf.published}", ours=f"block.{leaf.ours}"
            )
            for leaf in inside
        ),
        _Leaf("proj_out", "exit", ones),
    )


_SPATIAL = _transformer(
    ("self_attention", "cross_attention"), ("norm_self", "norm_cross"), ("gate",), 0
)
_TEMPORAL = _transformer(
    ("attention_first", "attention_second"),
    ("norm_first", "norm_second"),
    ("gate_first", "gate_second"),
    1,
)
_TIME = (_Leaf("0", "first"), _Leaf("2", "second"))


@dataclass(frozen=True)
class _Pair:
    """One parameter: its published name, ours, and the number of extra trailing ones in the published shape."""

    published: str
    ours: str
    ones: int


def _pairs(published: str, ours: str, leaves: Iterable[_Leaf]) -> Iterator[_Pair]:
    for old, new, ones, names in leaves:
        for name in names:
            yield _Pair(
                ".".join(filter(None, (published, old, name))),
                ".".join(filter(None, (ours, new, name))),
                ones if name == "weight" else 0,
            )


def _layer(published: str, ours: str, ones: int = 0) -> Iterator[_Pair]:
    return _pairs(published, ours, [_Leaf("", "", ones)])


@dataclass(frozen=True)
class _Structure:
    """A network's structure as seen in a state dict's keys."""

    levels: int
    residual_blocks: int
    attention: frozenset[int]
    """Levels with transformers."""
    control: bool

    @classmethod
    def of_published(cls, keys: Iterable[str]) -> _Structure:
        keys = list(keys)
        downs = _numbers(keys, r"input_blocks\.(\d+)\.op\.weight")
        attended = _numbers(keys, r"input_blocks\.(\d+)\.2\.norm\.weight")
        blocks = max(_numbers(keys, r"input_blocks\.(\d+)\."), default=0)
        levels = len(downs) + 1
        each = max((blocks - len(downs)) // levels, 1)
        attention = frozenset((number - 1) // (each + 1) for number in attended)
        return cls(levels, each, attention, any(key.startswith(_CONTROL) for key in keys))

    @classmethod
    def of_ours(cls, keys: Iterable[str]) -> _Structure:
        keys = list(keys)
        levels = max(_numbers(keys, r"encoder\.levels\.(\d+)\."), default=0) + 1
        blocks = max(_numbers(keys, r"encoder\.levels\.\d+\.blocks\.(\d+)\."), default=0) + 1
        attention = _numbers(keys, r"encoder\.levels\.(\d+)\.blocks\.\d+\.temporal\.norm\.weight")
        return cls(
            levels, blocks, frozenset(attention), any(key.startswith("control.") for key in keys)
        )


def _numbers(keys: Iterable[str], pattern: str) -> set[int]:
    return {int(match[1]) for match in map(re.compile(pattern).match, keys) if match}


def _block(published: str, ours: str, *, attention: bool) -> Iterator[_Pair]:
    yield from _pairs(f"{published}.0", f"{ours}.residual", (*_RESIDUAL, _SKIP))
    if attention:
        yield from _pairs(f"{published}.1", f"{ours}.spatial", _SPATIAL)
        yield from _pairs(f"{published}.2", f"{ours}.temporal", _TEMPORAL)


def _encoder(net: _Structure) -> Iterator[_Pair]:
    """Time embedding, encoder and middle, as in the UNet and in the control branch."""
    yield from _pairs("time_embed", "time_embedding", _TIME)
    yield from _layer("input_blocks.0.0", "encoder.stem")
    yield from _pairs("input_blocks.0.1", "encoder.stem_temporal", _TEMPORAL)
    number = 1
    for level in range(net.levels):
        ours = f"encoder.levels.{level}"
        for block in range(net.residual_blocks):
            yield from _block(
                f"input_blocks.{number}", f"{ours}.blocks.{block}", attention=level in net.attention
            )
            number += 1
        if level + 1 < net.levels:
            yield from _layer(f"input_blocks.{number}.op", f"{ours}.down.conv")
            number += 1
    yield from _block("middle_block", "middle.entry", attention=True)
    yield from _pairs("middle_block.3", "middle.exit", _RESIDUAL)


def _decoder(net: _Structure) -> Iterator[_Pair]:
    number = 0
    for step, level in enumerate(reversed(range(net.levels))):
        ours, attention = f"decoder.levels.{step}", level in net.attention
        for block in range(net.residual_blocks + 1):
            yield from _block(
                f"output_blocks.{number}", f"{ours}.blocks.{block}", attention=attention
            )
            number += 1
        if level > 0:
            place = 3 if attention else 1
            yield from _layer(f"output_blocks.{number - 1}.{place}.conv", f"{ours}.up.conv")
    yield from _layer("out.0", "head.norm")
    yield from _layer("out.2", "head.conv")


def _control(net: _Structure) -> Iterator[_Pair]:
    for pair in _encoder(net):
        yield _Pair(_CONTROL + pair.published, f"control.{pair.ours}", pair.ones)
    yield from _layer(f"{_CONTROL}input_hint_block", "control.hint")
    for exit_number in range(net.levels * (net.residual_blocks + 1)):
        yield from _layer(
            f"{_CONTROL}zero_convs.{exit_number}.0", f"control.exits.{exit_number}", 2
        )
    yield from _layer(f"{_CONTROL}middle_block_out.0", "control.middle_exit", 2)


def _all_pairs(net: _Structure) -> Iterator[_Pair]:
    yield from _encoder(net)
    yield from _decoder(net)
    if net.control:
        yield from _control(net)


def from_published(state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """Our parameters from a published checkpoint's, as `published_tensors` takes it.

    Works for every network size; values, dtypes and devices are unchanged. Raises `WeightsError` with
    the names if a parameter is missing or unknown.
    """
    tensors = published_tensors(state_dict)
    pairs = {pair.published: pair for pair in _all_pairs(_Structure.of_published(tensors))}
    _check_names(tensors, pairs)
    converted = {}
    for name, tensor in tensors.items():
        pair = pairs[name]
        kept = tensor.ndim - pair.ones
        if any(size != 1 for size in tensor.shape[kept:]):
            raise WeightsError(
                f"parameter {name} has shape {tuple(tensor.shape)}, where the last {pair.ones} must be 1"
            )
        converted[pair.ours] = tensor.reshape(tensor.shape[:kept])
    return converted


def to_published(state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """The inverse of `from_published`."""
    tensors = published_tensors(state_dict)
    pairs = {pair.ours: pair for pair in _all_pairs(_Structure.of_ours(tensors))}
    _check_names(tensors, pairs)
    return {
        pairs[name].published: tensor.reshape(tensor.shape + (1,) * pairs[name].ones)
        for name, tensor in tensors.items()
    }


def published_tensors(state_dict: Mapping[str, object]) -> dict[str, Tensor]:
    """The tensors of a checkpoint: bare or under a usual key, and perhaps with `module.` before each name.

    Raises `WeightsError` for anything else.
    """
    key = next((key for key in _WRAPPERS if key in state_dict), "")
    inner = state_dict[key] if key else state_dict
    if not isinstance(inner, Mapping):
        raise WeightsError(f"the checkpoint's {key} is not a mapping of names to tensors")
    strangers = [str(name) for name, value in inner.items() if not isinstance(value, Tensor)]
    if strangers:
        raise WeightsError(
            f"the checkpoint contains entries that are not tensors: {_listed(strangers)}"
        )
    if inner and all(str(name).startswith(_PARALLEL) for name in inner):
        return {str(name).removeprefix(_PARALLEL): tensor for name, tensor in inner.items()}
    return dict(inner)


def _check_names(given: Mapping[str, Tensor], known: Mapping[str, _Pair]) -> None:
    unexpected = [name for name in given if name not in known]
    # A block's skip is a layer only if its width changes, and names do not tell widths.
    missing = [name for name in known if name not in given and not _is_absent_skip(name, given)]
    named = (("missing", missing), ("unexpected", unexpected))
    if faults := [f"{what}: {_listed(names)}" for what, names in named if names]:
        raise WeightsError(f"the parameters are not those of a STAR network: {'; '.join(faults)}")


def _is_absent_skip(name: str, given: Mapping[str, Tensor]) -> bool:
    place, _, _ = name.rpartition(".")
    is_skip = place.endswith((".skip_connection", ".skip"))
    return is_skip and not any(f"{place}.{leaf}" in given for leaf in ("weight", "bias"))


def _listed(names: list[str]) -> str:
    return ", ".join(sorted(names))
