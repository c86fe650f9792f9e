"""The network that a configuration describes."""

from __future__ import annotations

import dataclasses
from functools import cache

import torch

from starvsr.models.cogvideox import StarCogVideoX
from starvsr.models.network import VideoNetwork
from starvsr.models.offload import units
from starvsr.models.recurrent import RecurrentNet
from starvsr.models.unet import StarUNet
from starvsr.types import CogVideoXConfig, ModelSpec, NetworkConfig, RecurrentConfig


def build_network(config: NetworkConfig) -> VideoNetwork:
    """A network with new weights. Raises ValueError if its sizes do not fit together."""
    if isinstance(config, RecurrentConfig):
        return RecurrentNet(config)
    if isinstance(config, CogVideoXConfig):
        return StarCogVideoX(config)
    return StarUNet(config)


def empty_network(config: NetworkConfig) -> VideoNetwork:
    """A network without memory for its weights. Raises ValueError if its sizes do not fit together."""
    try:
        with torch.device("meta"):
            return build_network(config)
    except RuntimeError as error:
        raise ValueError(str(error)) from error


def counted(spec: ModelSpec) -> ModelSpec:
    """The spec with its network's parameters counted, as a plan needs it. Raises ValueError as `empty_network`."""
    sizes = _unit_sizes(spec.network)
    return dataclasses.replace(spec, parameters=sum(sizes), largest_unit=max(sizes))


@cache
def _unit_sizes(config: NetworkConfig) -> tuple[int, ...]:
    return tuple(
        sum(parameter.numel() for parameter in unit.parameters())
        for unit in units(empty_network(config))
    )
