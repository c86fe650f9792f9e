"""Files: they appear under their name only when they are complete; checks of the output's folder; digests."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO

from starvsr.errors import OutputError, UsageError
from starvsr.media.deadline import closing_unless_stuck, within_deadline
from starvsr.media.removal import Right, put_in_place, remove_file
from starvsr.media.sequence import is_sequence, numbers_of

# Windows' numbers of a sharing and of a locking violation, whose errno is that of a missing permission.
_HELD_OPEN = (32, 33)

_PIECE_BYTES = 1 << 24
_THERE = "{} exists already: give --overwrite to replace it"

WORK_MARK = ".starvsr-work"
"""A file of this name marks a job's work directory (`job.workdir`)."""


@contextmanager
def complete_or_absent(
    target: Path,
    folder: Path | None = None,
    on_complete: Callable[[Path], None] | None = None,
    *,
    right: Right = Right.RESULT,
    replace: bool = True,
) -> Iterator[Path]:
    """A temporary file that is synced and renamed to `target` on exit.

    It is in `folder` if that is on `target`'s file system, else beside `target`. Its own name is short, since
    `target`'s may have the maximum length. If `target` is a symbolic link, the file that it names is replaced and
    the link stays. On any exception it is removed and `target` is unchanged. on_complete: called with it after the
    sync and before the rename. right: why a file of that name may be replaced. replace: False if only one that was
    not there at the start would be. Raises OutputError if it cannot be synced or renamed, or is not to be replaced.
    """
    with written_errors(target):
        real = _followed(target)
        place = real.parent
        if folder is not None and folder.stat().st_dev == place.stat().st_dev:
            place = folder.absolute()
    temporary = place / f".starvsr-{secrets.token_hex(8)}.partial"
    try:
        yield temporary
        with written_errors(target):
            sync(temporary)
        if on_complete is not None:
            on_complete(temporary)
        with written_errors(target):
            if not replace and os.path.lexists(real):
                raise OutputError(_THERE.format(target))
            put_in_place(temporary, real, right)
        # Not every system can sync a folder, and the file is complete without it.
        with suppress(OSError):
            sync(real.parent)
    except BaseException:
        with suppress(OSError):
            remove_file(temporary, Right.TEMPORARY)
        raise


def write_whole(
    target: Path,
    content: bytes | memoryview,
    right: Right = Right.RESULT,
    *,
    folder: Path | None = None,
) -> None:
    """Write a file that appears under its name only when it is complete. Parameters as in `complete_or_absent`.

    Raises OutputError.
    """
    with (
        complete_or_absent(target, folder, right=right) as temporary,
        written_errors(target),
        temporary.open("xb") as file,
    ):
        file.write(content)


def open_regular(path: Path, *, follow: bool = False, append: bool = False) -> BinaryIO:
    """Open an existing file for reading or appending; links are refused unless `follow`.

    Never blocks. Raises OSError, also for a refused link, a pipe, a device or a folder.
    """
    flags = os.O_WRONLY | os.O_APPEND if append else os.O_RDONLY
    names = ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY", *(() if follow else ("O_NOFOLLOW",)))
    for name in names:
        # Not every system has all of them.
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return os.fdopen(descriptor, "ab" if append else "rb")
    except BaseException:
        os.close(descriptor)
        raise


def content_digest(path: Path, *, once: bool = True) -> str:
    """SHA-256 of a file's whole content: one that was edited may keep its size and most of its bytes.

    once: reads it again only if its size or times have changed, for one of few files. Raises OSError, also if it is not
    a regular file; InputError as `within_deadline`.
    """
    if not once:
        return _read_digest(path)
    state = within_deadline(path, path.stat)
    return _content_digest(path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)


# A batch restores one video after another with the same files of a model.
@lru_cache(maxsize=16)
def _content_digest(path: Path, *_: int) -> str:
    return _read_digest(path)


def _read_digest(path: Path) -> str:
    digest = hashlib.sha256()
    file = within_deadline(path, partial(open_regular, path, follow=True))
    with closing_unless_stuck(file):
        while piece := within_deadline(path, partial(file.read, _PIECE_BYTES), file):
            digest.update(piece)
    return digest.hexdigest()


@contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn errors of reading one of the job's own files into OutputError."""
    try:
        yield
    except _file_failures() as error:
        reason = getattr(error, "strerror", None) or error
        # `errors_of` would report it as a write error.
        raise OutputError(f"{path} cannot be read: {reason}; nothing was removed") from None


@contextmanager
def written_errors(target: Path) -> Iterator[None]:
    """Turn errors of writing a file into OutputError."""
    try:
        yield
    except _file_failures() as error:
        raise OutputError(_why(target, error)) from error


@contextmanager
def errors_of(target: Path) -> Iterator[None]:
    """Turn a failed write of any file of the job into OutputError about the target: part files are internal."""
    with written_errors(target):
        try:
            yield
        except OutputError as error:
            if isinstance(error.__cause__, _file_failures()):
                error.args = (_why(target, error.__cause__),)
            raise


def check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Check the output's path for all that can be refused at once; of an image sequence, no image may exist.

    The source need not exist. Raises OutputError, UsageError.
    """
    # A name that is too long or in a closed folder cannot even be looked up.
    with written_errors(target):
        is_folder, exists = target.is_dir(), target.exists()
        is_device = exists and not is_folder and not target.is_file()
        is_source = exists and source.exists() and target.samefile(source)
        folder = _followed(target).parent if target.is_symlink() else target.parent
        has_folder = folder.is_dir()
        if is_sequence(target) and not exists:
            exists = bool(numbers_of(target))
            is_source = target.absolute() == source.absolute()
    if is_folder:
        raise OutputError(f"{target} is a folder: give the name of a file to write")
    if is_source:
        raise UsageError(f"{target} is the input itself: give another output")
    if is_device:
        raise OutputError(f"{target} is a pipe or a device: give the name of a file to write")
    if exists and not overwrite:
        # A shell's pattern that matches two files gives the second as the output.
        is_like = target.suffix == source.suffix
        is_like = is_like and target.absolute().parent == source.absolute().parent
        other = "; if it is an input too, give a folder as the output"
        raise OutputError(_THERE.format(target) + (other if is_like else ""))
    if not has_folder:
        raise OutputError(f"the folder {folder} does not exist: make it first")
    check_writable(folder)


def check_folder(target: Path) -> None:
    """Raise OutputError if a file's folder neither exists, and can be written to, nor can be created."""
    with written_errors(target):
        nearest = next(folder for folder in target.absolute().parents if folder.exists())
        is_there = nearest.is_dir()
    if not is_there:
        raise OutputError(f"{nearest} is a file: {target.name} needs a folder there")
    check_writable(nearest)


def check_writable(folder: Path) -> None:
    """Check that a file can be created in an existing folder. Raises OutputError, UsageError for a work directory."""
    check_no_work_dir(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder} cannot be written to: choose another one")


def check_no_work_dir(folder: Path) -> None:
    """Raise UsageError for a job's work directory, from which files are removed."""
    if os.path.lexists(os.path.join(os.path.realpath(folder), WORK_MARK)):  # noqa: PTH118
        raise UsageError(
            f"{folder} is a work directory of starvsr, which removes files from it: choose another folder"
        )


def _followed(target: Path) -> Path:
    """The absolute path that a name refers to. Raises OSError for circular links."""
    if not target.is_symlink():
        return target.absolute()
    # A link may name a file that does not exist yet.
    with suppress(FileNotFoundError):
        target.stat()
    return Path(os.path.realpath(target))


def _file_failures() -> tuple[type[Exception], ...]:
    """Exceptions of a failed write. Tensors are written without PyAV, which raises nothing until it is loaded."""
    loaded = sys.modules.get("av")
    return (OSError,) if loaded is None else (OSError, loaded.FFmpegError)


def _why(target: Path, error: Exception) -> str:
    number = getattr(error, "errno", None)
    if getattr(error, "winerror", None) in _HELD_OPEN:
        return (
            f"{target} cannot be written: another program has it open; close it there and give the same command "
            "again"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"{target} cannot be written: no space left in {target.parent}; free some or choose another folder"
    if number == errno.EFBIG:
        return (
            f"{target} cannot be written: it would be larger than the file system or a limit allows"
        )
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{target} cannot be written: no permission in {target.parent}"
    return f"{target} cannot be written: {getattr(error, 'strerror', None) or error}"


def sync(path: Path) -> None:
    """Wait until a file or a folder is on disk. Raises OSError, also if the system cannot sync folders."""
    # Windows syncs only what may be written, and no folder.
    descriptor = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
