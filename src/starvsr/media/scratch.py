"""Temporary folders that are removed on exit, or after a kill when the next one is created in the same place.

A process holds the lock in its folder for as long as it lives, however it ends. So a folder with our mark
whose lock is free was left by a killed process.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock

from starvsr.errors import OutputError
from starvsr.media.removal import Right, remove_tree

_FORM = re.compile(r"\.starvsr-[0-9a-f]{16}")
_LOCK, _MARK = ".lock", ".starvsr-scratch"
_CONTENT = b"temporary files of starvsr, version 1\n"

# Windows removes no file that is open.
_HELD_FILES_STAY = os.name == "nt"


@contextmanager
def scratch_folder(place: Path | None = None) -> Iterator[Path]:
    """A new hidden folder in `place`, by default the system's for temporary files, removed with its contents on exit.

    What our killed processes left in `place` is removed first. The path is absolute: libav takes the colon of a
    relative name such as "Part 1: x" for the end of a protocol's name. Raises OutputError if it cannot be created.
    """
    place = _usual_place() if place is None else place.absolute()
    _sweep(place)
    folder = place / f".starvsr-{secrets.token_hex(8)}"
    lock = filelock.FileLock(folder / _LOCK)
    try:
        try:
            folder.mkdir(0o700)
        except OSError as error:
            raise OutputError(
                f"temporary files cannot be written in {place}: {error.strerror}; choose another folder (TMPDIR for "
                "those that do not belong beside an output)"
            ) from error
        # On a file system without locks nobody can tell whether we live, so there is no mark.
        with suppress(OSError, NotImplementedError):
            lock.acquire(timeout=0)
            with (folder / _MARK).open("xb") as mark:
                mark.write(_CONTENT)
        yield folder
    finally:
        lock.release()
        remove_tree(folder, Right.TEMPORARY)


def _usual_place() -> Path:
    try:
        return Path(tempfile.gettempdir()).absolute()
    except OSError as error:
        raise OutputError(
            "no folder for temporary files is writable: set TMPDIR to one that is"
        ) from error


def _sweep(place: Path) -> None:
    """Remove what dead processes of this user left in a folder."""
    with suppress(OSError):
        for name in [entry.name for entry in os.scandir(place) if _FORM.fullmatch(entry.name)]:
            _remove_left(place / name)


def _remove_left(folder: Path) -> None:
    with suppress(OSError, NotImplementedError):
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != _own_user() or not _is_marked(folder):
            return
        # Raises if its process lives.
        with filelock.FileLock(folder / _LOCK).acquire(timeout=0):
            remove_tree(folder, Right.FORM)
        if _HELD_FILES_STAY:
            # All but the lock is gone.
            remove_tree(folder, Right.FORM)


def _own_user() -> int:
    # Windows has no user numbers, and reports 0 for every file.
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _is_marked(folder: Path) -> bool:
    mark, lock = folder / _MARK, folder / _LOCK
    regular = all(stat.S_ISREG(path.lstat().st_mode) for path in (mark, lock))
    return regular and mark.stat().st_size == len(_CONTENT) and mark.read_bytes() == _CONTENT
