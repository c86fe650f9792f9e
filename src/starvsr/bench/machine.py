"""A machine's description, its ceilings, and this process's memory."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from starvsr.models.device import peak_process_bytes


@dataclass(frozen=True)
class Seconds:
    """How long something took."""

    wall: float
    processor: float
    """Of all threads together; on a busy machine the only meaningful time."""

    @classmethod
    def now(cls) -> Seconds:
        """Since some moment in the past, for differences."""
        return cls(time.perf_counter(), time.process_time())

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.processor + other.processor)

    def __sub__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall - other.wall, self.processor - other.processor)

    @property
    def undisturbed(self) -> float:
        """The lesser of both, used for rates: wall time of one thread includes what other processes took.

        The wall time if the CPU clock is too coarse, as on Windows.
        """
        return min(self.wall, self.processor) or self.wall


@dataclass(frozen=True)
class Ceilings:
    """This machine's peak rates at three simple tasks, on torch's number of threads."""

    matmul_gflops: float
    """A product of two matrices of 2048x2048, float32."""
    conv_gflops: float
    """A 3x3 convolution of 256 to 256 channels on 4 pictures of 64x64, channels last, float32."""
    copy_gbytes: float
    """A copy of 256 MB; read and written bytes together, a second."""

    @property
    def best_gflops(self) -> float:
        """The better of product and convolution."""
        return max(self.matmul_gflops, self.conv_gflops)


def timed(call: Callable[[], object], repeats: int) -> Seconds:
    """Call once as warm-up, then `repeats` times; medians."""
    call()
    spent = []
    for _ in range(repeats):
        began = Seconds.now()
        call()
        spent.append(Seconds.now() - began)
    return Seconds(
        statistics.median(each.wall for each in spent),
        statistics.median(each.processor for each in spent),
    )


def measure_ceilings(repeats: int = 5) -> Ceilings:
    """Measure them; takes a second or two."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    x = torch.randn(4, 256, 64, 64).to(memory_format=torch.channels_last)
    kernel = torch.randn(256, 256, 3, 3).to(memory_format=torch.channels_last)
    source = torch.zeros(64_000_000)
    target = torch.empty_like(source)
    with torch.inference_mode():
        matmul = timed(lambda: a @ b, repeats).undisturbed
        conv = timed(lambda: torch.conv2d(x, kernel, padding=1), repeats).undisturbed
        copy = timed(lambda: target.copy_(source), repeats).undisturbed
    return Ceilings(
        matmul_gflops=2 * 2048**3 / matmul / 1e9,
        conv_gflops=2 * 4 * 64**2 * 256**2 * 9 / conv / 1e9,
        copy_gbytes=2 * source.nbytes / copy / 1e9,
    )


def describe_machine() -> dict[str, str | int]:
    """What results depend on; those of different descriptions are not comparable."""
    return {
        "processor": _processor_name(),
        "threads": torch.get_num_threads(),
        "vector_units": torch.backends.cpu.get_cpu_capability(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def peak_bytes() -> int:
    """Peak resident memory of this process since `forget_peak`, or since its start outside Linux."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return peak_process_bytes() or 0


def forget_peak() -> int:
    """Reset the peak, if the system can; returns what is resident now."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")
    return peak_bytes()
