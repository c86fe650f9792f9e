"""What is done to decoded pictures: colour fix, `--sharpen`, `--blend`."""

from __future__ import annotations

import torch
from torch import Tensor

from starvsr.options import LookOptions
from starvsr.restore.colorfix import apply_color_fix
from starvsr.restore.sharpen import sharpen_luma_
from starvsr.restore.upsample import upsample

_DETAIL = 0.375
"""Deviation, in pixels of the input, of the Gaussian that tells fine detail from the rest."""


def finished_look(
    pictures: Tensor,
    source: Tensor,
    size: tuple[int, int],
    scale: float,
    *,
    look: LookOptions,
    color_fix: str,
    upsampling: str,
) -> Tensor:
    """Decoded pictures (`t c H W`, of `size`; may be overwritten) of the frames `source` (`t c h w`), with the colour
    fix, sharpened, and blended with the input; in [-1, 1]. scale: rows of the output per row of the original frames."""
    # Before the fix too, as in the published code: it matches the statistics of visible values.
    pictures = pictures.clamp_(-1, 1)
    if color_fix == "wavelet" or look.blend > 0:
        upsampled = upsample(source, size, upsampling)
    else:
        # Neither adain nor none looks at it.
        upsampled = pictures
    pictures = apply_color_fix(color_fix, pictures, source, upsampled)
    if look.sharpen:
        pictures = sharpen_luma_(pictures, look.sharpen, sigma=_DETAIL * scale)
    if look.blend > 0:
        pictures = torch.lerp(pictures, upsampled, look.blend)
    return pictures.clamp_(-1, 1) if look.sharpen or look.blend else pictures
