"""What of a job is finished, on disk, so that the same command goes on from there.

A job's work directory holds part files and `journal.jsonl`. Its first line says which job it is (the *request*: input,
model, options that change the output) and what its plan came from; every further line is one finished *step* with size
and hash of the files that it left, or a *note*. A file is on disk under its name before its line is written, and a line
is on disk before the next step begins. So whatever is not in the journal was never finished, and is removed and done
again; a last line that is torn is no line.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock

from starvsr.errors import OutputError, UsageError, WorkDirError
from starvsr.media.files import written_errors

logger = logging.getLogger(__name__)

_NAME, _LOCK = "journal.jsonl", ".lock"
_VERSION = 1
# Under which a journal has the fingerprint of the finished file.
_MADE = "made"
_PIECE_BYTES = 1 << 22
# A fingerprint reads so many places of a file at most.
_PLACES, _PLACE_BYTES = 64, 1 << 16
# Longest name of a file on any usual system, in bytes.
_LONGEST_NAME = 255
_SUFFIX = ".starvsr"
_OURS = re.compile(r"journal\.jsonl|\.lock|\d{6}-.+|\.starvsr-.+\.partial")
"""Names of the files of a work directory; whatever else somebody puts there is left alone."""


class Journal:
    """The finished steps of one job."""

    def __init__(self, folder: Path) -> None:
        """folder: the work directory. Use `open_journal`."""
        self.folder = folder
        self.steps: dict[str, list[dict[str, Any]]] = {}
        self.notes: dict[str, Any] = {}
        self._whole: dict[str, bool] = {}

    def finished(self, step: str) -> tuple[Path, ...] | None:
        """The files that a step left, or None where it is not finished or one of them is damaged."""
        files = self.steps.get(step)
        if files is None:
            return None
        if step not in self._whole:
            damaged = [file["name"] for file in files if not self._is_whole(file)]
            self._whole[step] = not damaged
            if damaged:
                logger.warning("%s is damaged and is made again", ", ".join(map(str, damaged)))
        return tuple(self.folder / file["name"] for file in files) if self._whole[step] else None

    def record(self, **steps: Sequence[Path]) -> None:
        """Note steps as finished together, with the files in the work directory that they left.

        The files must be synced. Raises OutputError where the journal cannot be written.
        """
        found = {
            step: [
                {"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)}
                for path in files
            ]
            for step, files in steps.items()
        }
        before = self.steps
        # First, so that an interrupt never finds a line on disk whose step is not known here.
        self.steps = before | found
        try:
            self._append({"steps": found})
        except OutputError:
            self.steps = before
            raise
        self._whole |= dict.fromkeys(found, True)

    def note(self, name: str, value: Any) -> None:
        """Keep plain data beside the steps. Raises OutputError where the journal cannot be written."""
        self._append({"note": {name: value}})
        self.notes[name] = value

    def note_made(self, file: Path) -> None:
        """Keep what the finished file is, before it takes the name of the target. Raises OutputError."""
        self.note(_MADE, fingerprint(file))

    def made(self, target: Path) -> bool:
        """Whether `target` is the finished file of this job, so that only clearing up is left."""
        return _MADE in self.notes and target.is_file() and self.notes[_MADE] == fingerprint(target)

    def _append(self, line: dict[str, Any]) -> None:
        path = self.folder / _NAME
        before = path.stat().st_size if path.exists() else 0
        with written_errors(path):
            try:
                with path.open("ab") as file:
                    file.write(json.dumps(line).encode() + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    os.truncate(path, before)
                raise

    def _is_whole(self, file: Mapping[str, Any]) -> bool:
        path = self.folder / file["name"]
        try:
            return (path.stat().st_size, _sha256(path)) == (file["bytes"], file["sha256"])
        except OSError:
            return False


def journal_folder(target: Path, folder: Path | None = None) -> Path:
    """The work directory of a job that writes `target`: the one given, else one beside it."""
    if folder is not None:
        return folder.expanduser().absolute()
    # Absolute: libav takes the colon of a relative name such as "Part 1: x" for the end of a protocol's name.
    target = target.absolute()
    name = f"{target.name}{_SUFFIX}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{hashlib.sha256(os.fsencode(target.name)).hexdigest()}{_SUFFIX}"
    return target.with_name(name)


@contextmanager
def open_journal(
    folder: Path, request: Mapping[str, Any], notes: Mapping[str, Any], *, resume: bool
) -> Iterator[Journal]:
    """The journal of a job in a work directory, which is made where it is not there.

    request: plain data that must be the same for a job to go on; notes: plain data that a new job begins with, while
    one that goes on keeps its own. resume: False begins anew. The directory is removed on leaving well, and where
    nothing was finished; else it stays. Raises WorkDirError where it belongs to another job, UsageError where another
    process works in it or it is not a work directory, OutputError where it cannot be written.
    """
    with written_errors(folder):
        lock = _locked(folder)
    journal = Journal(folder)
    try:
        _begin(journal, request, notes, resume=resume)
        yield journal
    except WorkDirError:
        lock.release()
        raise
    except BaseException as error:
        if journal.steps:
            # What was on its way, perhaps in a process that was killed, is of no use to anybody.
            _remove(folder, keep=_known(journal))
            _add_note(
                error,
                f"what is finished is kept in {folder}, and the same command goes on from there",
            )
        _end(folder, lock, keep=bool(journal.steps))
        raise
    else:
        _end(folder, lock, keep=False)


@contextmanager
def open_begun(folder: Path) -> Iterator[tuple[Journal, dict[str, Any]]]:
    """The journal of a job that was begun, and its request, whatever job it is; the directory stays.

    Raises UsageError where it is no work directory or another process works in it.
    """
    if not (folder / _NAME).is_file():
        raise UsageError(
            f"{folder} is no work directory of starvsr: give one that an interrupted upscale left, such as "
            f"out.mp4{_SUFFIX}"
        )
    with written_errors(folder):
        lock = _locked(folder)
        try:
            lines = _cut_lines(folder / _NAME)
        except BaseException:
            lock.release()
            raise
    journal = Journal(folder)
    try:
        if not lines:
            raise UsageError(
                f"the journal in {folder} is damaged: there is nothing to be had of it"
            )
        _read_steps(journal, lines)
        yield journal, lines[0]["request"]
    finally:
        lock.release()


def _locked(folder: Path) -> filelock.BaseFileLock:
    """The lock of a work directory, which is made where it is not there."""
    new = not folder.exists()
    if not new and not folder.is_dir():
        raise UsageError(f"the work directory {folder} is a file: give another --work-dir")
    # A kill may have come before the journal's first line.
    strange = not new and any(not _OURS.fullmatch(path.name) for path in folder.iterdir())
    if strange and not (folder / _NAME).exists():
        raise UsageError(
            f"{folder} is no work directory of starvsr and not empty: give another --work-dir"
        )
    folder.mkdir(exist_ok=True)
    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UsageError(
            f"another process works in {folder}: wait for it, or end it, or give another --work-dir"
        ) from error
    except OSError:
        if new:
            _remove(folder)
        raise
    return lock


def kept_work(error: BaseException) -> str:
    """What `open_journal` has to say of an error that passed through it: empty where nothing was kept."""
    # What passed through it may have become another error since.
    notes = getattr(error, "__notes__", None)
    if notes is None and error.__cause__ is not None:
        return kept_work(error.__cause__)
    return "; ".join(notes or [])


def fingerprint(path: Path) -> str:
    """What tells a file from others without reading all of a large one: its size, and a hash of places in it."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    last = max(0, size - _PLACE_BYTES)
    with path.open("rb") as file:
        for place in sorted({last * number // (_PLACES - 1) for number in range(_PLACES)}):
            file.seek(place)
            digest.update(file.read(_PLACE_BYTES))
    return digest.hexdigest()


def is_begun(folder: Path) -> bool:
    """Whether a job has its work directory here."""
    return (folder / _NAME).exists()


def is_made(folder: Path, target: Path) -> bool:
    """Whether `target` is what the job with this work directory made, which was then killed while it cleared up."""
    journal = Journal(folder)
    lines, _ = _whole_lines(folder / _NAME)
    if lines:
        _read_steps(journal, lines)
    return journal.made(target)


def _begin(
    journal: Journal, request: Mapping[str, Any], notes: Mapping[str, Any], *, resume: bool
) -> None:
    """Read what is there, or begin a journal."""
    path = journal.folder / _NAME
    # As it will be when it is read.
    wanted, first = json.loads(json.dumps([request, notes]))
    with written_errors(path):
        lines = _cut_lines(path) if resume else []
        if lines:
            _check_request(journal.folder, lines[0]["request"], wanted)
            _read_steps(journal, lines)
        _remove(journal.folder, keep=_known(journal))
        if not lines:
            path.unlink(missing_ok=True)
            journal._append({"version": _VERSION, "request": wanted, "notes": first})
            journal.notes = first


def _read_steps(journal: Journal, lines: Sequence[Mapping[str, Any]]) -> None:
    journal.notes = dict(lines[0]["notes"])
    for line in lines[1:]:
        journal.steps |= line.get("steps", {})
        journal.notes |= line.get("note", {})


def _known(journal: Journal) -> set[str]:
    """Names of the files that a journal needs."""
    return {_NAME, _LOCK} | {file["name"] for files in journal.steps.values() for file in files}


def _cut_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a journal up to one that is torn or damaged, which is cut off with all behind it."""
    lines, size = _whole_lines(path)
    if path.exists():
        os.truncate(path, size)
    return lines


def _whole_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The lines of a journal up to one that is torn or damaged, and their bytes."""
    found: list[dict[str, Any]] = []
    size = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            content = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            content = None
        if not isinstance(content, dict) or (not found and content.get("version") != _VERSION):
            break
        found.append(content)
        size += len(line)
    return found, size


def _check_request(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise WorkDirError where the requests differ, naming how."""
    old, new = _flat(before), _flat(now)
    differences = [
        f"{name} was {old.get(name)} and is {new.get(name)}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if differences:
        raise WorkDirError(
            f"{folder} belongs to another job: {'; '.join(differences)}; give the same options to go on, "
            "--no-resume to begin anew, or another --work-dir"
        )


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name."""
    return {
        name: value
        for group in data.values()
        for name, value in (group.items() if isinstance(group, Mapping) else ())
    }


def _end(folder: Path, lock: filelock.BaseFileLock, *, keep: bool) -> None:
    lock.release()
    if not keep:
        _remove(folder)


def _remove(folder: Path, *, keep: Collection[str] = ()) -> None:
    """Remove our files but those to keep, and the folder if nothing is left in it. What cannot be removed stays."""
    with suppress(OSError):
        # Last: it says whether the job is done, and what it promises is looked at before it is used.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == _NAME):
            if path.name not in keep and _OURS.fullmatch(path.name):
                path.unlink()
    with suppress(OSError):
        folder.rmdir()


def _add_note(error: BaseException, text: str) -> None:
    # `add_note` of Python 3.11, which is not the oldest here.
    error.__notes__ = [*getattr(error, "__notes__", []), text]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
