"""Unit normal noise per frame, independent of how the work is split."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


class FrameNoise:
    """Unit normal noise by seed, draw and absolute frame index, independent of how the work is split.

    `noise(draw)` is `b c t h w` of the given shape on the given device, drawn on the CPU. Latent frames of several
    frames are only those of one run, and there it is by the run's first frame and their own index.
    """

    def __init__(
        self,
        seed: int,
        first_frame: int,
        shape: torch.Size,
        device: torch.device | str,
        *,
        by_run: bool = False,
    ) -> None:
        self.seed, self.first_frame, self.shape, self.device = seed, first_frame, shape, device
        self.by_run = by_run

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
        return noise.to(self.device)
