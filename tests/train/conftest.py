"""What tests of training share: a folder to train in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.toys import write_model, write_sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with sources, and a model to start from."""
    write_sources(tmp_path / "sources")
    write_model(tmp_path / "tiny.safetensors")
    return tmp_path
