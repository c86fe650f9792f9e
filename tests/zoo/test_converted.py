"""A file given by path is converted once, and found again by its content."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from starvsr.errors import WeightsError
from starvsr.options import WeightsOptions
from starvsr.specs import COMPONENTS, SPECS
from starvsr.types import Progress
from starvsr.zoo import converted
from starvsr.zoo.choose import choose_model
from starvsr.zoo.convert import to_published
from starvsr.zoo.converted import Conversion, convert, find_converted
from starvsr.zoo.hashes import file_sha256, read_hashes
from starvsr.zoo.install import install
from starvsr.zoo.load import load_model
from tests.conftest import CPU
from tests.zoo.people import star, two_models, write_star
from tests.zoo.published import SMALL_STAR


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with two_models():
        yield


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_star(tmp_path / "light_deg.pt")


def silent(_: Progress) -> None:
    pass


def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What is hashed from now on."""
    paths: list[Path] = []

    def count(path: Path) -> str:
        paths.append(path)
        return file_sha256(path)

    monkeypatch.setattr(converted, "file_sha256", count)
    return paths


def test_it_is_converted_once(source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conversion = Conversion(source, "small-light", folder)
    seen: list[Progress] = []
    assert find_converted(conversion) is None
    assert not folder.exists()
    path = convert(conversion, seen.append)
    assert [(one.stage, one.done, one.total) for one in seen] == [
        ("convert", 0, 1),
        ("convert", 1, 1),
    ]
    assert path.parent == folder / "converted"
    paths = hashed(monkeypatch)
    assert convert(conversion, seen.append) == find_converted(conversion) == path
    assert (len(seen), paths) == (2, [])


def test_a_moved_file_is_hashed_once_more(
    source: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = convert(Conversion(source, "small-light", folder), silent)
    paths = hashed(monkeypatch)
    moved = Conversion(source.rename(tmp_path / "moved_light.pt"), "small-light", folder)
    assert find_converted(moved) == find_converted(moved) == path
    assert paths == [moved.source]


def test_a_file_in_the_same_place_with_other_content_is_another(source: Path, folder: Path) -> None:
    conversion = Conversion(source, "small-light", folder)
    first = convert(conversion, silent)
    status = source.stat()
    write_star(source, seed=1)
    os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert source.stat().st_size == status.st_size
    assert find_converted(conversion) is None
    assert convert(conversion, silent) != first


def test_a_file_of_another_size_is_not_hashed(
    source: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(Conversion(source, "small-light", folder), silent)
    paths = hashed(monkeypatch)
    other = write_star(tmp_path / "other.pt", "module.")
    assert find_converted(Conversion(other, "small-light", folder)) is None
    assert paths == []


def test_each_model_has_its_own(source: Path, folder: Path) -> None:
    convert(Conversion(source, "small-light", folder), silent)
    heavy = Conversion(source, "small-heavy", folder)
    assert find_converted(heavy) is None
    assert convert(heavy, silent).name.startswith("small-heavy-")


def test_a_deleted_result_is_made_again(source: Path, folder: Path) -> None:
    conversion = Conversion(source, "small-light", folder)
    path = convert(conversion, silent)
    path.unlink()
    assert find_converted(conversion) is None
    assert convert(conversion, silent) == path


def test_the_installed_component_of_the_same_file_is_used(source: Path, folder: Path) -> None:
    install([COMPONENTS["small-light"]], folder, sources=[str(source)], offline=True)
    with two_models({"small-light": file_sha256(source)}):
        folder_of_published = folder.with_name("published")
        install(
            [COMPONENTS["small-light"]], folder_of_published, sources=[str(source)], offline=True
        )
        found = find_converted(Conversion(source, "small-light", folder_of_published))
    assert found == folder_of_published / "small-light.safetensors"


def test_a_converted_published_file_is_the_model_by_its_name(source: Path, folder: Path) -> None:
    with two_models({"small-light": file_sha256(source)}):
        path = convert(Conversion(source, "small-light", folder), silent)
        choice = choose_model("small-light", CPU, WeightsOptions(folder))
        assert choice.path == path
        assert choice.missing == ("small-vae", "small-clip")
    assert choose_model("small-light", CPU, WeightsOptions(folder)).path is None


@pytest.mark.parametrize("layout", ["state_dict", "module.", "fp32"])
def test_a_model_is_loaded_from_every_layout(
    small_weights: Path, tmp_path: Path, layout: str
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("small-vae", "small-clip"):
        shutil.copy(small_weights / f"{name}.safetensors", folder)
    path = write_star(tmp_path / "heavy", layout)
    model = load_model(str(path), device="cpu", weights=WeightsOptions(folder))
    assert model.spec == SPECS["small-heavy"]
    state = to_published(model.network.state_dict())
    assert all(torch.equal(state[name], value) for name, value in star().items())


def test_a_file_whose_checksums_differ_is_damaged(source: Path, folder: Path) -> None:
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    source.write_bytes(data)
    with pytest.raises(
        WeightsError, match="is damaged: its content differs from its own checksums"
    ):
        convert(Conversion(source, "small-light", folder), silent)
    assert list((folder / "converted").iterdir()) == []
    assert not read_hashes(folder).converted


def test_without_space_nothing_is_begun(
    source: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(source.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(
        WeightsError, match=r"has 1.00 kB of free space, and .* give another --weights-dir"
    ):
        convert(Conversion(source, "small-light", folder), silent)
    assert list((folder / "converted").iterdir()) == []


def test_what_a_killed_process_left_is_removed(source: Path, folder: Path) -> None:
    conversion = Conversion(source, "small-light", folder)
    left = folder / ".downloads" / ".made" / f"small-light-{file_sha256(source)[:16]}" / "x.partial"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert convert(conversion, silent).is_file()
    assert not (folder / ".downloads").exists()


def test_nothing_is_written_through_a_link(source: Path, folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    folder.mkdir()
    (folder / "converted").symlink_to(outside)
    with pytest.raises(WeightsError, match="is a link or not a folder"):
        convert(Conversion(source, "small-light", folder), silent)
    assert list(outside.iterdir()) == []


def test_the_spec_is_that_of_the_model(source: Path, folder: Path) -> None:
    path = convert(Conversion(source, "small-light", folder), silent)
    choice = choose_model(str(path), CPU, WeightsOptions(folder))
    assert choice.spec.network == SMALL_STAR.network
    assert choice.spec.name == "small-light"
