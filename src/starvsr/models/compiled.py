"""Compiling for a device by `torch.compile`, with results that later processes find on disk.

Nothing here is imported before it is asked for: the compiler takes seconds to load.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, cast

import torch

from starvsr.errors import UsageError

_CACHE = "TORCHINDUCTOR_CACHE_DIR"
_MOST_VARIANTS = 256
"""Of one function: a UNet's blocks have their own widths and sizes, more than torch's 8."""

Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes of a function one that does the same."""


def compiled_folder() -> Path:
    """Where compiled code is kept: torch's `TORCHINDUCTOR_CACHE_DIR`, else `starvsr/compiled` in the user's cache.

    Raises UsageError where that is in the home of nobody.
    """
    own = os.environ.get(_CACHE)
    if own:
        return Path(own)
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"--compile has no folder to keep its results in: XDG_CACHE_HOME, or your home, is that of a user who does "
            f"not exist; name a folder in the variable {_CACHE}"
        ) from error
    return home / "starvsr" / "compiled"


def compiler_for(device: torch.device) -> Compiler:
    """What compiles a function at its first call, for the shapes of that call, and again for others.

    The code of a second shape is for nearly every size of what differs, so that their number stays small. Raises
    UsageError as `check_compiler`.
    """
    check_compiler(device)
    _watch()
    torch._dynamo.config.recompile_limit = _MOST_VARIANTS
    # Rather than slowly and in silence without it.
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return cast(Compiler, torch.compile)


class _Clock:
    """Wall seconds that this process has compiled for."""

    seconds = began = 0.0

    def begin(self, *_: object) -> None:
        self.began = time.perf_counter()

    def end(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self.began


_CLOCK = _Clock()


def compiling_s() -> float:
    """Wall seconds that this process has compiled for so far."""
    return _CLOCK.seconds


@cache
def check_compiler(device: torch.device) -> None:
    """Compile a small function. Raises UsageError where that does not work for the device."""
    folder = compiled_folder()
    try:
        # Code is loaded from it, so it is nobody else's.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--compile cannot keep its results in {folder}: {error.strerror}; give another folder in the variable "
            f"{_CACHE}, or leave it out"
        ) from error
    os.environ[_CACHE] = str(folder)
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        if device.type == "cpu":
            # What was compiled before would not miss it.
            get_cpp_compiler()
        torch.compile(_probe)(torch.zeros(64, device=device))
    except (RuntimeError, OSError, TorchDynamoException) as error:
        raise UsageError(f"--compile does not work here: {_reason(error)}") from error


@cache
def _watch() -> None:
    from torch._dynamo.callback import on_compile_end, on_compile_start

    on_compile_start(_CLOCK.begin)
    on_compile_end(_CLOCK.end)


def _probe(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1


def _reason(error: BaseException) -> str:
    """What is missing, and what to do."""
    from torch._inductor.exc import InvalidCxxCompiler, TritonMissing

    cause = getattr(error, "inner_exception", error)
    if isinstance(cause, InvalidCxxCompiler):
        return "it needs a C++ compiler; install g++, name another one in the variable CXX, or leave --compile out"
    if isinstance(cause, TritonMissing):
        return "it needs Triton on this device; install the package triton, or leave --compile out"
    said = next((line for line in str(cause).splitlines() if line.strip()), type(cause).__name__)
    return f"{said.strip()}; leave it out"
