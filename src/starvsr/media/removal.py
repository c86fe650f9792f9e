"""The only code that removes, truncates, replaces or writes over files; every call states its right to do so (`Right`).

A name proves nothing: a folder of somebody's photographs may contain names like ours. So links and anything that is
not a regular file stay, and links are never followed. `tests/media/test_removal.py` checks that no other
module under `src/` removes, truncates or renames over anything.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from contextlib import suppress
from enum import Enum
from pathlib import Path

logger = logging.getLogger(__name__)


class Right(Enum):
    """Why something may be removed or replaced."""

    TEMPORARY = "this process created it under a random name"
    RECORDED = "this program's own intact record says that it created it"
    FORM = "its name has exactly the form of this program's, in a folder with this program's mark"
    INCOMPLETE = "this process has just created it, and what belongs to it could not be created"
    TORN = "an incomplete last line of this program's record"
    RESULT = "a complete file takes the name that the user gave for it"
    FETCHED = "this program downloaded or created it under exactly this name, where nobody else puts anything"
    EMPTY = "an empty folder that this program created"


def remove_file(path: Path, right: Right) -> bool:
    """Remove a regular file; returns whether there was one. Links, folders, pipes and devices stay, which is logged.

    Raises OSError if it cannot be removed.
    """
    if not _is_regular(path):
        return False
    logger.debug("%s is removed: %s", path, right.value)
    path.unlink(missing_ok=True)
    return True


def remove_folder(path: Path, right: Right) -> bool:
    """Remove an empty folder, but no link; returns whether it was removed."""
    logger.debug("%s is removed if it is empty: %s", path, right.value)
    # rmdir fails for links.
    with suppress(OSError):
        path.rmdir()
        return True
    return False


def remove_tree(path: Path, right: Right) -> None:
    """Remove a folder with its contents, as far as possible; links in it go, their targets stay; not a link itself."""
    if path.is_symlink() or not path.is_dir():
        return
    logger.debug("%s is removed with its contents: %s", path, right.value)
    shutil.rmtree(path, ignore_errors=True)


def cut_file(path: Path, size_bytes: int, right: Right) -> None:
    """Truncate a regular file to this many bytes. Raises OSError, also for a link or if it is not a regular file."""
    logger.debug("%s is truncated to %d bytes: %s", path, size_bytes, right.value)
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is not a regular file")
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def write_over(path: Path, place: int, content: bytes, right: Right) -> None:
    """Write over some bytes of a regular file, whose size stays. Raises OSError, also for a link."""
    logger.debug("%s: %d bytes at %d are written over: %s", path, len(content), place, right.value)
    descriptor = os.open(path, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
    with os.fdopen(descriptor, "r+b") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode) or place + len(content) > file.seek(0, 2):
            raise OSError(f"{path} is not a regular file of that size")
        file.seek(place)
        file.write(content)


def put_in_place(made: Path, target: Path, right: Right) -> None:
    """Rename a complete file or folder over an existing file in one step; it takes that file's permissions.

    Raises OSError, and then nothing has changed.
    """
    logger.debug("%s takes the name %s: %s", made, target, right.value)
    # A user who restricted access to the old file did not mean to open the new one to all.
    if _is_regular(target) and _is_regular(made):
        with suppress(OSError):
            made.chmod(stat.S_IMODE(target.stat().st_mode))
    made.replace(target)


def set_aside(path: Path) -> Path:
    """Rename something of the user's beside itself, and return the new name; links keep naming what they name.

    Raises OSError, and then nothing has changed.
    """
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.before-{number}")):
        number += 1
    path.rename(aside)
    return aside


def _is_regular(path: Path) -> bool:
    """Whether it is a regular file, and not a link to one; anything else that exists is logged as left."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        logger.debug("%s is left as it is: it is not a regular file", path)
    return stat.S_ISREG(mode)
