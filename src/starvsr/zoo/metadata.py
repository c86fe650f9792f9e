"""Metadata of safetensors files, read without torch, which takes seconds to load."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from starvsr.errors import WeightsError
from starvsr.media.strict_json import first_words
from starvsr.specs import COMPONENTS
from starvsr.zoo.foreign import TAKEN, about_bytes, is_intact

METADATA_KEY = "starvsr"
"""Key of a network's `ModelSpec` in a file's metadata."""
ANEW = "get the file again from its publisher"
_TYPE_NAMES = {"F32": "fp32", "F16": "fp16", "BF16": "bf16"}
_MOST_HEADER_BYTES = 16 << 20
_MOST_TENSORS = 20_000


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file. Raises WeightsError if it is not one."""
    with opened(path, "np") as file:
        return dict(file.metadata() or {})


def is_described(path: Path) -> bool:
    """Whether a file is one of safetensors that describes its network. Raises WeightsError if it cannot be read."""
    try:
        with path.open("rb") as file:
            begin = file.read(9)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    return begin[8:] == b"{" and METADATA_KEY in read_metadata(path)


def stored_types(path: Path) -> set[str]:
    """Names of the types of a component's tensors, as `--dtype` gives them. Raises WeightsError if it is not one."""
    with opened(path, "np") as file:
        types = {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118
    return {_TYPE_NAMES.get(name, name) for name in types}


@contextmanager
def opened(path: Path, framework: str) -> Iterator[Any]:
    """A safetensors file, for tensors of `framework`: `pt` or `np`. Raises WeightsError if it is not one."""
    try:
        # safetensors reports every file that it cannot open as missing, and reads any header.
        _check_header(path)
        with safe_open(path, framework=framework) as file:
            if len(file.keys()) > _MOST_TENSORS:
                raise ValueError(f"it has {len(file.keys())} tensors")
            yield file
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    # Types that torch does not have end in these, too.
    except (
        SafetensorError,
        RuntimeError,
        ValueError,
        AttributeError,
        KeyError,
        TypeError,
    ) as error:
        found = about_bytes(path)
        if is_intact(found) and made_again(path) == ANEW:
            raise WeightsError(f"{path} is {found}; {TAKEN}") from error
        raise WeightsError(
            f"{path} cannot be read as a safetensors file ({f'it is {found}' if found else first_words(error)}): "
            f"{made_again(path)}"
        ) from error


def _check_header(path: Path) -> None:
    """Raise ValueError if a header is larger than any weights file's, or than the file; OSError."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if size > min(_MOST_HEADER_BYTES, path.stat().st_size):
        raise ValueError(f"its header would have {size} bytes")


def made_again(path: Path) -> str:
    """What to do about a damaged file: a command rebuilds a known component."""
    if path.suffix != ".safetensors" or path.stem not in COMPONENTS:
        return ANEW
    return f"`starvsr download-weights {path.stem} --dir {shlex.quote(str(path.parent))}` makes it again"
