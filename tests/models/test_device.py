"""Which device is meant, and what its precision is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from starvsr.errors import UsageError
from starvsr.models import device
from starvsr.models.device import device_info, network_dtype


@pytest.mark.parametrize(
    ("precision", "where", "wanted"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.float16),
        ("auto", "mps", torch.float16),
        ("fp32", "cuda", torch.float32),
        ("fp16", "cpu", torch.float16),
        ("bf16", "cpu", torch.bfloat16),
    ],
)
def test_precision_by_device(precision: str, where: str, wanted: torch.dtype) -> None:
    assert network_dtype(precision, torch.device(where)) == wanted


def test_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_GROUPS", tmp_path)
    info = device_info("cpu")
    assert (info.name, info.description) == ("cpu", "processor")
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


def test_auto_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_info("auto").name == "cpu"


@dataclasses.dataclass(frozen=True)
class _Card:
    name: str = "Some Card"
    total_memory: int = 8 << 30


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: _Card())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (7 << 30, 8 << 30))
    for name, wanted in (("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")):
        info = device_info(name)
        assert (info.name, info.description, info.memory_bytes) == (wanted, "Some Card", 7 << 30)
    with pytest.raises(UsageError, match="--device cuda:2 is not there: torch finds 2 CUDA"):
        device_info("cuda:2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cuda", "--device cuda is not there: torch finds 0 CUDA devices; give --device cpu"),
        ("cuda:1", "--device cuda:1 is not there"),
        ("mps", "--device mps is not there"),
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
