"""The configurations of published models, as JSON from their publishers or from a component's metadata.

Modules are built from them, and they set the sizes; so each value is checked against a limit first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starvsr.errors import WeightsError
from starvsr.media.strict_json import parse_json, read_bounded, shown

MOST_CONFIG = 1 << 18
"""Characters of a configuration."""
MOST_WORDS = 1 << 24
"""Bytes of a vocabulary, or of merges or word pieces."""

_MOST_FIELDS = 200
_MOST_ITEMS = 8
_MOST_NUMBER = 1 << 20
_MOST_TEXT = 1000
# Number of repeated parts, by diffusers' and transformers' names.
_MOST_OF = {
    "num_layers": 64,
    "num_hidden_layers": 64,
    "num_decoder_layers": 64,
    "layers_per_block": 16,
    "num_encoder_blocks": 16,
    "num_decoder_blocks": 16,
}
_SIZES = "channels|^num_|^d_|_size$|_length$|_dim$"


def check_config(config: Mapping[str, Any]) -> None:
    """Raise ValueError for a value that no published module has and that would take minutes or all memory."""
    if len(config) > _MOST_FIELDS:
        raise ValueError(f"it has {len(config)} fields")
    for name, value in config.items():
        items = value if isinstance(value, list) else [value]
        least = 1 if re.search(_SIZES, name) else -_MOST_NUMBER
        most = _MOST_OF.get(name, _MOST_NUMBER)
        if len(items) > _MOST_ITEMS or not all(_is_small(item, least, most) for item in items):
            raise ValueError(f"{shown(name)} is {shown(value)}")


def _is_small(value: object, least: int, most: int) -> bool:
    if isinstance(value, str):
        return len(value) <= _MOST_TEXT
    if isinstance(value, (int, float)):
        return least <= value <= most
    # Nested values set no sizes.
    return value is None or isinstance(value, dict)


def read_config(path: Path) -> dict[str, Any]:
    """A configuration's fields, with values of any type. Raises WeightsError if it is not one."""
    try:
        content = parse_json(read_text(path, MOST_CONFIG), MOST_CONFIG)
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} contains no configuration")
    return content


def read_text(path: Path, most_bytes: int) -> str:
    """A file's text. Raises WeightsError if it is not text or is too long."""
    try:
        return read_bytes(path, most_bytes).decode()
    except UnicodeDecodeError as error:
        raise WeightsError(f"{path} is not text: {error}") from error


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """A file's content. Raises WeightsError if it cannot be read or is too long."""
    try:
        return read_bounded(path, most_bytes)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is refused: {error}") from error
