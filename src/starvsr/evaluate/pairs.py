"""Which videos are measured against which: one pair, two folders, or a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starvsr.errors import InputError
from starvsr.media.deadline import within_deadline
from starvsr.media.folders import videos_in
from starvsr.media.textfiles import read_toml

_KEYS = ("name", "group", "result", "reference")


@dataclass(frozen=True)
class ClipPair:
    """One video to measure."""

    name: str
    result: Path
    reference: Path | None = None
    """The reference; None for metrics without a reference only."""
    group: str = ""
    """Clips of a group have a mean of their own, such as one method or one degradation."""

    @property
    def files(self) -> tuple[Path, ...]:
        """The one or two videos."""
        return (self.result,) if self.reference is None else (self.result, self.reference)


def find_pairs(result: Path, reference: Path | None = None) -> list[ClipPair]:
    """The pairs that a command line means.

    result: a video, a folder of videos, or a manifest (`.toml`); reference: a video or a folder to match, none with a
    manifest. Videos of two folders belong together by name without its extension. Raises InputError naming whatever is
    missing or does not match.
    """
    if result.suffix.lower() == ".toml":
        if reference is not None:
            raise InputError(
                f"{result} is a manifest, which names its references: leave out {reference}"
            )
        return read_manifest(result)
    if within_deadline(result, result.is_dir):
        return _folder_pairs(result, reference)
    if reference is not None and within_deadline(reference, reference.is_dir):
        raise InputError(
            f"{reference} is a folder and {result} is not: give two videos or two folders"
        )
    return [ClipPair(result.stem, result, reference)]


def _folder_pairs(results: Path, references: Path | None) -> list[ClipPair]:
    found = _videos(results)
    if references is None:
        return [ClipPair(name, path) for name, path in found.items()]
    if not within_deadline(references, references.is_dir):
        raise InputError(
            f"{results} is a folder and {references} is not: give two videos or two folders"
        )
    wanted = _videos(references)
    for name, path in found.items():
        if name not in wanted:
            raise InputError(f"{path} has no reference: there is no video {name}.* in {references}")
    for name, path in wanted.items():
        if name not in found:
            raise InputError(f"{path} has no result: there is no video {name}.* in {results}")
    return [ClipPair(name, path, wanted[name]) for name, path in found.items()]


def _videos(folder: Path) -> dict[str, Path]:
    """Videos of a folder by their name without extension, in name order."""
    paths = videos_in(folder, pictures="give two pictures, or a manifest of them")
    _refuse_twins(folder, [path.stem for path in paths])
    return {path.stem: path for path in paths}


def read_manifest(path: Path) -> list[ClipPair]:
    """The clips of a TOML manifest: a table `[[clip]]` each, with `result` and optionally `reference`, `name`, `group`.

    Paths are relative to the manifest. Raises InputError if it cannot be read or is invalid.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist: check the name")
    try:
        content = within_deadline(path, lambda: read_toml(path))
    except ValueError as error:
        raise InputError(f"the manifest {path} {error}") from error
    clips = content.get("clip")
    if set(content) != {"clip"} or not isinstance(clips, list) or not clips:
        raise InputError(
            f"{path} is not a manifest: it must consist of [[clip]] tables, each with a result"
        )
    pairs = [_clip(path, number, clip) for number, clip in enumerate(clips, start=1)]
    _refuse_twins(
        path, [f"{pair.group}/{pair.name}" if pair.group else pair.name for pair in pairs]
    )
    return pairs


def _clip(path: Path, number: int, clip: Any) -> ClipPair:
    if not isinstance(clip, Mapping) or "result" not in clip:
        raise InputError(f"{path}: clip {number} has no result: give the path of a video")
    for key, value in clip.items():
        if key not in _KEYS:
            raise InputError(
                f"{path}: clip {number} has the unknown key {key}: allowed are {', '.join(_KEYS)}"
            )
        if not isinstance(value, str) or not value:
            raise InputError(f"{path}: {key} of clip {number} is {value!r}: give text in quotes")
    result = path.parent / clip["result"]
    reference = path.parent / clip["reference"] if "reference" in clip else None
    return ClipPair(clip.get("name", result.stem), result, reference, clip.get("group", ""))


def _refuse_twins(where: Path, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise InputError(f"{where} has {count} clips named {name}: give each its own name")
