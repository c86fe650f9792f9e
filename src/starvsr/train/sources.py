"""Finding the training files, what each contains, and which cannot be used.

A folder with `gt/` and `lq/` holds pairs of the same names (and maybe `text/NAME.txt`), any other holds sources that
are degraded on the fly.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from starvsr.errors import InputError
from starvsr.media.deadline import within_deadline
from starvsr.media.folders import VIDEO_SUFFIXES
from starvsr.train.config import DataConfig, FolderConfig
from starvsr.train.log import LOG_NAME, SAMPLES_NAME, SAMPLES_OF_STEP
from starvsr.train.scan import STILL_SUFFIXES, Media, Scan

logger = logging.getLogger(__name__)

_MOST_NAMED = 20
_MOST_EXAMPLES = 3


@dataclass(frozen=True)
class Source:
    """What clips are made of."""

    name: str
    """The path inside its folder."""
    truth: Media
    degraded: Media | None
    """None if it is degraded on the fly."""
    text: str | None
    """The prompt from `text/`, if any."""


@dataclass(frozen=True)
class SourceFolder:
    """The sources of one folder of the configuration."""

    config: FolderConfig
    training: tuple[Source, ...]
    held_out: tuple[Source, ...]


Skipped = list[tuple[Path, str]]


def find_sources(
    config: DataConfig,
    root: Path,
    *,
    cache: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[SourceFolder, ...]:
    """Everything that the configuration's folders contain, each file decoded once.

    root: what folders are relative to. cache: a file in which findings are stored. progress(done, all) counts files.
    What cannot be decoded, is damaged or is too small is left out and named in one warning. Raises InputError for a
    missing folder or pair, for pairs that do not belong together, and where nothing is left to train on.
    """
    check_folders(config, root)
    listed = [_list_folder(root / folder.path) for folder in config.folders]
    paths = list(dict.fromkeys(path for each in listed for files in each for path in files.media))
    scan = Scan(cache)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        found: dict[Path, Media | str] = {}
        for path, media in zip(paths, pool.map(scan, paths), strict=True):
            found[path] = media
            if progress is not None:
                progress(len(found), len(paths))
    scan.save()
    skipped: Skipped = []
    folders = tuple(
        _folder(folder, files, found, config, skipped)
        for folder, files in zip(config.folders, listed, strict=True)
    )
    _warn(skipped, len(paths))
    empty = [str(root / f.config.path) for f in folders if not f.training]
    if empty:
        raise InputError(
            f"{', '.join(empty)}: it contains nothing usable; give images or videos of at least "
            f"{config.crop[1]}x{config.crop[0]} pixels and {config.frames} frames, not all of them held out"
        )
    return folders


CONTENTS = "contents-"
"""What a digest begins with; those of earlier versions, of the files' sizes, begin otherwise."""


def data_digest(folders: Sequence[SourceFolder]) -> str:
    """Hex digest of the training data: names, contents and prompts.

    Modification times are no part of it, so a copy has the same.
    """

    def files(source: Source) -> list[str]:
        return [each.digest for each in (source.truth, source.degraded) if each is not None]

    described = [
        [[each.name, each.text, *files(each)] for each in folder.training] for folder in folders
    ]
    return CONTENTS + hashlib.sha256(json.dumps(described).encode()).hexdigest()


def check_folders(config: DataConfig, root: Path) -> None:
    """Raise InputError where there are no folders, or one is missing."""
    if not config.folders:
        raise InputError(
            "no data: the configuration needs at least one [[data.folders]] with a path"
        )
    for folder in config.folders:
        path = root / folder.path
        if not within_deadline(path, path.is_dir):
            raise InputError(f"{path} is not a folder: give the data folder with --data")


@dataclass(frozen=True)
class _Files:
    name: str
    truth: Path
    degraded: Path | None = None
    text: Path | None = None

    @property
    def media(self) -> tuple[Path, ...]:
        return (self.truth,) if self.degraded is None else (self.truth, self.degraded)


def _list_folder(folder: Path) -> list[_Files]:
    """The files of a folder by name. Raises InputError where one has no partner."""
    truths = folder / "gt"
    if not _has_pairs(folder):
        _check_no_pairs_inside(folder)
        return [_Files(str(path.relative_to(folder)), path) for path in _media_files(folder)]
    degraded = _by_stem(folder / "lq")
    pairs = []
    for stem, path in _by_stem(truths).items():
        if stem not in degraded:
            raise InputError(
                f"{path} has no pair: {folder / 'lq' / stem}.* is missing; make it with starvsr degrade, or remove "
                "the file"
            )
        text = folder / "text" / f"{stem}.txt"
        lq = degraded.pop(stem)
        pairs.append(_Files(stem, path, lq, text if text.is_file() else None))
    if degraded:
        alone = next(iter(degraded.values()))
        raise InputError(
            f"{alone} has no pair in {truths}: add its ground truth, or remove the file"
        )
    return pairs


def _has_pairs(folder: Path) -> bool:
    return (folder / "gt").is_dir() and (folder / "lq").is_dir()


def _check_no_pairs_inside(folder: Path) -> None:
    """Raise InputError if degraded clips would be used as ground truth."""
    for inside, _ in _folders(folder):
        if _has_pairs(inside):
            raise InputError(
                f"{inside} contains pairs, but {folder} is read as a folder of sources: give each a "
                "[[data.folders]] of its own, none inside another"
            )


def _folders(folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """The folder and all below it with their files, also linked ones, each once, but for the samples of runs."""
    seen: set[Path] = set()
    for parent, below, names in os.walk(folder, followlinks=True):
        real = Path(parent).resolve()
        if real in seen or _has_samples(real):
            below.clear()
            continue
        seen.add(real)
        # So that of two links to a folder it is always the same one.
        below.sort()
        yield Path(parent), names


def _has_samples(folder: Path) -> bool:
    """Whether a run's validation wrote its pictures there."""
    samples = folder.parent
    return bool(
        SAMPLES_OF_STEP.fullmatch(folder.name)
        and samples.name == SAMPLES_NAME
        and (samples.parent / LOG_NAME).is_file()
    )


def _media_files(folder: Path) -> list[Path]:
    known = STILL_SUFFIXES.union(VIDEO_SUFFIXES)
    return sorted(
        path
        for inside, names in _folders(folder)
        for path in map(inside.joinpath, names)
        if path.suffix.lower() in known and not path.name.startswith(".") and path.is_file()
    )


def _by_stem(folder: Path) -> dict[str, Path]:
    """Files by their path without ending. Raises InputError where two have one."""
    found: dict[str, Path] = {}
    for path in _media_files(folder):
        stem = str(path.relative_to(folder).with_suffix(""))
        if stem in found:
            raise InputError(f"{found[stem]} and {path} would form one pair: remove one of them")
        found[stem] = path
    return found


def _folder(
    folder: FolderConfig,
    files: list[_Files],
    found: dict[Path, Media | str],
    config: DataConfig,
    skipped: Skipped,
) -> SourceFolder:
    training: list[Source] = []
    held_out: list[Source] = []
    for pattern in folder.held_out:
        if not any(fnmatch(each.name, pattern) for each in files):
            logger.warning(
                "held_out %r matches no file in %s and holds nothing out; the folder contains %s",
                pattern,
                folder.path,
                ", ".join(each.name for each in files[:_MOST_EXAMPLES]) or "none",
            )
    for number, each in enumerate(files):
        kept_back = any(fnmatch(each.name, pattern) for pattern in folder.held_out) or (
            folder.held_out_every > 0 and number % folder.held_out_every == 0
        )
        source = _source(each, found, config, skipped)
        if source is not None:
            (held_out if kept_back else training).append(source)
    return SourceFolder(folder, tuple(training), tuple(held_out))


def _source(
    files: _Files, found: dict[Path, Media | str], config: DataConfig, skipped: Skipped
) -> Source | None:
    """A usable source, or None with the reason appended to `skipped`. Raises InputError."""
    media = []
    for path in files.media:
        each = found[path]
        if isinstance(each, str):
            skipped.append((path, each))
            return None
        media.append(each)
    truth, degraded = media[0], media[1] if len(media) > 1 else None
    if degraded is not None:
        _check_pair(truth, degraded, config.scale)
    fault = _too_small(truth, config, paired=degraded is not None)
    if fault:
        skipped.append((truth.path, fault))
        return None
    try:
        text = files.text.read_text(encoding="utf-8").strip() if files.text else None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{files.text} cannot be read: {error}") from error
    return Source(files.name, truth, degraded, text)


def _check_pair(truth: Media, degraded: Media, scale: int) -> None:
    if truth.frames != degraded.frames:
        raise InputError(
            f"{degraded.path} has {degraded.frames} frames and {truth.path} has {truth.frames}: a pair needs the same "
            "number"
        )
    if (truth.height, truth.width) != (scale * degraded.height, scale * degraded.width):
        raise InputError(
            f"{degraded.path} is {degraded.width}x{degraded.height} and {truth.path} is {truth.width}x{truth.height}: "
            f"at scale {scale} the ground truth must be {scale * degraded.width}x{scale * degraded.height}"
        )


def _too_small(truth: Media, config: DataConfig, *, paired: bool) -> str:
    rows, columns = config.crop
    if truth.height < rows or truth.width < columns:
        return f"{truth.width}x{truth.height} is smaller than the crop of {columns}x{rows}"
    moving = truth.video is not None or paired
    if moving and truth.longest_shot < config.frames:
        return f"its longest shot has {truth.longest_shot} frames of {config.frames}"
    return ""


def _warn(skipped: Skipped, files: int) -> None:
    if not skipped:
        return
    named = "; ".join(f"{path} ({why})" for path, why in skipped[:_MOST_NAMED])
    more = f"; and {len(skipped) - _MOST_NAMED} more" if len(skipped) > _MOST_NAMED else ""
    logger.warning("%d of %d training files are left out: %s%s", len(skipped), files, named, more)
