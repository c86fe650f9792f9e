"""Files that appear under their name only when they are complete."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av

from starvsr.errors import OutputError


@contextmanager
def complete_or_absent(target: Path) -> Iterator[Path]:
    """A temporary file beside `target`; on leaving, it is synced and takes `target`'s name.

    Its own name is short, since `target`'s may be as long as names can be. On any exception it is removed and `target`
    is as it was. Raises OutputError where the file cannot be synced or renamed.
    """
    temporary = target.absolute().with_name(f".starvsr-{secrets.token_hex(8)}.partial")
    try:
        yield temporary
        with written_errors(target):
            _sync(temporary)
            temporary.replace(target)
        # Not every system can sync a folder, and the file is complete without it.
        with suppress(OSError):
            _sync(target.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def written_errors(target: Path) -> Iterator[None]:
    """Turn errors of writing a file into OutputError."""
    try:
        yield
    except (OSError, av.FFmpegError) as error:
        raise OutputError(_why(target, error)) from error


def _why(target: Path, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"{target} cannot be written: no space left in {target.parent}; free some or choose another folder"
    if number == errno.EFBIG:
        return (
            f"{target} cannot be written: it would be larger than the file system or a limit allows"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{target} cannot be written: no permission in {target.parent}"
    return f"{target} cannot be written: {getattr(error, 'strerror', None) or error}"


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
