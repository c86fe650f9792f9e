"""The streaming writer writes what safetensors reads, aligned, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from starvsr.errors import OutputError
from starvsr.zoo import tensorfile
from starvsr.zoo.tensorfile import write_tensors

TENSORS = {
    "odd": torch.randn(3),
    "half": torch.randn(5, 7).half(),
    "kernel": torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last),
    "turned": torch.randn(16, 4).t(),
    "brain": torch.randn(8, 8).bfloat16(),
    "double": torch.randn(4).double(),
    "scalar": torch.tensor(1.5),
    "empty": torch.empty(0, 4),
    "parameter": torch.nn.Parameter(torch.randn(64)),
}


def test_safetensors_reads_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    write_tensors(path, TENSORS, {"about": "späße"})
    read = load_file(path)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt", "about": "späße"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_everything_is_converted_to_one_type(tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "all.safetensors"
    write_tensors(path, TENSORS, {}, dtype=dtype)
    read = load_file(path)
    for name, tensor in TENSORS.items():
        assert read[name].dtype == dtype
        assert torch.equal(read[name], tensor.to(dtype)), name


def test_large_tensors_are_written_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorfile, "_PIECE", 5)
    path, tensor = tmp_path / "one.safetensors", torch.randn(4, 13)
    write_tensors(path, {"weight": tensor}, {}, dtype=torch.float16)
    assert torch.equal(load_file(path)["weight"], tensor.half())


def test_tensors_are_aligned_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "all.safetensors"
    write_tensors(
        path, {"a": torch.zeros(1), "b": torch.zeros(64), "c": torch.zeros(16)}, {"x": "y"}
    )
    with safe_open(path, framework="pt") as file:
        starts = {name: file.get_tensor(name).data_ptr() % 64 for name in ("b", "c")}
    assert starts == {"b": 0, "c": 0}


def test_the_mode_is_that_of_any_new_file(tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    write_tensors(path, {"a": torch.zeros(1)}, {})
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert {each.name for each in tmp_path.iterdir()} == {"one.safetensors", "other"}


def test_a_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(b"old")
    written = []

    def full(*_: object) -> None:
        written.append(sorted(each.name for each in tmp_path.iterdir()))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tensorfile, "_write", full)
    with pytest.raises(OutputError, match="no space left in"):
        write_tensors(path, {"a": torch.zeros(1)}, {})
    assert len(written[0]) == 2
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        write_tensors(tmp_path / "absent" / "one.safetensors", {"a": torch.zeros(1)}, {})
