"""Names from outside, and folders of ours that no link leads out of."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from starvsr.errors import WeightsError
from starvsr.zoo.places import (
    check_is_own,
    has_no_link,
    is_commit,
    is_component_name,
    is_inner_path,
    is_repository,
    own_folder,
    version_folder,
)

ODD = (
    "",
    "/",
    "..",
    "../x",
    "x/..",
    "/x",
    "a//b",
    "a\\b",
    "a\nb",
    "a\x1b",
    "a b",
    "é",
    ".",
    "x" * 97,
)


@pytest.mark.parametrize("name", [*ODD, "owner", "a/b/c", "owner/..", "owner/x\n"])
def test_no_repository(name: str) -> None:
    assert is_repository("Owner-1/a.b_c")
    assert not is_repository(name)


@pytest.mark.parametrize("path", [*ODD, "a/./b", "a/../b", "/".join("x" * 20)])
def test_no_path_inside_a_repository(path: str) -> None:
    assert is_inner_path("CogVideoX-5B-based/1/mp_rank_00_model_states.pt")
    assert not is_inner_path(path)


@pytest.mark.parametrize("name", [*ODD, "a/b", "main", "A" * 40, "a" * 41])
def test_no_commit(name: str) -> None:
    assert is_commit("0a" * 20)
    assert is_commit("0a" * 32)
    assert not is_commit(name)


@pytest.mark.parametrize("name", [*ODD, "a/b"])
def test_no_component(name: str) -> None:
    assert is_component_name("t5-v1-1-xxl")
    assert not is_component_name(name)


@pytest.mark.parametrize("etag", [*ODD, "../../../x", "a/b", "\udcff", "x" * 10_000, "a" * 39])
def test_a_version_has_a_plain_folder_whatever_its_tag(etag: str) -> None:
    name = version_folder(etag)
    assert len(name) == 16
    assert set(name) <= set("0123456789abcdef")
    assert name == version_folder(etag) != version_folder(f"{etag}x")


def test_a_hash_names_its_version_as_before() -> None:
    assert version_folder("0123456789abcdef" * 4) == "0123456789abcdef"
    assert version_folder("fedcba9876543210" + "0" * 24) == "fedcba9876543210"


@pytest.mark.parametrize("linked", [".downloads", ".downloads/owner", ".downloads/owner/name"])
def test_no_folder_is_made_behind_a_link(tmp_path: Path, linked: str) -> None:
    folder, outside = tmp_path / "weights", tmp_path / "outside"
    outside.mkdir()
    (folder / linked).parent.mkdir(parents=True)
    (folder / linked).symlink_to(outside)
    with pytest.raises(WeightsError, match="is a link or not a folder"):
        own_folder(folder, ".downloads", "owner/name", "0" * 16)
    assert list(outside.iterdir()) == []
    assert not has_no_link(folder / ".downloads/owner/name/x", folder)


def test_the_weights_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "weights").symlink_to(tmp_path / "real")
    made = own_folder(tmp_path / "weights", ".downloads", "owner/name")
    assert own_folder(tmp_path / "weights", ".downloads", "owner/name") == made
    assert (tmp_path / "real/.downloads/owner/name").is_dir()
    assert has_no_link(made / "not there", tmp_path / "weights")


def test_only_a_file_of_one_name_is_written_to(tmp_path: Path) -> None:
    mine, name = tmp_path / "mine", tmp_path / "partial"
    check_is_own(name)
    mine.write_text("mine")
    check_is_own(mine)
    makers: list[Callable[[], None]] = [
        lambda: name.symlink_to(mine),
        lambda: os.link(mine, name),
        lambda: name.mkdir(),
    ]
    for make in makers:
        make()
        with pytest.raises(WeightsError, match="is a link or not a regular file"):
            check_is_own(name)
        name.rmdir() if name.is_dir() else name.unlink()
