"""The device that is measured, how its time and memory are read, and its ceilings."""

from __future__ import annotations

import gc
import hashlib
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

ROOT = Path(__file__).resolve().parent.parent.parent
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Case:
    """One measurement: what the table calls it, and what measures it and returns plain data."""

    name: str
    run: Callable[[], Mapping[str, Any]]


@dataclass(frozen=True)
class Ceilings:
    """Peak rates of simple tasks on random numbers, in 1e12 operations a second."""

    matmul_tflops: float
    conv_tflops: float

    @property
    def best_tflops(self) -> float:
        """The better of both."""
        return max(self.matmul_tflops, self.conv_tflops)


@dataclass
class Setting:
    """What all pieces of a run have in common."""

    device: torch.device
    dry: bool
    """Test sizes, so that every piece's code runs on a CPU within a minute."""
    folder: Path
    """For weights and clips that pieces make; removed at the end of a run."""
    repeats: int = 5
    kept: dict[str, Any] = field(default_factory=dict)
    """What pieces keep for later ones: the last model."""
    peaks: dict[Any, Any] = field(default_factory=dict)
    """What stages of a plan took, by everything they depend on."""
    _ceilings: dict[str, Ceilings] = field(default_factory=dict)

    def pick(self, full: Choice, dry: Choice) -> Choice:
        """The sizes of a run."""
        return dry if self.dry else full

    def ceilings(self, precision: str) -> Ceilings:
        """Measured once a process."""
        if precision not in self._ceilings:
            self._ceilings[precision] = measure_ceilings(self, DTYPES[precision])
        return self._ceilings[precision]

    def release(self) -> None:
        """Forget what is kept, and give its memory back."""
        self.kept.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def wait(self) -> None:
        """Until the device has done all work."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Peaks:
    """The most memory of the device that this process holds within; 0 for a CPU.

    allocated: bytes of tensors, those that were there before included; reserved: what torch's allocator took for them;
    before: bytes of tensors at the beginning.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.before = self.allocated = self.reserved = 0

    def __enter__(self) -> Peaks:
        gc.collect()
        if self.setting.device.type == "cuda":
            self.setting.wait()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.setting.device)
            self.before = torch.cuda.memory_allocated(self.setting.device)
        return self

    def __exit__(self, *_: object) -> None:
        if self.setting.device.type == "cuda":
            self.setting.wait()
            self.allocated = torch.cuda.max_memory_allocated(self.setting.device)
            self.reserved = torch.cuda.max_memory_reserved(self.setting.device)

    def described(self) -> dict[str, int]:
        """As a result has it; `call_bytes` is what came to what was there before."""
        return {
            "allocated_bytes": self.allocated,
            "reserved_bytes": self.reserved,
            "call_bytes": self.allocated - self.before,
        }


def timed(setting: Setting, call: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the first call, by the host's clock, and the median of the later ones, by the device's."""
    setting.wait()
    began = time.perf_counter()
    call()
    setting.wait()
    first = time.perf_counter() - began
    return first, statistics.median(_once(setting, call) for _ in range(setting.repeats))


def _once(setting: Setting, call: Callable[[], object]) -> float:
    if setting.device.type != "cuda":
        began = time.perf_counter()
        call()
        return time.perf_counter() - began
    kind: Any = torch.cuda.Event
    first, last = kind(enable_timing=True), kind(enable_timing=True)
    first.record()
    call()
    last.record()
    last.synchronize()
    return float(first.elapsed_time(last)) / 1000


@torch.inference_mode()
def measure_ceilings(setting: Setting, dtype: torch.dtype) -> Ceilings:
    """A large matrix product, and a 3x3 convolution of many channels on a batch of pictures, channels last."""
    side = setting.pick(8192, 64)
    pictures, channels, rows, columns = setting.pick((32, 512, 90, 160), (2, 16, 8, 8))
    draw = partial(torch.randn, device=setting.device, dtype=dtype)
    a, b = draw(side, side), draw(side, side)
    _, product = timed(setting, lambda: a @ b)
    order = torch.channels_last
    x = draw(pictures, channels, rows, columns).to(memory_format=order)
    kernel = draw(channels, channels, 3, 3).to(memory_format=order)
    _, convolution = timed(setting, lambda: torch.conv2d(x, kernel, padding=1))
    done = 2 * pictures * rows * columns * channels**2 * 9
    return Ceilings(2 * side**3 / product / 1e12, done / convolution / 1e12)


def described_machine(setting: Setting) -> dict[str, str]:
    """What results depend on; those of different descriptions are not comparable."""
    cuda = setting.device.type == "cuda"
    return {
        "card": torch.cuda.get_device_name(setting.device) if cuda else "CPU",
        "memory": f"{torch.cuda.mem_get_info(setting.device)[1] / 2**30:.1f} GiB" if cuda else "",
        "driver": _driver() if cuda else "",
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "python": platform.python_version(),
        "sources": _sources(),
        "sizes": setting.pick("full", "test"),
    }


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.split("\n")[0].strip()


def _sources() -> str:
    """Of this version of the program, also where there is no repository."""
    found = hashlib.sha256()
    for path in sorted((ROOT / "src").rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]
