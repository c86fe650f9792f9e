"""`torch.compile` for a device, with an on-disk cache for later processes.

Imports are deferred: the compiler takes seconds to load.
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
"""Returns an equivalent function."""


def compiled_folder() -> Path:
    """The cache folder: torch's `TORCHINDUCTOR_CACHE_DIR`, else `starvsr/compiled` in the user's cache.

    Raises UsageError if there is no home folder.
    """
    own = os.environ.get(_CACHE)
    if own:
        return Path(own)
    try:
        home = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    except RuntimeError as error:
        raise UsageError(
            f"--compile has no folder to cache its results in: XDG_CACHE_HOME or the home folder is of a user who "
            f"does not exist; name a folder in the variable {_CACHE}"
        ) from error
    return home / "starvsr" / "compiled"


def compiler_for(device: torch.device) -> Compiler:
    """A compiler of functions at their first call, for the shapes of that call, and again for others.

    The second compilation makes the differing sizes dynamic, so the number of compilations stays small. Raises
    UsageError as `check_compiler`.
    """
    check_compiler(device)
    _watch()
    torch._dynamo.config.recompile_limit = _MOST_VARIANTS
    # Better than silently running uncompiled.
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
    """Compile a small function. Raises UsageError if that does not work on the device."""
    folder = compiled_folder()
    try:
        # Code is loaded from it, so it is private to the user.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--compile cannot cache its results in {folder}: {error.strerror}; give another folder in the variable "
            f"{_CACHE}, or leave it out"
        ) from error
    os.environ[_CACHE] = str(folder)
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.cpp_builder import get_cpp_compiler

    try:
        if device.type == "cpu":
            # A cached result would not need the compiler.
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
