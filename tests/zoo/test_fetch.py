"""Which published files are trusted, and that a wrong one never keeps out the right one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from starvsr.errors import WeightsError
from starvsr.specs import Component
from starvsr.zoo.hashes import RECORD_NAME, read_hashes
from starvsr.zoo.install import install
from starvsr.zoo.verify import verify
from tests.zoo.hub_server import Fault, HubServer
from tests.zoo.published import SMALL_COMPONENTS

ALL = tuple(SMALL_COMPONENTS.values())
STAR, VAE, CLIP = ALL
NETWORK = "I2VGen-XL-based/light_deg.pt"


def states(folder: Path, components: tuple[Component, ...] = ALL) -> list[str]:
    return [found.state for found in verify(folder, components)]


def test_wrong_contents_are_deleted_and_refused(hub: HubServer, folder: Path) -> None:
    content = bytearray(hub.files["small/STAR", NETWORK])
    content[500] ^= 1
    hub.fail("GET", NETWORK, Fault(body=bytes(content)))
    right = hashlib.sha256(hub.files["small/STAR", NETWORK]).hexdigest()
    wrong = hashlib.sha256(content).hexdigest()
    with pytest.raises(
        WeightsError, match=f"wrong hash: the hub states {right}, and .* has {wrong}"
    ):
        install([STAR], folder)
    assert not list(folder.rglob("*.pt"))
    assert states(folder, (STAR,)) == ["missing"]
    install([STAR], folder)
    assert states(folder, (STAR,)) == ["ok"]


def test_small_files_are_compared_with_gits_name(hub: HubServer, folder: Path) -> None:
    path = "vae/config.json"
    hub.fail("GET", path, Fault(body=hub.files["small/video-diffusion", path].replace(b"3", b"4")))
    with pytest.raises(WeightsError, match="the hub states git's"):
        install([VAE], folder)
    assert not list(folder.rglob("config.json"))


def test_published_hash_is_enforced(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = STAR.sources[0]
    object.__setattr__(source, "sha256", "0" * 64)
    try:
        with pytest.raises(
            WeightsError, match=f"it was published with {'0' * 64}, and the hub now"
        ):
            install([STAR], folder)
        # The hub's word is enough not to fetch it at all.
        assert hub.bodies(NETWORK) == []
    finally:
        object.__setattr__(source, "sha256", "")


def test_first_use_is_enforced_after(hub: HubServer, folder: Path, published: Path) -> None:
    install([STAR], folder)
    (folder / "small-star.safetensors").unlink()
    other = hub.files["small/STAR", NETWORK] + b" "
    hub.files["small/STAR", NETWORK] = other
    with pytest.raises(WeightsError, match=r"the first use recorded .* and the hub now has"):
        install([STAR], folder)
    copies = folder.parent / "copies"
    copies.mkdir()
    (copies / "light_deg.pt").write_bytes(other)
    with pytest.raises(
        WeightsError, match=r"the first use recorded .*; give --source with another copy"
    ):
        install([STAR], folder, sources=[str(copies)])
    assert (copies / "light_deg.pt").read_bytes() == other


VOCABULARY = ("small/CLIP", "vocab.json")


@pytest.mark.parametrize(
    ("place", "bad"),
    [(("small/STAR", NETWORK), b"PK\3\4 malicious"), (VOCABULARY, b'{"a": 0}')],
)
def test_a_wrong_file_is_not_trusted_so_the_right_one_can_follow(
    hub: HubServer, folder: Path, place: tuple[str, str], bad: bytes
) -> None:
    good, hub.files[place] = hub.files[place], bad
    components = [STAR if place[1] == NETWORK else CLIP]
    with pytest.raises(WeightsError):
        install(components, folder)
    assert not read_hashes(folder).sources
    hub.files[place] = good
    install(components, folder)
    assert states(folder, tuple(components)) == ["ok"]


def test_a_copy_that_nothing_can_be_made_of_is_not_trusted(
    hub: HubServer, folder: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    (copies / "light_deg.pt").write_bytes(hub.files["small/STAR", NETWORK][:5000])
    with pytest.raises(WeightsError, match="is corrupt"):
        install([STAR], folder, sources=[str(copies)])
    assert not read_hashes(folder).sources
    install([STAR], folder)
    assert states(folder, (STAR,)) == ["ok"]


def test_file_that_no_hash_vouches_for_is_fetched_again_after_damage(
    hub: HubServer, folder: Path
) -> None:
    right = hub.files["small/STAR", NETWORK]
    # As a mirror that is no Git may state it.
    hub.stated[NETWORK] = "some-tag"
    hub.fail("GET", NETWORK, Fault(body=right[:-100] + bytes(100)))
    with pytest.raises(WeightsError, match="is corrupt"):
        install([STAR], folder)
    install([STAR], folder)
    assert hub.bodies(NETWORK) == ["", ""]
    assert states(folder, (STAR,)) == ["ok"]


def test_file_that_its_publisher_changed_is_accepted_as_the_message_says(
    hub: HubServer, folder: Path
) -> None:
    install([CLIP], folder)
    (folder / "small-clip.safetensors").unlink()
    hub.files[VOCABULARY] += b"\n"
    with pytest.raises(WeightsError) as caught:
        install([CLIP], folder)
    message = str(caught.value)
    assert "run the same command again" not in message
    key, record = "small/CLIP/vocab.json@main", folder / RECORD_NAME
    assert message.endswith(
        "it was changed there: give --source with a copy of the earlier one, or, to accept this one from now on, "
        f'delete the entry "{key}" under "sources" in {record}'
    )
    content = json.loads(record.read_text())
    del content["sources"][key]
    record.write_text(json.dumps(content))
    install([CLIP], folder)
    assert states(folder, (CLIP,)) == ["ok"]
    sha256 = hashlib.sha256(hub.files[VOCABULARY]).hexdigest()
    assert read_hashes(folder).sources[key].sha256 == sha256
