"""Filling a weights folder: what is missing is fetched, checked, converted, and recorded.

Every step ends in a rename, and `hashes.json` is written before a component takes its name, so that what a kill
leaves behind is never taken for whole. What was fetched stays in `.downloads` until the component is made from it.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from starvsr.errors import OutputError, UsageError, WeightsError
from starvsr.options import BYTES_PER_ELEMENT
from starvsr.specs import COMPONENTS, SPECS
from starvsr.types import Component, ModelSpec, Progress, ProgressCallback
from starvsr.zoo.amounts import format_bytes
from starvsr.zoo.folder import component_file
from starvsr.zoo.hashes import (
    ComponentRecord,
    Hashes,
    SourceRecord,
    file_sha256,
    folder_lock,
    read_hashes,
    record_hashes,
    source_key,
)
from starvsr.zoo.hub import size_of, write_error
from starvsr.zoo.sources import DOWNLOADS, Located, fetch, locate

ORIGINALS = "originals"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InstallPlan:
    """What an installation would do."""

    folder: Path
    present: tuple[Component, ...]
    """Components that are there already."""
    wanted: tuple[Component, ...]
    """Components that are to be made."""
    files: Mapping[str, tuple[Located, ...]]
    """The published files of each wanted component, by its name."""
    made_bytes: int
    """Most that the wanted components take once they are made."""
    free_bytes: int
    """Of the folder's disk."""

    @property
    def download_bytes(self) -> int:
        """What is still to be fetched."""
        return sum(file.missing_bytes for file in self.all_files)

    @property
    def needed_bytes(self) -> int:
        """Disk space for what is fetched and what is made from it, which are there at the same time."""
        return self.download_bytes + self.made_bytes if self.wanted else 0

    @property
    def all_files(self) -> list[Located]:
        """The published files of all wanted components."""
        return [file for files in self.files.values() for file in files]


def plan_install(
    components: Sequence[Component],
    folder: Path,
    *,
    source: str | None = None,
    dtype: str | None = None,
    offline: bool = False,
) -> InstallPlan:
    """What `install` would do with the same arguments; reads, asks the hub, and writes nothing.

    Raises WeightsError where a file is not to be had, UsageError for a `source` or `dtype` that means nothing.
    """
    if dtype is not None and dtype not in BYTES_PER_ELEMENT:
        raise UsageError(f"--dtype {dtype} is unknown: give one of {', '.join(BYTES_PER_ELEMENT)}")
    hashes = read_hashes(folder)
    present = tuple(c for c in components if _is_present(c, folder, hashes, dtype))
    wanted = tuple(c for c in components if c not in present)
    located = locate([s for c in wanted for s in c.sources], folder, origin=source, offline=offline)
    files = {}
    for component in wanted:
        files[component.name] = tuple(located[: len(component.sources)])
        located = located[len(component.sources) :]
    return InstallPlan(
        folder=folder,
        present=present,
        wanted=wanted,
        files=files,
        made_bytes=sum(_made_bytes(c, files[c.name][0], dtype) for c in wanted),
        free_bytes=_free_bytes(folder),
    )


def _is_present(component: Component, folder: Path, hashes: Hashes, dtype: str | None) -> bool:
    """Whether a component is there and of its recorded size; its hash is `verify`'s business."""
    from starvsr.zoo.components import read_component_info

    path = component_file(component.name, folder)
    if not path.is_file():
        return False
    record = hashes.components.get(component.name)
    if record is not None and record.size_bytes != size_of(path):
        return False
    if record is not None and record.dtype != _dtype_of(component, dtype) and dtype is not None:
        return False
    try:
        return read_component_info(path).name == component.name
    except WeightsError as error:
        logger.warning("%s; it is made again", error)
        return False


def _dtype_of(component: Component, dtype: str | None) -> str:
    """What a component is stored in: `--dtype` is meant for networks, which are most of the bytes."""
    return dtype if dtype and component.kind == "network" else ""


def _made_bytes(component: Component, tensors: Located, dtype: str | None) -> int:
    # A published network is fp32; that others become smaller, by what nobody needs of them, is left out.
    kept = BYTES_PER_ELEMENT[_dtype_of(component, dtype) or "fp32"]
    return tensors.size_bytes * kept // BYTES_PER_ELEMENT["fp32"]


def _free_bytes(folder: Path) -> int:
    place = next(
        above for above in (folder.absolute(), *folder.absolute().parents) if above.exists()
    )
    return shutil.disk_usage(place).free


def _ignore(_: object) -> None:
    pass


def install(
    components: Sequence[Component],
    folder: Path,
    *,
    source: str | None = None,
    dtype: str | None = None,
    keep_original: bool = False,
    offline: bool = False,
    progress: ProgressCallback = _ignore,
    announce: Callable[[InstallPlan], None] = _ignore,
) -> InstallPlan:
    """Make sure that components are in a weights folder, and the embeddings of their models' own words.

    source: a folder with published files, or a repository that mirrors them. dtype: what networks are stored in
    (`fp32`, `fp16`, `bf16`); None keeps the published type. keep_original: published files stay under `originals`.
    offline: only what is on this machine is used. announce: hears the plan before the first byte. Raises
    WeightsError where something is not to be had, not the right file, or there is no space.
    """
    plan = plan_install(components, folder, source=source, dtype=dtype, offline=offline)
    announce(plan)
    check_space(plan)
    with _as_weights_errors(folder):
        if plan.wanted:
            with _locked(folder, [component.name for component in plan.wanted]):
                _make_missing(plan, dtype, keep_original, progress)
        _keep_embeddings(components, folder, progress)
    return plan


def check_space(plan: InstallPlan) -> None:
    """Raise WeightsError where a plan does not fit on the folder's disk."""
    if plan.needed_bytes > plan.free_bytes:
        raise WeightsError(
            f"{plan.folder} has {format_bytes(plan.free_bytes)} of free space, and up to "
            f"{format_bytes(plan.needed_bytes)} are needed: free some or give another --dir"
        )


@contextmanager
def _as_weights_errors(folder: Path) -> Iterator[None]:
    """What cannot be written is, for an installation, weights that are not to be had."""
    try:
        yield
    except OutputError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise write_error(error, Path(error.filename or folder)) from error


@contextmanager
def _locked(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Nobody else makes these components meanwhile; always in the same order, so that two never wait in a ring."""
    with ExitStack() as stack:
        for name in sorted(names):
            lock = folder_lock(folder, name)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                logger.warning("another process is installing %s; waiting for it", name)
                lock.acquire()
            stack.callback(lock.release)
        yield


def _make_missing(
    plan: InstallPlan, dtype: str | None, keep_original: bool, progress: ProgressCallback
) -> None:
    # Whoever held the lock before may have made some.
    hashes = read_hashes(plan.folder)
    wanted = [c for c in plan.wanted if not _is_present(c, plan.folder, hashes, dtype)]
    files = [file for component in wanted for file in plan.files[component.name]]
    records = fetch(files, hashes.sources, progress)
    _say_first_use(files, hashes)
    record_hashes(plan.folder, sources=records)
    for number, component in enumerate(wanted):
        progress(Progress("convert", number, len(wanted), component.name))
        _make(component, plan, records, dtype)
        for file in plan.files[component.name]:
            _put_away(file, plan.folder, keep_original)
        progress(Progress("convert", number + 1, len(wanted), component.name))


def _say_first_use(files: Sequence[Located], hashes: Hashes) -> None:
    new = [
        f"{file.source.repository}/{file.source.path}"
        for file in files
        if not file.source.sha256 and source_key(file.source) not in hashes.sources
    ]
    if new:
        logger.warning(
            "no published hash is known of %s: trusted on this first use; the hashes found are recorded and enforced "
            "from now on",
            ", ".join(new),
        )


def _make(
    component: Component,
    plan: InstallPlan,
    records: Mapping[str, SourceRecord],
    dtype: str | None,
) -> None:
    import torch

    from starvsr.zoo.components import make_component

    stored = _dtype_of(component, dtype)
    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    files = plan.files[component.name]
    target = component_file(component.name, plan.folder)
    made = plan.folder / DOWNLOADS / ".made" / component.name / target.name
    # What a killed process left of it there.
    shutil.rmtree(made.parent, ignore_errors=True)
    made.parent.mkdir(parents=True)
    make_component(
        component,
        {file.source.path: file.path for file in files},
        made,
        dtype=kinds[stored] if stored else None,
        source_sha256=records[source_key(component.sources[0])].sha256,
    )
    record = ComponentRecord(size_of(made), file_sha256(made), stored)
    # In this order a kill leaves no file that the record does not describe.
    target.unlink(missing_ok=True)
    record_hashes(plan.folder, components={component.name: record})
    made.replace(target)
    _remove_empty(made.parent, plan.folder)


def _put_away(file: Located, folder: Path, keep_original: bool) -> None:
    """Move or delete a published file that was fetched, and what is left of other versions of it."""
    if file.remote is None:
        return
    if keep_original:
        kept = folder / ORIGINALS / file.source.repository / file.source.path
        kept.parent.mkdir(parents=True, exist_ok=True)
        file.path.replace(kept)
    downloads = folder / DOWNLOADS
    others = (downloads / file.source.repository).glob(f"*/{file.source.path}")
    for version in {file.path, *others}:
        version.unlink(missing_ok=True)
        _remove_empty(version.parent, folder)


def _remove_empty(place: Path, folder: Path) -> None:
    """Remove a folder and those above it up to the weights folder, as far as they are empty."""
    with suppress(OSError):
        while place != folder:
            place.rmdir()
            place = place.parent


def _keep_embeddings(
    components: Sequence[Component], folder: Path, progress: ProgressCallback
) -> None:
    """Have the models' own words encoded now, so that an ordinary run needs no text encoder."""
    from starvsr.zoo.text import contexts, contexts_are_known

    names = [component.name for component in components]
    for spec in SPECS.values():
        if spec.text is None or spec.text.weights not in names:
            continue
        if not contexts_are_known(spec, [folder]):
            progress(Progress("text", 0, 1))
            contexts(spec, [folder])
            progress(Progress("text", 1, 1))


def ensure(
    spec: ModelSpec,
    folder: Path,
    missing: Sequence[str],
    *,
    offline: bool = False,
    progress: ProgressCallback = _ignore,
    announce: Callable[[InstallPlan], None] = _ignore,
) -> None:
    """Install a model's missing components.

    Raises WeightsError where `offline` forbids fetching or that fails, naming files and the command that brings them.
    """
    unknown = [name for name in missing if name not in COMPONENTS]
    if unknown:
        raise WeightsError(
            f"the model {spec.name} needs {', '.join(unknown)}, of which no source is known: copy "
            f"{', '.join(f'{name}.safetensors' for name in unknown)} beside the model or to {folder}"
        )
    components = [COMPONENTS[name] for name in missing]
    if offline:
        raise WeightsError(f"{_what_is_missing(spec, folder, components)} (--offline was given)")
    try:
        install(components, folder, progress=progress, announce=announce)
    except WeightsError as error:
        raise WeightsError(f"{_what_is_missing(spec, folder, components)}; {error}") from error


def _what_is_missing(spec: ModelSpec, folder: Path, components: Sequence[Component]) -> str:
    size = sum(source.size_bytes for component in components for source in component.sources)
    known = all(component.sources[0].size_bytes for component in components)
    amount = f", {format_bytes(size)} to fetch" if known else ""
    files = ", ".join(f"{component.name}.safetensors" for component in components)
    named = spec.name if spec.name in SPECS else " ".join(c.name for c in components)
    return (
        f"the model {spec.name} lacks {files} in {folder}{amount}: run starvsr download-weights {named} where there is "
        "a network, or with --source"
    )
