"""Messages: on standard error as `--quiet` and `--verbose` say, and all of them in a `--log-file`."""

from __future__ import annotations

import logging
import os
import stat
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from starvsr.cli.printing import echo, printable
from starvsr.errors import OutputError, UsageError
from starvsr.media.files import check_no_work_dir

_library = logging.getLogger("starvsr")
_told = logging.getLogger("starvsr.cli")
"""Messages for users, printed without a level; the library's have one."""

_words: dict[str, str] = {}

# Enough of a file to tell whether it is text.
_BEGINNING_BYTES = 4096


def say(text: str, *, always: bool = False) -> None:
    """Print a message for users. always: even with `--quiet`."""
    _told.info(text, extra={"always": always})


def say_error(text: str, error: BaseException | None = None, *ways: str) -> None:
    """Print `error: ` and the text as one line, and each way out as another.

    `--verbose` and the log add the traceback of `error`.
    """
    lines = (" ".join(line.split()) for line in (text, *ways))
    _library.error("\n  ".join(lines), exc_info=error)


def say_as(path: Path, words: str) -> None:
    """From now on, messages of this run have words for a temporary file's path."""
    _words[str(path)] = words


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """Choose which messages are shown. Raises UsageError for both."""
    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other: give one of them")
    for handler in _library.handlers:
        if isinstance(handler, _Terminal):
            handler.verbose, handler.quiet = verbose, quiet


def log_to(path: Path | None, names: Sequence[str | Path] = ()) -> None:
    """From now on append all messages to a file, with times; None is no file.

    names: of other files of the command. Raises UsageError if it is one of them or named like a video or a picture,
    OutputError if it cannot be written, or is not a text file.
    """
    if path is None:
        return
    if os.path.realpath(path) in map(os.path.realpath, names):
        raise UsageError(f"--log-file {path} is another file of this command: give another name")
    # Imports PyAV, which would slow down `--help`.
    from starvsr.media.folders import VIDEO_SUFFIXES
    from starvsr.media.sequence import STILL_SUFFIXES

    if path.suffix.lower() in (*VIDEO_SUFFIXES, *STILL_SUFFIXES):
        raise UsageError(f"--log-file {path} has the name of a video or a picture: give another")
    check_no_work_dir(path.absolute().parent)
    try:
        _check_log(path)
        handler = _LogFile(path, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise OutputError(
            f"--log-file {path} cannot be written: {error.strerror or error}; give another name"
        ) from error
    handler.setFormatter(_Printable("%(asctime)s %(levelname)-8s %(message)s"))
    _library.addHandler(handler)


def _check_log(path: Path) -> None:
    """Raises OutputError for a file that is not text, and OSError for a pipe without a reader, which would block."""
    kind = path.stat().st_mode if path.exists() else 0
    if stat.S_ISFIFO(kind):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    elif stat.S_ISREG(kind):
        with path.open("rb") as file:
            if b"\0" in file.read(_BEGINNING_BYTES):
                raise OutputError(f"--log-file {path} is not a text file: give another name")


@contextmanager
def heard() -> Iterator[None]:
    """Show and log messages within; restores logging afterwards for in-process callers."""
    before, level = list(_library.handlers), _library.level
    _library.addHandler(_Terminal())
    _library.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        _words.clear()
        for handler in [each for each in _library.handlers if each not in before]:
            _library.removeHandler(handler)
            with suppress(OSError):
                handler.close()
        _library.setLevel(level)


class _Terminal(logging.Handler):
    """Prints on standard error."""

    verbose = quiet = False

    def emit(self, record: logging.LogRecord) -> None:
        told = record.name == _told.name
        usual = logging.INFO if told else logging.WARNING
        least = logging.DEBUG if self.verbose else logging.ERROR if self.quiet else usual
        if record.levelno < least and not getattr(record, "always", False):
            return
        text = _in_words(record.getMessage())
        echo(text if told else f"{record.levelname.lower()}: {text}", err=True)
        if self.verbose and record.exc_info:
            echo("".join(traceback.format_exception(*record.exc_info)), err=True, nl=False)


class _Printable(logging.Formatter):
    """Escapes as on a terminal, where logs are read."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(_in_words(super().format(record)))


class _LogFile(logging.FileHandler):
    """A log that stops on a full disk without ending the work."""

    def handleError(self, record: logging.LogRecord) -> None:
        echo(f"warning: {self.baseFilename} can no longer be written", err=True)
        _library.removeHandler(self)
        # Flushing its buffer fails again.
        with suppress(OSError):
            self.close()


def _in_words(text: str) -> str:
    for path, words in _words.items():
        text = text.replace(path, words)
    return text
