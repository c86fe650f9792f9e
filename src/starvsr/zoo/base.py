"""VEnhancer's checkpoints, from which STAR was trained, as parameters of STAR's network.

Theirs is the same network without LIEM; its control branch also embeds the scale and the noise of its hint, which STAR
does not have. The names were read from Vchitect/VEnhancer 4ece756, `video_to_video/modules/unet_v2v.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.zoo.checkpoint import listed, misfits, not_plain
from starvsr.zoo.convert import from_published, to_published
from starvsr.zoo.foreign import about_names
from starvsr.zoo.identify import read_tensors

_LEFT_OUT = ("VideoControlNet.hint_time_zero_linear.", "VideoControlNet.scale_cond.")
_GATES = (".local1.conv1.weight", ".local2.conv1.weight")


def read_base(path: Path, fresh: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """STAR's parameters from a checkpoint of VEnhancer or of STAR, a `.pt` or safetensors with the published names.

    fresh: new weights of the network to be trained; LIEM's gates are taken from them where the checkpoint has none.
    Raises WeightsError if the file cannot be read or is of another network.
    """
    wanted = to_published(fresh)
    tensors = read_tensors(path)
    found = {name: tensor for name, tensor in tensors.items() if not name.startswith(_LEFT_OUT)}
    if not any(name.endswith(_GATES) for name in found):
        found |= {name: tensor for name, tensor in wanted.items() if name.endswith(_GATES)}
    problems = misfits(wanted, found) or not_plain(found)
    if problems:
        what = "" if wanted.keys() & tensors.keys() else about_names(tensors)
        raise WeightsError(
            f"{path} {f'is {what}, and ' if what else ''}has neither VEnhancer's nor STAR's parameters for this "
            f"network, in {len(problems)} tensors: {listed(problems)}"
        )
    return from_published(found)
