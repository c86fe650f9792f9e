"""What was freed behind something that stays goes back to the system."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from starvsr.job.executor import _trim, give_back

BLOCK, BLOCKS = 64 << 10, 1024


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or _trim() is None, reason="the C library has no such call"
)
def test_holes_in_the_heap_are_given_back() -> None:
    library = ctypes.CDLL(None)
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    blocks = [library.malloc(BLOCK) for _ in range(BLOCKS)]
    for block in blocks:
        ctypes.memset(block, 1, BLOCK)
    # Between blocks that stay, so that the library cannot give them back by itself.
    for block in blocks[::2]:
        library.free(block)
    before = resident_bytes()
    give_back()
    assert before - resident_bytes() > BLOCK * BLOCKS // 4
    for block in blocks[1::2]:
        library.free(block)


def test_a_library_without_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starvsr.job.executor._trim", lambda: None)
    give_back()
