"""libav's own description of a file, which says what PyAV has no field for."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field

import av.logging
from av.container import InputContainer

# libav's log has one level for all threads.
_level = threading.Lock()
_PROGRAM = re.compile(r"  (?:Program \d+|No Program)\b")
_STREAM = re.compile(r"  Stream #0:(\d+)\b.*?: (.*)")
_SIDE = re.compile(r"      (\S[^:]*): (.*?) *")


@dataclass
class Description:
    """What libav says of a file."""

    streams: dict[int, str] = field(default_factory=dict)
    """Kind, codec and format of every stream, by its index."""
    sides: dict[int, dict[str, str]] = field(default_factory=dict)
    """Side data of every stream, by its index and by libav's name of it."""
    programs: list[list[int]] = field(default_factory=list)
    """The streams of every program."""


def describe_file(container: InputContainer) -> Description:
    """The description that libav logs of an open file."""
    found, index, is_side = Description(), -1, False
    program: list[int] | None = None
    for line in _logged(container).splitlines():
        stream = _STREAM.fullmatch(line)
        if _PROGRAM.match(line):
            program = [] if line.startswith("  Program") else None
            found.programs += [] if program is None else [program]
        elif stream:
            index = int(stream[1])
            found.streams[index], found.sides[index] = stream[2], {}
            if program is not None:
                program.append(index)
        elif index >= 0 and not line.startswith("      "):
            is_side = line == "    Side data:"
        elif is_side and (side := _SIDE.fullmatch(line)):
            found.sides[index][side[1]] = side[2]
    return found


def _logged(container: InputContainer) -> str:
    # Messages of other threads are caught too, and not shown.
    with _level, av.logging.Capture(local=False):
        before = av.logging.get_level()
        # Only at this level does it contain the chroma location.
        av.logging.set_libav_level(av.logging.VERBOSE)
        av.logging.set_level(av.logging.INFO)
        try:
            return str(container.dumps_format())  # type: ignore[attr-defined]
        finally:
            av.logging.set_level(before)
            av.logging.set_libav_level(av.logging.INFO)
