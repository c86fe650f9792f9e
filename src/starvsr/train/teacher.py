"""A teacher: another network, whose restorations are learned from instead of, or beside, the ground truth.

What it restores stands for itself: where the truth is one of many pictures that fit the input, it is a single one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from starvsr.errors import UsageError
from starvsr.options import DeviceOptions, Precision
from starvsr.restore.restorer import Restorer
from starvsr.train.ncnn import of_rgb, read_ncnn
from starvsr.zoo.hashes import file_sha256

PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True)
class TeacherConfig:
    """Which network teaches, and what its pictures are taken for.

    Raises ValueError for values that mean nothing.
    """

    path: str = ""
    """A network of ncnn (`NAME.param`, with `NAME.bin` beside it) or a model file (`.safetensors`), relative to the
    configuration's folder."""
    real: bool = True
    """Its pictures are what the adversary calls real; otherwise the ground truth is."""
    target: float = 0.0
    """Fraction of its pictures in what the network learns to give; the rest is the ground truth."""
    degradations: tuple[str, ...] = ()
    """Only clips that were degraded by one of these are learned from it, the others from the ground truth; empty: all.
    It restores no others, which saves its time."""

    precision: str = "fp32"
    """In which it computes: `fp32`, or `bf16`, which is quicker where the CPU has units for it and changes its pictures
    by less than a level on average."""

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision {self.precision!r} must be one of {', '.join(PRECISIONS)}")
        if not self.path.endswith((".param", ".safetensors")):
            raise ValueError(f"path {self.path!r} must end in .param or .safetensors")
        if not 0 <= self.target <= 1:
            raise ValueError(f"target {self.target} must be 0 to 1")
        if not self.real and not self.target:
            raise ValueError("real = false and target = 0 leave it no effect: give one of them")


class Teacher:
    """Restores clips; loaded where it is first used, so that a worker process gets its path alone."""

    def __init__(self, config: TeacherConfig, folder: Path, scale: int) -> None:
        """folder: what its path is relative to. Raises UsageError if a file is missing."""
        self.config, self.path, self.scale = config, folder / config.path, scale
        path = self.path
        self._restore: Callable[[Tensor], Tensor] | None = None
        weights = (path, path.with_suffix(".bin")) if path.suffix == ".param" else (path,)
        for file in weights:
            if not file.is_file():
                raise UsageError(f"[teacher] path: {file} is not a file")
        changes = [
            *sorted(config.degradations),
            *([config.precision] * (config.precision != "fp32")),
        ]
        digests = "".join([*map(file_sha256, weights), *changes])
        self.digest = hashlib.sha256(digests.encode()).hexdigest()

    def teaches(self, degradation: str | None) -> bool:
        """Whether clips degraded like this are learned from it; None: they came degraded."""
        return not self.config.degradations or degradation in self.config.degradations

    def check(self) -> None:
        """Load it once. Raises WeightsError, and UsageError for one of ncnn that gives other pictures."""
        self._restore = self._loaded()
        if self.path.suffix == ".param":
            self(torch.zeros(1, 3, 16, 16))
        self._restore = None

    def __call__(self, degraded: Tensor) -> Tensor:
        """Frames `t 3 h w` to `t 3 (scale h) (scale w)`, both in [0, 1], on the CPU.

        Raises WeightsError if its file cannot be read, UsageError if it restores to another size.
        """
        if self._restore is None:
            self._restore = self._loaded()
        half = self.config.precision == "bf16"
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            restored = self._restore(degraded).float()
        if restored.shape[-3] != 3:
            raise UsageError(
                f"[teacher] path = {str(self.path)!r} gives pictures of {restored.shape[-3]} channels: give a "
                "network of RGB"
            )
        size, expected = restored.shape[-2:], [self.scale * side for side in degraded.shape[-2:]]
        if list(size) != expected:
            raise UsageError(
                f"[teacher] path = {str(self.path)!r} restores {degraded.shape[-2]}x{degraded.shape[-1]} to "
                f"{size[0]}x{size[1]}: give a network that enlarges {self.scale}x, as [data] scale says"
            )
        return restored.clamp(0, 1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_restore": None}

    def _loaded(self) -> Callable[[Tensor], Tensor]:
        if self.path.suffix != ".param":
            # `auto` would be another precision on another machine, and the bank's name would not say so.
            precision = cast(Precision, self.config.precision)
            restorer = Restorer.from_name(str(self.path), device=DeviceOptions(precision=precision))
            return lambda frames: restorer(frames, scale=self.scale)
        network = of_rgb(read_ncnn(self.path), f"[teacher] path = {str(self.path)!r}").to(
            memory_format=torch.channels_last
        )  # type: ignore[call-overload]
        return lambda frames: torch.cat([network(frame[None])[0] for frame in frames])
