"""What is known of the files of a weights folder: `hashes.json`, and the hashing itself.

Of a published file the hash is recorded once a component was made from it where nobody published it, and enforced
after; of a component's own file it is what `download-weights --verify` compares with.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from filelock import FileLock

from starvsr.errors import WeightsError
from starvsr.types import SourceFile
from starvsr.zoo.parallel import StoppedError

RECORD_NAME = "hashes.json"
LOCKS = ".locks"

_VERSION = 1
_PIECE_BYTES = 1 << 22


@dataclass(frozen=True)
class SourceRecord:
    """One published file as it was when it was first used."""

    size_bytes: int
    sha256: str
    commit: str
    """Of the repository; empty where the file was not fetched from a hub."""


@dataclass(frozen=True)
class ComponentRecord:
    """One component's file as it was made."""

    size_bytes: int
    sha256: str
    dtype: str = ""
    """What its tensors are stored in: `fp32`, `fp16` or `bf16`, several joined by `+`."""


@dataclass(frozen=True)
class Hashes:
    """The contents of `hashes.json`."""

    sources: Mapping[str, SourceRecord]
    """By `source_key`."""
    components: Mapping[str, ComponentRecord]
    """By component name."""


def source_key(source: SourceFile) -> str:
    """A published file's name in the record: where it was published, wherever a copy comes from."""
    return f"{source.repository}/{source.path}@{source.revision}"


def read_hashes(folder: Path) -> Hashes:
    """The record of a weights folder; empty where there is none. Raises WeightsError for one that is corrupt."""
    path = folder / RECORD_NAME
    try:
        fields: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if fields["version"] != _VERSION:
            raise ValueError(f"version {fields['version']}")
        return Hashes(
            {key: SourceRecord(**value) for key, value in fields["sources"].items()},
            {key: ComponentRecord(**value) for key, value in fields["components"].items()},
        )
    except FileNotFoundError:
        return Hashes({}, {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path} is not a record of hashes that this version understands ({error}); delete it to have the files "
            "there accepted as they are"
        ) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def record_hashes(
    folder: Path,
    *,
    sources: Mapping[str, SourceRecord] | None = None,
    components: Mapping[str, ComponentRecord] | None = None,
) -> None:
    """Add to the record, or replace what it says of the same names. Safe against other processes and kills."""
    with folder_lock(folder, "hashes"):
        known = read_hashes(folder)
        fields = {
            "version": _VERSION,
            "sources": _as_json({**known.sources, **(sources or {})}),
            "components": _as_json({**known.components, **(components or {})}),
        }
        replace_text(folder / RECORD_NAME, json.dumps(fields, indent=1, sort_keys=True) + "\n")


def _as_json(records: Mapping[str, SourceRecord | ComponentRecord]) -> dict[str, Any]:
    return {key: dataclasses.asdict(record) for key, record in records.items()}


def folder_lock(folder: Path, name: str) -> FileLock:
    """A lock between processes, one per name and weights folder."""
    place = folder / LOCKS
    place.mkdir(parents=True, exist_ok=True)
    return FileLock(place / f"{name}.lock")


def replace_text(path: Path, text: str) -> None:
    """Write a small file, whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def file_sha256(path: Path, stop: Event | None = None) -> str:
    """The SHA-256 of a file in hexadecimal. Raises StoppedError once `stop` is set."""
    return _digest(path, hashlib.sha256(), stop)


def git_blob_sha1(path: Path, stop: Event | None = None) -> str:
    """The name that git gives a file's contents, in hexadecimal; the hub's ETag of a file outside LFS.

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
