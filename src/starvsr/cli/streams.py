"""Standard streams that are closed, full or no longer read: a lost result is an error, a lost message is not.

Results go to standard output: who cannot have them must be told, by exit code 7. Messages and progress go to standard
error: whoever stops reading them has not asked for the work to end.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn, TextIO, cast

from starvsr.errors import OutputError

logger = logging.getLogger(__name__)

_CLOSED = (
    "standard output is closed, and the result goes there: leave it open, or send it to a file"
)


def reserve_descriptors() -> None:
    """Take the numbers of standard streams that are closed, or a file would get one and whatever libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # It is the lowest that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@contextmanager
def guarded() -> Iterator[None]:
    """Within, what is written to `sys.stdout` raises OutputError where it cannot be, and `sys.stderr` never fails."""
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, _Results(sys.stdout))
    sys.stderr = cast(TextIO, _Messages(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def check_output() -> None:
    """Raise OutputError where standard output is known to be of no use, before work whose result would go there."""
    sys.stdout.write("")


def output_lost(error: OSError) -> OutputError:
    """The error of a standard output that could not be written; nothing goes there any more."""
    _silence(sys.stdout)
    reason = error.strerror or str(error)
    return OutputError(
        f"standard output cannot be written: {reason}; who reads it must read to the end"
        if isinstance(error, BrokenPipeError)
        else f"standard output cannot be written: {reason}; send it to another place"
    )


def _silence(stream: Any) -> None:
    # What is left in Python's buffer would fail once more at the end. A stream in memory has no number.
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class _Stream:
    """A text stream, or the place of one that is closed (None)."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: Any = stream
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
            except OSError as error:
                self.failed(error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            try:
                self._stream.flush()
            except OSError as error:
                self.failed(error)

    def failed(self, error: OSError) -> None:
        raise NotImplementedError


class _Results(_Stream):
    """Standard output."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._lost = OutputError(_CLOSED) if stream is None else None

    def write(self, text: str) -> int:
        if self._lost is not None:
            raise self._lost
        return super().write(text)

    def failed(self, error: OSError) -> NoReturn:
        self._lost = output_lost(error)
        raise self._lost from error


class _Messages(_Stream):
    """Standard error."""

    def failed(self, error: OSError) -> None:
        _silence(self._stream)
        # There may be a `--log-file`.
        logger.warning(
            "standard error cannot be written (%s): nothing more is shown, and the work goes on",
            error.strerror or error,
        )
