"""Frames to latents and back: resizing, padding, the autoencoder's tiles. Latents live in main memory."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from starvsr.attempts import Attempts
from starvsr.blend import windowed, windowed_stream
from starvsr.layout import Layout, autoencoder_grid
from starvsr.models.autoencoder import Autoencoder
from starvsr.noise import FrameNoise
from starvsr.upsample import upsample, upsample_unshuffled
from starvsr.windows import Block, Grid

# Draws 0, 1, ... are the sampler's.
POSTERIOR_DRAW = 1 << 32


def _padded(pictures: Tensor, layout: Layout) -> Tensor:
    """`t c h w` completed to a legal size; white as published, or by repeating the border, which has no edge."""
    if layout.published:
        return functional.pad(pictures, layout.padding, value=1.0)
    return functional.pad(pictures, layout.padding, mode="replicate")


class LatentCoder:
    """Encodes and decodes runs of frames with one autoencoder, piece by piece as the layout in use says."""

    def __init__(self, autoencoder: Autoencoder, attempts: Attempts, seed: int) -> None:
        self.autoencoder, self.attempts, self.seed = autoencoder, attempts, seed
        self.factor = autoencoder.factor

    def encode(self, frames: Tensor, size: tuple[int, int], first_frame: int) -> Tensor:
        """The latents of upsampled, padded frames, `1 c t h w` float32, made frame by frame.

        frames: `t c h w` float32 in [-1, 1]; size: rows and columns of the output; first_frame: the absolute index by
        which the posterior is sampled. Raises MemoryLimitError.
        """
        spec, layout, factor = self.attempts.spec, self.attempts.layout, self.factor
        latent = layout.latent
        same_factor = size == (factor * frames.shape[2], factor * frames.shape[3])
        z = torch.empty(1, self.autoencoder.latent_channels, len(frames), *latent)
        for index in range(len(frames)):
            frame, where = frames[index : index + 1], slice(index, index + 1)
            if spec.autoencoder.kind == "pixel_unshuffle" and same_factor:
                z[:, :, index] = upsample_unshuffled(frame, factor, latent, spec.upsampling)
                continue
            upsampled = _padded(upsample(frame, size, spec.upsampling), layout)
            noise = None
            if layout.autoencoder.posterior == "sample":
                draw = FrameNoise(self.seed, first_frame + index, z[:, :, where].shape, "cpu")
                noise = draw(POSTERIOR_DRAW)
            tiles = partial(self._encode_tiles, upsampled[:, :, None], noise)
            z[:, :, where] = self.attempts.autoencoder(tiles)
        return z

    def _encode_tiles(self, picture: Tensor, noise: Tensor | None) -> Tensor:
        """`1 3 1 h w -> 1 c 1 h/factor w/factor`, tile by tile."""
        factor = self.factor
        tiles = autoencoder_grid(self.attempts.layout, 1)
        pixels = Grid(
            tiles.frames,
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
        return windowed(encode, picture, pixels, scale=(Fraction(1), shrink, shrink))

    def decode(self, z: Tensor) -> Iterator[Tensor]:
        """Pictures `t 3 h*factor w*factor` float32 in runs, in order, each once no later chunk covers it.

        z: `1 c t h w`. Raises MemoryLimitError.
        """
        layout, factor = self.attempts.layout, Fraction(self.factor)
        times = autoencoder_grid(layout, z.shape[2]).frames
        chunks = Grid(times, *(((0, side),) for side in layout.latent))

        def decode(block: Tensor, _: Block) -> Tensor:
            return self.attempts.autoencoder(partial(self._decode_tiles, block))

        for run in windowed_stream(decode, z, chunks, scale=(Fraction(1), factor, factor)):
            yield run[0].transpose(0, 1)

    def _decode_tiles(self, latent: Tensor) -> Tensor:
        """`1 c t h w -> 1 3 t h*factor w*factor`, tile by tile."""
        factor = Fraction(self.factor)
        return windowed(
            lambda block, _: self.autoencoder.decode(block).cpu(),
            latent,
            autoencoder_grid(self.attempts.layout, latent.shape[2]),
            scale=(Fraction(1), factor, factor),
        )
