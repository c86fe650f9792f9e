"""Networks in ncnn's format, written for tests."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

FP16_TAG = 0x01306B47


def tagged(values: Tensor, *, half: bool = False) -> bytes:
    """A convolution's weights, as a `.bin` file has them."""
    kind = "<f2" if half else "<f4"
    content = values.detach().numpy().astype(kind).tobytes()
    return struct.pack("<I", FP16_TAG if half else 0) + content + b"\0" * (-len(content) % 4)


def plain(values: Tensor) -> bytes:
    """Biases and slopes."""
    return values.detach().numpy().astype(np.float32).tobytes()


def write_ncnn(param: Path, lines: Sequence[str], weights: bytes = b"") -> Path:
    """A `.param` file of these layers, and the `.bin` file beside it."""
    blobs = sum(int(line.split()[3]) for line in lines)
    param.write_text("\n".join(["7767517", f"{len(lines)} {blobs}", *lines, ""]))
    param.with_suffix(".bin").write_bytes(weights)
    return param


def write_enlarger(param: Path, factor: int, mode: int = 1) -> Path:
    """Interpolates, nearest (mode 1) or bilinearly (2)."""
    return write_ncnn(
        param,
        ["Input in 0 1 data", f"Interp up 1 1 data out 0={mode} 1={factor}.0 2={factor}.0"],
    )
