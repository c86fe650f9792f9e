"""The device that the network runs on, and what of it is there."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path

import torch

from starvsr.errors import UsageError
from starvsr.models.attention import Backend, select_backend
from starvsr.options import DeviceOptions
from starvsr.plan.settings import resolve_precision
from starvsr.types import DeviceInfo

_GROUPS = Path("/sys/fs/cgroup")
# Limit and use, in versions 2 and 1.
_GROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
# Microseconds of processor time in a period, and the period, in versions 2 and 1.
_QUOTA_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def device_info(name: str = "auto") -> DeviceInfo:
    """The device that `--device` means. Raises UsageError for another name, or where it does not exist here."""
    DeviceOptions(device=name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda"):
        return _cuda_info(name)
    if name == "mps" and not torch.backends.mps.is_available():
        raise UsageError(
            "--device mps is not there: this machine or torch build has no Metal device"
        )
    description = "Metal device" if name == "mps" else "processor"
    return DeviceInfo(name, description, _free_memory_bytes(), _threads())


def network_dtype(precision: str, device: torch.device, half: str = "fp16") -> torch.dtype:
    """What `--precision` means on a device: the type of the network's weights and of its calculations.

    half: as in `resolve_precision`.
    """
    return _DTYPES[resolve_precision(precision, device.type, half)]


def attention_backend(name: str, device: torch.device) -> Backend:
    """What `--attention` means on a device. Raises UsageError where it does not exist there."""
    try:
        return select_backend(name, device)
    except ValueError as error:
        raise UsageError(f"--attention: {error}") from error


def peak_process_bytes() -> int | None:
    """The most main memory that this process has held at once so far; None where the platform does not tell."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: DeviceInfo) -> int | None:
    """The most of a CUDA device's memory that this process has held at once so far; None for other devices."""
    return torch.cuda.max_memory_reserved(device.name) if device.name.startswith("cuda") else None


def _cuda_info(name: str) -> DeviceInfo:
    number = int(name.partition(":")[2] or 0)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if number >= count:
        raise UsageError(
            f"--device {name} is not there: torch finds {count} CUDA devices; give --device cpu or auto"
        )
    free_bytes, _ = torch.cuda.mem_get_info(number)
    properties = torch.cuda.get_device_properties(number)
    return DeviceInfo(f"cuda:{number}", properties.name, free_bytes, _threads())


def _free_memory_bytes() -> int:
    """What this process may still take: what the machine has free, or less where a control group allows less."""
    free = [_available_bytes(), *(_group_bytes(*files) for files in _GROUP_FILES)]
    return min((size for size in free if size), default=0)


def _available_bytes() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    with contextlib.suppress(ValueError, AttributeError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Not every platform tells; 0 is documented as unknown.
    return 0


def _group_bytes(limit: str, used: str) -> int:
    """What is left of a control group's memory; 0 where there is no such limit."""
    try:
        most, now = (int((_GROUPS / name).read_text()) for name in (limit, used))
    except (OSError, ValueError):
        # "max" is no limit.
        return 0
    return max(0, most - now)


def _threads() -> int:
    """torch's, or fewer where a control group grants less time: more threads than it grants wait for each other."""
    threads = torch.get_num_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return threads
    return min(threads, *(_group_processors(*files) for files in _QUOTA_FILES))


def _group_processors(*files: str) -> int:
    """Processors whose time a control group grants, rounded up; more than there are where there is no such limit."""
    try:
        text = " ".join((_GROUPS / name).read_text() for name in files)
        quota, period = map(int, text.split())
    except (OSError, ValueError):
        # "max" is no limit.
        return sys.maxsize
    return math.ceil(quota / period) if quota > 0 else sys.maxsize
