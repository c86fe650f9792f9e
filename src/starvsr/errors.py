"""The exception hierarchy. The library raises these; only the command line converts them to exit codes.

    StarvsrError              1  anything below; never raised itself
    ├── UsageError            2  unknown or contradictory options
    ├── InputError            3  the input cannot be read, or contains no video
    ├── WeightsError          4  weights missing, corrupt, refused
    ├── MemoryLimitError      5  out of memory after every fallback
    ├── OutputError           7  the output cannot be written: exists, no space, no such encoder
    └── WorkDirError          9  the work directory belongs to another job

Message form: what is wrong with the value given, then what is allowed or what to do next.
"""

import difflib
from collections.abc import Iterable


class StarvsrError(Exception):
    """Base of every error that a user can cause; `exit_code` is the command line's (see `docs/cli.md`).

    Its arguments are the message, and perhaps more sentences for lines of their own: ways out.
    """

    exit_code = 1

    def __str__(self) -> str:
        return "; ".join(map(str, self.args))


class UsageError(StarvsrError):
    """An option has a value that is not allowed, or two options contradict each other."""

    exit_code = 2


class InputError(StarvsrError):
    """The input does not exist, is not a media file, or contains no video."""

    exit_code = 3


class WeightsError(StarvsrError):
    """A model file is missing, corrupt or unsupported by this version."""

    exit_code = 4


class MemoryLimitError(StarvsrError):
    """Even the smallest window does not fit."""

    exit_code = 5


class OutputError(StarvsrError):
    """The output cannot be written."""

    exit_code = 7


class WorkDirError(StarvsrError):
    """The work directory belongs to another job, or its content is not in this version's format."""

    exit_code = 9


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """`did you mean X? `, with the allowed value nearest to the one given; empty if none is near."""
    near = difflib.get_close_matches(given.lower(), list(allowed), 1)
    return f"did you mean {near[0]}? " if near else ""
