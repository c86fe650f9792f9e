"""Features of a trained network as a measure of how unlike two pictures look.

Where a pixel loss is least for the mean of all pictures that would fit, features of a trained network are alike for
pictures with the same kind of edges and texture (the perceptual loss of Johnson et al., 2016).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from starvsr.errors import UsageError
from starvsr.train.ncnn import of_rgb, read_ncnn
from starvsr.zoo.hashes import file_sha256

_LEAST = 1e-6
PLACES = 8
"""Rows and columns from which pictures may be cut by `cut_alike`, pixels."""


@dataclass(frozen=True)
class FeaturesConfig:
    """Which network's features are compared, and how much they count.

    Raises ValueError for values that mean nothing.
    """

    path: str = ""
    """A network of ncnn, `NAME.param` with `NAME.bin` beside it, relative to the configuration's folder. It takes RGB
    in [0, 1]."""
    layers: tuple[str, ...] = ()
    """Names of its layers whose outputs are compared, or of none: the outputs of the whole network."""
    weight: float = 0.1
    """Weight of the mean difference of the features, relative to their magnitude, over the layers."""

    def __post_init__(self) -> None:
        if not self.path.endswith(".param"):
            raise ValueError(f"path {self.path!r} must end in .param")
        if not all(self.layers):
            raise ValueError(f"layers {list(self.layers)} must be names of layers")
        if self.weight <= 0:
            raise ValueError(f"weight {self.weight} must be above 0")


class Features:
    """The network, and the loss of pictures against others of the same scenes."""

    def __init__(
        self,
        config: FeaturesConfig,
        folder: Path,
        device: torch.device,
        seed: int,
        *,
        dtype: torch.dtype,
    ) -> None:
        """folder: what its path is relative to. seed: of the places it looks at. dtype: in which it computes.

        Raises UsageError if its file is missing or has no such layer, WeightsError if it cannot be read.
        """
        path = folder / config.path
        if not path.is_file():
            raise UsageError(f"[features] path: {path} is not a file")
        try:
            network = read_ncnn(path, outputs=0, named=config.layers)
        except UsageError as error:
            raise UsageError(f"[features] layers: {error}") from error
        self.digest = "".join(map(file_sha256, (path, path.with_suffix(".bin"))))
        """Of the network's files."""
        self.network = of_rgb(network, f"[features] path = {str(path)!r}").to(device, dtype)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.seed, self.dtype = seed, dtype

    def loss(self, picture: Tensor, target: Tensor, step: int) -> Tensor:
        """Of restored pictures against their targets, both `b 3 t h w` in [-1, 1]: a mean over frames, from 0.

        step: from 0; decides the place that is looked at.
        """
        picture, target = cut_alike((picture, target), self.seed, step)
        ours = self.of(picture)
        with torch.no_grad():
            theirs = self.of(target)
        return mismatch(ours, theirs)

    def of(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Features of `b 3 t h w` in [-1, 1], float32 `(b t) c h w` each."""
        frames = rearrange(pictures, "b c t h w -> (b t) c h w").add(1).div(2)
        frames = frames.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return tuple(each.float() for each in self.network(frames))


def cut_alike(pictures: tuple[Tensor, ...], seed: int, step: int) -> Iterator[Tensor]:
    """Pictures `... h w`, all cut at one of `PLACES` x `PLACES` places, which changes from step to step.

    A network with strides weighs pixels by where its blocks begin, and would always meet the blocks of the restoring
    network at the same place. Their pictures then get a lattice, which an adversary tells by its place, so that the two
    take turns with one lattice and another.
    """
    top, left = np.random.default_rng([seed, step]).integers(PLACES, size=2)
    for each in pictures:
        rows, columns = (side - PLACES for side in each.shape[-2:])
        yield each[..., top : top + rows, left : left + columns]


def mismatch(features: tuple[Tensor, ...], real: tuple[Tensor, ...]) -> Tensor:
    """The mean absolute difference, relative to the mean magnitude of `real`: of each run by itself, as it may be alone
    in a batch, and averaged over the layers.

    Relative, since magnitudes differ from layer to layer, and drift where a network is still learning.
    """
    parts = []
    for ours, theirs in zip(features, real, strict=True):
        apart, magnitude = (
            each.abs().flatten(1).mean(1) for each in (ours - theirs.detach(), theirs.detach())
        )
        parts.append((apart / (magnitude + _LEAST)).mean())
    return torch.stack(parts).mean()
