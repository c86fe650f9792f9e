"""Standard streams that are closed, full or no longer read: a lost result is an error, a lost message is not.

Lost results (standard output) are reported by exit code 7. A reader of messages and progress (standard error) that
goes away does not end the work.
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
    "standard output is closed, but needed for the result: leave it open, or redirect it to a file"
)


def reserve_descriptors() -> None:
    """Open closed standard streams, or the next opened file would get their number and what libraries print."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


@contextmanager
def guarded() -> Iterator[None]:
    """Within, a failed write to `sys.stdout` raises OutputError, and `sys.stderr` never fails."""
    before = sys.stdout, sys.stderr
    sys.stdout = cast(TextIO, _Results(sys.stdout))
    sys.stderr = cast(TextIO, _Messages(sys.stderr))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def check_output() -> None:
    """Raise OutputError if standard output is known to be unusable, before the work."""
    sys.stdout.write("")


def output_lost(error: OSError) -> OutputError:
    """The error of a failed standard output, which is silenced."""
    _silence(sys.stdout)
    reason = error.strerror or str(error)
    return OutputError(
        f"standard output cannot be written: {reason}; its reader must read to the end"
        if isinstance(error, BrokenPipeError)
        else f"standard output cannot be written: {reason}; redirect it elsewhere"
    )


def _silence(stream: Any) -> None:
    # Python's buffer would fail again at exit. A stream in memory has no descriptor.
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)


class _Stream:
    """A text stream; None is a closed one."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream: Any = stream
        self.encoding: str = getattr(stream, "encoding", None) or "utf-8"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        self._try("flush")

    def _try(self, method: str, *arguments: str) -> None:
        if self._stream is not None:
            try:
                getattr(self._stream, method)(*arguments)
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
            "standard error cannot be written (%s): nothing more is shown, the work continues",
            error.strerror or error,
        )
