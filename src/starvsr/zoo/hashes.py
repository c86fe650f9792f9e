"""The record of the files of a weights folder, `hashes.json`, and the hashing itself.

For a published file without a published hash, the hash is recorded once a component was built from it, and enforced
afterwards; `download-weights --verify` compares a component's file with its recorded hash.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from filelock import FileLock

from starvsr.errors import WeightsError
from starvsr.media.files import write_whole
from starvsr.media.strict_json import parse_json, read_bounded, shown
from starvsr.specs import SourceFile
from starvsr.zoo.parallel import StoppedError
from starvsr.zoo.places import LOCKS, check_is_own, own_folder

RECORD_NAME = "hashes.json"

_VERSION = 1
_FIELDS = {"version", "sources", "components", "converted"}
_PIECE_BYTES = 1 << 22
_MOST_RECORD_BYTES = 1 << 20
_MOST_NAME = 500
_MOST_SIZE = 1 << 50
_MOST_NS = 1 << 63


@dataclass(frozen=True)
class SourceRecord:
    """One published file as first used."""

    size_bytes: int
    sha256: str
    commit: str
    """Of the repository; empty if the file was not fetched from a hub."""


@dataclass(frozen=True)
class ComponentRecord:
    """One component's file as built."""

    size_bytes: int
    sha256: str
    dtype: str = ""
    """The type of its tensors: `fp32`, `fp16` or `bf16`, several joined by `+`."""


@dataclass(frozen=True)
class ConvertedRecord:
    """A file of the user's that was converted, as it was then."""

    size_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class Hashes:
    """The contents of `hashes.json`."""

    sources: Mapping[str, SourceRecord]
    """By `source_key`."""
    components: Mapping[str, ComponentRecord]
    """By component name."""
    converted: Mapping[str, ConvertedRecord] = field(default_factory=dict)
    """By the hash of the file's path."""


def source_key(source: SourceFile) -> str:
    """A published file's name in the record: its original location, wherever a copy comes from."""
    return f"{source.repository}/{source.path}@{source.revision}"


def read_hashes(folder: Path) -> Hashes:
    """The record of a weights folder; empty if there is none. Raises WeightsError if it is corrupt."""
    path = folder / RECORD_NAME
    try:
        text = read_bounded(path, _MOST_RECORD_BYTES).decode()
        fields = parse_json(text, _MOST_RECORD_BYTES)
        if not isinstance(fields, dict) or fields.keys() | {"converted"} != _FIELDS:
            raise ValueError("it does not consist of a version, sources, components and converted")
        if type(fields["version"]) is not int or fields["version"] != _VERSION:
            raise ValueError(f"version {shown(fields['version'])}")
        return Hashes(
            {key: SourceRecord(**value) for key, value in _entries(fields["sources"])},
            {key: ComponentRecord(**value) for key, value in _entries(fields["components"])},
            {key: ConvertedRecord(**value) for key, value in _entries(fields.get("converted", {}))},
        )
    except FileNotFoundError:
        return Hashes({}, {})
    except (ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} is not a record of hashes that this version understands ({error}); delete it to accept the files "
            "there as they are"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _entries(named: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each name with its fields; the records check the names. Raises ValueError for invalid values."""
    if not isinstance(named, dict):
        raise ValueError(f"{shown(named)} are not files by name")
    for name, fields in named.items():
        if not isinstance(fields, dict) or len(name) > _MOST_NAME:
            raise ValueError(f"{shown(name)} has {shown(fields)}")
        odd = [key for key, value in fields.items() if not _may_be(key, value)]
        if odd:
            raise ValueError(f"{shown(odd[0])} of {shown(name)} is {shown(fields[odd[0]])}")
        yield name, fields


def _may_be(key: str, value: object) -> bool:
    if key == "size_bytes":
        return type(value) is int and 0 <= value <= _MOST_SIZE
    if key == "mtime_ns":
        return type(value) is int and -_MOST_NS <= value < _MOST_NS
    return isinstance(value, str) and re.fullmatch(_FORMS.get(key, "(?!)"), value) is not None


_FORMS = {
    "sha256": "[0-9A-Za-z]{0,64}",
    "commit": "[0-9A-Za-z]{0,64}",
    "dtype": "[0-9A-Za-z_+]{0,99}",
}


def record_hashes(
    folder: Path,
    *,
    sources: Mapping[str, SourceRecord] | None = None,
    components: Mapping[str, ComponentRecord] | None = None,
    converted: Mapping[str, ConvertedRecord] | None = None,
) -> None:
    """Add to the record, replacing entries with the same names. Safe against other processes and kills."""
    with folder_lock(folder, "hashes"):
        known = read_hashes(folder)
        fields = {
            "version": _VERSION,
            "sources": _as_json({**known.sources, **(sources or {})}),
            "components": _as_json({**known.components, **(components or {})}),
            "converted": _as_json({**known.converted, **(converted or {})}),
        }
        text = json.dumps(fields, indent=1, sort_keys=True) + "\n"
        write_whole(folder / RECORD_NAME, text.encode())


def _as_json(
    records: Mapping[str, SourceRecord | ComponentRecord | ConvertedRecord],
) -> dict[str, Any]:
    return {key: dataclasses.asdict(record) for key, record in records.items()}


def folder_lock(folder: Path, name: str) -> FileLock:
    """A lock between processes, one per name and weights folder.

    Raises WeightsError if links are in its place, OSError if it cannot be created.
    """
    path = own_folder(folder, LOCKS) / f"{name}.lock"
    # Locking empties the file.
    check_is_own(path)
    return FileLock(path)


def file_sha256(path: Path, stop: Event | None = None) -> str:
    """The SHA-256 of a file in hexadecimal. Raises StoppedError once `stop` is set."""
    return _digest(path, hashlib.sha256(), stop)


def git_blob_sha1(path: Path, stop: Event | None = None) -> str:
    """git's hash of a file's contents, in hexadecimal; the hub's ETag of a file outside LFS.

    Raises StoppedError once `stop` is set.
    """
    begun = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    return _digest(path, begun, stop)


def _digest(path: Path, digest: Any, stop: Event | None) -> str:
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            if stop is not None and stop.is_set():
                raise StoppedError
            digest.update(piece)
    return str(digest.hexdigest())
