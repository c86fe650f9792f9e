"""Components: the files of the weights folder, converted from published files.

A component is one self-contained safetensors file. Its metadata says what it is under
`starvsr_component`; a network's has its `ModelSpec` under `starvsr`, so that its path works like a name, and a text
encoder's has its vocabulary.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.media.strict_json import first_words, parse_json, shown
from starvsr.models.autoencoder import DiffusersVAE, TemporalVAE
from starvsr.models.causal_vae import CausalVAE
from starvsr.models.t5 import PieceTokenizer, build_t5
from starvsr.models.text import ClipTokenizer, read_vocabulary
from starvsr.specs import SPECS, Component
from starvsr.zoo.checkpoint import read_safetensors
from starvsr.zoo.configs import (
    MOST_CONFIG,
    MOST_WORDS,
    check_config,
    read_bytes,
    read_config,
    read_text,
)
from starvsr.zoo.identify import check_plain, check_tensors, network_tensors, read_tensors
from starvsr.zoo.metadata import METADATA_KEY, made_again, read_metadata
from starvsr.zoo.open_clip import from_open_clip, is_open_clip
from starvsr.zoo.spec_json import spec_to_json
from starvsr.zoo.tensorfile import write_tensors

COMPONENT_KEY = "starvsr_component"
VOCAB_KEY = "starvsr_vocab"
MERGES_KEY = "starvsr_merges"
PIECES_KEY = "starvsr_pieces"
"""Where T5's file stores its word pieces, a binary file, as base64."""

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Values of `--dtype`."""

# transformers' defaults for fields that a configuration omits; they must not change with its version.
_CLIP_TEXT_DEFAULTS: dict[str, Any] = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
}

_FIELD = r"[A-Za-z0-9_.-]{0,100}"
_T5_FIELDS = (
    "model_type",
    "vocab_size",
    "d_model",
    "d_kv",
    "d_ff",
    "num_layers",
    "num_heads",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "layer_norm_epsilon",
    "feed_forward_proj",
)

_AUTOENCODERS: dict[object, type[DiffusersVAE]] = {
    kind.library_class: kind for kind in (TemporalVAE, CausalVAE)
}


@dataclass(frozen=True)
class ComponentInfo:
    """The metadata of a component's file."""

    name: str
    kind: str
    """`network`, `autoencoder` or `text_encoder`."""
    source_sha256: str
    """Of the published file that contains the tensors."""
    config: dict[str, Any]
    """The module's, as the library that builds it defines it; empty for a network, which has a spec."""
    metadata: dict[str, str]
    """All of the file's metadata."""


@dataclass(frozen=True)
class _Content:
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]
    metadata: Mapping[str, str]


def make_component(
    component: Component,
    sources: Mapping[str, Path],
    target: Path,
    *,
    dtype: torch.dtype | None = None,
    source_sha256: str,
) -> None:
    """Write a component's file from its published files, whole or not at all.

    sources: a local file for the `path` of each of the component's sources, or a file of the component that starvsr
    wrote for the first. dtype: what tensors are stored in; None
    keeps the published type. source_sha256: hash of the first source, for the record. At most one tensor is in
    memory at once. Raises WeightsError if a source is corrupt, refused, or not a source of the component;
    OutputError if the file cannot be written.
    """
    own = next(iter(sources.values()))
    if len(sources) == 1 and is_component(own, component.name):
        return convert_component(own, target, dtype)
    content = _READERS[component.kind](component, sources)
    about = {
        "name": component.name,
        "kind": component.kind,
        "source_sha256": source_sha256,
        "config": content.config,
    }
    metadata = {COMPONENT_KEY: json.dumps(about, sort_keys=True), **content.metadata}
    write_tensors(target, content.tensors, metadata, dtype=dtype)


def read_component_info(path: Path) -> ComponentInfo:
    """The metadata of a file in the weights folder. Raises WeightsError if it is corrupt or not a component."""
    metadata = read_metadata(path)
    try:
        about = parse_json(metadata[COMPONENT_KEY], MOST_CONFIG)
        if not isinstance(about, dict) or not isinstance(config := about["config"], dict):
            raise TypeError("no fields")
        name, kind, sha256 = about["name"], about["kind"], about["source_sha256"]
        if not all(isinstance(f, str) and re.fullmatch(_FIELD, f) for f in (name, kind, sha256)):
            raise TypeError("fields of other types")
        check_config(config)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} is not a component of a starvsr model: its metadata has no valid '{COMPONENT_KEY}' entry "
            f"({error}); {made_again(path)}"
        ) from error
    return ComponentInfo(name, kind, sha256, config, metadata)


def is_component(path: Path, name: str) -> bool:
    """Whether a file is that component as starvsr wrote it."""
    try:
        return read_component_info(path).name == name
    except WeightsError:
        return False


def convert_component(path: Path, target: Path, dtype: torch.dtype | None) -> None:
    """Write another file of a component, with its tensors in another type unless that is None, whole or not at all.

    At most one tensor is in memory at once. Raises WeightsError if the file at `path` is corrupt, OutputError
    if `target` cannot be written.
    """
    tensors, metadata = read_safetensors(path)
    write_tensors(target, tensors, metadata, dtype=dtype)


def _read_network(component: Component, sources: Mapping[str, Path]) -> _Content:
    path, spec = sources[component.sources[0].path], SPECS[component.name]
    spec, tensors = network_tensors(path, spec)
    return _Content(tensors, {}, {METADATA_KEY: spec_to_json(spec)})


def _read_autoencoder(component: Component, sources: Mapping[str, Path]) -> _Content:
    path, config_path = (sources[source.path] for source in component.sources[:2])
    tensors, _ = read_safetensors(path)
    check_plain(path, tensors)
    config = _checked(read_config(config_path), config_path)
    shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    kind = _AUTOENCODERS.get(config.get("_class_name"), TemporalVAE)
    try:
        kind.from_state(config, shapes, 1.0, torch.device("meta"), torch.float32)
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{path} and {config_path} do not fit together: {error}") from error
    return _Content(tensors, config, {})


def _read_text_encoder(component: Component, sources: Mapping[str, Path]) -> _Content:
    config_path = next(path for name, path in sources.items() if name.endswith("config.json"))
    if read_config(config_path).get("model_type") == "t5":
        return _read_t5(component, sources, config_path)
    return _read_clip(component, sources)


def _read_t5(component: Component, sources: Mapping[str, Path], config_path: Path) -> _Content:
    shards = [sources[source.path] for source in component.tensor_sources]
    pieces = sources[component.sources[-1].path]
    config = read_config(config_path)
    kept = _checked({name: config[name] for name in _T5_FIELDS if name in config}, config_path)
    tensors: dict[str, Tensor] = {}
    for shard in shards:
        tensors |= read_safetensors(shard)[0]
    try:
        model = read_bytes(pieces, MOST_WORDS)
        tokenizer = PieceTokenizer(model)
        with torch.device("meta"):
            expected = build_t5(kept).state_dict()
        if tokenizer.size > kept["vocab_size"]:
            raise ValueError(
                f"the encoder has {kept['vocab_size']} tokens, and there are {tokenizer.size} pieces"
            )
    except WeightsError:
        raise
    # The library does not validate a configuration.
    except Exception as error:
        raise WeightsError(
            f"{config_path} and {pieces} are not T5's: {first_words(error)}"
        ) from error
    # The same table as `shared`, under a second name that few files have.
    for known in (expected, tensors):
        known.pop("encoder.embed_tokens.weight", None)
    check_tensors(shards[0], expected, tensors, "T5's encoder as its configuration describes it")
    return _Content(tensors, kept, {PIECES_KEY: base64.b64encode(model).decode()})


def _read_clip(component: Component, sources: Mapping[str, Path]) -> _Content:
    path, config_path, vocab, merges = (sources[source.path] for source in component.sources)
    published = _text_config(config_path)
    expected = _text_tensors(published)
    found = read_tensors(path)
    if is_open_clip(found):
        found = from_open_clip(found)
    tower = {
        name: tensor
        for name, tensor in found.items()
        # Older files also contain the position indices 0, 1, 2, ...
        if name.startswith("text_model.") and not name.endswith(".position_ids")
    }
    check_tensors(path, expected, tower, "CLIP's text tower as its configuration describes it")
    # STAR uses the output of the last layer but one, so the last is never run.
    config = {**published, "num_hidden_layers": published["num_hidden_layers"] - 1}
    kept = {name: tower[name] for name in tower if name in _text_tensors(config)}
    return _Content(kept, config, _read_words(vocab, merges, config["vocab_size"]))


def _read_words(vocab: Path, merges: Path, size: int) -> dict[str, str]:
    """A text encoder's metadata. Raises WeightsError if no tokenizer for `size` tokens can be built from it."""
    words = {VOCAB_KEY: read_text(vocab, MOST_WORDS), MERGES_KEY: read_text(merges, MOST_WORDS)}
    try:
        ClipTokenizer(words[VOCAB_KEY], words[MERGES_KEY])
        numbers = read_vocabulary(words[VOCAB_KEY]).values()
        if min(numbers) < 0 or max(numbers) >= size:
            raise ValueError(
                f"the encoder has {size} tokens, and {max(numbers)} is a word's number"
            )
    except ValueError as error:
        raise WeightsError(f"{vocab} and {merges} are not CLIP's: {error}") from error
    return words


_READERS: dict[str, Callable[[Component, Mapping[str, Path]], _Content]] = {
    "network": _read_network,
    "autoencoder": _read_autoencoder,
    "text_encoder": _read_text_encoder,
}


def _text_config(path: Path) -> dict[str, Any]:
    """The fields that shape CLIP's text tower, from the configuration of the whole of CLIP."""
    whole = read_config(path)
    given: dict[str, Any] = {}
    # Configurations of 2022 contain the text fields twice; if they differ, the second takes precedence.
    for name in ("text_config", "text_config_dict"):
        part = whole.get(name) or {}
        if not isinstance(part, dict):
            raise WeightsError(f"{path}: {name} is {shown(part)}")
        given |= part
    config = {name: given.get(name, default) for name, default in _CLIP_TEXT_DEFAULTS.items()}
    for name, default in _CLIP_TEXT_DEFAULTS.items():
        if type(config[name]) is not type(default) or (name != "hidden_act" and config[name] < 0):
            raise WeightsError(f"{path}: {name} of the text tower is {shown(config[name])}")
    if config["num_hidden_layers"] < 2:
        raise WeightsError(f"{path}: a text tower of one layer has none before its last")
    return _checked(config, path)


def _checked(config: dict[str, Any], path: Path) -> dict[str, Any]:
    try:
        check_config(config)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}, which no supported module has") from error
    return config


def _text_tensors(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Every tensor of CLIP's text tower, without numbers."""
    width, inside = config["hidden_size"], config["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.token_embedding.weight": (config["vocab_size"], width),
        "embeddings.position_embedding.weight": (config["max_position_embeddings"], width),
        "final_layer_norm.weight": (width,),
        "final_layer_norm.bias": (width,),
    }
    linear = {f"self_attn.{part}_proj": (width, width) for part in ("q", "k", "v", "out")}
    linear |= {"mlp.fc1": (inside, width), "mlp.fc2": (width, inside)}
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layers.{number}"
        for part, shape in linear.items():
            shapes[f"{layer}.{part}.weight"] = shape
            shapes[f"{layer}.{part}.bias"] = shape[:1]
        for norm in ("layer_norm1", "layer_norm2"):
            shapes[f"{layer}.{norm}.weight"] = shapes[f"{layer}.{norm}.bias"] = (width,)
    return {
        f"text_model.{name}": torch.empty(shape, device="meta") for name, shape in shapes.items()
    }
