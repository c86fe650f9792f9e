"""This process's heap, kept small where the C library is glibc; elsewhere nothing is done.

Frames, latents and encoders come and go with every segment, and a heap keeps much of what was freed.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from functools import cache

# Parameters of mallopt, from glibc's malloc.h.
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
_LARGE_BYTES = 1 << 20


def share_heap() -> None:
    """Let all threads take memory from one heap: each that has its own keeps its own holes."""
    _set(_ARENA_MAX, 1, "MALLOC_ARENA_MAX")


def return_large_blocks() -> None:
    """Return blocks of a mebibyte or more to the system as soon as they are freed.

    The system clears each block that is taken. That is up to a third of a small network's time, and next to nothing of
    STAR's.
    """
    _set(_MMAP_THRESHOLD, _LARGE_BYTES, "MALLOC_MMAP_THRESHOLD_")


def give_back() -> None:
    """Return free memory between blocks in use to the system."""
    trim = _function("malloc_trim")
    if trim is not None:
        trim(0)


def _set(parameter: int, value: int, variable: str) -> None:
    """Unless the user has set the heap by environment variables."""
    set_option = _function("mallopt")
    by_user = variable in os.environ or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "")
    if set_option is not None and not by_user:
        set_option(parameter, value)


@cache
def _function(name: str) -> Callable[..., int] | None:
    try:
        found: Callable[..., int] = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):
        return None
    return found
