"""One weights folder with a small seeded STAR for all tests that only read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.zoo.hub_server import HubServer, hub_server, use_hub
from tests.zoo.published import install_small, small_models, write_published


@pytest.fixture(scope="package")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published files as `owner/repository/path`. Shared: a test that changes them works on a copy."""
    folder = tmp_path_factory.mktemp("published")
    write_published(folder)
    return folder


@pytest.fixture(scope="package")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with all components of `SMALL_STAR`. Shared."""
    return install_small(tmp_path_factory.mktemp("weights"))


@pytest.fixture
def small_known() -> Iterator[None]:
    """The product knows `SMALL_STAR` by name."""
    with small_models():
        yield


@pytest.fixture
def hub(tmp_path: Path, published: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that has everything, and a product that knows the small model."""
    with small_models(), hub_server(published) as server:
        use_hub(monkeypatch, server.url, tmp_path / "home")
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A weights folder that does not exist yet."""
    return tmp_path / "weights"
