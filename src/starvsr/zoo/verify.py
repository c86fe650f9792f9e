"""Whether the components of a weights folder are unchanged since they were built."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starvsr.errors import WeightsError
from starvsr.specs import Component
from starvsr.zoo.components import read_component_info
from starvsr.zoo.folder import component_file, is_file
from starvsr.zoo.hashes import Hashes, file_sha256, read_hashes


@dataclass(frozen=True)
class Verified:
    """The result of hashing one component."""

    component: str
    state: str
    """`ok`, `corrupt`, `missing`, or `unknown` if no hash was recorded, as for a file copied there."""
    detail: str = ""


def verify(folder: Path, components: Sequence[Component]) -> list[Verified]:
    """Hash components again and compare with the recorded hashes."""
    hashes = read_hashes(folder)
    return [_verified(component, folder, hashes) for component in components]


def _verified(component: Component, folder: Path, hashes: Hashes) -> Verified:
    path = component_file(component.name, folder)
    record = hashes.components.get(component.name)
    if not is_file(path):
        return Verified(component.name, "missing", f"{path} does not exist")
    try:
        info = read_component_info(path)
        found = file_sha256(path) if record is not None else ""
    except WeightsError as error:
        return Verified(component.name, "corrupt", str(error))
    except OSError as error:
        return Verified(component.name, "corrupt", f"{path} cannot be read: {error.strerror}")
    if info.name != component.name:
        return Verified(component.name, "corrupt", f"{path} contains {info.name}")
    if record is None:
        return Verified(component.name, "unknown", "no hash was recorded; the file is readable")
    if found != record.sha256:
        return Verified(
            component.name, "corrupt", f"{record.sha256} was recorded, {path} has {found}"
        )
    return Verified(component.name, "ok", found)
