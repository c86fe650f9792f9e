"""The model that is trained: where it starts, which of its parameters change, and their average over steps."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from starvsr.errors import UsageError, WeightsError
from starvsr.models.build import build_network, counted
from starvsr.models.device import device_info
from starvsr.models.layers import FrameConvBranch
from starvsr.models.liem import FrameGate, SpatialGate
from starvsr.models.network import VideoNetwork
from starvsr.models.recurrent import GatedBlock, Motion, deepened, is_deeper
from starvsr.models.stages import Block
from starvsr.models.transformers import TemporalTransformer
from starvsr.options import DeviceOptions, WeightsOptions
from starvsr.specs import SPECS
from starvsr.train.config import DataConfig, ModelConfig
from starvsr.types import ModelSpec, RecurrentConfig, UNetConfig
from starvsr.zoo.base import read_base
from starvsr.zoo.choose import choose_model
from starvsr.zoo.load import LoadedModel, load_choice, save_model
from starvsr.zoo.spec_json import spec_from_json, spec_to_json

INITIAL_NAME = "initial.safetensors"


def start_model(
    config: ModelConfig,
    output: Path,
    device: str,
    *,
    seed: int,
    folder: Path,
    weights: WeightsOptions | None = None,
) -> tuple[LoadedModel, tuple[Path, ...]]:
    """The model that training starts from, in float32 on a device, and the folders of its components.

    device: a torch device string. output: an existing folder; a model with new weights, or a checkpoint's, is written
    there first, the same for the same seed. folder: what paths are relative to. Raises WeightsError if the base is
    missing or does not fit its changed description, UsageError for invalid changes.
    """
    info = device_info(device)
    whose, equals, place = config.base.partition("=")
    whose, place = (f"{whose}=", place) if equals and whose in SPECS else ("", config.base)
    is_path = "/" in place or Path(place).suffix
    name = f"{whose}{folder / place if is_path else place}"
    try:
        choice = choose_model(name, info, weights)
    except (WeightsError, UsageError) as error:
        # Here the name is not from the command line.
        raise type(error)(str(error).replace("--model", "[model] base", 1)) from error
    spec = changed_spec(choice.spec, config)
    _check_start(config, spec, choice.spec)
    options = DeviceOptions(device=info.name, precision="fp32")
    deeper = spec.network != choice.spec.network
    if not config.pretrained or config.checkpoint or deeper:
        path = output / INITIAL_NAME
        state: Mapping[str, Tensor] = new_weights(spec, seed)
        if config.checkpoint:
            state = read_base(folder / config.checkpoint, state)
        elif config.pretrained:
            state = deepened(state, load_choice(choice, info, options).network.state_dict())
        save_model(path, spec, state)
        # Components lie beside the base, or in the weights folder.
        choice = dataclasses.replace(choice, path=path, missing=())
    # A model's file is found by its original name.
    as_named = dataclasses.replace(spec, name=choice.spec.name)
    model = load_choice(dataclasses.replace(choice, spec=as_named), info, options)
    return dataclasses.replace(model, spec=spec), choice.folders


def _check_start(config: ModelConfig, spec: ModelSpec, base: ModelSpec) -> None:
    """Raise UsageError for a start that training does not support, or one that contradicts itself."""
    if spec.start == "noise":
        raise UsageError(
            f"[model] base = {config.base!r} cannot be trained here: it starts from noise alone, and training supports "
            "models that start from the degraded latent: give a base such as nano or star-light"
        )
    if config.checkpoint and not config.pretrained:
        raise UsageError("[model] pretrained = false starts from new weights: leave out checkpoint")
    if config.checkpoint and not isinstance(spec.network, UNetConfig):
        raise UsageError(
            f"[model] checkpoint is of VEnhancer's or STAR's network, and base = {config.base!r} is another: give a "
            "base such as star-light, or leave checkpoint out"
        )
    fits = spec.network == base.network or (
        isinstance(spec.network, RecurrentConfig)
        and isinstance(base.network, RecurrentConfig)
        and is_deeper(spec.network, base.network)
    )
    if config.pretrained and not config.checkpoint and not fits:
        raise UsageError(
            "[model.spec.network] changes the network, so the base's weights cannot be used: also give pretrained "
            "= false, or change no more than to add blocks or full_width to a recurrent network"
        )


def changed_spec(base: ModelSpec, config: ModelConfig) -> ModelSpec:
    """The base's description with the configuration's changes. Raises UsageError."""
    fields = json.loads(spec_to_json(base))
    _merge(fields, config.spec, "model.spec")
    if config.name:
        fields["name"] = config.name
    try:
        text = json.dumps(fields)
    except TypeError as error:
        raise UsageError("[model.spec] contains a date or a time, which no key takes") from error
    try:
        return counted(spec_from_json(text))
    except WeightsError as error:
        raise UsageError(f"[model.spec] does not describe a model: {error}") from error
    except ValueError as error:
        raise UsageError(f"[model.spec.network] is not a valid network: {error}") from error


def _merge(fields: dict[str, Any], changes: Mapping[str, Any], where: str) -> None:
    for key, value in changes.items():
        if key not in fields:
            raise UsageError(f"[{where}] has no key {key}: allowed are {', '.join(sorted(fields))}")
        if isinstance(value, dict) and isinstance(fields[key], dict):
            _merge(fields[key], value, f"{where}.{key}")
        else:
            fields[key] = value


def new_weights(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """Weights of an untrained network, drawn from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(spec.network).state_dict()


def check_crop(spec: ModelSpec, data: DataConfig) -> None:
    """Raise UsageError for a crop whose latent the network does not accept."""
    factor, rule = spec.autoencoder.factor, spec.size_rule
    rows, columns = data.crop
    row_step = factor * rule.multiple
    legal = (
        rows % factor == 0
        and rows // factor % rule.multiple == rule.height_remainder
        and columns % row_step == 0
    )
    if not legal:
        more = f"{factor * rule.height_remainder} more than " if rule.height_remainder else ""
        raise UsageError(
            f"[data] crop = [{rows}, {columns}] does not fit the model {spec.name}: rows must be "
            f"{more}a multiple of {row_step}, columns a multiple of {row_step}"
        )


def trained_parameters(network: VideoNetwork, parts: str) -> dict[str, nn.Parameter]:
    """The parameters that `parts` (see `TrainConfig`) selects, by name; only they require a gradient.

    Raises UsageError if the network has none of them.
    """
    names = set(_names(network, parts))
    chosen = {}
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)
        if name in names:
            # Loaded weights may be mapped from their file, which must not change.
            parameter.data = parameter.data.clone()
            chosen[name] = parameter
    if not chosen:
        raise UsageError(f"parts = {parts!r} matches nothing in this network: give all")
    return chosen


def frozen_digest(network: VideoNetwork, trained: Container[str]) -> str:
    """A digest of the parameters that are not trained, on the CPU; of none, where all are."""
    digest = hashlib.sha256()
    for name, parameter in network.named_parameters():
        if name not in trained:
            digest.update(name.encode())
            content = parameter.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(content.numpy().tobytes())
    return digest.hexdigest()


def _names(network: VideoNetwork, parts: str) -> Iterator[str]:
    control = getattr(network, "control", None)
    if parts == "control+liem" and control is None:
        raise UsageError(
            "parts = 'control+liem' needs a control branch, and this network has none: give all, temporal or liem"
        )
    kinds: tuple[type[nn.Module], ...] = {
        "all": (type(network),),
        "liem": (SpatialGate, FrameGate),
        "control+liem": (SpatialGate, FrameGate),
        "temporal": (TemporalTransformer, FrameConvBranch, Motion),
    }[parts]
    for place, module in network.named_modules():
        whole = parts == "control+liem" and module is control
        if isinstance(module, kinds) or whole:
            yield from (f"{place}.{name}".lstrip(".") for name, _ in module.named_parameters())


def checkpoint_blocks(network: VideoNetwork) -> None:
    """Enable gradient checkpointing for the network's blocks."""
    for module in network.modules():
        if isinstance(module, (Block, GatedBlock)):
            # Reentrant mode runs them without autograd first, in place on their inputs.
            module.forward = partial(  # type: ignore[method-assign]
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )


class WeightAverage:
    """The exponential moving average of parameters, and the parameters themselves for decay 0."""

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = dict(parameters)
        self.values = {name: p.detach().clone() for name, p in parameters.items()}

    def update(self, step: int) -> None:
        """Update with the parameters after step `step` (from 0); early steps weigh more, so the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        now = [parameter.detach() for parameter in self.parameters.values()]
        with torch.no_grad():
            torch._foreach_lerp_(list(self.values.values()), now, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The averages are the network's parameters within."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.data, self.values[name] = self.values[name], parameter.data


def restore_values(targets: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    """Copy values into tensors of the same names, which keep their memory format (sums depend on it)."""
    with torch.no_grad():
        for name, target in targets.items():
            target.copy_(values[name])
