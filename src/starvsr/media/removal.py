"""The only code that removes, cuts off or replaces files; every call says by which right (`Right`).

A name proves nothing: a folder of somebody's photographs may contain names like ours. So nothing goes that is a link or
not a regular file, and a link is never followed to what it names. `tests/media/test_removal.py` holds that no other
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
    """By which right something may go."""

    TEMPORARY = "this process made it, under a name that it drew at random"
    RECORDED = "this program's own record, found whole, says that it made it"
    FORM = (
        "it has the exact form of this program's names, in a folder that bears this program's mark"
    )
    INCOMPLETE = "this process made it a moment ago, and what belongs to it could not be made"
    TORN = "a line of this program's record that was not written to its end, behind all that was"
    RESULT = "a complete file takes the name that the user gave for it"
    FETCHED = "this program fetched or made it, where nobody else puts anything, under the exact name that it gave"
    EMPTY = "a folder that this program made, and that holds nothing"


def remove_file(path: Path, right: Right) -> bool:
    """Remove a regular file; whether there was one. Links, folders, pipes and devices stay, and that is logged.

    Raises OSError where it cannot be removed.
    """
    if not _is_regular(path):
        return False
    logger.debug("%s is removed: %s", path, right.value)
    path.unlink(missing_ok=True)
    return True


def remove_folder(path: Path, right: Right) -> bool:
    """Remove a folder that is empty, and no link; whether it went."""
    logger.debug("%s is removed if it is empty: %s", path, right.value)
    # Of a link rmdir fails, whatever it names.
    with suppress(OSError):
        path.rmdir()
        return True
    return False


def remove_tree(path: Path, right: Right) -> None:
    """Remove a folder with all in it, as far as possible; links in it go, what they name stays; not a link itself."""
    if path.is_symlink() or not path.is_dir():
        return
    logger.debug("%s is removed with all in it: %s", path, right.value)
    shutil.rmtree(path, ignore_errors=True)


def cut_file(path: Path, size_bytes: int, right: Right) -> None:
    """Cut a regular file off behind so many bytes. Raises OSError, also where it is a link or no regular file."""
    logger.debug("%s is cut to %d bytes: %s", path, size_bytes, right.value)
    descriptor = os.open(path, os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0))
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)


def put_in_place(made: Path, target: Path, right: Right) -> None:
    """Give a complete file or folder its name, over a file that has it, in one step; it takes that file's permissions.

    Raises OSError, and then nothing has changed.
    """
    logger.debug("%s takes the name %s: %s", made, target, right.value)
    # Whoever shared the old file with few did not mean to share the new one with all.
    if _is_regular(target) and _is_regular(made):
        with suppress(OSError):
            made.chmod(stat.S_IMODE(target.stat().st_mode))
    made.replace(target)


def set_aside(path: Path) -> Path:
    """Give something of the user's another name beside it, and say which; links keep naming what they name.

    Raises OSError, and then nothing has changed.
    """
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.before-{number}")):
        number += 1
    path.rename(aside)
    return aside


def _is_regular(path: Path) -> bool:
    """Whether there is a regular file, and not a link to one; anything else that is there is logged as left."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode):
        logger.debug("%s is left as it is: it is no regular file", path)
    return stat.S_ISREG(mode)
