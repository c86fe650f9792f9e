"""What is said: on standard error as loud as it is asked for, and all of it in a `--log-file`."""

from __future__ import annotations

import logging
import os
import stat
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from starvsr.cli.printing import echo, printable
from starvsr.errors import OutputError, UsageError

_library = logging.getLogger("starvsr")
_told = logging.getLogger("starvsr.cli")
"""Sentences for people: printed as they are, where the library's messages say how grave they are."""

# As much of a file shows whether it is text.
_BEGINNING_BYTES = 4096


def say(text: str, *, always: bool = False) -> None:
    """Tell people something. always: even with `--quiet`."""
    _told.info(text, extra={"always": always})


def say_error(text: str, error: BaseException | None = None) -> None:
    """Say `error: ` and one line, whatever a library had to say; `--verbose` and the log show where `error` is from."""
    _library.error(" ".join(text.split()), exc_info=error)


def set_verbosity(*, verbose: bool, quiet: bool) -> None:
    """What is shown of all that is said. Raises UsageError where both are wanted."""
    if verbose and quiet:
        raise UsageError("--verbose and --quiet contradict each other: give one of them")
    for handler in _library.handlers:
        if isinstance(handler, _Terminal):
            handler.verbose, handler.quiet = verbose, quiet


def log_to(path: Path | None) -> None:
    """From now on append all that is said to a file, with times, whatever is shown; None is no file.

    Raises OutputError where it cannot be written, or holds something that is no text.
    """
    if path is None:
        return
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
    """Raises OutputError for what is no text, and OSError for a pipe that nobody reads, which would be waited for."""
    kind = path.stat().st_mode if path.exists() else 0
    if stat.S_ISFIFO(kind):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    elif stat.S_ISREG(kind):
        with path.open("rb") as file:
            if b"\0" in file.read(_BEGINNING_BYTES):
                raise OutputError(f"--log-file {path} is no text file: give another name")


@contextmanager
def heard() -> Iterator[None]:
    """Messages are shown, and logged; whoever runs commands in process finds logging as it was."""
    before, level = list(_library.handlers), _library.level
    _library.addHandler(_Terminal())
    _library.setLevel(logging.DEBUG)
    try:
        yield
    finally:
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
        text = record.getMessage()
        echo(text if told else f"{record.levelname.lower()}: {text}", err=True)
        if self.verbose and record.exc_info:
            echo("".join(traceback.format_exception(*record.exc_info)), err=True, nl=False)


class _Printable(logging.Formatter):
    """As on a terminal: whoever looks at a log does so there."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _LogFile(logging.FileHandler):
    """A log that a full disk ends, but not the work."""

    def handleError(self, record: logging.LogRecord) -> None:
        echo(f"warning: {self.baseFilename} cannot be written any more", err=True)
        _library.removeHandler(self)
        # What is in its buffer fails once more.
        with suppress(OSError):
            self.close()
