"""Which device is meant, and what its precision is."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from starvsr.errors import UsageError
from starvsr.models import device
from starvsr.models.device import device_info, network_dtype, shared_device, worker_devices
from starvsr.plan.settings import resolve_precision
from starvsr.specs import NANO
from starvsr.types import DeviceInfo
from tests.conftest import TOY


@pytest.mark.parametrize(
    ("precision", "where", "wanted"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda:0", torch.float16),
        ("auto", "mps", torch.float16),
        ("fp32", "cuda:0", torch.float32),
        ("fp16", "cpu", torch.float16),
        ("bf16", "cpu", torch.bfloat16),
    ],
)
def test_precision_by_device(
    precision: str, where: str, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STARVSR_PRECISION")
    assert network_dtype(precision, DeviceInfo(where, "", 0, 1), NANO) == wanted


def test_automatic_precision_on_a_cpu_with_units_for_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STARVSR_PRECISION")
    facts = tmp_path / "cpuinfo"
    monkeypatch.setattr(device, "_CPU_FACTS", facts)
    for flags, quick in (
        ("fpu avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
        ("fpu avx2", False),
        (None, False),
    ):
        facts.unlink(missing_ok=True)
        if flags is not None:
            facts.write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
        info = device_info("cpu")
        assert info.quick_bf16 is quick
        assert resolve_precision("auto", info, NANO) == ("bf16" if quick else "fp32")
        assert resolve_precision("auto", info, TOY) == "fp32"
        assert resolve_precision("fp32", info, NANO) == "fp32"


def test_a_variable_says_what_automatic_precision_is(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = DeviceInfo("cpu", "", 0, 1, quick_bf16=True)
    for value, wanted in (("fp32", "fp32"), ("", "bf16"), ("auto", "bf16"), ("fp16", "fp16")):
        monkeypatch.setenv("STARVSR_PRECISION", value)
        assert resolve_precision("auto", quick, NANO) == wanted
        assert resolve_precision("bf16", quick, NANO) == "bf16"
    monkeypatch.setenv("STARVSR_PRECISION", "half")
    with pytest.raises(UsageError, match="STARVSR_PRECISION=half is not allowed: give auto, fp32"):
        resolve_precision("auto", quick, NANO)


def test_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_GROUPS", tmp_path)
    info = device_info("cpu")
    assert (info.name, info.description) == ("cpu", "CPU")
    assert info.threads == torch.get_num_threads()
    assert info.memory_bytes > 1 << 20


def test_a_control_group_allows_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = device_info("cpu").memory_bytes
    monkeypatch.setattr(device, "_GROUPS", tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert device_info("cpu").memory_bytes > whole // 2
    (tmp_path / "memory.max").write_text("5000000\n")
    assert device_info("cpu").memory_bytes == 4_999_000


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 8),
    ],
)
def test_threads_are_those_that_a_control_group_grants_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], threads: int
) -> None:
    monkeypatch.setattr(device, "_GROUPS", tmp_path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert device_info("cpu").threads == threads
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert device_info("cpu").threads == 8


@pytest.mark.parametrize("file", ["nvidia0", "nvhost-gpu", "nvmap", "kfd", "dxg", None])
def test_torch_is_asked_wherever_a_gpu_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None
) -> None:
    def library(name: str) -> None:
        if file is not None:
            raise OSError(f"{name}: cannot open shared object file")

    asked = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: asked.append(True))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(device, "_DEVICES", tmp_path)
    if file is not None:
        (tmp_path / file).touch()
    monkeypatch.setattr(ctypes, "CDLL", library)
    assert device_info("auto").name == "cpu"
    assert asked == [True]


def test_without_a_driver_there_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("libcuda.so.1: cannot open shared object file")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: pytest.fail("asked"))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(device, "_DEVICES", tmp_path)
    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert device_info("auto").name == "cpu"


COUNT = """
import json, os, sys
from starvsr.models.device import device_info
os.sched_setaffinity(0, json.loads(sys.argv[1]))
before, loaded = device_info("cpu").threads, "torch" in sys.modules
import torch
print(json.dumps([before, device_info("cpu").threads, loaded]))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counted on Linux only")
@pytest.mark.parametrize(
    ("processors", "variable"), [(1, None), (None, None), (None, "OMP_NUM_THREADS")]
)
def test_threads_are_counted_as_torch_counts_them(
    processors: int | None, variable: str | None
) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    allowed = sorted(os.sched_getaffinity(0))[:processors]
    shown = subprocess.run(
        [sys.executable, "-c", COUNT, json.dumps(allowed)],
        env={**kept, **({variable: "1"} if variable else {})},
        capture_output=True,
        text=True,
        check=True,
    )
    before, behind, loaded = json.loads(shown.stdout)
    assert before == behind
    if variable is not None:
        assert loaded


@pytest.mark.parametrize(
    ("allowed", "siblings", "cores"),
    [
        ({0, 1, 2, 3}, ["0-1", "0-1", "2-3", "2-3"], 2),
        ({0, 2}, ["0-1", "0-1", "2-3", "2-3"], 2),
        # Nobody knows what MKL makes of these.
        ({0, 1, 2}, ["0-1", "0-1", "2-3", "2-3"], 0),
        ({0, 1, 2}, ["0", "1", "2", "3"], 3),
        ({0, 1}, [], 0),
    ],
)
def test_cores(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    allowed: set[int],
    siblings: list[str],
    cores: int,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine="x86_64"), raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: allowed, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(device, "_PROCESSORS", tmp_path)
    for number, text in enumerate(siblings):
        (tmp_path / f"cpu{number}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "topology" / "thread_siblings_list").write_text(text + "\n")
    assert device._cores() == cores


@dataclasses.dataclass(frozen=True)
class _Card:
    name: str = "Some Card"
    total_memory: int = 8 << 30


def test_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(device, "_DEVICES", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: _Card())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (7 << 30, 8 << 30))
    for name, wanted in (("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")):
        info = device_info(name)
        assert (info.name, info.description, info.memory_bytes) == (wanted, "Some Card", 7 << 30)
    with pytest.raises(UsageError, match="--device cuda:2 is not available: torch finds 2 CUDA"):
        device_info("cuda:2")


def test_memory_is_shared_and_so_are_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def device_of(name: str) -> DeviceInfo:
        return DeviceInfo(name, "", {"cpu": 900, "cuda:0": 800, "cuda:1": 600}[name], 4)

    monkeypatch.setattr(device, "device_info", device_of)
    assert worker_devices("auto", "cpu", 3) == ["cpu"] * 3
    assert shared_device("auto", device_of("cpu"), 3).memory_bytes == 300
    monkeypatch.setattr(device, "cuda_devices", lambda: 2)
    assert worker_devices("auto", "cuda:0", 3) == ["cuda:0", "cuda:1", "cuda:0"]
    assert worker_devices("cuda:0", "cuda:0", 2) == ["cuda:0", "cuda:0"]
    assert shared_device("cuda", device_of("cuda:0"), 2).memory_bytes == 600
    assert shared_device("cuda", device_of("cuda:0"), 3).memory_bytes == 300
    assert shared_device("cuda:1", device_of("cuda:1"), 2).memory_bytes == 300


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cuda", "--device cuda is not available: torch finds 0 CUDA devices"),
        ("cuda:1", "--device cuda:1 is not available"),
        ("mps", "--device mps is not available"),
        ("gpu", "--device 'gpu' is not allowed"),
        ("cuda:x", "--device 'cuda:x' is not allowed"),
        ("", "--device '' is not allowed"),
    ],
)
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError) as caught:
        device_info(name)
    assert str(caught.value).startswith(words)
