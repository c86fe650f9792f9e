"""Where published files are had: copies by hand, mirrors, Hugging Face's cache; and what is said without any."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from starvsr.errors import UsageError, WeightsError
from starvsr.specs import Component
from starvsr.types import Progress
from starvsr.zoo.convert import from_published
from starvsr.zoo.given import given_files
from starvsr.zoo.hashes import read_hashes
from starvsr.zoo.install import install
from starvsr.zoo.load import save_model
from starvsr.zoo.sources import locate
from starvsr.zoo.verify import verify
from tests.zoo.hub_server import HubServer, hub_server, use_hub
from tests.zoo.published import SMALL_COMPONENTS, SMALL_STAR, published_network, small_models

ALL = tuple(SMALL_COMPONENTS.values())
STAR, VAE, CLIP = ALL
SOURCES = [source for component in ALL for source in component.sources]
NETWORK = "I2VGen-XL-based/light_deg.pt"


def states(folder: Path, components: tuple[Component, ...]) -> list[str]:
    return [found.state for found in verify(folder, components)]


@pytest.mark.parametrize("layout", ["owner/repository", "repository", "path", "name"])
def test_folder_of_copies_needs_no_network(
    tmp_path: Path, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    copies = tmp_path / "copies"
    for source in [source for component in (STAR, VAE) for source in component.sources]:
        place = {
            "owner/repository": f"{source.repository}/{source.path}",
            "repository": f"{source.repository.partition('/')[2]}/{source.path}",
            "path": source.path,
            "name": Path(source.path).name,
        }[layout]
        (copies / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(published / source.repository / source.path, copies / place)
    before = sorted(copies.rglob("*"))
    with small_models():
        install([STAR, VAE], folder, sources=[str(copies)])
        assert states(folder, (STAR, VAE)) == ["ok", "ok"]
    assert sorted(copies.rglob("*")) == before
    assert not (folder / ".downloads").exists()


def test_bare_name_of_two_files_is_not_guessed(
    tmp_path: Path, folder: Path, published: Path
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    for source in [source for component in ALL for source in component.sources]:
        shutil.copy(published / source.repository / source.path, copies)
    with small_models(), pytest.raises(WeightsError) as caught:
        install(ALL, folder, sources=[str(copies)], offline=True)
    why, missing, _ = caught.value.args
    assert why == "downloads are off (--offline, or `download` of the node)"
    assert missing == (
        "missing are small/video-diffusion/vae/config.json, small/CLIP/config.json: not where other programs keep "
        f"them, nor in {copies}"
    )


@pytest.mark.parametrize("prefixed", [False, True])
def test_mirror_repository(
    tmp_path: Path, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch, prefixed: bool
) -> None:
    mirror = tmp_path / "mirror" / "someone" / "copies"
    for source in STAR.sources:
        place = mirror / source.repository / source.path if prefixed else mirror / source.path
        place.parent.mkdir(parents=True)
        shutil.copy(published / source.repository / source.path, place)
    with small_models(), hub_server(tmp_path / "mirror") as server:
        use_hub(monkeypatch, server.url, tmp_path / "home")
        install([STAR], folder, sources=["someone/copies"])
        assert states(folder, (STAR,)) == ["ok"]
    assert list(read_hashes(folder).sources) == [f"small/STAR/{NETWORK}@main"]


@pytest.mark.parametrize("as_folder", [False, True])
def test_a_trained_model_is_the_network_even_under_the_name_of_another_file(
    tmp_path: Path, as_folder: bool
) -> None:
    """Training names its result as the text encoder's file is named."""
    path = tmp_path / "run" / "model.safetensors"
    path.parent.mkdir()
    save_model(path, SMALL_STAR, from_published(published_network()))
    with small_models():
        found = given_files(SOURCES, [path.parent if as_folder else path])
    assert {source.path: (given.path, given.stands_in) for source, given in found.items()} == {
        NETWORK: (path, True)
    }


def test_a_mirror_without_a_network_is_usage(folder: Path) -> None:
    with small_models(), pytest.raises(UsageError, match="--source srcf/none is no file or folder"):
        install([STAR], folder, sources=["srcf/none"], offline=True)
    assert not folder.exists() or not list(folder.iterdir())


def test_source_that_is_neither_is_usage(folder: Path) -> None:
    with pytest.raises(UsageError, match="neither a folder that exists nor a repository"):
        install([STAR], folder, sources=["./nowhere"])


def fill_cache(home: Path, published: Path, component: Component) -> list[Path]:
    """Put files where huggingface_hub caches them."""
    commit, made = "c0ffee" + "0" * 34, []
    for source in component.sources:
        place = home / "hub" / f"models--{source.repository.replace('/', '--')}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / "main").write_text(commit)
        target = place / "snapshots" / commit / source.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(published / source.repository / source.path, target)
        made.append(target)
    return made


@pytest.mark.parametrize("way", ["hub", "silence"])
def test_hugging_faces_cache_is_used_and_left_alone(
    tmp_path: Path, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    cached = fill_cache(tmp_path / "home", published, VAE)
    with small_models(), hub_server(published) as server:
        url = server.url if way == "hub" else "http://127.0.0.1:9"
        use_hub(monkeypatch, url, tmp_path / "home")
        install([VAE], folder)
        assert states(folder, (VAE,)) == ["ok"]
        assert not any(asked.method == "GET" for asked in server.asked)
    assert all(path.is_file() for path in cached)


@pytest.mark.parametrize("damage", ["cut", "flipped", "flipped small"])
def test_damaged_copy_in_the_cache_is_fetched_instead(
    tmp_path: Path,
    folder: Path,
    published: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    path = fill_cache(tmp_path / "home", published, VAE)[damage == "flipped small"]
    whole = path.read_bytes()
    bad = whole[:-100] if damage == "cut" else whole[:-100] + b"x" + whole[-99:]
    assert bad != whole
    path.write_bytes(bad)
    reports: list[Progress] = []
    with small_models(), hub_server(published) as server:
        use_hub(monkeypatch, server.url, tmp_path / "home")
        install([VAE], folder, progress=reports.append)
        bodies = [asked.path for asked in server.asked if asked.method == "GET"]
    assert states(folder, (VAE,)) == ["ok"]
    assert set(bodies) == {VAE.sources[damage == "flipped small"].path}
    said = [r.getMessage() for r in caplog.records if "fetched instead" in r.getMessage()]
    assert len(said) == 1
    assert str(path) in said[0]
    assert "give --source" not in said[0]
    # What is not ours stays as it is; what was fetched is counted, and used up.
    assert path.read_bytes() == bad
    assert not (folder / ".downloads").exists()
    downloads = [report for report in reports if report.stage == "download"]
    assert downloads[-1].done == downloads[-1].total == len(whole)


def test_damaged_copy_in_the_cache_without_network_is_not_trusted(
    tmp_path: Path, folder: Path, published: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fill_cache(tmp_path / "home", published, VAE)[0]
    path.write_bytes(path.read_bytes()[:-100])
    with small_models():
        use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
        with pytest.raises(WeightsError, match="cannot be read as a safetensors file"):
            install([VAE], folder)
        assert not read_hashes(folder).sources
        with hub_server(published) as server:
            use_hub(monkeypatch, server.url, tmp_path / "home")
            install([VAE], folder)
        assert states(folder, (VAE,)) == ["ok"]


def test_without_network_the_way_by_hand_is_explained(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    with small_models(), pytest.raises(WeightsError) as caught:
        install([STAR, VAE], folder)
    message = str(caught.value)
    assert f"missing are small/STAR/{NETWORK}, small/video-diffusion/vae/diffusion" in message
    assert "copy them into one folder under these paths" in message
    assert message.endswith(f"of a weights folder that has them to {folder}")
    assert "--source" in message
    assert not folder.exists()


@pytest.mark.parametrize(
    "origin",
    [
        "a",
        "a/b/c",
        "../x",
        "owner/..",
        "a/b\n",
        "a/\x1b[2J",
        "ä/b",
        "x" * 5000,
        "a/" + "x" * 97,
        "\0",
        "",
    ],
)
def test_an_origin_of_no_form(hub: HubServer, folder: Path, origin: str) -> None:
    with pytest.raises(UsageError, match="is neither a folder that exists nor a repository"):
        locate(SOURCES, folder, origins=[origin])
    assert not hub.asked


def test_a_cache_that_cannot_be_read_is_not_used(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError("closed")

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", fail)
    assert all(file.remote for file in locate(SOURCES, folder, origins=[]))


def test_known_sizes_bound_what_is_fetched(hub: HubServer, folder: Path) -> None:
    source = next(s for s in SOURCES if s.path.endswith("light_deg.pt"))
    size = len(hub.files[source.repository, source.path])
    known = dataclasses.replace(source, size_bytes=size)
    assert locate([known], folder, origins=[])[0].size_bytes == size
    with pytest.raises(WeightsError, match="it is another file"):
        smaller = dataclasses.replace(source, size_bytes=size // 2)
        locate([smaller], folder, origins=[])
