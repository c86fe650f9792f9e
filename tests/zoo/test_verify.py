"""Hashing what is installed again."""

from __future__ import annotations

import shutil
from pathlib import Path

from starvsr.zoo.install import install
from starvsr.zoo.verify import verify
from tests.zoo.hub_server import HubServer
from tests.zoo.published import SMALL_COMPONENTS

ALL = tuple(SMALL_COMPONENTS.values())
STAR = SMALL_COMPONENTS["small-star"]


def test_verify_finds_one_flipped_bit(hub: HubServer, folder: Path) -> None:
    install([STAR], folder)
    path = folder / "small-star.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    assert [found.state for found in verify(folder, ALL)] == ["corrupt", "missing", "missing"]


def test_components_without_a_record_are_used(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    install([STAR], folder)
    copied = tmp_path / "other"
    copied.mkdir()
    shutil.copy(folder / "small-star.safetensors", copied)
    assert [found.state for found in verify(copied, [STAR])] == ["unknown"]
    assert install([STAR], copied).wanted == ()
