"""From a model's name or file to a network that is ready to run, and back to a file.

A model file is one safetensors file: the network's tensors under our names, and the spec as JSON in the
metadata under `starvsr`. Nothing else is needed to run it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from starvsr.errors import UsageError, WeightsError
from starvsr.models.attention import Backend, select_backend
from starvsr.models.autoencoder import Autoencoder, PixelUnshuffle
from starvsr.models.unet import StarUNet
from starvsr.options import DeviceOptions
from starvsr.specs import SPECS, spec_from_json, spec_to_json
from starvsr.types import DeviceInfo, ModelSpec

METADATA_KEY = "starvsr"


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device, in evaluation mode."""

    spec: ModelSpec
    network: StarUNet
    autoencoder: Autoencoder
    context: Tensor
    """Text context, `1 n c`; zeros for a model without a text encoder."""
    negative_context: Tensor
    device: torch.device


@dataclass(frozen=True)
class ModelChoice:
    """Which model `--model` means, and why."""

    spec: ModelSpec
    path: Path | None
    """The model file; None for the embedded one."""
    reason: str


def choose_model(name: str, device: DeviceInfo) -> ModelChoice:
    """The model that `name` stands for: `auto`, a name of `specs.SPECS`, or a path.

    Raises WeightsError for an unknown name, a missing file, or a file that is not one of ours.
    """
    if name == "auto":
        where = (
            "there is no GPU" if device.name == "cpu" else f"no other is known for {device.name}"
        )
        return ModelChoice(SPECS["nano"], None, f"nano, the embedded model, because {where}")
    if name in SPECS:
        return ModelChoice(SPECS[name], None, f"{name}, as asked")
    path = Path(name)
    try:
        is_file = path.is_file()
    except OSError as error:
        raise WeightsError(f"--model {name} cannot be read: {error.strerror}") from error
    if not is_file:
        raise WeightsError(
            f"--model {name} is neither a file nor a known model: give one of "
            f"{', '.join(['auto', *SPECS])}, or the path of a starvsr safetensors file"
        )
    return ModelChoice(read_spec(path), path, f"{name}, as asked")


def read_spec(path: Path) -> ModelSpec:
    """The spec in a model file's metadata. Raises WeightsError where there is none or the file is corrupt."""
    try:
        # safetensors says of every file that it cannot open that there is none.
        path.open("rb").close()
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA_KEY)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise WeightsError(f"{path} cannot be read as a safetensors file: {error}") from error
    if text is None:
        raise WeightsError(
            f"{path} is not a starvsr model: its metadata has no '{METADATA_KEY}' entry that describes it"
        )
    try:
        return spec_from_json(text)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error


def load_model(name: str = "auto", *, device: str = "auto", attention: str = "auto") -> LoadedModel:
    """Load a model by name or path onto a device.

    device, attention: as in `DeviceOptions`. Raises WeightsError where the file is missing, corrupt or does not
    fit its own description, UsageError where the device or attention backend does not exist here.
    """
    info = device_info(device)
    return load_choice(choose_model(name, info), info, attention=attention)


def load_choice(choice: ModelChoice, info: DeviceInfo, *, attention: str = "auto") -> LoadedModel:
    """As `load_model`, for a choice that is already made."""
    device = torch.device(info.name)
    if choice.path is not None:
        return _load_file(choice.path, device, attention)
    with as_file(files("starvsr.zoo") / f"{choice.spec.name}.safetensors") as path:
        return _load_file(path, device, attention)


def _load_file(path: Path, device: torch.device, attention: str) -> LoadedModel:
    spec = read_spec(path)
    autoencoder = _autoencoder(path, spec)
    network = _empty_network(path, spec)
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            state = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is corrupt: {error}") from error
    _check_keys(path, network.state_dict(), state)
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval()
    network.use_attention(attention_backend(attention, device))
    network.skip_identity_branches()
    context = torch.zeros(1, spec.context_tokens, spec.network.context_width, device=device)
    return LoadedModel(
        spec=spec,
        network=network,
        autoencoder=autoencoder,
        context=context,
        negative_context=context,
        device=device,
    )


def attention_backend(name: str, device: torch.device) -> Backend:
    """What `--attention` means on a device. Raises UsageError where it does not exist there."""
    try:
        return select_backend(name, device)
    except ValueError as error:
        raise UsageError(f"--attention: {error}") from error


def _autoencoder(path: Path, spec: ModelSpec) -> Autoencoder:
    kind = spec.autoencoder.kind
    if kind != "pixel_unshuffle":
        raise WeightsError(f"{path}: its autoencoder {kind!r} is unknown to this version")
    autoencoder = PixelUnshuffle(spec.autoencoder.factor)
    if autoencoder.latent_channels != spec.network.latent_channels:
        raise WeightsError(
            f"{path}: its network takes latents of {spec.network.latent_channels} channels, and its autoencoder "
            f"makes {autoencoder.latent_channels}"
        )
    return autoencoder


def _empty_network(path: Path, spec: ModelSpec) -> StarUNet:
    """The network without memory for its weights. Raises WeightsError where its sizes do not fit together."""
    try:
        with torch.device("meta"):
            return StarUNet(spec.network)
    except (ValueError, RuntimeError) as error:
        raise WeightsError(f"{path}: its network cannot be built: {error}") from error


def _check_keys(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    problems = [f"{key} is missing" for key in expected.keys() - found.keys()]
    problems += [f"{key} is unexpected" for key in found.keys() - expected.keys()]
    problems += [
        f"{key} is {tuple(found[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected.keys() & found.keys()
        if expected[key].shape != found[key].shape
    ]
    if problems:
        shown = "; ".join(sorted(problems)[:5]) + ("; ..." if len(problems) > 5 else "")
        raise WeightsError(
            f"{path} does not fit its own description in {len(problems)} tensors: {shown}"
        )


def save_model(path: Path, spec: ModelSpec, state: Mapping[str, Tensor]) -> None:
    """Write a model file, whole or not at all. `state` uses our names and must fit `spec.network`.

    Raises WeightsError where it does not fit.
    """
    _check_keys(path, _empty_network(path, spec).state_dict(), state)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # safetensors makes files that only their owner reads; anybody else's files follow the umask.
        partial.touch()
        mode = partial.stat().st_mode
        save_file(
            {key: value.contiguous() for key, value in state.items()},
            partial,
            metadata={"format": "pt", METADATA_KEY: spec_to_json(spec)},
        )
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def device_info(name: str = "auto") -> DeviceInfo:
    """The device that `--device` means. Raises UsageError for another name, or where it does not exist here."""
    DeviceOptions(device=name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        return _cuda_info(name)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            "--device mps is not there: this machine or torch build has no Metal device"
        )
    description = "Metal device" if name == "mps" else "processor"
    return DeviceInfo(name, description, _machine_memory_bytes(), torch.get_num_threads())


def _cuda_info(name: str) -> DeviceInfo:
    number = int(name.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= count:
        raise UsageError(
            f"--device {name} is not there: torch finds {count} CUDA devices; give --device cpu or auto"
        )
    properties = torch.cuda.get_device_properties(number)
    return DeviceInfo(
        f"cuda:{number}", properties.name, properties.total_memory, torch.get_num_threads()
    )


def _machine_memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, AttributeError, OSError):
        # Not every platform tells; 0 is documented as unknown.
        return 0
