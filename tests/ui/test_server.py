"""What `starvsr ui` refuses, before it serves anything and then."""

from __future__ import annotations

import json
import secrets
import socket
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from starvsr.ui.desk import DROPPED
from tests.cli.conftest import Cli, cli
from tests.media.clips import Clip, make
from tests.ui.conftest import served

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


class Page:
    """A page that is served, asked without a browser."""

    def __init__(self, address: str, root: Path) -> None:
        self._address, self.root = address, root

    def get(self, place: str, content: object = None) -> str:
        """The answer to a request, which carries JSON if there is content."""
        data = None if content is None else json.dumps(content).encode()
        return self._ask(place, data, "application/json")

    def upload(self, name: str, content: bytes) -> str:
        """Where the page has put a file that is sent to it."""
        head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        data = head.encode() + content + b"\r\n--x--\r\n"
        found = self._ask("gradio_api/upload", data, "multipart/form-data; boundary=x")
        return str(json.loads(found)[0])

    def _ask(self, place: str, data: bytes | None, kind: str) -> str:
        request = Request(self._address + place, data, {"content-type": kind})
        with urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def call(self, function: str, *values: object) -> str:
        """What a function of the page answers."""
        known = json.loads(self.get("config"))["dependencies"]
        number = next(each["id"] for each in known if each["api_name"] == function)
        call = {"data": values, "fn_index": number, "session_hash": secrets.token_hex(5)}
        self.get("gradio_api/queue/join", call)
        return self.get(f"gradio_api/queue/data?session_hash={call['session_hash']}")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    if find_spec("gradio") is None:
        pytest.skip("the extra ui is not installed")
    root = tmp_path_factory.mktemp("root")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("STARVSR_WEIGHTS", str(tmp_path_factory.mktemp("weights")))
        with served(root, attacked=True) as (address, _):
            yield Page(address, root)


def test_a_path_that_cannot_be_looked_at_is_an_error(page: Page) -> None:
    told = page.call("choose", "x" * 300)
    assert "sv-error" in told
    assert "File name too long" in told


def test_a_dropped_file_is_taken(page: Page, tmp_path: Path) -> None:
    clip = make(tmp_path / "a.mp4", Clip(frames=2, width=32, height=24))
    place = page.upload("a.mp4", clip.read_bytes())
    told = page.call("dropped", {"path": place, "meta": {"_type": "gradio.FileData"}})
    assert "32x24" in told
    assert (page.root / DROPPED / "a.mp4").read_bytes() == clip.read_bytes()
    assert not Path(place).exists()


@pytest.mark.parametrize("function", ["choose", "dropped", "download"])
def test_no_file_that_was_not_dropped_is_taken(page: Page, tmp_path: Path, function: str) -> None:
    """A request may name a file or an address for any component."""
    secret = tmp_path / "secret.mp4"
    secret.write_text("secret")
    for path in (str(secret), "http://127.0.0.1:9/a.mp4"):
        told = page.call(function, {"path": path, "meta": {"_type": "gradio.FileData"}})
        assert '"success":false' in told
    assert "is not fetched: download it first" in told
    assert not [*page.root.rglob("secret.mp4")]
