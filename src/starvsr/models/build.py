"""The network that a configuration describes."""

from __future__ import annotations

from starvsr.models.cogvideox import StarCogVideoX
from starvsr.models.network import VideoNetwork
from starvsr.models.recurrent import RecurrentNet
from starvsr.models.unet import StarUNet
from starvsr.types import CogVideoXConfig, NetworkConfig, RecurrentConfig


def build_network(config: NetworkConfig) -> VideoNetwork:
    """A network with new weights. Raises ValueError where its sizes do not fit together."""
    if isinstance(config, RecurrentConfig):
        return RecurrentNet(config)
    if isinstance(config, CogVideoXConfig):
        return StarCogVideoX(config)
    return StarUNet(config)
