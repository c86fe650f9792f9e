"""Fills a weights folder: missing files are fetched, checked, converted, and recorded.

Every step ends in a rename, and `hashes.json` is written before a component takes its name, so that what a kill
leaves is never taken for complete. Fetched files stay in `.downloads` until the component is built from them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from filelock import Timeout

from starvsr.errors import OutputError, WeightsError
from starvsr.media.removal import (
    Right,
    put_in_place,
    remove_file,
    remove_tree,
    set_aside,
)
from starvsr.specs import COMPONENTS, SPECS, Component, SourceFile, downloadable
from starvsr.types import ModelSpec, Progress, ProgressCallback
from starvsr.zoo.amounts import format_bytes
from starvsr.zoo.fetch import Fetched, fetch
from starvsr.zoo.folder import component_file
from starvsr.zoo.hashes import (
    ComponentRecord,
    Hashes,
    file_sha256,
    folder_lock,
    read_hashes,
    record_hashes,
    source_key,
)
from starvsr.zoo.hub import HubUnreachableError, size_of, write_error
from starvsr.zoo.metadata import stored_types
from starvsr.zoo.places import (
    DOWNLOADS,
    MADE,
    ORIGINALS,
    VERSION_FORM,
    has_no_link,
    own_folder,
    remove_empty,
)
from starvsr.zoo.planning import (
    InstallPlan,
    check_space,
    has_type,
    is_whole,
    is_wide_enough,
    plan_install,
    stored_type,
)

logger = logging.getLogger(__name__)


def _ignore(_: object) -> None:
    pass


def install(
    components: Sequence[Component],
    folder: Path,
    *,
    sources: Sequence[str] = (),
    dtype: str | None = None,
    keep_original: bool = False,
    offline: bool = False,
    progress: ProgressCallback = _ignore,
    announce: Callable[[InstallPlan], None] = _ignore,
) -> InstallPlan:
    """Make sure that components are in a weights folder, with the embeddings of their models' own prompts.

    sources: folders with published files, files, and repositories that mirror them; what they lack is looked for on
    this machine and fetched. dtype: the type networks are stored in
    (`fp32`, `fp16`, `bf16`); None keeps the published type, or the installed one. An installed network of a wider
    type is converted without fetching. keep_original: fetched files stay under `originals`. offline: send
    no request. announce: receives the
    plan before the first byte. Raises WeightsError if something is unavailable or not the right file, or there is no
    space; MemoryLimitError if memory runs out.
    """
    plan = plan_install(
        components,
        folder,
        sources=sources,
        dtype=dtype,
        keep_original=keep_original,
        offline=offline,
    )
    announce(plan)
    check_space(plan)
    with _as_weights_errors(folder):
        # A killed process may have left files that it fetched for a component that it had finished.
        leftover = [c for c in plan.present if not keep_original and _leftovers(c, folder)]
        with _locked(folder, [component.name for component in (*plan.wanted, *leftover)]):
            if plan.wanted:
                _make_missing(plan, dtype, keep_original, progress)
            for component in leftover:
                _clear(component, folder)
        _keep_embeddings(components, folder, progress)
    return plan


@contextmanager
def _as_weights_errors(folder: Path) -> Iterator[None]:
    """Turn OutputError of an installation into WeightsError."""
    try:
        yield
    except OutputError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise write_error(error, Path(error.filename or folder)) from error


@contextmanager
def _locked(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """Lock these components against other processes; always in the same order, which prevents deadlocks."""
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
    # The previous holder of the lock may have built some.
    hashes = read_hashes(plan.folder)
    wanted = [c for c in plan.wanted if not _is_present(c, plan.folder, hashes, dtype)]
    files = [file for component in wanted for file in plan.files.get(component.name, ())]
    fetched = fetch(files, plan.folder, hashes.sources, progress)
    for number, component in enumerate(wanted):
        progress(Progress("convert", number, len(wanted), component.name))
        own = [fetched[source_key(file.source)] for file in plan.files.get(component.name, ())]
        _make(component, own, plan.folder, dtype)
        for one in own:
            _put_away(one, plan.folder, keep_original)
        progress(Progress("convert", number + 1, len(wanted), component.name))


def _is_present(component: Component, folder: Path, hashes: Hashes, dtype: str | None) -> bool:
    return is_whole(component, folder, hashes) and has_type(component, folder, dtype)


def _make(component: Component, files: Sequence[Fetched], folder: Path, dtype: str | None) -> None:
    """Build a component from its published files, or convert its own file, and record all of them."""
    target = component_file(component.name, folder)
    # Leftovers of a killed process.
    remove_tree(own_folder(folder, DOWNLOADS, MADE, component.name), Right.FETCHED)
    made = own_folder(folder, DOWNLOADS, MADE, component.name) / target.name
    if files:
        _make_from_published(component, files, made, stored_type(component, dtype))
    else:
        _make_from_installed(component, folder, made, dtype)
    kinds = "+".join(sorted(stored_types(made)))
    record = ComponentRecord(size_of(made), file_sha256(made), kinds)
    _say_first_use(component, files, folder)
    # In this order a kill leaves no file that the record does not describe; and a published file is trusted only
    # after something was built from it, or a wrong one would keep out the right one for good.
    _make_way(target, component, folder)
    record_hashes(
        folder,
        sources={source_key(one.file.published): one.record for one in files if one.is_published},
        components={component.name: record},
    )
    put_in_place(made, target, Right.FETCHED)
    remove_empty(made.parent, folder)


def _make_way(target: Path, component: Component, folder: Path) -> None:
    """Free a component's name: a file recorded as built is removed, a file of the user's is renamed."""
    if not os.path.lexists(target):
        return
    hashes = read_hashes(folder)
    recorded = component.name in hashes.components and not target.is_symlink()
    if recorded and is_whole(component, folder, hashes):
        remove_file(target, Right.RECORDED)
        return
    aside = set_aside(target)
    logger.warning("%s was not made here as it is: it was renamed to %s", target, aside)


def _make_from_published(
    component: Component, files: Sequence[Fetched], made: Path, dtype: str
) -> None:
    from starvsr.zoo.components import TYPES, make_component

    try:
        make_component(
            component,
            {one.file.source.path: one.file.path for one in files},
            made,
            dtype=TYPES[dtype] if dtype else None,
            source_sha256=files[0].record.sha256,
        )
    except WeightsError:
        for one in files:
            # The transfer may have damaged it.
            if one.file.remote is not None and not one.is_vouched:
                remove_file(one.file.path, Right.FETCHED)
        raise


def _make_from_installed(component: Component, folder: Path, made: Path, dtype: str | None) -> None:
    from starvsr.zoo.components import TYPES, convert_component

    path = component_file(component.name, folder)
    hashes = read_hashes(folder)
    usable = is_whole(component, folder, hashes)
    if dtype is None or not usable or not is_wide_enough(component, folder, dtype):
        raise WeightsError(f"{path} was changed by another process: run the same command again")
    record = hashes.components.get(component.name)
    if record is not None and record.sha256 != file_sha256(path):
        raise WeightsError(
            f"{path} is corrupt, so it is not converted: delete it, and the same command fetches it again"
        )
    convert_component(path, made, TYPES[dtype])


def _say_first_use(component: Component, files: Sequence[Fetched], folder: Path) -> None:
    known = read_hashes(folder).sources
    new = [
        f"{one.file.source.repository}/{one.file.source.path}"
        for one in files
        if one.is_published
        and not one.file.published.sha256
        and source_key(one.file.published) not in known
    ]
    if new:
        logger.warning(
            "%s: no published hash is known of %s: trusted on this first use; the hashes found are recorded and "
            "enforced from now on",
            component.name,
            ", ".join(new),
        )


def _put_away(one: Fetched, folder: Path, keep_original: bool) -> None:
    """Move or delete a fetched published file, and what is left of other versions of it."""
    file = one.file
    if file.remote is None:
        return
    if keep_original:
        _keep(one, folder)
    for version in {file.path, *_versions(file.source, folder)}:
        remove_file(version, Right.FETCHED)
        remove_empty(version.parent, folder)


def _keep(one: Fetched, folder: Path) -> None:
    """Move a published file to the originals, unless the same one is there."""
    source = one.file.source
    place = own_folder(folder, ORIGINALS, source.repository, str(Path(source.path).parent))
    kept = place / Path(source.path).name
    if os.path.lexists(kept):
        if kept.is_file() and file_sha256(kept) == one.record.sha256:
            return
        logger.warning("%s is another version: it was renamed to %s", kept, set_aside(kept))
    put_in_place(one.file.path, kept, Right.FETCHED)


def _versions(source: SourceFile, folder: Path) -> list[Path]:
    """What was fetched of a published file, of any version; possibly only its folder."""
    repository = folder / DOWNLOADS / source.repository
    if not repository.is_dir() or not has_no_link(repository, folder):
        return []
    found = [
        version / source.path
        for version in repository.iterdir()
        if re.fullmatch(VERSION_FORM, version.name) and version.is_dir()
    ]
    return [path for path in found if has_no_link(path, folder)]


def _leftovers(component: Component, folder: Path) -> list[Path]:
    """What was fetched of a component, and the folder in which it was being built."""
    made = folder / DOWNLOADS / MADE / component.name
    found = [made] if made.is_dir() and has_no_link(made, folder) else []
    return found + [path for source in component.sources for path in _versions(source, folder)]


def _clear(component: Component, folder: Path) -> None:
    for path in _leftovers(component, folder):
        if path.is_dir():
            remove_tree(path, Right.FETCHED)
        else:
            remove_file(path, Right.FETCHED)
        remove_empty(path.parent, folder)


def _keep_embeddings(
    components: Sequence[Component], folder: Path, progress: ProgressCallback
) -> None:
    """Encode the models' own prompts now, so that an ordinary run needs no text encoder."""
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
    """Install a model's missing components: from this machine, or fetched.

    Raises WeightsError, naming files and the command that brings them, if `offline` forbids fetching or that fails.
    """
    unknown = [name for name in missing if name not in COMPONENTS]
    if unknown:
        raise WeightsError(
            f"the model {spec.name} needs {', '.join(unknown)}, for which no source is known: copy "
            f"{', '.join(f'{name}.safetensors' for name in unknown)} beside the model or to {folder}"
        )
    components = [COMPONENTS[name] for name in missing]
    try:
        install(components, folder, offline=offline, progress=progress, announce=announce)
    except HubUnreachableError as error:
        why = [str(error.args[0])]
        if len(error.missing) < sum(len(component.sources) for component in components):
            why.append(
                f"the other files are on this machine, missing are {', '.join(error.missing)}"
            )
        raise WeightsError(*_what_is_missing(spec, folder, components, *why)) from error
    except WeightsError as error:
        text, *_ = _what_is_missing(spec, folder, components)
        raise WeightsError(text, *map(str, error.args)) from error


def _what_is_missing(
    spec: ModelSpec, folder: Path, components: Sequence[Component], *why: str
) -> list[str]:
    """What a model lacks, why it was not fetched, and the ways to get it: sentences for a line each."""
    size = sum(source.size_bytes for component in components for source in component.sources)
    known = all(component.sources[0].size_bytes for component in components)
    amount = f", {format_bytes(size)} to fetch" if known else ""
    files = ", ".join(f"{component.name}.safetensors" for component in components)
    named = downloadable(spec, [component.name for component in components])
    return [
        f"the model {spec.name} lacks {files} in {folder}{amount}",
        *why,
        f"run `starvsr download-weights {named}` where there is a network and copy these files to {folder}, or give "
        f"the published files by --source FOLDER (`starvsr download-weights {named} --dry-run` lists them)",
    ]
