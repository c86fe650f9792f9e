"""What a user has in the weights folder, and what lies outside it, stays whatever a server or a link says."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from starvsr.errors import WeightsError
from starvsr.zoo.hashes import RECORD_NAME
from starvsr.zoo.install import install
from starvsr.zoo.places import LOCKS
from starvsr.zoo.verify import verify
from tests.zoo.hub_server import COMMIT, Fault, HubServer
from tests.zoo.published import SMALL_COMPONENTS

STAR, VAE, CLIP = SMALL_COMPONENTS.values()
NETWORK = "I2VGen-XL-based/light_deg.pt"
CONFIG = "vae/config.json"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's, which has to be the same in the end."""
    folder = tmp_path / "outside"
    (folder / "deep").mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    (folder / "deep" / "mine.txt").write_text("mine too")
    before = contents(folder)
    yield folder
    assert contents(folder) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in sorted(folder.rglob("*"))
    }


def is_fine(folder: Path, name: str) -> bool:
    found = verify(folder, [SMALL_COMPONENTS[name]])
    return [one.state for one in found] == ["ok"]


@pytest.mark.parametrize("tag", ["../../../outside", "/x", "a/../../..", "..", ".", "x" * 3000])
def test_a_tag_names_no_folder(hub: HubServer, folder: Path, outside: Path, tag: str) -> None:
    victim = outside / CONFIG
    victim.parent.mkdir()
    victim.write_text("mine")
    hub.stated[CONFIG] = tag
    # It ends in the middle, so that what was begun can be seen.
    hub.fail("GET", CONFIG, *[Fault(cut_after=3)] * 99, *[Fault(status=404)] * 9)
    with pytest.raises(WeightsError):
        install([VAE], folder)
    hub.faults.clear()
    begun = list(folder.rglob("config.json"))
    assert [len(path.relative_to(folder).parts) for path in begun] in ([], [6])
    install([VAE], folder)
    assert is_fine(folder, "small-vae")
    assert victim.read_text() == "mine"
    shutil.rmtree(victim.parent)
    assert not (folder / ".downloads").exists()


@pytest.mark.parametrize(
    "linked", [".downloads", ".downloads/small", ".downloads/small/STAR", ".downloads/.made", LOCKS]
)
def test_nothing_goes_through_links(
    hub: HubServer, folder: Path, outside: Path, linked: str
) -> None:
    (folder / linked).parent.mkdir(parents=True, exist_ok=True)
    (folder / linked).symlink_to(outside)
    with pytest.raises(WeightsError, match="is a link or not a folder"):
        install([STAR], folder)
    assert (folder / linked).is_symlink()


def test_originals_behind_a_link_are_not_written(
    hub: HubServer, folder: Path, outside: Path
) -> None:
    folder.mkdir()
    (folder / "originals").symlink_to(outside)
    with pytest.raises(WeightsError, match="originals is a link or not a folder"):
        install([STAR], folder, keep_original=True)


def test_leftovers_behind_links_are_left(hub: HubServer, folder: Path, outside: Path) -> None:
    install([STAR], folder)
    version = outside / "0123456789abcdef" / NETWORK
    version.parent.mkdir(parents=True)
    version.write_text("mine")
    repository = folder / ".downloads" / STAR.sources[0].repository
    repository.parent.mkdir(parents=True)
    repository.symlink_to(outside)
    assert install([STAR], folder).wanted == ()
    assert version.read_text() == "mine"
    shutil.rmtree(outside / "0123456789abcdef")


def test_what_the_user_keeps_there_stays(hub: HubServer, folder: Path, outside: Path) -> None:
    repository = folder / ".downloads" / STAR.sources[0].repository
    mine = [
        folder / "notes.txt",
        folder / "other.safetensors",
        folder / ".downloads" / "photo.jpg",
        repository / "holiday" / NETWORK,
        repository / "0123456789abcdef" / "mine.txt",
        folder / "originals" / "mine.pt",
        folder / "text" / "mine.txt",
    ]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    link = folder / "link.safetensors"
    link.symlink_to(outside / "mine.txt")
    install([STAR], folder)
    install([STAR], folder, dtype="fp16")
    install([STAR], folder, dtype="fp32", keep_original=True)
    assert {path.read_text() for path in mine} == {"mine"}
    assert link.is_symlink()


def test_a_linked_component_is_used(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    install([STAR], folder)
    elsewhere = tmp_path / "other-disk.safetensors"
    (folder / "small-star.safetensors").replace(elsewhere)
    (folder / "small-star.safetensors").symlink_to(elsewhere)
    asked = len(hub.asked)
    assert install([STAR], folder).wanted == ()
    assert len(hub.asked) == asked
    assert is_fine(folder, "small-star")


def test_a_linked_component_is_replaced_beside_its_link(
    hub: HubServer, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install([STAR], folder)
    elsewhere, name = tmp_path / "other-disk.safetensors", folder / "small-star.safetensors"
    name.replace(elsewhere)
    name.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    install([STAR], folder, dtype="fp16")
    assert not name.is_symlink()
    assert is_fine(folder, "small-star")
    aside = folder / "small-star.safetensors.before-1"
    assert (aside.readlink(), elsewhere.read_bytes()) == (elsewhere, before)
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert f"{name} was not made here as it is: it was renamed to {aside}" in said


@pytest.mark.parametrize("what", ["text", "broken link", "folder"])
def test_what_has_the_name_of_a_component_is_kept(
    hub: HubServer, folder: Path, outside: Path, what: str
) -> None:
    name = folder / "small-star.safetensors"
    folder.mkdir()
    if what == "text":
        name.write_text("mine")
    elif what == "folder":
        shutil.copytree(outside, name)
    else:
        name.symlink_to(outside / "not there")
    for number in (1, 2):
        (folder / f"small-star.safetensors.before-{number}").write_text("older")
    install([STAR], folder)
    assert is_fine(folder, "small-star")
    aside = folder / "small-star.safetensors.before-3"
    assert aside.is_symlink() if what == "broken link" else aside.exists()
    assert (folder / "small-star.safetensors.before-1").read_text() == "older"


def test_our_own_component_leaves_nothing_behind(hub: HubServer, folder: Path) -> None:
    install([STAR], folder)
    install([STAR], folder, dtype="fp16")
    assert not list(folder.glob("*.before-*"))


def test_an_original_that_is_kept_is_not_replaced(hub: HubServer, folder: Path) -> None:
    kept = folder / "originals" / STAR.sources[0].repository / NETWORK
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    install([STAR], folder, keep_original=True)
    assert kept.with_name(f"{kept.name}.before-1").read_text() == "mine"
    content = hub.files[STAR.sources[0].repository, NETWORK]
    assert kept.read_bytes() == content
    install([STAR], folder, dtype="fp16", keep_original=True)
    assert [path.name for path in kept.parent.iterdir() if "before-2" in path.name] == []


@pytest.mark.parametrize("hard", [True, False])
def test_a_lock_that_is_a_link_is_not_emptied(
    hub: HubServer, folder: Path, outside: Path, hard: bool
) -> None:
    lock = folder / LOCKS / "small-star.lock"
    lock.parent.mkdir(parents=True)
    target = outside / "mine.txt"
    lock.hardlink_to(target) if hard else lock.symlink_to(target)
    with pytest.raises(WeightsError, match="is a link or not a regular file"):
        install([STAR], folder)


def test_a_record_that_is_a_link_to_something_else_is_not_emptied(
    hub: HubServer, folder: Path, outside: Path
) -> None:
    folder.mkdir()
    (folder / RECORD_NAME).symlink_to(outside / "mine.txt")
    with pytest.raises(WeightsError, match="is not a record of hashes"):
        install([STAR], folder)


@pytest.mark.parametrize(("size", "said"), [(str(10**12), "1.00 TB"), ("9" * 20, "TB")])
def test_sizes_beyond_all_files_are_refused(
    hub: HubServer, folder: Path, size: str, said: str
) -> None:
    hub.sizes[NETWORK] = size
    with pytest.raises(WeightsError, match=f"{said} according to the hub, and at most 100 GB"):
        install([STAR], folder)
    assert not folder.exists()


def test_a_commit_is_not_looked_for_outside_the_cache(
    hub: HubServer, folder: Path, outside: Path
) -> None:
    assert hub.commit == COMMIT
    hub.commit = "../../../../outside"
    with pytest.raises(WeightsError, match="does not answer as a Hugging Face hub does"):
        install([STAR], folder)
