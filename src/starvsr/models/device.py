"""The device that the network runs on, and its resources.

torch takes longer to load than all of `starvsr plan`, so it is queried only if nothing else knows the answer.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starvsr.errors import UsageError
from starvsr.options import DeviceOptions
from starvsr.plan.settings import resolve_precision
from starvsr.types import DeviceInfo, ModelSpec

if TYPE_CHECKING:
    import torch

    from starvsr.models.attention import Backend

_DEVICES = Path("/dev")
# Of NVIDIA's driver, of its boards with one memory for all, of AMD's, and of Windows' in a Linux beside it.
_DEVICE_FILES = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
_CPU_FACTS = Path("/proc/cpuinfo")
_BF16_UNITS = frozenset(("avx512_bf16", "amx_bf16"))
_PROCESSORS = Path("/sys/devices/system/cpu")
_THREAD_VARIABLES = ("OMP_", "GOMP_", "KMP_", "MKL_")
_GROUPS = Path("/sys/fs/cgroup")
# Limit and use, in versions 2 and 1.
_GROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
# Microseconds of CPU time in a period, and the period, in versions 2 and 1.
_QUOTA_FILES = (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"))


def device_info(name: str = "auto") -> DeviceInfo:
    """The device that `--device` means. Raises UsageError for another name, or if it does not exist here."""
    DeviceOptions(device=name)
    if name == "auto":
        name = "cuda" if cuda_devices() else "cpu"
    if name.startswith("cuda"):
        return _cuda_info(name)
    if name == "mps":
        import torch

        if not torch.backends.mps.is_available():
            raise UsageError(
                "--device mps is not available: this machine or torch build has no Metal device"
            )
    description = "Metal device" if name == "mps" else "CPU"
    quick = name == "cpu" and _has_bf16_units()
    return DeviceInfo(name, description, _free_memory_bytes(), _threads(), quick)


def _has_bf16_units() -> bool:
    """Of the kinds that were measured (docs/performance.md); only Linux says without torch."""
    with contextlib.suppress(OSError):
        for line in _CPU_FACTS.read_text().splitlines():
            name, _, flags = line.partition(":")
            if name.strip() == "flags":
                return not _BF16_UNITS.isdisjoint(flags.split())
    return False


def network_dtype(precision: str, device: DeviceInfo, spec: ModelSpec) -> torch.dtype:
    """What `--precision` means for a model on a device: the type of the network's weights and of its calculations.

    Raises as `resolve_precision`.
    """
    import torch

    dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return dtypes[resolve_precision(precision, device, spec)]


def worker_devices(asked: str, name: str, count: int) -> list[str]:
    """Devices of `count` workers: all GPUs unless one was requested by number, otherwise one device for all.

    asked: as given by the user; name: resolved for one process.
    """
    gpus = cuda_devices() if name == "cuda:0" and asked in ("auto", "cuda") else 0
    return [f"cuda:{number % gpus}" for number in range(count)] if gpus > 1 else [name] * count


def shared_device(asked: str, device: DeviceInfo, count: int) -> DeviceInfo:
    """The device that each of `count` workers can count on: its share of the memory there, the least of any."""
    names = set(worker_devices(asked, device.name, count))
    free_bytes = min(device_info(name).memory_bytes for name in names)
    most = -(-count // len(names))
    return dataclasses.replace(device, memory_bytes=free_bytes // most)


def attention_backend(name: str, device: torch.device) -> Backend:
    """What `--attention` means on a device. Raises UsageError if it is not available there."""
    from starvsr.models.attention import select_backend

    try:
        return select_backend(name, device)
    except ValueError as error:
        raise UsageError(f"--attention: {error}") from error


def peak_process_bytes() -> int | None:
    """The most main memory that this process has held at once so far; None if the platform does not report it."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_device_bytes(device: DeviceInfo) -> int | None:
    """The most of a CUDA device's memory that this process has held at once so far; None for other devices."""
    if not device.name.startswith("cuda"):
        return None
    import torch

    return torch.cuda.max_memory_reserved(device.name)


def cuda_devices() -> int:
    """How many CUDA devices torch finds."""
    if not _may_have_gpu():
        return 0
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _may_have_gpu() -> bool:
    """False only where torch could find no CUDA device, whatever build it is."""
    if sys.platform == "darwin":
        return False
    if sys.platform != "linux":
        return True
    if any(next(_DEVICES.glob(pattern), None) for pattern in _DEVICE_FILES):
        return True
    try:
        # NVIDIA's driver may make its files only when it is first used.
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def _cuda_info(name: str) -> DeviceInfo:
    number = int(name.partition(":")[2] or 0)
    count = cuda_devices()
    if number >= count:
        raise UsageError(
            f"--device {name} is not available: torch finds {count} CUDA devices{_cpu_build()}; "
            "give --device cpu or auto"
        )
    import torch

    free_bytes, _ = torch.cuda.mem_get_info(number)
    properties = torch.cuda.get_device_properties(number)
    return DeviceInfo(f"cuda:{number}", properties.name, free_bytes, _threads())


def _cpu_build() -> str:
    """A remark on a torch without CUDA; empty for one with it."""
    import torch

    has_cuda = torch.version.cuda or torch.version.hip
    return "" if has_cuda else f" (torch {torch.__version__} is a build without CUDA)"


def _free_memory_bytes() -> int:
    """Memory still available to this process: the machine's, or less if a control group allows less."""
    free = [_available_bytes(), *(_group_bytes(*files) for files in _GROUP_FILES)]
    return min((size for size in free if size), default=0)


def _available_bytes() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) * 1024
    if sys.platform == "win32":
        return _windows_memory_bytes()
    with contextlib.suppress(ValueError, AttributeError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # Not every platform reports it; 0 is documented as unknown.
    return 0


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load_percent", ctypes.c_uint32),
        ("physical_bytes", ctypes.c_uint64),
        ("free_bytes", ctypes.c_uint64),
        ("others", ctypes.c_uint64 * 5),
    )


def _windows_memory_bytes() -> int:
    """Free main memory on Windows; 0 if unknown."""
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel: Any = getattr(ctypes, "windll").kernel32  # noqa: B009
    return status.free_bytes if kernel.GlobalMemoryStatusEx(ctypes.byref(status)) else 0


def _group_bytes(limit: str, used: str) -> int:
    """Free memory of a control group; 0 without such a limit."""
    try:
        most, now = (int((_GROUPS / name).read_text()) for name in (limit, used))
    except (OSError, ValueError):
        # "max" is no limit.
        return 0
    return max(0, most - now)


def _threads() -> int:
    """torch's number of threads, or fewer if a control group grants less CPU time: more would wait for each other."""
    threads = _torch_threads()
    if "OMP_NUM_THREADS" in os.environ:
        return threads
    return min(threads, *(_group_processors(*files) for files in _QUOTA_FILES))


def _torch_threads() -> int:
    """torch's number of threads. If torch is loaded a program may have set it; otherwise it is counted if possible."""
    told = any(
        name.startswith(_THREAD_VARIABLES) and name != "OMP_WAIT_POLICY" for name in os.environ
    )
    if "torch" not in sys.modules and not told and (cores := _cores()):
        return cores
    import torch

    return torch.get_num_threads()


def _cores() -> int:
    """Cores that this process may use, for each of which MKL takes one thread; 0 where torch may count otherwise."""
    # Elsewhere torch is built without MKL.
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return 0
    processors = os.sched_getaffinity(0)
    try:
        siblings = {
            (_PROCESSORS / f"cpu{number}/topology/thread_siblings_list").read_text()
            for number in processors
        }
    except OSError:
        return 0
    # Some of a core's threads, but not all of them.
    divided = len(siblings) < len(processors) < (os.cpu_count() or 0)
    return 0 if divided else len(siblings)


def _group_processors(*files: str) -> int:
    """CPUs that a control group grants, rounded up; more than exist if there is no such limit."""
    try:
        text = " ".join((_GROUPS / name).read_text() for name in files)
        quota, period = map(int, text.split())
    except (OSError, ValueError):
        # "max" is no limit.
        return sys.maxsize
    return math.ceil(quota / period) if quota > 0 else sys.maxsize
