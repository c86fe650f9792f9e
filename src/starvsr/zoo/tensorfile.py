"""Writes safetensors files one tensor at a time, so that at most one is in memory.

The library's own writer takes all tensors at once, already in the type to be written. The format is a
little-endian 8-byte length, that many bytes of JSON, and the tensors' bytes
(https://huggingface.co/docs/safetensors/index#format).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from starvsr.media.files import complete_or_absent, written_errors

DTYPES = {torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
"""Types in which weights are stored, and the format's names for them."""
_NAMES = {**DTYPES, torch.uint8: "U8"}
_ALIGNMENT = 64
"""Bytes; vector instructions read mapped tensors from multiples of this fastest."""
_PIECE = 1 << 24
"""Elements converted and written at once."""


def write_tensors(
    target: Path,
    tensors: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    *,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a safetensors file, whole or not at all.

    tensors: of `DTYPES` or uint8, with any strides, on the CPU; best mapped from a file, since they are read in
    sequence. metadata: text by name. dtype: the type to convert all to; None keeps each one's own. Raises OutputError
    if the file cannot be written, and then `target` is unchanged.
    """
    order = sorted(tensors, key=lambda name: _place(tensors[name], dtype))
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name in order:
        tensor, kind = tensors[name], dtype or tensors[name].dtype
        begin, end = end, end + tensor.numel() * kind.itemsize
        header[name] = {
            "dtype": _NAMES[kind],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGNMENT)
    with complete_or_absent(target) as partial, written_errors(target), partial.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            _write(file, tensors[name], dtype)


def _place(tensor: Tensor, dtype: torch.dtype | None) -> tuple[int, bool]:
    """Sorts wide types first and odd sizes last, so that tensors stay aligned; else in the order of use."""
    size = (dtype or tensor.dtype).itemsize
    return -size, tensor.numel() * size % _ALIGNMENT != 0


def _write(file: BinaryIO, tensor: Tensor, dtype: torch.dtype | None) -> None:
    for piece in torch.split(tensor.detach().reshape(-1), _PIECE):
        file.write(piece.to(dtype or tensor.dtype).view(torch.uint8).numpy().data)
