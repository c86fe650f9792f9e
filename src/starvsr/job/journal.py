"""The finished parts of a job, on disk, so that the same command resumes it.

A job's work directory (`workdir`) holds part files and `journal.jsonl`. Its first line says which job it is (the
*request*: input, model, options that change the output) and what its plan came from; every further line (`records`) is
one finished *step* with size and hash of the files that it left, or a *note*. A file is on disk under its name before
its line is written, and a line is on disk before the next step begins. So whatever is not in the journal was never
finished, and is removed and done again, but only once all of the journal was read and understood.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from starvsr.errors import OutputError, WorkDirError
from starvsr.job.differences import describe_difference
from starvsr.job.records import (
    IMPLIED,
    MADE_NOTE,
    MOST_BYTES,
    MOST_FIRST_BYTES,
    PartFile,
    Records,
    first_line,
    read_records,
    recorded,
    sealed,
)
from starvsr.job.workdir import JOURNAL, WorkDir, open_begun_dir, open_work_dir
from starvsr.media.files import open_regular, read_errors, write_whole, written_errors
from starvsr.media.removal import Right, cut_file

logger = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 22
# Most blocks of a file that a fingerprint reads.
_PLACES, _PLACE_BYTES = 64, 1 << 16
# Longest file name on usual systems, bytes.
_LONGEST_NAME = 255
_SUFFIX = ".starvsr"
_SMALLER = "give a larger --segment-frames, or parts of the video by --start and --end"


class Journal:
    """The finished steps of one job."""

    def __init__(self, folder: Path) -> None:
        """folder: the work directory. Use `open_journal`, or `begin`."""
        self.folder = folder
        self.steps: dict[str, tuple[PartFile, ...]] = {}
        self.notes: dict[str, Any] = {}
        self._whole: dict[str, bool] = {}
        self._size = 0
        """Bytes of the complete lines."""

    def begin(self, request: Mapping[str, Any], notes: Mapping[str, Any]) -> None:
        """Write the first line, replacing an existing journal. Raises OutputError."""
        line = first_line(request, notes)
        if len(line) > MOST_FIRST_BYTES:
            raise OutputError(f"the job has too many segments: {_SMALLER}")
        write_whole(self.folder / JOURNAL, line, Right.FORM)
        self.steps, self.notes, self._size = {}, dict(notes), len(line)

    def go_on(self, records: Records) -> None:
        """Load what was read from the journal on disk."""
        self.steps, self.notes, self._size = records.steps, records.notes, records.size

    def finished(self, step: str) -> tuple[Path, ...] | None:
        """The files of a step, or None if it is unfinished or one of them is damaged.

        Raises OutputError where one is there and cannot be read.
        """
        files = self.steps.get(step)
        if files is None:
            return None
        if step not in self._whole:
            damaged = [file.name for file in files if not self._is_whole(file)]
            self._whole[step] = not damaged
            if damaged:
                logger.warning("%s is damaged and will be restored again", ", ".join(damaged))
        return tuple(self.folder / file.name for file in files) if self._whole[step] else None

    def record(self, **steps: Sequence[Path]) -> None:
        """Note steps as finished together, with the files in the work directory that they left.

        The files must be synced. Raises OutputError where the journal cannot be written.
        """
        found = {
            step: tuple(PartFile(path.name, *_size_and_hash(path)) for path in files)
            for step, files in steps.items()
        }
        before = self.steps
        # First, so that an interrupt never leaves a line on disk whose step is unknown here.
        self.steps = before | found
        try:
            self._append(recorded(found))
        except OutputError:
            self.steps = before
            raise
        self._whole |= dict.fromkeys(found, True)

    def note(self, name: str, value: Any) -> None:
        """Store plain data with the steps. Raises OutputError if the journal cannot be written."""
        self._append(sealed({"note": {name: value}}))
        self.notes[name] = value

    def note_made(self, file: Path) -> None:
        """Store the finished file's fingerprint before it is renamed to the target. Raises OutputError."""
        with read_errors(file):
            made = fingerprint(file)
        self.note(MADE_NOTE, made)

    def made(self, target: Path) -> bool:
        """Whether `target` is the finished file of this job, so that only the cleanup is left. Raises OSError."""
        return (
            MADE_NOTE in self.notes
            and target.is_file()
            and self.notes[MADE_NOTE] == fingerprint(target)
        )

    def _append(self, line: bytes) -> None:
        path = self.folder / JOURNAL
        if self._size + len(line) > MOST_BYTES:
            raise OutputError(f"{path} would become too large: {_SMALLER}")
        with written_errors(path):
            # A failed write may have left a partial line.
            if path.stat().st_size != self._size:
                cut_file(path, self._size, Right.TORN)
            try:
                with open_regular(path, append=True) as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    cut_file(path, self._size, Right.TORN)
                raise
        self._size += len(line)

    def _is_whole(self, file: PartFile) -> bool:
        """Whether a part is as recorded. Raises OutputError: an unreadable one may be intact."""
        path = self.folder / file.name
        with read_errors(path):
            try:
                # A file of another size need not be read.
                same_size = path.lstat().st_size == file.bytes
                return same_size and _size_and_hash(path) == (file.bytes, file.sha256)
            except FileNotFoundError:
                return False


def journal_folder(target: Path, folder: Path | None = None) -> Path:
    """The work directory of a job that writes `target`: the one given, else one beside it."""
    if folder is not None:
        return folder.expanduser().absolute()
    # Absolute: libav takes the colon of a relative name such as "Part 1: x" for a protocol's.
    target = target.absolute()
    name = f"{target.name}{_SUFFIX}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{hashlib.sha256(os.fsencode(target.name)).hexdigest()}{_SUFFIX}"
    return target.with_name(name)


@contextmanager
def open_journal(
    folder: Path,
    request: Mapping[str, Any],
    notes: Mapping[str, Any],
    *,
    resume: bool,
    finish: bool = True,
) -> Iterator[Journal]:
    """The journal of a job in a work directory, which is created if missing.

    request: plain data that must be the same for a job to go on; notes: plain data (`records.FIRST_NOTES`) that a new
    job begins with, while one that goes on keeps its own. resume: False begins anew. finish: whether `starvsr finish`
    makes a file of finished parts. What is in the directory is removed on leaving well, and where nothing was finished;
    else it stays. Raises WorkDirError where it belongs to another job or is not as this version writes it, UsageError
    where another process works in it or it is not a work directory, OutputError where it cannot be read or written;
    what was there before is still there then.
    """
    work = open_work_dir(folder)
    journal = Journal(folder)
    try:
        _begin(journal, work, request, notes, resume=resume)
    except BaseException as error:
        # A journal that was only partly read may contain finished work.
        if work.is_new:
            work.remove()
        elif not isinstance(error, WorkDirError):
            error.add_note(f"{folder} was left unchanged")
        work.release()
        raise
    try:
        with _errors_in(folder):
            yield journal
    except WorkDirError:
        work.release()
        raise
    except BaseException as error:
        if journal.steps:
            # Partial files, perhaps of a killed process, are useless.
            work.clear(_known(journal))
            command = f"starvsr finish {as_argument(folder)}"
            also = f", and `{command}` makes a playable file of them" if finish else ""
            error.add_note(f"finished parts are kept in {folder}: the same command resumes{also}")
            work.release()
        else:
            work.remove()
        raise
    else:
        work.remove()


@contextmanager
def open_begun(folder: Path) -> Iterator[tuple[Journal, dict[str, Any]]]:
    """The journal of a job that was begun, and its request, whatever job it is; to be read only.

    Raises UsageError where it is no work directory or another process works in it, WorkDirError where it is not as this
    version writes it, OutputError where it cannot be read.
    """
    work = open_begun_dir(folder)
    try:
        with read_errors(folder / JOURNAL):
            records = read_records(folder / JOURNAL)
        if records is None:
            raise WorkDirError(f"{folder / JOURNAL} was removed meanwhile: start the job over")
        journal = Journal(folder)
        journal.go_on(records)
        yield journal, records.request
    finally:
        work.release()


def kept_work(error: BaseException) -> str:
    """The note of `open_journal` on an error that passed through it; empty if nothing was kept."""
    # The error may have been converted since.
    notes = getattr(error, "__notes__", None)
    if notes is None and error.__cause__ is not None:
        return kept_work(error.__cause__)
    return "; ".join(notes or [])


def as_argument(path: Path) -> str:
    """For a shell, and no option where a name begins with a dash."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def fingerprint(path: Path) -> str:
    """A fingerprint of a file without reading all of a large one: its size, and a hash of blocks in it.

    Raises OSError, also if it is not a regular file.
    """
    with open_regular(path, follow=True) as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode())
        last = max(0, size - _PLACE_BYTES)
        for place in sorted({last * number // (_PLACES - 1) for number in range(_PLACES)}):
            file.seek(place)
            digest.update(file.read(_PLACE_BYTES))
    return digest.hexdigest()


def is_made(folder: Path, target: Path) -> bool:
    """Whether `target` is the output of this work directory's job, killed during its cleanup.

    Raises OSError.
    """
    if not target.is_file():
        return False
    journal = Journal(folder)
    with suppress(WorkDirError):
        if records := read_records(folder / JOURNAL):
            journal.go_on(records)
    return journal.made(target)


def begun_precision(folder: Path) -> str:
    """The precision of the job that was begun in a work directory; empty where there is none that can be read."""
    with suppress(WorkDirError, OSError):
        if records := read_records(folder / JOURNAL):
            return str(_flat(records.request).get("--precision", ""))
    return ""


def _begin(
    journal: Journal,
    work: WorkDir,
    request: Mapping[str, Any],
    notes: Mapping[str, Any],
    *,
    resume: bool,
) -> None:
    """Read an existing journal, or begin one."""
    path = journal.folder / JOURNAL
    # As it will be read back.
    wanted, first = json.loads(json.dumps([request, notes]))
    with read_errors(path):
        records = read_records(path) if resume else None
    if records is None:
        journal.begin(wanted, first)
    else:
        _check_request(journal.folder, records.request, wanted)
        journal.go_on(records)
        with written_errors(path):
            if path.stat().st_size != records.size:
                cut_file(path, records.size, Right.TORN)
    work.clear(_known(journal))


def _known(journal: Journal) -> set[str]:
    """Names of the files that a journal needs."""
    return {file.name for files in journal.steps.values() for file in files}


@contextmanager
def _errors_in(folder: Path) -> Iterator[None]:
    """Convert an unexpected file error in the folder to OutputError."""
    try:
        yield
    except OSError as error:
        names = [
            name for name in (error.filename, error.filename2) if isinstance(name, (str, bytes))
        ]
        if not any(Path(os.fsdecode(name)).parent == folder for name in names):
            raise
        with written_errors(folder):
            raise


def _check_request(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise WorkDirError that names the differences of the requests."""
    if asked := _differences(_flat(before), _flat(now)):
        raise WorkDirError(
            f"{folder} belongs to another job: {'; '.join(asked)}; give the same options to resume, "
            "--no-resume to start over, or another --work-dir"
        )
    # Only where nothing else differs, since a changed option changes what it implies.
    if implied := _differences(before.get(IMPLIED, {}), now.get(IMPLIED, {})):
        raise WorkDirError(
            f"{folder} was begun by another version of starvsr: {'; '.join(implied)}; use that version to resume, give "
            "--no-resume to start over, or another --work-dir"
        )


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return [describe_difference(name, old.get(name), new.get(name)) for name in names]


def _flat(data: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, without those that are implied."""
    return {
        name: value
        for key, group in data.items()
        if key != IMPLIED
        for name, value in (group.items() if isinstance(group, Mapping) else ())
    }


def _size_and_hash(path: Path) -> tuple[int, str]:
    """Raises OSError, and OutputError if it cannot be read."""
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
