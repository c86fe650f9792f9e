"""What happens to files in folders, told by the kernel as it happens (Linux): a run is followed without its knowing."""

from __future__ import annotations

import ctypes
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

# Of <sys/inotify.h>.
_KINDS = {
    0x001: "read",
    0x002: "written",
    0x008: "closed",
    0x020: "opened",
    0x040: "moved from",
    0x080: "moved to",
    0x100: "made",
    0x200: "removed",
}
_HEADER = struct.Struct("iIII")
_BUFFER_BYTES = 1 << 16


class Event(NamedTuple):
    """One thing that happened to a file."""

    kind: str
    """One of `_KINDS`."""
    path: Path


class Watch:
    """The events of folders, or of single files, from the time at which each was added."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._file = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._file < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._places: dict[int, Path] = {}

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._file)

    def add(self, place: Path) -> None:
        """Watch a folder (what is in it, not in folders of it) or a file too. Raises OSError."""
        number = self._libc.inotify_add_watch(self._file, os.fsencode(place), sum(_KINDS))
        if number < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch", str(place))
        self._places[number] = place

    def wait(self, seconds: float) -> Iterator[Event]:
        """What has happened by now; waits for something to happen for so long at most."""
        if not select.select([self._file], [], [], max(0.0, seconds))[0]:
            return
        data = os.read(self._file, _BUFFER_BYTES)
        while data:
            number, mask, _, length = _HEADER.unpack_from(data)
            end = _HEADER.size + length
            name = os.fsdecode(data[_HEADER.size : end].rstrip(b"\0"))
            data = data[end:]
            # A place that went away has one last event of no kind.
            if kind := _KINDS.get(mask & sum(_KINDS)):
                yield Event(kind, self._places[number] / name)
