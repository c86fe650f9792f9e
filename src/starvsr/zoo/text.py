"""From a prompt to the network's context: once through the text encoder, then from disk.

Embeddings are stored in the weights folder under `text/`, one file per text. A run with a known prompt needs neither to
read nor to have the encoder, which takes some gigabytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from starvsr.errors import OutputError, WeightsError
from starvsr.models.t5 import T5Encoder
from starvsr.models.text import TextEncoder
from starvsr.types import ModelSpec
from starvsr.zoo.checkpoint import read_safetensors
from starvsr.zoo.components import (
    MERGES_KEY,
    PIECES_KEY,
    VOCAB_KEY,
    read_component_info,
)
from starvsr.zoo.folder import find_component, is_file
from starvsr.zoo.places import check_is_own
from starvsr.zoo.tensorfile import write_tensors

logger = logging.getLogger(__name__)

_FOLDER = "text"
_TENSOR = "context"


def contexts(
    spec: ModelSpec,
    folders: Sequence[Path],
    *,
    prompt: str | None = None,
    negative_prompt: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The context of a prompt and that of a negative prompt, each `1 n c`, float32, on the CPU.

    prompt: gets the model's suffix; negative_prompt: is used unchanged. None is the model's own, and zeros are the
    context of a model that takes no prompt. folders: where the encoder and known embeddings are searched; new ones
    are stored in the last. Raises WeightsError if a text is not known and the encoder is missing or broken.
    """
    if spec.text is None:
        zeros = torch.zeros(1, spec.context_tokens, spec.network.context_width)
        return zeros, zeros
    positive, negative = _texts(spec, prompt, negative_prompt)
    encoder_hash = _encoder_hash(spec, folders)
    texts = [text for text in (positive, negative) if text is not None]
    known = {text: _recall(spec, folders, text, encoder_hash) for text in texts}
    unknown = [text for text, context in known.items() if context is None]
    found = {text: context for text, context in known.items() if context is not None}
    if unknown:
        found |= _encode(spec, folders, unknown)
    context = found[positive]
    return context, torch.zeros_like(context) if negative is None else found[negative]


def contexts_are_known(
    spec: ModelSpec,
    folders: Sequence[Path],
    *,
    prompt: str | None = None,
    negative_prompt: str | None = None,
) -> bool:
    """Whether `contexts` would need no encoder. Raises WeightsError if the encoder exists and is broken."""
    if spec.text is None:
        return True
    encoder_hash = _encoder_hash(spec, folders)
    texts = _texts(spec, prompt, negative_prompt)
    return all(
        text is None or _recall(spec, folders, text, encoder_hash) is not None for text in texts
    )


def _texts(
    spec: ModelSpec, prompt: str | None, negative_prompt: str | None
) -> tuple[str, str | None]:
    """The text to encode; a negative prompt of None is empty."""
    assert spec.text is not None
    prompt = spec.text.prompt if prompt is None else prompt
    negative = spec.text.negative_prompt if negative_prompt is None else negative_prompt
    # Command arguments can contain bytes that are not text.
    return _printable(prompt + spec.text.prompt_suffix), negative and _printable(negative)


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _encoder_hash(spec: ModelSpec, folders: Sequence[Path]) -> str | None:
    """Of the published file that the encoder was built from; None if there is no encoder."""
    assert spec.text is not None
    path = find_component(spec.text.weights, folders)
    return None if path is None else read_component_info(path).source_sha256


def _file_name(spec: ModelSpec, text: str) -> str:
    assert spec.text is not None
    # The encoder's hash is not part of the name: without the encoder the file could not be found.
    identity = json.dumps([spec.text.weights, spec.context_tokens, text])
    return f"{hashlib.sha256(identity.encode()).hexdigest()}.safetensors"


def _recall(
    spec: ModelSpec, folders: Sequence[Path], text: str, encoder_hash: str | None
) -> Tensor | None:
    """A text's context from disk, if it exists, is complete and is from the installed encoder."""
    for folder in folders:
        path = folder / _FOLDER / _file_name(spec, text)
        try:
            if not is_file(path):
                continue
            tensors, metadata = read_safetensors(path)
            # A copy, since the file may be replaced while the context is in use.
            context = tensors[_TENSOR].clone() if _fits(tensors, spec) else None
        except WeightsError as error:
            logger.warning("%s cannot be read and is rebuilt: %s", path, error)
            continue
        if encoder_hash not in (None, metadata.get("encoder_sha256")):
            continue
        whole = context is not None and bool(context.isfinite().all())
        if whole and metadata.get("text") == text:
            return context
        logger.warning("%s is not the expected embedding and is rebuilt", path)
    return None


def _fits(tensors: Mapping[str, Tensor], spec: ModelSpec) -> bool:
    """Whether a file contains only a context."""
    shape = (1, spec.context_tokens, spec.network.context_width)
    found = tensors.get(_TENSOR)
    return (
        len(tensors) == 1
        and found is not None
        and (found.dtype, found.shape) == (torch.float32, shape)
    )


def _encode(spec: ModelSpec, folders: Sequence[Path], texts: Sequence[str]) -> dict[str, Tensor]:
    """The contexts of texts from the encoder, which is released on return; they are stored on disk."""
    assert spec.text is not None
    path = find_component(spec.text.weights, folders)
    if path is None:
        raise WeightsError(
            f"the text encoder {spec.text.weights} is not in {folders[-1]}, and the model {spec.name} has not seen "
            "this prompt before: fetch it with starvsr download-weights"
        )
    info = read_component_info(path)
    logger.info("encoding the prompt with %s", path)
    encoder = load_encoder(path)
    made = {}
    for text in texts:
        made[text] = _encode_one(spec, path, encoder, text)
        target = folders[-1] / _FOLDER / _file_name(spec, text)
        metadata = {"text": text, "encoder": info.name, "encoder_sha256": info.source_sha256}
        _keep(target, made[text], metadata)
    return made


def _encode_one(spec: ModelSpec, path: Path, encoder: TextEncoder | T5Encoder, text: str) -> Tensor:
    try:
        context = encoder(text, spec.context_tokens)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}") from error
    if context.shape[2] != spec.network.context_width:
        raise WeightsError(
            f"{path} gives tokens of {context.shape[2]} channels, and the model {spec.name} takes "
            f"{spec.network.context_width}: it is not the text encoder of this model"
        )
    if not bool(context.isfinite().all()):
        raise WeightsError(f"{path} gives tokens with NaN or Inf: it is corrupt, get it again")
    return context


def load_encoder(path: Path) -> TextEncoder | T5Encoder:
    """The text encoder in a component's file. Raises WeightsError if it is not one."""
    state, metadata = read_safetensors(path)
    config = read_component_info(path).config
    try:
        if PIECES_KEY in metadata:
            return T5Encoder.from_state(config, state, base64.b64decode(metadata[PIECES_KEY]))
        return TextEncoder.from_state(config, state, metadata[VOCAB_KEY], metadata[MERGES_KEY])
    except KeyError as error:
        raise WeightsError(f"{path} has no {error} in its metadata: get it again") from error
    except ValueError as error:
        raise WeightsError(f"{path} cannot be used as a text encoder: {error}") from error


def _keep(target: Path, context: Tensor, metadata: dict[str, str]) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # A link's target is the user's.
        check_is_own(target)
        write_tensors(target, {_TENSOR: context}, metadata)
    except (OSError, OutputError, WeightsError) as error:
        logger.warning("the prompt's embedding cannot be stored for the next run: %s", error)
