"""A large picture in strips of rows: each is restored with margins as wide as what a result can depend on, and cut out.

Only for networks of which a result depends on what is near. The strips give the whole picture's samples, whatever their
number, in the memory of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from starvsr.options import LookOptions
from starvsr.plan.settings import Settings
from starvsr.plan.windows import Span
from starvsr.types import ModelSpec, RecurrentConfig

STRIP_ELEMENTS = 1 << 20
"""Latent elements of a strip with its margins, at most, where rows are not too long; smaller pictures are whole."""
# Rows of a strip: dither and networks repeat every so many.
_MULTIPLE = 8
_LEAST_ROWS = 32
# Rows of the input that resizing it looks at, to either side.
_RESIZED = 2
_GATE, _BLOCK = 3, 2
# Output pixels that `wavelet` looks at, to either side, and `--sharpen` for each of its input pixels.
_WAVELET_PX, _SHARPEN_PX = 31, 1.125


@dataclass(frozen=True)
class Strip:
    """Rows of the latent."""

    rows: Span
    """That it gives."""
    outer: Span
    """That it is made of."""


def strip_margin(
    spec: ModelSpec,
    settings: Settings,
    look: LookOptions,
    latent: tuple[int, int],
    scale: float,
) -> int:
    """Latent rows around a strip on which it may depend; 0 where a picture has to be, or is small enough to be, whole.

    latent: its rows and columns. scale: output rows per row of the input.
    """
    if spec.solver != "one_step" or not spec.network.recurrent or settings.color_fix == "adain":
        return 0
    pixels = _WAVELET_PX if settings.color_fix == "wavelet" else 0
    pixels += math.ceil(_SHARPEN_PX * scale) if look.sharpen else 0
    factor = spec.autoencoder.factor
    resized = math.ceil(_RESIZED * scale / factor)
    reach = network_reach(spec.network) + resized + math.ceil(pixels / factor)
    margin = -(-reach // _MULTIPLE) * _MULTIPLE
    return margin if len(strips(latent, margin)) > 1 else 0


def network_reach(config: RecurrentConfig) -> int:
    """Elements to either side on which a result of `models.recurrent` depends in its first frame."""
    block = _BLOCK + (_GATE if config.liem else 0)
    # At half the size; one more for the convolution to it, and one for the pair that each of its rows becomes.
    halved = 2 * config.deep_blocks * block + 2
    # Three convolutions of pixels, from a block's last row.
    side = math.isqrt(config.latent_channels // 3)
    full_size = (side + 2) // side if config.full_width else 0
    # Stem, entry and head.
    return full_size + 3 + (config.blocks_before + config.blocks_behind) * block + halved


def strips(latent: tuple[int, int], margin: int) -> tuple[Strip, ...]:
    """The strips of a picture, from top to bottom; one where it fits, or where there is no margin."""
    rows, columns = latent
    fitting = (STRIP_ELEMENTS // columns - 2 * margin) // _MULTIPLE * _MULTIPLE
    length = max(fitting, _LEAST_ROWS)
    if not margin or rows * columns <= STRIP_ELEMENTS or rows <= length + 2 * margin:
        return (Strip((0, rows), (0, rows)),)
    spans = [(top, min(top + length, rows)) for top in range(0, rows, length)]
    return tuple(Strip((a, b), (max(0, a - margin), min(rows, b + margin))) for a, b in spans)
