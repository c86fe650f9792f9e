"""What the user gives by `--source`: published files in folders, and single files told by their tensors."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starvsr.errors import UsageError, WeightsError
from starvsr.specs import COMPONENTS, SourceFile
from starvsr.zoo.apart import told_apart, which_one
from starvsr.zoo.folder import component_file, is_file
from starvsr.zoo.metadata import is_described
from starvsr.zoo.ondisk import in_folder, model_files

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """A file that the user gave."""

    path: Path
    alternative: SourceFile | None = None
    """The published file that it is a copy of, if that is another one with the same tensors."""
    stands_in: bool = False
    """Whether its tensors say what it is, and not its place: then it need not be a copy of a published file."""


def given_files(sources: Sequence[SourceFile], places: Sequence[Path]) -> dict[SourceFile, Given]:
    """Those of the published files that are in given places, the first place first.

    places: existing folders and files. Raises WeightsError for a single file that is none of a model's, UsageError if
    its model cannot be told.
    """
    found: dict[SourceFile, Given] = {}
    for place in places if sources else ():
        wanted = [source for source in sources if source not in found]
        here = _from_folder(wanted, place, sources) if place.is_dir() else _from_file(wanted, place)
        found |= here
    return found


def own_component(name: str, places: Sequence[Path]) -> Path | None:
    """A component's file that starvsr wrote, in one of the places; None if none has it."""
    from starvsr.zoo.components import is_component

    paths = (component_file(name, place) if place.is_dir() else place for place in places)
    return next((path for path in paths if is_file(path) and is_component(path, name)), None)


def _from_folder(
    wanted: Sequence[SourceFile], folder: Path, sources: Sequence[SourceFile]
) -> dict[SourceFile, Given]:
    everything = [each for source in sources for each in (source, *source.alternatives)]
    found: dict[SourceFile, Given] = {}
    for source in wanted:
        for each in (source, *source.alternatives):
            path = in_folder(each, folder, everything)
            if path is not None and not _is_ours(path):
                found.setdefault(source, _copy(path, source, each))
    rest = _networks(source for source in wanted if source not in found)
    used = [given.path for given in found.values()]
    for path in model_files(folder) if rest else ():
        if path not in used and (model := _model_in(path)) in rest:
            found[rest.pop(model)] = Given(path, stands_in=True)
    return found


def _copy(path: Path, source: SourceFile, published: SourceFile) -> Given:
    return Given(path, None if published == source else published)


def _model_in(path: Path) -> str:
    """The model whose network a file in a folder has; empty if it is none, or not certain."""
    from starvsr.zoo.identify import identify

    try:
        return told_apart(path, identify(path).models) or ""
    except WeightsError as error:
        logger.info("%s", error)
        return ""


def _from_file(wanted: Sequence[SourceFile], path: Path) -> dict[SourceFile, Given]:
    networks = _networks(wanted)
    named = [
        (source, each)
        for source in wanted
        for each in (source, *source.alternatives)
        if source not in networks.values() and path.name == Path(each.path).name
    ]
    if _is_ours(path):
        named = []
    if len(named) > 1:
        names = " or ".join(f"{each.repository}/{each.path}" for _, each in named)
        raise UsageError(
            f"--source {path} may be {names}: give a folder in which it has one of these paths"
        )
    if named:
        source, each = named[0]
        return {source: _copy(path, source, each)}
    from starvsr.zoo.identify import identify

    models = identify(path).models
    fitting = [name for name in models if name in networks]
    told = told_apart(path, models)
    if told is None and len(fitting) > 1:
        raise UsageError(which_one(path, models, "--source"))
    model = fitting[0] if told is None and fitting else told
    return {networks[model]: Given(path, stands_in=True)} if model in networks else {}


def _is_ours(path: Path) -> bool:
    """Whether starvsr wrote a model file: then its tensors say what it is, and its name does not."""
    try:
        return is_described(path)
    except WeightsError:
        # What it is used for says so.
        return False


def _networks(sources: Iterable[SourceFile]) -> dict[str, SourceFile]:
    """Those that contain a model's network, by the model's name."""
    by_source: Mapping[SourceFile, str] = {
        each.sources[0]: name for name, each in COMPONENTS.items() if each.kind == "network"
    }
    return {by_source[source]: source for source in sources if source in by_source}
