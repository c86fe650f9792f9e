"""Which model's network a file has, told from the names, shapes and types of its tensors.

A network may be in the layout in which STAR publishes it, in SAT's, or under our names; in a pickle or in safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.models.build import empty_network
from starvsr.specs import EMBEDDED, SPECS, of_width
from starvsr.types import CogVideoXConfig, ModelSpec, NetworkConfig, UNetConfig
from starvsr.zoo.checkpoint import (
    MisfitError,
    is_pickle,
    listed,
    misfits,
    not_plain,
    read_pickle,
    read_safetensors,
)
from starvsr.zoo.convert import from_published, published_tensors, to_published
from starvsr.zoo.foreign import OWN, SAT, STAR, TAKEN, about_names, about_types, advice
from starvsr.zoo.metadata import METADATA_KEY, is_described, read_metadata
from starvsr.zoo.sat import Parts, config_of, from_sat
from starvsr.zoo.spec_json import spec_from_json, spec_to_json

_KINDS = {
    "missing": " is missing",
    "unexpected": " is unexpected",
    "of another shape": " instead of ",
}
_NAMES_SHOWN = 3
_WRAPPER_DEPTH = 3


@dataclass(frozen=True)
class Network:
    """The network in a file."""

    models: tuple[str, ...]
    """Models whose network has these names and shapes."""
    config: NetworkConfig
    """The network's, of the sizes that the tensors have."""
    tensors: Mapping[str, Tensor]
    """Under our names; those of a pickle of STAR's and of safetensors are views of the mapped file."""
    is_usable_in_place: bool
    """Whether loading these again and again costs nothing: mapped, and not joined from parts."""


def identify(path: Path) -> Network:
    """The network in a file. Raises WeightsError that says what else the file is, and what would work."""
    tensors = read_tensors(path)
    models: dict[NetworkConfig, list[str]] = {}
    for name, spec in SPECS.items():
        if name not in EMBEDDED:
            models.setdefault(spec.network, []).append(name)
    refusals: list[MisfitError] = []
    for names in models.values():
        try:
            spec = _sized(path, tensors, SPECS[names[0]])
            found = _fitted(path, tensors, spec.network, " and ".join(names))
        except MisfitError as error:
            refusals.append(error)
            continue
        in_place = not is_pickle(path) and not isinstance(found, Parts)
        described = (
            spec_from_json(read_metadata(path)[METADATA_KEY]).name if is_described(path) else ""
        )
        fitting = (described,) if described in names else tuple(names)
        return Network(fitting, spec.network, found, in_place)
    what = about_names(tensors)
    if what == SAT:
        raise min(refusals, key=lambda error: len(error.problems))
    raise WeightsError(_what_else(path, tensors, what, models))


def network_tensors(path: Path, spec: ModelSpec) -> tuple[ModelSpec, Mapping[str, Tensor]]:
    """The tensors of a model's network in a file, under our names, and the spec with the sizes that they have.

    Raises WeightsError if the file cannot be read, or a tensor is missing, unexpected, of another shape or not plain.
    """
    tensors = read_tensors(path)
    spec = _sized(path, tensors, spec)
    return spec, _fitted(path, tensors, spec.network, spec.name)


def _sized(path: Path, tensors: Mapping[str, Tensor], spec: ModelSpec) -> ModelSpec:
    """The spec with the sizes of SAT's tensors, of which files of both CogVideoX were published under one name."""
    if not isinstance(spec.network, CogVideoXConfig):
        return spec
    network = config_of(tensors, spec.network)
    if network == spec.network:
        return spec
    try:
        sized = of_width(spec, network)
        spec_from_json(spec_to_json(sized))
        empty_network(network)
    except (WeightsError, ValueError) as error:
        raise MisfitError(f"{path} is not the network of {spec.name}", [str(error)]) from error
    return sized


def read_tensors(path: Path) -> Mapping[str, Tensor]:
    """The mapped tensors of a pickle (unwrapped) or a safetensors file. Raises WeightsError for anything else."""
    if not is_pickle(path):
        return read_safetensors(path)[0]
    content = read_pickle(path)
    try:
        return published_tensors(content)
    except WeightsError as error:
        names = _names_inside(content)
        what = about_names(names)
        if what in (STAR, SAT) or not names:
            raise WeightsError(f"{path}: {error}") from error
        raise WeightsError(_described(path, names, what)) from error


def _names_inside(content: Mapping[str, object], depth: int = _WRAPPER_DEPTH) -> list[str]:
    """Names of all tensors in nested mappings, such as `params_ema` of ESRGAN's files."""
    names = [str(name) for name, value in content.items() if isinstance(value, Tensor)]
    for value in content.values():
        if isinstance(value, Mapping) and depth:
            names += _names_inside(value, depth - 1)
    return names


def _fitted(
    path: Path, tensors: Mapping[str, Tensor], config: NetworkConfig, model: str
) -> Mapping[str, Tensor]:
    wanted = empty_network(config).state_dict()
    what = f"the network of {model}"
    if isinstance(config, CogVideoXConfig) and not tensors.keys() & wanted.keys():
        try:
            return from_sat(tensors, wanted)
        except MisfitError as error:
            raise MisfitError(f"{path} is not {what}", error.problems) from error
    is_ours = bool(tensors.keys() & wanted.keys()) or not isinstance(config, UNetConfig)
    check_tensors(path, wanted if is_ours else to_published(wanted), tensors, what)
    return tensors if is_ours else from_published(tensors)


def check_tensors(
    path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str
) -> None:
    """Raise WeightsError if a file's tensors have other names or shapes than `what` has, or are not plain."""
    problems = misfits(expected, found)
    if problems:
        raise MisfitError(f"{path} is not {what}", problems)
    check_plain(path, found)


def check_plain(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise WeightsError if a file's tensors are not plain floating point numbers of 16 bits and more."""
    if not_plain(tensors):
        raise _numbers_error(path, tensors)


def _numbers_error(path: Path, tensors: Mapping[str, Tensor]) -> MisfitError:
    return MisfitError(f"{path} does not contain plain floating point numbers", not_plain(tensors))


def _what_else(
    path: Path, tensors: Mapping[str, Tensor], what: str, models: Mapping[NetworkConfig, list[str]]
) -> str:
    """The message for a file that is not a known model's network, of which the names say that it is `what`."""
    problems, model = min(
        (
            (misfits(expected, tensors), " and ".join(names))
            for config, names in models.items()
            for expected in _layouts(config)
        ),
        key=lambda one: len(one[0]),
    )
    is_near = what in ("", STAR, OWN) and len(problems) < len(tensors)
    eight = about_types({name: str(tensor.dtype) for name, tensor in tensors.items()})
    if eight:
        whose = f"{model}'s network" if is_near else what or "of another kind"
        return (
            f"{path} is {whose}, in fp8: {eight}; numbers of 8 bits are not taken, give the file in fp32, fp16 or "
            "bf16"
        )
    if is_near and not problems:
        return str(_numbers_error(path, tensors))
    if is_near:
        counts = {kind: sum(end in each for each in problems) for kind, end in _KINDS.items()}
        counted = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
        return (
            f"{path} is not a known model; the nearest is {model}, of whose tensors {counted}: {listed(problems)}; "
            f"{advice(what)}"
        )
    return _described(path, list(tensors), what)


def _described(path: Path, names: list[str], what: str) -> str:
    """The message for a file of which no more is known than its tensors' names, or that it is `what`."""
    if not names:
        return f"{path} has no tensors; {TAKEN}"
    shown = ", ".join(names[:_NAMES_SHOWN])
    counted = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    what = what or f"not a known model: it has {counted} ({shown}, ...)"
    return f"{path} is {what}; {advice(what)}"


def _layouts(config: NetworkConfig) -> Iterator[Mapping[str, Tensor]]:
    """A network's tensors without numbers, under our names, and under the published ones that are one to one."""
    ours = empty_network(config).state_dict()
    yield ours
    if isinstance(config, UNetConfig):
        yield to_published(ours)
