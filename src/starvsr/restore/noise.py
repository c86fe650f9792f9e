"""Unit normal noise per frame, independent of how the work is split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class FrameNoise:
    """Unit normal noise by seed, draw and absolute frame index, independent of how the work is split.

    `noise(draw)` is `b c t h w` of the given shape, on the CPU.
    """

    seed: int
    first_frame: int
    shape: torch.Size
    by_run: bool = False
    """Draw by the run's first frame and the index in the run: a latent frame of several frames belongs to one run."""

    def __call__(self, draw: int) -> Tensor:
        batch, channels, frames, height, width = self.shape
        noise = torch.empty(self.shape)
        for offset in range(frames):
            place = (self.first_frame, offset) if self.by_run else (self.first_frame + offset,)
            key = np.random.SeedSequence((self.seed % 2**64, draw, *place))
            values = np.random.Generator(np.random.Philox(key)).standard_normal(
                (batch, channels, height, width), dtype=np.float32
            )
            noise[:, :, offset] = torch.from_numpy(values)
        return noise
