"""Copies that other programs keep are found, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from starvsr.specs import SourceFile
from starvsr.zoo.ondisk import (
    cached_copies,
    comfyui_copies,
    comfyui_folders,
    comfyui_models,
    hash_in_cache,
    in_folder,
)
from tests.zoo.hub_server import use_hub

SOURCE = SourceFile("owner/name", "part/net.pt")


def put(path: Path, data: bytes = b"data") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a repository's versions in an empty cache."""
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    return tmp_path / "home" / "hub" / "models--owner--name" / "snapshots"


def test_every_version_in_the_cache_the_wanted_first(versions: Path) -> None:
    assert cached_copies(SOURCE) == []
    old, new = (put(versions / (digit * 40) / SOURCE.path, digit.encode()) for digit in "12")
    put(versions / ("3" * 40) / "part" / "other.pt")
    put(versions.parent / "refs" / "main", b"2" * 40)
    assert cached_copies(SOURCE) == [new, old]
    assert cached_copies(SOURCE, "1" * 40) == [old, new]


def test_one_file_of_several_versions_is_one_copy(versions: Path) -> None:
    blob = put(versions.parent / "blobs" / ("a" * 64))
    for digit in "12":
        link = versions / (digit * 40) / SOURCE.path
        link.parent.mkdir(parents=True)
        link.symlink_to(blob)
    (copy,) = cached_copies(SOURCE)
    assert hash_in_cache(copy) == "a" * 64
    assert hash_in_cache(put(versions.parent / "blobs" / ("b" * 40))) == "b" * 40
    assert hash_in_cache(put(versions / ("3" * 40) / SOURCE.path)) == ""
    blob.unlink()
    assert len(cached_copies(SOURCE)) == 1


def test_comfyui_is_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    assert comfyui_folders() == []
    copy = put(tmp_path / "models" / "STAR" / "net.pt")
    put(tmp_path / "models" / "STAR" / "notes.txt")
    other = put(tmp_path / "models" / "star" / "mine.safetensors")
    assert comfyui_copies(SOURCE) == [copy]
    assert comfyui_models() == [copy, other]


@pytest.mark.parametrize("place", ["ComfyUI", "comfyui", "Documents/ComfyUI"])
def test_comfyui_is_in_usual_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.delenv("COMFYUI_PATH")
    monkeypatch.setenv("HOME", str(tmp_path))
    copy = put(tmp_path / place / "models" / "star" / "net.pt")
    assert comfyui_copies(SOURCE) == [copy]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_closed_folder_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    closed = put(tmp_path / "models" / "star" / "net.pt").parent
    closed.chmod(0)
    assert comfyui_models() == []
    closed.chmod(0o700)


def test_a_user_who_does_not_exist_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMFYUI_PATH", "~nobody-of-this-name/ComfyUI")
    assert comfyui_folders() == []


def test_a_bare_name_that_two_files_have_is_not_guessed(tmp_path: Path) -> None:
    copy = put(tmp_path / "net.pt")
    other = SourceFile("owner/other", "net.pt")
    assert in_folder(SOURCE, tmp_path, [SOURCE]) == copy
    assert in_folder(SOURCE, tmp_path, [SOURCE, other]) is None
    assert in_folder(other, tmp_path, [SOURCE, other]) is None
