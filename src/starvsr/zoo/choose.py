"""From a model's name or path to what is known before loading it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starvsr.errors import UsageError, WeightsError, did_you_mean
from starvsr.options import WeightsOptions
from starvsr.specs import EMBEDDED, SPECS, components_of, fetched_components, of_width
from starvsr.types import CogVideoXConfig, DeviceInfo, ModelSpec, NetworkConfig
from starvsr.zoo.environment import check_hub_variables
from starvsr.zoo.folder import find_component, weights_folder
from starvsr.zoo.metadata import METADATA_KEY, read_metadata
from starvsr.zoo.spec_json import spec_from_json

_BEST = "star-light"
"""The choice of `auto` if there is a GPU and all of its components are installed."""


@dataclass(frozen=True)
class ModelChoice:
    """Which model `--model` means, and why."""

    spec: ModelSpec
    path: Path | None
    """The network's file; None if it is embedded, or not there yet."""
    reason: str
    folders: tuple[Path, ...] = ()
    """Where its components are searched, in this order; the last is the weights folder."""
    missing: tuple[str, ...] = ()
    """Missing components, the network first."""


def choose_model(
    name: str, device: DeviceInfo, weights: WeightsOptions | None = None
) -> ModelChoice:
    """The model that `name` stands for: `auto`, a name of `specs.SPECS`, or a path.

    A model of SPECS need not be installed; then `missing` lists what is not. Raises UsageError for an unknown name,
    WeightsError for a missing file, one that is not ours, or hub variables with which its parts cannot be loaded.
    """
    choice = _chosen(name, device, weights)
    if components_of(choice.spec):
        # The libraries that build them read these on import.
        check_hub_variables()
    return choice


def _chosen(name: str, device: DeviceInfo, weights: WeightsOptions | None) -> ModelChoice:
    folder = weights_folder(weights.folder if weights else None)
    if name == "auto":
        return _automatic(device, folder)
    if name in SPECS:
        return _known(name, folder, f"{name}, as requested")
    path = Path(name)
    try:
        found = path.is_file()
    except OSError as error:
        raise WeightsError(f"--model {name} cannot be read: {error.strerror}") from error
    if not found:
        # A name without a folder or an extension is a model's, misspelt.
        kind = WeightsError if path.suffix or path.name != name else UsageError
        raise kind(
            f"--model {name} is neither a file nor a known model: {did_you_mean(name, SPECS)}give one of "
            f"{', '.join(['auto', *SPECS])}, or the path of a starvsr safetensors file"
        )
    spec, folders = _counted(path), (path.parent, folder)
    missing = _missing(components_of(spec), folders)
    return ModelChoice(spec, path, f"{name}, as requested", folders, missing)


def _automatic(device: DeviceInfo, folder: Path) -> ModelChoice:
    if device.name == "cpu":
        return _known("nano", folder, "nano, the embedded model, because there is no GPU")
    best = _known(_BEST, folder, f"{_BEST}, because there is a GPU and its weights are installed")
    if not best.missing:
        return best
    why = f"{_BEST}'s weights are not complete in {folder} (`starvsr download-weights {_BEST}`)"
    return _known("nano", folder, f"nano, the embedded model, because {why}")


def _known(name: str, folder: Path, reason: str) -> ModelChoice:
    spec, folders = SPECS[name], (folder,)
    path = None if name in EMBEDDED else find_component(name, folders)
    if path is not None and isinstance(spec.network, CogVideoXConfig):
        # Published with the widths of either CogVideoX.
        spec = _sized(spec, read_spec(path).network, path)
    missing = _missing(fetched_components(name), folders)
    return ModelChoice(spec, path, reason, folders, missing)


def _missing(names: Sequence[str], folders: Sequence[Path]) -> tuple[str, ...]:
    return tuple(name for name in names if find_component(name, folders) is None)


def _counted(path: Path) -> ModelSpec:
    """The spec of a model file as a plan needs it. Raises WeightsError as `read_spec`, or for incompatible sizes."""
    spec = read_spec(path)
    for known in SPECS.values():
        if spec.network == known.network:
            return dataclasses.replace(
                spec, parameters=known.parameters, largest_unit=known.largest_unit
            )
    return _count(spec, path)


def _sized(spec: ModelSpec, network: NetworkConfig, path: Path) -> ModelSpec:
    """The spec with the network that its file has. Raises WeightsError if that cannot be built."""
    if network == spec.network or not isinstance(network, CogVideoXConfig):
        return spec
    return _count(of_width(spec, network), path)


def _count(spec: ModelSpec, path: Path) -> ModelSpec:
    # Torch, which takes seconds to load, is needed for networks of other sizes only.
    from starvsr.models.build import counted

    try:
        return counted(spec)
    except ValueError as error:
        raise WeightsError(f"{path}: its network cannot be built: {error}") from error


def read_spec(path: Path) -> ModelSpec:
    """The spec in a model file's metadata. Raises WeightsError if there is none or the file is corrupt."""
    text = read_metadata(path).get(METADATA_KEY)
    if text is None:
        raise WeightsError(
            f"{path} is not a starvsr model: its metadata has no '{METADATA_KEY}' entry that describes it"
        )
    try:
        return spec_from_json(text)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error
