"""Frames to latents and back: resizing, padding, the autoencoder's tiles. Latents live in main memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from starvsr.models.autoencoder import Autoencoder
from starvsr.plan.layout import Layout, autoencoder_grid
from starvsr.plan.windows import Block, Grid, frames_of, latent_frames
from starvsr.restore.blend import windowed, windowed_stream
from starvsr.restore.fallback import Attempts
from starvsr.restore.noise import FrameNoise
from starvsr.restore.upsample import upsample, upsample_unshuffled

# Draws 0, 1, ... are the sampler's.
POSTERIOR_DRAW = 1 << 32


def _padded(pictures: Tensor, layout: Layout) -> Tensor:
    """`t c h w` padded to a legal size, white as published, or by repeating the border, which adds no edge."""
    if layout.published:
        return functional.pad(pictures, layout.padding, value=1.0)
    return functional.pad(pictures, layout.padding, mode="replicate")


class LatentCoder:
    """Encodes and decodes runs of frames with one autoencoder, in pieces as the current layout says."""

    def __init__(self, autoencoder: Autoencoder, attempts: Attempts, seed: int) -> None:
        self.autoencoder, self.attempts, self.seed = autoencoder, attempts, seed
        self.factor, self.time_factor = autoencoder.factor, attempts.spec.autoencoder.time_factor

    def encode(self, frames: Tensor, size: tuple[int, int], first_frame: int) -> Tensor:
        """The latents of upsampled, padded frames, `1 c t h w` float32, made frame by frame, or of all frames together
        where a latent frame is of several.

        frames: `t c h w` float32 in [-1, 1]; size: rows and columns of the output; first_frame: the absolute index by
        which the posterior is sampled. Raises MemoryLimitError.
        """
        spec, layout, factor = self.attempts.spec, self.attempts.layout, self.factor
        latent, length = layout.latent, latent_frames(len(frames), self.time_factor)
        same_factor = size == (factor * frames.shape[2], factor * frames.shape[3])
        if spec.autoencoder.kind == "pixel_unshuffle" and same_factor:
            return self._encode_plainly(frames)
        z = torch.empty(1, self.autoencoder.latent_channels, length, *latent)
        if self.time_factor > 1:
            missing = frames_of(length, self.time_factor) - len(frames)
            complete = torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)])
            return self._encode_together(complete, size, first_frame, z)
        for index in range(len(frames)):
            frame, where = frames[index : index + 1], slice(index, index + 1)
            z[:, :, where] = self._encode_together(frame, size, first_frame + index, z[:, :, where])
        return z

    def _encode_plainly(self, frames: Tensor) -> Tensor:
        """The latents of pictures that are `factor` times as large as the frames, without making these."""
        spec, latent = self.attempts.spec, self.attempts.layout.latent
        # The network's memory format: sums of mixed formats take ten times as long.
        order = torch.channels_last if spec.network.recurrent else torch.contiguous_format
        each = [
            upsample_unshuffled(frame, self.factor, latent, spec.upsampling)
            .contiguous(memory_format=order)
            .unsqueeze(2)
            for frame in torch.split(frames, 1)
        ]
        return each[0] if len(each) == 1 else torch.cat(each, 2)

    def _encode_together(
        self, frames: Tensor, size: tuple[int, int], first_frame: int, like: Tensor
    ) -> Tensor:
        """The latent of frames that the autoencoder sees at once, of the shape of `like`."""
        layout = self.attempts.layout
        upsampled = _padded(upsample(frames, size, self.attempts.spec.upsampling), layout)
        noise = None
        if layout.autoencoder.posterior == "sample":
            drawn = FrameNoise(self.seed, first_frame, like.shape, by_run=self.time_factor > 1)
            noise = drawn(POSTERIOR_DRAW)
        tiles = partial(self._encode_tiles, upsampled.transpose(0, 1)[None], noise)
        return self.attempts.autoencoder(tiles)

    def _encode_tiles(self, pictures: Tensor, noise: Tensor | None) -> Tensor:
        """`1 3 t h w -> 1 c t' h/factor w/factor`, tile by tile."""
        factor, frames = self.factor, pictures.shape[2]
        tiles = autoencoder_grid(self.attempts.layout, 1)
        pixels = Grid(
            ((0, frames),),
            *(
                tuple((start * factor, stop * factor) for start, stop in spans)
                for spans in (tiles.rows, tiles.columns)
            ),
        )

        def encode(block: Tensor, where: Block) -> Tensor:
            rows, columns = (
                slice(start // factor, stop // factor)
                for start, stop in (where.rows, where.columns)
            )
            drawn = None if noise is None else noise[..., rows, columns]
            return self.autoencoder.encode(block, drawn).cpu()

        shrink = Fraction(1, factor)
        shorter = Fraction(latent_frames(frames, self.time_factor), frames)
        return windowed(encode, pictures, pixels, scale=(shorter, shrink, shrink))

    def decode(self, z: Tensor) -> Iterator[Tensor]:
        """Pictures `t 3 h*factor w*factor` float32 in runs, in order, each as soon as no later chunk covers it.

        z: `1 c t h w`. Of frames that were completed there are more pictures than frames. Raises MemoryLimitError.
        """
        layout, factor = self.attempts.layout, Fraction(self.factor)
        times = autoencoder_grid(layout, z.shape[2]).frames
        chunks = Grid(times, *(((0, side),) for side in layout.latent))

        def decode(block: Tensor, _: Block) -> Tensor:
            return self.attempts.autoencoder(partial(self._decode_tiles, block))

        scale = (self._longer(z), factor, factor)
        for run in windowed_stream(decode, z, chunks, scale=scale):
            pictures = run[0].transpose(0, 1)
            # A few at a time, to bound memory.
            yield from torch.split(
                pictures, self.time_factor if self.time_factor > 1 else len(pictures)
            )

    def _decode_tiles(self, latent: Tensor) -> Tensor:
        """`1 c t h w -> 1 3 t' h*factor w*factor`, tile by tile."""
        factor = Fraction(self.factor)
        return windowed(
            lambda block, _: self.autoencoder.decode(block).cpu(),
            latent,
            autoencoder_grid(self.attempts.layout, latent.shape[2]),
            scale=(self._longer(latent), factor, factor),
        )

    def _longer(self, latent: Tensor) -> Fraction:
        """Pictures per latent frame of a block."""
        return Fraction(frames_of(latent.shape[2], self.time_factor), latent.shape[2])
