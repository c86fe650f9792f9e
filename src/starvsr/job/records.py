"""The lines of a journal: written with their hash, and read as untrusted data.

The first line says which job it is, every other one what was finished since, or a note. A last line that is torn, which
a crash leaves, is no line; anything else that is not as this version writes it is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starvsr.errors import WorkDirError
from starvsr.job.plain import from_plain
from starvsr.job.workdir import CORE, RAW, SEAM, check_regular
from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import open_regular
from starvsr.media.strict_json import parse_json
from starvsr.options import LookOptions, Offload, StreamOptions
from starvsr.types import AutoencoderSpec, WindowSpec

MOST_BYTES = 1 << 26
"""Limit of a journal's bytes: some 40,000 segments, 14 hours of video."""
MOST_FIRST_BYTES = 1 << 24
"""Limit of its first line's bytes."""
_VERSION = 4
_SEAL = b', "sha256": "'
_SHA256 = re.compile(r"[0-9a-f]{64}")
_STEP = re.compile(r"(core|seam|head|tail)-(0|[1-9][0-9]{0,6})")
_FORMS = {"core": CORE, "seam": SEAM, "head": RAW, "tail": RAW}
_MOST_BYTES_OF_A_PART = 1 << 63
_MOST_THREADS = 1 << 12


@dataclass(frozen=True)
class PartFile:
    """A file that a finished step left in the work directory."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class JobFacts:
    """What joining the parts of a job needs without planning it again."""

    source: str
    target: str
    settings: EncoderSettings
    streams: StreamOptions
    provenance: str
    fps: str | None
    look: LookOptions
    video_stream: int | None
    segments: tuple[tuple[int, int, int, int, int, int, int], ...]
    """The fields of every `Segment`."""


@dataclass(frozen=True)
class _Windows:
    network: WindowSpec
    autoencoder: AutoencoderSpec


IMPLIED = "implied"
"""The group of a request with what its options and model stand for in this version of the program."""
MADE_NOTE = "made"
"""The note of the finished file's fingerprint."""
WINDOWS_NOTE = "windows"
"""The note of the windows that fit in memory."""
JOB_NOTE = "job"
"""The note of what `starvsr finish` needs: `JobFacts`."""
FIRST_NOTES: dict[str, Any] = {
    "memory_bytes": int,
    "offload": Offload,
    "threads": int,
    JOB_NOTE: JobFacts,
}
"""Notes that a job begins with, and their kinds."""
_NOTES: dict[str, Any] = {**FIRST_NOTES, MADE_NOTE: str, WINDOWS_NOTE: _Windows}


@dataclass
class Records:
    """The content of a journal."""

    request: dict[str, Any]
    notes: dict[str, Any]
    steps: dict[str, tuple[PartFile, ...]] = field(default_factory=dict)
    size: int = 0
    """Bytes of its complete lines; the rest is torn."""


def first_line(request: Mapping[str, Any], notes: Mapping[str, Any]) -> bytes:
    """The line that a journal begins with."""
    return sealed({"version": _VERSION, "request": request, "notes": notes})


def sealed(content: Mapping[str, Any]) -> bytes:
    """A line of a journal."""
    data = json.dumps(content).encode()
    return data[:-1] + _SEAL + _hash(data) + b'"}\n'


def read_records(path: Path) -> Records | None:
    """The content of a journal; None if there is none. Changes nothing.

    Raises WorkDirError where it is no regular file, of another version, damaged, or not as this version writes it;
    OSError where it cannot be read.
    """
    try:
        check_regular(path)
    except FileNotFoundError:
        return None
    with open_regular(path) as file:
        data = file.read(MOST_BYTES + 1)
    try:
        return _read(data)
    except (ValueError, RecursionError) as error:
        raise WorkDirError(
            f"the journal {path} cannot be resumed: {error}; nothing was changed: use the version of "
            "starvsr that began it, give --no-resume to start over, or another --work-dir"
        ) from error


def _read(data: bytes) -> Records:
    if len(data) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    lines = data.splitlines(keepends=True) or [b""]
    found = _first(lines[0])
    found.size = len(lines[0])
    for number, line in enumerate(lines[1:], start=2):
        is_last = number == len(lines)
        if is_last and _is_torn(line):
            break
        content = _parsed(line, number)
        if content.keys() == {"steps"}:
            found.steps |= _steps(content["steps"], number)
        elif content.keys() == {"note"}:
            found.notes |= _notes(content["note"], number)
        else:
            raise ValueError(f"its line {number} has unexpected entries")
        found.size += len(line)
    return found


def _is_torn(line: bytes) -> bool:
    """Whether the last line is incomplete."""
    try:
        return not line.endswith(b"\n") or not isinstance(_parse(line), dict)
    except ValueError:
        return True


def _parsed(line: bytes, number: int) -> dict[str, Any]:
    data, _, seal = line.rpartition(_SEAL)
    if len(line) > MOST_FIRST_BYTES or seal != _hash(data + b"}") + b'"}\n':
        raise ValueError(f"its line {number} is damaged")
    content = _parse(data + b"}")
    if not isinstance(content, dict):
        raise ValueError(f"its line {number} is not an object")
    return content


def _first(line: bytes) -> Records:
    version = _version(line)
    if type(version) is int and version != _VERSION:
        raise ValueError(f"it was begun by another version of starvsr, in format {version}")
    content = _parsed(line, 1)
    if content.keys() != {"version", "request", "notes"}:
        raise ValueError("its line 1 has unexpected entries")
    request = from_plain(dict[str, dict[str, Any]], content["request"], "its request")
    notes = _notes(content["notes"], 1)
    if lacking := FIRST_NOTES.keys() - notes.keys():
        raise ValueError(f"its line 1 lacks {min(lacking)}")
    return Records(request, notes)


def _version(line: bytes) -> object:
    """The content of a first line, damaged or not."""
    with suppress(ValueError):
        content = _parse(line[:MOST_FIRST_BYTES])
        return content.get("version") if isinstance(content, dict) else None
    return None


def _parse(data: bytes) -> object:
    return parse_json(data.decode(), MOST_FIRST_BYTES)


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).hexdigest().encode()


def _notes(content: object, number: int) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"the notes of its line {number} are not an object")
    for name, value in content.items():
        if name not in _NOTES:
            raise ValueError(f"its line {number} has an unknown note {name[:40]!r}")
        checked = from_plain(_NOTES[name], value, f"its note {name}")
        if name == "threads" and not 1 <= checked <= _MOST_THREADS:
            raise ValueError(f"its note threads is {checked}, and not 1 to {_MOST_THREADS}")
        if name == WINDOWS_NOTE:
            _check_windows(checked)
    return content


def _check_windows(windows: _Windows) -> None:
    for spec in (windows.network, windows.autoencoder):
        numbers = [value for value in vars(spec).values() if type(value) is int]
        if min(numbers) < 0 or (spec.chunk_frames or 1) <= spec.chunk_overlap:
            raise ValueError("its note windows has invalid windows")
    if 0 in (windows.network.tile_height, windows.network.tile_width, windows.autoencoder.tile):
        raise ValueError("its note windows has empty tiles")


def _steps(content: object, number: int) -> dict[str, tuple[PartFile, ...]]:
    if not isinstance(content, dict):
        raise ValueError(f"the steps of its line {number} are not an object")
    return {name: _files(name, files, number) for name, files in content.items()}


def _files(step: str, content: object, number: int) -> tuple[PartFile, ...]:
    match = _STEP.fullmatch(step)
    if match is None:
        raise ValueError(f"its line {number} has an unknown step {step[:40]!r}")
    files = from_plain(tuple[PartFile, ...], content, f"its step {step}")
    if match[1] in ("core", "seam") and len(files) != 1:
        raise ValueError(f"its step {step} has {len(files)} files, not one")
    for file in files:
        name = _FORMS[match[1]].fullmatch(file.name)
        # A name is used as a path, so it must be exactly what this step's is.
        if name is None or int(name[1]) != int(match[2]):
            raise ValueError(f"its step {step} names {file.name[:40]!r}, which is not part of it")
        if not 0 <= file.bytes < _MOST_BYTES_OF_A_PART or not _SHA256.fullmatch(file.sha256):
            raise ValueError(f"its step {step} has an invalid size or hash")
    return files


def recorded(steps: Mapping[str, Sequence[PartFile]]) -> bytes:
    """The line of steps that were finished together."""
    return sealed(
        {"steps": {step: [vars(file) for file in files] for step, files in steps.items()}}
    )
