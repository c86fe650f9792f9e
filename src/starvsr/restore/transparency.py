"""Alpha bypasses the network: it is resized separately, and hidden colours are kept from bleeding into edges.

Colour is straight, not multiplied by alpha. Under transparent areas it is often black or arbitrary, and a network would
draw it into the edge; so it is replaced by the nearest visible colour.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

Frame = npt.NDArray[np.uint16]
Alpha = npt.NDArray[np.uint16]


def split_alpha(frames: list[Frame]) -> tuple[list[Frame], list[Alpha]]:
    """Frames (`h w 4` uint16) as pictures (`h w 3`) with their transparent areas filled, and alpha (`h w`)."""
    pictures, alphas = [], []
    for frame in frames:
        alpha = np.ascontiguousarray(frame[..., 3])
        pictures.append(_filled(frame[..., :3], alpha))
        alphas.append(alpha)
    return pictures, alphas


def join_alpha(picture: Frame, alpha: Alpha) -> Frame:
    """A picture (`H W 3`) with alpha (`h w`), resized to it (bicubic), as `H W 4` uint16."""
    rows, columns = picture.shape[:2]
    return np.dstack([picture, resized_alpha(alpha, (rows, columns))])


def resized_alpha(alpha: Alpha, size: tuple[int, int]) -> Alpha:
    """Alpha (`h w`) at another size (rows, columns), bicubic."""
    if alpha.shape == size:
        return alpha
    plane = torch.from_numpy(alpha.astype(np.float32))[None, None]
    plane = functional.interpolate(plane, size=size, mode="bicubic", antialias=True)
    return plane[0, 0].clamp_(0, 65535).round_().numpy().astype(np.uint16)


def _filled(picture: Frame, alpha: Alpha) -> Frame:
    """The picture with the mean colour of the nearest visible pixels wherever alpha is 0."""
    hidden = alpha == 0
    if not hidden.any() or hidden.all():
        return np.ascontiguousarray(picture)
    colour = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    weight = torch.from_numpy(alpha.astype(np.float32) / 65535)[None, None]
    around = _spread(colour * weight, weight)[0].permute(1, 2, 0).round_().numpy().astype(np.uint16)
    return np.where(hidden[..., None], around, picture)


def _spread(colour: Tensor, weight: Tensor) -> Tensor:
    """Weighted means of `1 c h w` where there is weight; where there is none, of the least larger area that has some.

    colour: already multiplied by weight, `1 1 h w`; some weight must be above 0.
    """
    mean = colour / weight.clamp_min(torch.finfo(weight.dtype).tiny)
    if bool((weight > 0).all()):
        return mean
    rows, columns = weight.shape[2:]
    smaller = [
        functional.avg_pool2d(each, 2, ceil_mode=True, count_include_pad=False)
        for each in (colour, weight)
    ]
    coarse = functional.interpolate(
        _spread(*smaller), scale_factor=2, mode="bilinear", align_corners=False
    )
    return torch.where(weight > 0, mean, coarse[..., :rows, :columns])
