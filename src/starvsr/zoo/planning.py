"""What an installation would do: which components exist, what the others are built from, and the space needed."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starvsr.errors import WeightsError
from starvsr.options import BYTES_PER_ELEMENT
from starvsr.specs import Component
from starvsr.zoo.amounts import format_bytes
from starvsr.zoo.folder import component_file, is_file
from starvsr.zoo.given import own_component
from starvsr.zoo.hashes import Hashes, read_hashes
from starvsr.zoo.hub import size_of
from starvsr.zoo.metadata import stored_types
from starvsr.zoo.sources import Located, locate

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InstallPlan:
    """What an installation would do."""

    folder: Path
    present: tuple[Component, ...]
    """Components that exist already."""
    wanted: tuple[Component, ...]
    """Components to build."""
    converted: tuple[Component, ...]
    """Those of `wanted` that are converted from their own installed file."""
    files: Mapping[str, tuple[Located, ...]]
    """The published files of each other wanted component, by its name."""
    made_bytes: int
    """Upper limit of the wanted components' size once they are built."""
    free_bytes: int
    """Of the folder's disk."""

    @property
    def download_bytes(self) -> int:
        """What must still be fetched."""
        return sum(file.missing_bytes for file in self.all_files)

    @property
    def needed_bytes(self) -> int:
        """Disk space for fetched files and what is built from them, which exist at the same time."""
        return self.download_bytes + self.made_bytes if self.wanted else 0

    @property
    def all_files(self) -> list[Located]:
        """The published files of all wanted components."""
        return [file for files in self.files.values() for file in files]


def plan_install(
    components: Sequence[Component],
    folder: Path,
    *,
    sources: Sequence[str] = (),
    dtype: str | None = None,
    keep_original: bool = False,
    offline: bool = False,
) -> InstallPlan:
    """What `install` would do with the same arguments; reads, queries the hub, and writes nothing.

    Raises WeightsError if a file is unavailable, UsageError for an invalid one of `sources`.
    """
    hashes = read_hashes(folder)
    whole = [c for c in components if is_whole(c, folder, hashes)]
    present = [c for c in whole if has_type(c, folder, dtype)]
    # Published files must be fetched to keep them.
    converted = [
        c
        for c in whole
        if c not in present and not keep_original and dtype and is_wide_enough(c, folder, dtype)
    ]
    wanted = [c for c in components if c not in present]
    fetched = [c for c in wanted if c not in converted]
    _say_why_again([c for c in fetched if c in whole], folder, dtype)
    files = _located(fetched, folder, sources, offline=offline)
    made_bytes = sum(_made_bytes(c, files[c.name], dtype) for c in fetched)
    return InstallPlan(
        folder=folder,
        present=tuple(present),
        wanted=tuple(wanted),
        converted=tuple(converted),
        files=files,
        made_bytes=made_bytes + sum(_converted_bytes(c, folder, dtype) for c in converted),
        free_bytes=free_bytes(folder),
    )


def _located(
    components: Sequence[Component], folder: Path, origins: Sequence[str], *, offline: bool
) -> dict[str, tuple[Located, ...]]:
    """The files that each component is built from: its published ones, or one that starvsr wrote."""
    places = [Path(origin) for origin in origins if os.path.exists(origin)]  # noqa: PTH110
    own = {c.name: path for c in components if (path := own_component(c.name, places))}
    rest = [component for component in components if component.name not in own]
    located = locate(
        [source for component in rest for source in component.sources],
        folder,
        origins=[origin for origin in origins if Path(origin) not in own.values()],
        offline=offline,
    )
    files: dict[str, tuple[Located, ...]] = {}
    for component in components:
        if component.name in own:
            path = own[component.name]
            one = Located(component.sources[0], path, size_of(path), None, stands_in=True)
            files[component.name] = (one,)
        else:
            files[component.name] = tuple(located[: len(component.sources)])
            located = located[len(component.sources) :]
    used = [file.path for each in files.values() for file in each]
    for place in places if components else ():
        if not any(place in (path, *path.parents) for path in used):
            logger.warning("--source %s has none of the files that are needed", place)
    return files


def check_space(plan: InstallPlan) -> None:
    """Raise WeightsError if a plan needs more than the free space on the folder's disk."""
    if plan.needed_bytes > plan.free_bytes:
        raise WeightsError(
            f"{plan.folder} has {format_bytes(plan.free_bytes)} of free space, and up to "
            f"{format_bytes(plan.needed_bytes)} are needed: free some or give another --dir"
        )


def is_whole(component: Component, folder: Path, hashes: Hashes) -> bool:
    """Whether a component exists with its recorded size; `verify` checks its hash."""
    from starvsr.zoo.components import read_component_info

    path = component_file(component.name, folder)
    if not is_file(path):
        return False
    record = hashes.components.get(component.name)
    if record is not None and record.size_bytes != size_of(path):
        return False
    try:
        return read_component_info(path).name == component.name
    except WeightsError as error:
        logger.warning("%s", error)
        return False


def has_type(component: Component, folder: Path, dtype: str | None) -> bool:
    """Whether a complete component is stored as `--dtype` says."""
    wanted = stored_type(component, dtype)
    return not wanted or _types(component, folder) == {wanted}


def is_wide_enough(component: Component, folder: Path, dtype: str) -> bool:
    """Whether converting a component's own file gives the same as converting the published one."""
    wanted = BYTES_PER_ELEMENT[dtype]
    return all(
        have == dtype or BYTES_PER_ELEMENT.get(have, 8) > wanted
        for have in _types(component, folder)
    )


def stored_type(component: Component, dtype: str | None) -> str:
    """A component's type: `--dtype` applies to networks, which are most of the bytes."""
    return dtype if dtype and component.kind == "network" else ""


def _types(component: Component, folder: Path) -> set[str]:
    return stored_types(component_file(component.name, folder))


def _say_why_again(components: Sequence[Component], folder: Path, dtype: str | None) -> None:
    for component in components:
        path = component_file(component.name, folder)
        if dtype and is_wide_enough(component, folder, dtype):
            reason = "was made from published files, which are to be kept"
        else:
            have = "+".join(sorted(_types(component, folder)))
            reason = f"contains {have} numbers, which cannot be converted to {dtype} without loss"
        logger.warning("%s %s: they are fetched again", path, reason)


def _made_bytes(component: Component, files: Sequence[Located], dtype: str | None) -> int:
    # A published network is fp32; that others shrink, because unneeded tensors are dropped, is ignored.
    kept = BYTES_PER_ELEMENT[stored_type(component, dtype) or "fp32"]
    size = sum(file.size_bytes for file in files if file.source in component.tensor_sources)
    return size * kept // BYTES_PER_ELEMENT["fp32"]


def _converted_bytes(component: Component, folder: Path, dtype: str | None) -> int:
    narrowest = min(BYTES_PER_ELEMENT.get(have, 8) for have in _types(component, folder))
    size = size_of(component_file(component.name, folder))
    return size * BYTES_PER_ELEMENT[dtype or "fp32"] // narrowest


def free_bytes(folder: Path) -> int:
    """Free space of the disk of a folder that need not exist."""
    place = next(
        above
        for above in (folder.absolute(), *folder.absolute().parents)
        # Unlike Path's, it accepts names that are too long.
        if os.path.exists(above)  # noqa: PTH110
    )
    return shutil.disk_usage(place).free
