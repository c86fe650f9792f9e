"""What `starvsr ui` refuses before it serves anything."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, cli

__all__ = ["cli"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put back what the command sets for Gradio."""
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "")


def test_without_gradio_it_says_what_to_install(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    found = cli("ui", tmp_path, "--root", tmp_path, "--port", "0")
    assert found.code == 2
    assert found.error == "the page needs Gradio: pip install 'starvsr[ui]'"
    assert list(tmp_path.iterdir()) == []


def test_a_port_in_use_is_an_error(cli: Cli, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = cli("ui", tmp_path, "--root", tmp_path, "--port", str(port))
    assert found.code == 7
    assert found.error.startswith(f"port {port} of 127.0.0.1 cannot be used (")
    found = cli("ui", tmp_path, "--root", tmp_path, "--port", "70000")
    assert found.error == "--port 70000 is not allowed: give 0 (any) to 65535"


def test_it_begins_inside_of_its_roots(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    assert "is outside" in cli("ui", tmp_path, "--root", root, "--port", "0").error
    found = cli("ui", "--root", tmp_path / "none", "--port", "0")
    assert found.code == 3
    assert "is not a folder" in found.error
