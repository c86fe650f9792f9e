"""What was freed behind something that stays goes back to the system."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from starvsr.job.heap import _function, give_back, return_large_blocks, share_heap

ROOT = Path(__file__).resolve().parents[2]
BLOCK, BLOCKS = 64 << 10, 1024
BLOCK_MIB = 8


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or _function("malloc_trim") is None,
    reason="the C library has no such call",
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


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or _function("mallopt") is None,
    reason="the C library has no such call",
)
@pytest.mark.parametrize("by_user", [False, True])
def test_a_block_that_was_freed_is_returned_unless_the_user_says_otherwise(by_user: bool) -> None:
    told = [
        sys.executable,
        "-c",
        "from tests.job.test_heap import held_bytes; print(held_bytes())",
    ]
    environment = dict(os.environ, GLIBC_TUNABLES="glibc.malloc.tcache_count=7")
    if not by_user:
        del environment["GLIBC_TUNABLES"]
    done = subprocess.run(
        told, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    assert (int(done.stdout) > 20 * BLOCK_MIB << 20) == by_user


def held_bytes() -> int:
    """By how much this process has grown after blocks were freed between small ones that stay."""
    return_large_blocks()
    # The library raises its own threshold to the size of what was freed.
    torch.empty(BLOCK_MIB << 20, dtype=torch.uint8)
    before = resident_bytes()
    pairs = [
        (torch.ones(BLOCK_MIB << 20, dtype=torch.uint8), torch.ones(100_000, dtype=torch.uint8))
        for _ in range(40)
    ]
    small = [stays for _, stays in pairs]
    del pairs
    held = resident_bytes() - before
    del small
    return held


def test_a_library_without_it_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starvsr.job.heap._function", lambda _: None)
    give_back()
    share_heap()
    return_large_blocks()
