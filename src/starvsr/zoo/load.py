"""From a model's name or file to a network that is ready to run, and back to a file.

A model file is one safetensors file: the network's tensors under our names, and the spec as JSON in the metadata under
`starvsr`. Autoencoders and text encoders with weights are files of their own (see `components`). Weights are mapped
from the file and moved one at a time to the device and type they are used in, so loading takes no more memory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from starvsr.errors import UsageError, WeightsError
from starvsr.models.autoencoder import (
    Autoencoder,
    LinearAutoencoder,
    PixelUnshuffle,
    TemporalVAE,
)
from starvsr.models.build import empty_network
from starvsr.models.causal_vae import CausalVAE
from starvsr.models.compiled import compiler_for
from starvsr.models.device import attention_backend, device_info, network_dtype
from starvsr.models.network import VideoNetwork
from starvsr.models.offload import Offloaded, assign_weights, offload_blocks, placed
from starvsr.models.recurrent import deepened
from starvsr.options import Attention, DeviceOptions, Precision, WeightsOptions
from starvsr.plan.settings import check_detail
from starvsr.specs import EMBEDDED
from starvsr.types import DeviceInfo, ModelSpec
from starvsr.zoo.checkpoint import listed, misfits, not_plain, read_safetensors
from starvsr.zoo.choose import ModelChoice, choose_model
from starvsr.zoo.components import read_component_info
from starvsr.zoo.converted import convert
from starvsr.zoo.folder import embedded_file, find_component
from starvsr.zoo.identify import network_tensors
from starvsr.zoo.metadata import METADATA_KEY, is_described
from starvsr.zoo.spec_json import spec_to_json
from starvsr.zoo.tensorfile import write_tensors
from starvsr.zoo.text import contexts

_VAES: dict[str, type[TemporalVAE] | type[CausalVAE] | type[LinearAutoencoder]] = {
    "temporal_vae": TemporalVAE,
    "causal_vae": CausalVAE,
    "linear": LinearAutoencoder,
}

Mover = Callable[[], AbstractContextManager[None]]
"""Moves a part of a model to the device for as long as the context lasts."""


@dataclass(frozen=True)
class LoadedModel:
    """A model, in evaluation mode, its weights on the device or waiting for it in main memory."""

    spec: ModelSpec
    network: VideoNetwork
    autoencoder: Autoencoder
    context: Tensor
    """Text context, `1 n c`; zeros for a model without a text encoder."""
    negative_context: Tensor
    device: torch.device
    detail: float = 1.0
    """Of its weights, as in `LookOptions`."""
    dtype: torch.dtype = torch.float32
    """The type of the network's computation, its inputs and its result."""
    movers: Mapping[str, Mover] = field(default_factory=dict)
    """For each part whose weights wait in main memory, what moves them to the device."""

    def check_detail(self, detail: float | None) -> None:
        """Raise UsageError where another one is asked for, as in `LookOptions`, than the weights have."""
        if detail not in (None, self.detail):
            raise UsageError(f"--detail {detail:g}: the model was loaded with {self.detail:g}")

    def at_work(self, part: str) -> AbstractContextManager[None]:
        """Keeps the weights of `part`, `network` or `autoencoder`, on the device; outside they may not be.

        Raises ValueError for another part.
        """
        if part not in ("network", "autoencoder"):
            raise ValueError(f"a model has the parts network and autoencoder, not {part!r}")
        return self.movers.get(part, contextlib.nullcontext)()


def load_model(
    name: str = "auto",
    *,
    device: str = "auto",
    attention: Attention = "auto",
    precision: Precision = "auto",
    offload: str = "none",
    compile: bool = False,
    detail: float | None = None,
    weights: WeightsOptions | None = None,
) -> LoadedModel:
    """Load a model by name or path onto a device, for its default prompts.

    device, attention, precision, compile: as in `DeviceOptions`; detail: as in `LookOptions`; offload: `none`, `model`
    or `block`. Raises WeightsError if a file is missing, corrupt or does not match its own description, UsageError if
    the device or attention backend does not exist here, nothing can be compiled, or the model has no such detail.
    """
    options = DeviceOptions(
        device=device, attention=attention, precision=precision, compile=compile
    )
    info = device_info(device)
    choice = choose_model(name, info, weights)
    return load_choice(choice, info, options, offload=offload, detail=detail)


def load_choice(
    choice: ModelChoice,
    info: DeviceInfo,
    options: DeviceOptions | None = None,
    *,
    offload: str = "none",
    detail: float | None = None,
    prompt: str | None = None,
    negative_prompt: str | None = None,
) -> LoadedModel:
    """As `load_model`, for an existing choice. Prompts of None are the model's own.

    detail: of `LookOptions`. offload: what waits in main memory until it is used: `none`; `model`, network and
    autoencoder as wholes; `block`, each block of the network too. Raises as `load_model`, and ValueError for another
    `offload`, or for `block` with compilation.
    """
    options = options or DeviceOptions()
    if options.compile and offload == "block":
        raise ValueError("compiled parts cannot be offloaded block by block")
    spec, device = choice.spec, torch.device(info.name)
    dtype = network_dtype(options.precision, info, spec)
    backend = attention_backend(options.attention, device)
    path = _network_file(choice)
    network = _empty_network(path, spec)
    weights = _detailed(_weights(path, network, spec), spec, detail)
    # Before anything large is in memory: a new prompt needs the text encoder for a moment.
    context, negative_context = contexts(
        spec, choice.folders, prompt=prompt, negative_prompt=negative_prompt
    )
    home = device if offload == "none" else torch.device("cpu")
    autoencoder = _autoencoder(path, choice, home, dtype)
    if offload == "none":
        weights = {name: placed(weight, device, dtype) for name, weight in weights.items()}
    assign_weights(network, weights)
    network.eval()
    network.use_attention(backend)
    network.skip_identity_branches()
    if options.compile:
        network.use_compiler(compiler_for(device))
    return LoadedModel(
        spec=spec,
        network=network,
        autoencoder=autoencoder,
        context=context.to(device, dtype),
        negative_context=negative_context.to(device, dtype),
        device=device,
        detail=1.0 if detail is None else detail,
        dtype=dtype,
        movers=_movers(network, autoencoder, device, dtype, offload),
    )


def save_model(path: Path, spec: ModelSpec, state: Mapping[str, Tensor]) -> None:
    """Write a model file, whole or not at all. `state` uses our names and must match `spec.network`.

    Raises WeightsError if it does not match, OutputError if the file cannot be written.
    """
    _check_fit(path, _empty_network(path, spec), state)
    write_tensors(path, state, {METADATA_KEY: spec_to_json(spec)})


def _network_file(choice: ModelChoice) -> Path:
    """The file of the network, converted if need be. Raises WeightsError if it does not exist."""
    name = choice.spec.name
    if choice.path is not None:
        return choice.path
    if choice.conversion is not None:
        return convert(choice.conversion, lambda _: None)
    if name in EMBEDDED:
        return embedded_file(name)
    raise _missing(name, name, choice)


def _weights(path: Path, network: VideoNetwork, spec: ModelSpec) -> dict[str, Tensor]:
    """The mapped tensors of one of our files, or of one in a published layout, under our names. Raises WeightsError."""
    if not is_described(path):
        return dict(network_tensors(path, spec)[1])
    weights, _ = read_safetensors(path)
    _check_fit(path, network, weights)
    return weights


def _detailed(
    weights: dict[str, Tensor], spec: ModelSpec, detail: float | None
) -> dict[str, Tensor]:
    """The weights between those of the faithful model (0) and the model's own (1). Raises UsageError, WeightsError."""
    check_detail(spec, detail)
    if detail is None or detail == 1:
        return weights
    path = embedded_file(spec.faithful)
    ends = deepened(weights, read_safetensors(path)[0])
    problems = misfits(weights, ends)
    if problems:
        raise WeightsError(
            f"--detail {detail:g}: {spec.faithful} is no part of {spec.name}: {listed(problems)}"
        )
    return {name: ends[name].float().lerp(own.float(), detail) for name, own in weights.items()}


def _missing(component: str, model: str, choice: ModelChoice) -> WeightsError:
    places = " nor in ".join(str(folder) for folder in choice.folders)
    return WeightsError(
        f"{component}.safetensors, which the model {model} needs, is not in {places}: run "
        f"`starvsr download-weights {choice.to_download or model}`, or give the folder that has it by --weights-dir or "
        "STARVSR_WEIGHTS"
    )


def _check_fit(path: Path, network: VideoNetwork, weights: Mapping[str, Tensor]) -> None:
    problems = misfits(network.state_dict(), weights) or not_plain(weights)
    if problems:
        raise WeightsError(
            f"{path} does not match its own description in {len(problems)} tensors: {listed(problems)}"
        )


def _empty_network(path: Path, spec: ModelSpec) -> VideoNetwork:
    """The network without memory for its weights. Raises WeightsError if its sizes are incompatible."""
    try:
        return empty_network(spec.network)
    except ValueError as error:
        raise WeightsError(f"{path}: its network cannot be built: {error}") from error


def _autoencoder(
    path: Path, choice: ModelChoice, device: torch.device, dtype: torch.dtype
) -> Autoencoder:
    """The autoencoder of the model in the file at `path`, its weights on `device`. Raises WeightsError."""
    spec = choice.spec.autoencoder
    autoencoder: Autoencoder
    if spec.kind == "pixel_unshuffle":
        autoencoder = PixelUnshuffle(spec.factor)
    elif spec.kind in _VAES:
        autoencoder = _vae(choice, device, dtype)
    else:
        raise WeightsError(f"{path}: its autoencoder {spec.kind!r} is unknown to this version")
    channels = choice.spec.network.latent_channels
    for wanted, made, what in (
        (channels, autoencoder.latent_channels, "channels of a latent"),
        (spec.time_factor, autoencoder.time_factor, "frames per latent frame"),
        (spec.factor, autoencoder.factor, "pixels per latent element"),
    ):
        if wanted != made:
            raise WeightsError(
                f"{path}: it requires {wanted} {what}, and its autoencoder has {made}"
            )
    return autoencoder


def _vae(choice: ModelChoice, device: torch.device, dtype: torch.dtype) -> Autoencoder:
    spec = choice.spec.autoencoder
    path = find_component(spec.weights, choice.folders)
    if path is None:
        raise _missing(spec.weights, choice.spec.name, choice)
    weights, _ = read_safetensors(path)
    if problems := not_plain(weights):
        raise WeightsError(f"{path} is no autoencoder in floating point: {listed(problems)}")
    config = read_component_info(path).config
    try:
        return _VAES[spec.kind].from_state(config, weights, spec.scaling_factor, device, dtype)
    except (ValueError, AttributeError) as error:
        raise WeightsError(f"{path}: {error}") from error


def _movers(
    network: VideoNetwork,
    autoencoder: Autoencoder,
    device: torch.device,
    dtype: torch.dtype,
    offload: str,
) -> dict[str, Mover]:
    """What moves the parts whose weights wait in main memory."""
    if offload not in ("none", "model", "block"):
        raise ValueError(f"offload {offload!r} is not one of none, model, block")
    if offload == "none":
        return {}
    movers: dict[str, Mover] = {}
    if offload == "block":
        offload_blocks(network, device, dtype)
    else:
        movers["network"] = Offloaded(network, device, dtype).at_work
    if autoencoder.module is not None:
        movers["autoencoder"] = partial(_moved, autoencoder.module, device)
    return movers


@contextmanager
def _moved(module: nn.Module, device: torch.device) -> Iterator[None]:
    """The module is on the device inside. Unlike `Offloaded`, it may change its weights' type while it is there."""
    try:
        module.to(device)
        yield
    finally:
        module.to("cpu")
