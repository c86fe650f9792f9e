"""Frames as they come and go, in levels, and as networks see them; no model.

`finish` crossfades frames without the slow import of torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

# So many rows of a large frame stay in the CPU's cache while in use.
_CACHED_ROWS = 32
# What a resized clip may have beyond black and white.
_OVERSHOOT = 0.2

Frame = npt.NDArray[np.uint16]
"""`h w 3` RGB, 0..65535."""


Levels = npt.NDArray[Any]
"""`h w 3` RGB of uint8 (0..255), uint16 (0..65535) or float32 (0..1)."""

_WHITE = {"uint8": 255, "uint16": 65535, "float32": 1}


def check_clip(frames: object) -> None:
    """Refuse what would be restored as another picture than meant. Raises TypeError, ValueError."""
    from torch import Tensor

    if not isinstance(frames, Tensor):
        raise TypeError(
            f"frames must be a tensor, got {type(frames).__name__}: of a NumPy array x of t h w 3 in 0..255, give "
            "torch.from_numpy(x).permute(0, 3, 1, 2) / 255"
        )
    if frames.ndim != 4 or frames.shape[1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be t 3 h w with t > 0, got {tuple(frames.shape)}")
    if not frames.is_floating_point():
        raise TypeError(
            f"frames must be floats in [0, 1], got {frames.dtype}: of 8 bits, give x / 255"
        )
    _check_range(*(value.item() for value in frames.float().aminmax()))


def _check_range(low: float, high: float) -> None:
    """Of the values of frames. Raises ValueError unless black is 0 and white 1."""
    if not math.isfinite(low) or not math.isfinite(high):
        raise ValueError("frames must be in [0, 1], but contain NaN or infinity")
    if low < -_OVERSHOOT or high > 1 + _OVERSHOOT:
        raise ValueError(
            f"frames must be in [0, 1], got {low:g} to {high:g}: scale them, as in x / 255 or (x + 1) / 2"
        )


def frames_to_tensor(frames: Sequence[Levels]) -> Tensor:
    """Frames (`h w c`, of any type that `Levels` have) as `t c h w` float32 in [-1, 1], which no type changes."""
    height, width, channels = frames[0].shape
    values = np.empty((len(frames), channels, height, width), np.float32)
    # By NumPy, here and below: torch in another thread would start CPU threads beside the network's.
    for planes, frame in zip(values, frames, strict=True):
        planes[...] = frame.transpose(2, 0, 1)
    values /= np.float32(_WHITE[frames[0].dtype.name] / 2)
    values -= 1
    return _as_tensor(values)


def tensor_to_frames(pictures: Tensor, *, truncated: bool = False) -> Iterator[Frame]:
    """`t c h w` float32 in [-1, 1] as frames (`h w c` uint16, 0..65535), rounded to nearest.

    truncated: as the published code writes frames, with the 256 levels of 8 bits, each rounded down.
    """
    for picture in pictures.numpy():
        channels, height, width = picture.shape
        frame = np.empty((height, width, channels), np.uint16)
        for top in range(0, height, _CACHED_ROWS):
            rows = slice(top, top + _CACHED_ROWS)
            levels = picture[:, rows] + np.float32(1)
            if truncated:
                _truncate(levels)
            levels *= np.float32(32767.5)
            levels += np.float32(0.5)
            frame[rows] = levels.clip(0, 65535, out=levels).transpose(1, 2, 0)
        yield frame


def _as_tensor(values: npt.NDArray[Any]) -> Tensor:
    """A tensor on an array's memory."""
    import torch

    return torch.from_numpy(values)


def _truncate(levels: npt.NDArray[np.float32]) -> None:
    """Values 0..2 to the 256 levels of 8 bits in that range, each rounded down, in place."""
    levels *= np.float32(127.5)
    np.floor(levels.clip(0, 255, out=levels), out=levels)
    levels /= np.float32(127.5)
    # 257 levels of 16 bits are one of 8; what is not quite a level in float32 is not meant to be one less.
    levels -= 1
    levels += 1


def crossfade(old: Frame, new: Frame, place: int, count: int) -> Frame:
    """Frame `place` of the `count` frames in which one restoration of them passes into another."""
    share = (place + 1) / (count + 1)
    mixed = (1 - share) * old.astype(np.float32) + share * new
    return (mixed + 0.5).astype(np.uint16)


@dataclass(frozen=True)
class Kind:
    """In which form a caller has frames."""

    is_tensor: bool
    """PyTorch's, `3 h w`, else NumPy's, `h w 3`."""
    dtype: str
    """`uint8`, `uint16` or `float32`."""

    def __str__(self) -> str:
        return f"{'tensors' if self.is_tensor else 'arrays'} of {self.dtype}"

    def of(self, frame: Frame) -> Any:
        """A restored frame (`h w 3` uint16) in this form, rounded to the nearest level."""
        levels: Levels = frame
        if self.dtype == "uint8":
            levels = ((frame.astype(np.uint32) + 128) // 257).astype(np.uint8)
        elif self.dtype == "float32":
            levels = frame / np.float32(65535)
        if not self.is_tensor:
            return levels
        return _as_tensor(np.ascontiguousarray(levels.transpose(2, 0, 1)))


def copied(frame: object) -> tuple[Levels, Kind]:
    """A copy of a caller's frame, since the caller may use its memory again, and its form.

    frame: a NumPy array `h w 3` or a tensor `3 h w` on any device, RGB, of uint8 (0..255), uint16 (0..65535) or floats
    (0..1, and a little beyond). Raises TypeError for another type, ValueError for another shape or range.
    """
    from torch import Tensor

    if not isinstance(frame, Tensor | np.ndarray):
        raise TypeError(
            "a frame must be a NumPy array h w 3 or a tensor 3 h w, of uint8, uint16 or floats, got "
            f"{type(frame).__name__}; of a Pillow image, give numpy.asarray(image.convert('RGB'))"
        )
    is_tensor = isinstance(frame, Tensor)
    wanted, colours = ("3 h w", 0) if is_tensor else ("h w 3", 2)
    if frame.ndim != 3 or frame.shape[colours] != 3 or 0 in frame.shape:
        kind = "a tensor" if is_tensor else "an array"
        raise ValueError(f"a frame of {kind} must be {wanted} (RGB), got {tuple(frame.shape)}")
    if isinstance(frame, Tensor):
        is_float, name = frame.is_floating_point(), str(frame.dtype).removeprefix("torch.")
        here = frame.detach().cpu()
        values = (here.float() if is_float else here).numpy().transpose(1, 2, 0)
    else:
        is_float, name, values = frame.dtype.kind == "f", frame.dtype.name, frame
    if not is_float and name not in _WHITE:
        raise TypeError(
            f"a frame must be of uint8 (0..255), uint16 (0..65535) or floats (0..1), got {name}"
        )
    with np.errstate(over="ignore"):
        levels = np.array(values, np.float32 if is_float else name, order="C")
    if is_float:
        _check_range(float(levels.min()), float(levels.max()))
    return levels, Kind(is_tensor, levels.dtype.name)
