"""Published pickles: read as tensors, mapped, and refused where they are anything else."""

from __future__ import annotations

import collections
import datetime
import json
import os
import pickle
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from starvsr.errors import MemoryLimitError, WeightsError
from starvsr.zoo.checkpoint import misfits, read_pickle, read_safetensors
from starvsr.zoo.foreign import TAKEN
from starvsr.zoo.metadata import read_metadata


def as_zip(path: Path) -> bool:
    return path.read_bytes()[:2] == b"PK"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("modern", [True, False])
def test_files_of_every_age(tmp_path: Path, dtype: torch.dtype, modern: bool) -> None:
    path, tensor = tmp_path / "net.pt", torch.randn(3, 4).to(dtype)
    content = collections.OrderedDict(weight=tensor, part=torch.nn.Parameter(tensor[1:].t()))
    torch.save({"state_dict": content, "step": 3}, path, _use_new_zipfile_serialization=modern)
    assert as_zip(path) is modern
    state = read_pickle(path)["state_dict"]
    assert isinstance(state, dict)
    assert torch.equal(state["weight"], tensor)
    assert torch.equal(state["part"], tensor[1:].t())
    assert state["weight"].dtype == dtype


@pytest.mark.parametrize(
    ("modern", "package"), [(True, "numpy._core"), (False, "numpy._core"), (False, "numpy.core")]
)
def test_what_trainers_keep_beside_the_weights(tmp_path: Path, modern: bool, package: str) -> None:
    path = tmp_path / "net.pt"
    states = {
        "np_rng_state": np.random.get_state(),
        "random_rng_state": random.getstate(),
        "torch_rng_state": torch.get_rng_state(),
        "best": np.float64(0.5),
    }
    weights = {"weight": torch.rand(3)}
    torch.save({"module": weights, **states}, path, _use_new_zipfile_serialization=modern)
    if not modern:
        # A zip would have to keep its length.
        path.write_bytes(path.read_bytes().replace(b"numpy._core", package.encode()))
    found = read_pickle(path)
    assert found.keys() == {"module", *states}
    module = found["module"]
    assert isinstance(module, dict) and torch.equal(module["weight"], weights["weight"])
    assert not isinstance(found["best"], float), "numpy is not asked for anything"


class Malicious:
    """Unpickled as torch or pickle would do it by default, writes a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.write_text, (self.victim, "your code ran"))


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path: Path, form: str) -> None:
    path, victim = tmp_path / "net.pt", tmp_path / "victim"
    content = {"weight": torch.zeros(2), "callback": Malicious(victim)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(content))
        pickle.loads(path.read_bytes())
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
        torch.load(path, weights_only=False)
    # So it does harm where it is let.
    assert victim.read_text() == "your code ran"
    victim.unlink()
    with pytest.raises(
        WeightsError, match="is refused, since it needs more than tensors"
    ) as caught:
        read_pickle(path)
    assert not victim.exists()
    assert caught.value.exit_code == 4
    message = str(caught.value)
    assert "nothing in it was run" in message
    assert "weights_only" not in message and "\n" not in message
    assert len(message) < 400 + len(str(path))


class Banned:
    """What torch does not even look for."""

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (os.system, ("true",))


@pytest.mark.parametrize(
    ("culprit", "wanted"),
    [
        (Banned(), "it requires posix.system"),
        (datetime.date(2024, 1, 1), "it requires datetime.date"),
    ],
)
def test_refusal_says_what_the_file_wanted(tmp_path: Path, culprit: object, wanted: str) -> None:
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(2), "callback": culprit}, path)
    with pytest.raises(WeightsError) as caught:
        read_pickle(path)
    assert str(caught.value) == (
        f"{path} is refused, since it needs more than tensors to be read ({wanted}); nothing in it was run; {TAKEN}"
    )


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("unable to mmap 8 bytes from file <x>: Cannot allocate memory (12)"),
    ],
)
def test_memory_that_runs_out_is_not_the_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(2)}, path)
    monkeypatch.setattr("torch.load", fail)
    with pytest.raises(MemoryLimitError, match=r"^memory ran out while .* was read: end other"):
        read_pickle(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99, 0.9999])
@pytest.mark.parametrize("modern", [True, False])
def test_a_truncated_file(tmp_path: Path, share: float, modern: bool) -> None:
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.zeros(20000)}, path, _use_new_zipfile_serialization=modern)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError) as caught:
        read_pickle(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    "data", [b"<!DOCTYPE html>", b"version https://git-lfs", bytes(4000), b"PK\3\4"]
)
def test_a_file_of_another_kind(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "net.pt"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        read_pickle(path)
    assert str(caught.value).startswith(f"{path} is ")
    assert str(caught.value).endswith(": get the file again from its publisher")


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save([torch.zeros(1)], path)
    with pytest.raises(WeightsError, match="contains a list and not tensors by name"):
        read_pickle(path)
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_pickle(tmp_path / "absent.pt")
    with pytest.raises(WeightsError, match="cannot be read: Is a directory"):
        read_pickle(tmp_path)
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_safetensors(tmp_path / "absent.safetensors")


def test_misfits_name_every_kind_of_fault() -> None:
    def net(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
        return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}

    expected = net(a=(1,), b=(2, 3), c=())
    assert misfits(expected, expected) == []
    assert misfits(expected, net(b=(3, 2), c=(), d=(4,))) == [
        "a is missing",
        "b is (3, 2) instead of (2, 3)",
        "d is unexpected",
    ]


@pytest.mark.parametrize(
    ("size", "header", "words"),
    [
        (1 << 62, b"{}", "its header would have 4611686018427387904 bytes"),
        (99_000_000, b"{}", "its header would have 99000000 bytes"),
        (17 << 20, b"{}" + b" " * (17 << 20), "its header would have 17825792 bytes"),
        (2, b"{}", ""),
        (0, b"", "cannot be read as a safetensors file"),
        (400_000, b'{"a":' * 80_000, "cannot be read as a safetensors file"),
    ],
)
def test_headers_that_no_weights_have(tmp_path: Path, size: int, header: bytes, words: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(size.to_bytes(8, "little") + header)
    if not words:
        assert read_safetensors(path) == ({}, {})
        return
    with pytest.raises(WeightsError, match=words):
        read_safetensors(path)


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "F32", "shape": [1 << 62, 1 << 62], "data_offsets": [0, 4]},
        {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]},
        {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]},
        {"dtype": "F4", "shape": [2], "data_offsets": [0, 1]},
        {"dtype": "F8_E8M0", "shape": [1, 0, 1 << 40, 1 << 40], "data_offsets": [0, 0]},
        {"dtype": "X", "shape": [1], "data_offsets": [0, 4]},
    ],
)
def test_tensors_that_the_file_does_not_hold(tmp_path: Path, entry: dict[str, object]) -> None:
    header = json.dumps({"a": entry}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(WeightsError, match="cannot be read as a safetensors file"):
        read_safetensors(path)


def test_more_tensors_than_any_model_has(tmp_path: Path) -> None:
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps({str(number): entry for number in range(20_001)}).encode()
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(WeightsError, match="it has 20001 tensors"):
        read_metadata(path)


def test_a_signal_while_tensors_are_read_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a handler raises is lost in torch, which then finds no shape, if it is called by the main thread."""
    path = tmp_path / "net.safetensors"
    save_file({f"tensor{number}": torch.zeros(3) for number in range(5)}, path)
    original: Any = torch.UntypedStorage.__getitem__
    looks = 0

    def interrupted(storage: torch.UntypedStorage, index: slice) -> object:
        nonlocal looks
        looks += 1
        # The first look at a tensor is safetensors' own, and the second torch's.
        if looks == 4:
            signal.raise_signal(signal.SIGINT)
        return original(storage, index)

    monkeypatch.setattr(torch.UntypedStorage, "__getitem__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_safetensors(path)
    assert len(read_safetensors(path)[0]) == 5
