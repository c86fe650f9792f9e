"""From a model's name or path to what is known before loading it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starvsr.errors import UsageError, WeightsError, did_you_mean
from starvsr.options import WeightsOptions
from starvsr.specs import (
    EMBEDDED,
    SPECS,
    components_of,
    downloadable,
    fetched_components,
    of_width,
)
from starvsr.types import CogVideoXConfig, DeviceInfo, ModelSpec, NetworkConfig
from starvsr.zoo.apart import told_apart, which_one
from starvsr.zoo.converted import Conversion, find_converted
from starvsr.zoo.environment import check_hub_variables
from starvsr.zoo.folder import find_component, weights_folder
from starvsr.zoo.metadata import METADATA_KEY, is_described, read_metadata
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
    conversion: Conversion | None = None
    """What the network's file must be converted from before it is loaded; then `path` is None."""

    @property
    def to_download(self) -> str:
        """What `starvsr download-weights` takes to bring what is missing, and nothing that is there."""
        return downloadable(self.spec, self.missing)


def choose_model(
    name: str, device: DeviceInfo, weights: WeightsOptions | None = None
) -> ModelChoice:
    """The model that `name` stands for: `auto`, a name of `specs.SPECS`, a path, or `NAME=PATH`.

    A model of SPECS need not be installed; then `missing` lists what is not. A path leads to one of our files, or to
    the network of a model of SPECS in a published layout; NAME says whose, where models have the same network. Raises
    UsageError for an unknown name, or a file whose model cannot be told; WeightsError for a missing file, one that is
    no model's, or hub variables with which its parts cannot be loaded.
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
    wanted, equals, place = name.partition("=")
    wanted, path = (wanted, Path(place)) if equals and wanted in SPECS else ("", Path(name))
    try:
        found = path.is_file()
    except OSError as error:
        raise WeightsError(f"--model {name} cannot be read: {error.strerror}") from error
    if not found:
        if path.name and path.is_dir():
            raise WeightsError(f"--model {name} is a folder: give the file of a network in it")
        # A name without a folder or an extension is a model's, misspelt.
        kind = WeightsError if path.suffix or path.name != name else UsageError
        raise kind(
            f"--model {name} is neither a file nor a known model: {did_you_mean(name, SPECS)}give one of "
            f"{', '.join(['auto', *SPECS])}, or the path of a model file"
        )
    return _from_file(path, wanted, folder)


def _from_file(path: Path, wanted: str, folder: Path) -> ModelChoice:
    """The model in a file, which is that of `wanted` if that is a name."""
    folders = (path.parent, folder)
    if is_described(path):
        spec = _counted(path)
        if wanted not in ("", spec.name):
            raise WeightsError(
                f"--model {wanted}={path}: the file says that it is {spec.name}: give the path alone"
            )
        missing = _missing(components_of(spec), folders)
        return ModelChoice(spec, path, f"{path}, as requested", folders, missing)
    # Tensors are read by torch, which takes seconds to load.
    from starvsr.zoo.identify import identify

    network = identify(path)
    model = wanted or told_apart(path, network.models)
    if model is None:
        raise UsageError(which_one(path, network.models, "--model"))
    if model not in network.models:
        raise WeightsError(
            f"--model {wanted}={path}: its tensors are those of {' or '.join(network.models)}"
        )
    spec = _sized(SPECS[model], network.config, path)
    reason = f"{path}, as requested: the network of {model}"
    missing = _missing(components_of(spec), folders)
    if network.is_usable_in_place:
        return ModelChoice(spec, path, reason, folders, missing)
    conversion = Conversion(path, model, folder)
    made = find_converted(conversion)
    if made is not None:
        return ModelChoice(spec, made, f"{reason}, converted to {made}", folders, missing)
    return ModelChoice(spec, None, reason, folders, missing, conversion)


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
