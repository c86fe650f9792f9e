"""The work directory of one job: its mark, its lock, and which files in it may be removed.

A name proves nothing, so nothing is removed from a folder that does not bear the mark, which is written before anything
else. Of a marked folder's files only those go whose names have exactly the form of ours, and that are regular files;
whatever else somebody puts there stays, and is named.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import filelock

from starvsr.errors import UsageError, WorkDirError
from starvsr.job.plain import from_plain
from starvsr.media.files import WORK_MARK, open_regular, written_errors
from starvsr.media.removal import Right, remove_file, remove_folder
from starvsr.media.strict_json import parse_json

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
_LOCK = ".lock"
_VERSION = 1
_MOST_MARK_BYTES = 1 << 10
_NUMBER = r"[0-9]{6,7}"
CORE = re.compile(rf"({_NUMBER})-core\.(?:mp4|mov|mkv|webm|raw)")
SEAM = re.compile(rf"({_NUMBER})-seam\.(?:mp4|mov|mkv|webm)")
RAW = re.compile(rf"({_NUMBER})-[0-9]{{8,10}}\.raw")
"""Exact forms of the names of parts; the first number is a segment's index."""
_PARTIAL = re.compile(r"\.starvsr-[0-9a-f]{16}\.partial")
# In order of removal: a folder without a mark would not be recognized.
_LAST = (JOURNAL, _LOCK, WORK_MARK)
_MOST_NAMED = 5


@dataclass(frozen=True)
class _Mark:
    version: int
    made: bool
    """Whether the folder was created with the mark; otherwise it is the user's, and stays."""


class WorkDir:
    """A marked folder, locked by this process until `release`."""

    def __init__(
        self, folder: Path, lock: filelock.BaseFileLock, *, made: bool, is_new: bool
    ) -> None:
        """Use `open_work_dir`. is_new: whether it was marked just now."""
        self.folder, self.is_new = folder, is_new
        self._lock, self._made = lock, made

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def clear(self, keep: Collection[str]) -> None:
        """Remove our files except those to keep. Files that cannot be removed are harmless."""
        for path in _ours(self.folder):
            if path.name not in {*keep, *_LAST}:
                with suppress(OSError):
                    remove_file(path, Right.FORM)

    def remove(self) -> None:
        """Remove all our files, the mark last, then the folder if it was created for the job, and release it.

        Where something cannot be removed, all behind it stays, so that it is known what was done; that is logged, and
        so is what is not ours.
        """
        try:
            for path in _ours(self.folder):
                if path.name == _LOCK and os.name == "nt":
                    self._lock.release()
                remove_file(path, Right.FORM)
            if left := sorted(path.name for path in self.folder.iterdir()):
                logger.warning("%s stays: %s", self.folder, f"not starvsr's own: {_listed(left)}")
            elif self._made:
                remove_folder(self.folder, Right.EMPTY)
        except OSError as error:
            logger.warning("%s stays: it cannot be cleared (%s)", self.folder, error.strerror)
        finally:
            self._lock.release()


def open_work_dir(folder: Path) -> WorkDir:
    """The locked folder; a missing or empty one is created and marked.

    Raises UsageError where it is not ours or another process works in it, WorkDirError where its mark or what has one
    of our names is not what it must be, OutputError where it cannot be written. Nothing is left of what was made then.
    """
    with written_errors(folder):
        made, is_new = _marked(folder)
        try:
            lock = _locked(folder)
        except BaseException:
            if is_new:
                _unmark(folder, made=made)
            raise
    return WorkDir(folder, lock, made=made, is_new=is_new)


def open_begun_dir(folder: Path) -> WorkDir:
    """A folder that a job was begun in, locked; otherwise as it was. Raises as `open_work_dir`."""
    if not is_begun(folder):
        what = "is not" if os.path.lexists(folder) else "does not exist, so it is not"
        raise UsageError(
            f"{folder} {what} a starvsr work directory: give one that an interrupted upscale left, such as "
            "out.mp4.starvsr"
        )
    with written_errors(folder):
        mark = _read_mark(folder)
        return WorkDir(folder, _locked(folder), made=mark.made, is_new=False)


def is_begun(folder: Path) -> bool:
    """Whether a folder is marked and contains any journal."""
    return all(os.path.lexists(folder / name) for name in (WORK_MARK, JOURNAL))


def discard_left(folder: Path) -> None:
    """Remove a job's own folder where a kill left nothing in it but what comes before a journal or goes behind it."""
    with suppress(OSError, UsageError, WorkDirError):
        names = {path.name for path in folder.iterdir()}
        if not names:
            remove_folder(folder, Right.EMPTY)
        elif {name for name in names if _is_our_name(name)} - {_LOCK} == {WORK_MARK}:
            empty = names <= {WORK_MARK, _LOCK} and (folder / WORK_MARK).lstat().st_size == 0
            made = empty or _read_mark(folder).made
            WorkDir(folder, _locked(folder), made=made, is_new=False).remove()


def _marked(folder: Path) -> tuple[bool, bool]:
    """Whether the folder was made for a job, and whether it was marked just now. Raises OSError."""
    made = not folder.exists()
    if made:
        folder.mkdir()
    elif not folder.is_dir():
        raise UsageError(f"the work directory {folder} is a file: give another --work-dir")
    names = sorted(path.name for path in folder.iterdir())
    if (
        WORK_MARK in names
        and set(names) <= {WORK_MARK, _LOCK}
        and not (folder / WORK_MARK).lstat().st_size
    ):
        # The process was killed before writing its content.
        remove_file(folder / WORK_MARK, Right.FORM)
        names.remove(WORK_MARK)
    if WORK_MARK in names:
        return _read_mark(folder).made, False
    if names:
        raise UsageError(
            f"{folder} is not a starvsr work directory and not empty: it contains {_listed(names)}; give another "
            "--work-dir"
        )
    try:
        _write_mark(folder, made=made)
    except BaseException:
        _unmark(folder, made=made)
        raise
    return made, True


def _write_mark(folder: Path, *, made: bool) -> None:
    with (folder / WORK_MARK).open("x", encoding="utf-8") as file:
        file.write(json.dumps({"version": _VERSION, "made": made}) + "\n")
        file.flush()
        os.fsync(file.fileno())


def _unmark(folder: Path, *, made: bool) -> None:
    """Undo the marking."""
    with suppress(OSError):
        for name in (_LOCK, WORK_MARK):
            remove_file(folder / name, Right.FORM)
        if made:
            remove_folder(folder, Right.EMPTY)


def _read_mark(folder: Path) -> _Mark:
    """Raises WorkDirError if it is not in this version's format, OSError."""
    path = folder / WORK_MARK
    advice = "use the version of starvsr that began it, or give another --work-dir"
    check_regular(path)
    with open_regular(path) as file:
        data = file.read(_MOST_MARK_BYTES)
    try:
        mark = from_plain(_Mark, parse_json(data.decode(), _MOST_MARK_BYTES))
    except ValueError as error:
        raise WorkDirError(f"{path} is not in this version's format ({error}): {advice}") from error
    if mark.version != _VERSION:
        raise WorkDirError(f"{folder} is of another format, {mark.version}: {advice}")
    return mark


def _locked(folder: Path) -> filelock.BaseFileLock:
    """The lock, after checking that none of our names is a link. Raises OSError."""
    for path in folder.iterdir():
        if _is_our_name(path.name):
            check_regular(path)
    new = not (folder / _LOCK).exists()
    if not new and (folder / _LOCK).stat().st_size:
        raise WorkDirError(
            f"{folder / _LOCK} is not a starvsr lock, which is empty: move it elsewhere, or give another "
            "--work-dir"
        )
    lock = filelock.FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UsageError(
            f"another process works in {folder}: wait for it, or end it, or give another --work-dir"
        ) from error
    if not (folder / WORK_MARK).exists():
        # The other process has just finished.
        lock.release()
        raise UsageError(f"another process clears {folder}: give the same command again")
    return lock


def check_regular(path: Path) -> None:
    """Raise WorkDirError for a link, folder or pipe in a work directory; OSError."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise WorkDirError(
            f"{path} is not a regular file, as starvsr writes them, and stays untouched: move it elsewhere, or give "
            "another --work-dir"
        )


def check_outside(folder: Path, name: str, path: Path, advice: str) -> None:
    """Raise UsageError where a file lies in a work directory, or what a link names does: files there go.

    name: what the file is called in the message, such as "input"; advice: what to do instead.
    """
    real = os.path.realpath(folder)
    # A link may lie there, or what it names.
    places = [Path(os.path.realpath(place)) for place in (path.parent, path)]
    if any(place.is_relative_to(real) for place in places):
        raise UsageError(f"the {name} {path} is in the work directory {folder}: {advice}")


def _ours(folder: Path) -> list[Path]:
    """Files with our names, in order of removal; none without the mark. Raises OSError."""
    found = [path for path in folder.iterdir() if _is_our_name(path.name)]
    if not any(path.name == WORK_MARK for path in found):
        return []
    order = {name: number for number, name in enumerate(_LAST, start=1)}
    return sorted(found, key=lambda path: (order.get(path.name, 0), path.name))


def _is_our_name(name: str) -> bool:
    forms = (CORE, SEAM, RAW, _PARTIAL)
    return name in _LAST or any(form.fullmatch(name) for form in forms)


def _listed(names: Collection[str]) -> str:
    more = len(names) - _MOST_NAMED
    shown = ", ".join(list(names)[:_MOST_NAMED])
    return f"{shown} and {more} more" if more > 0 else shown
