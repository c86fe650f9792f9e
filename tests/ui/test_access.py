"""What must not work from outside does not, and what must work does."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from starvsr.errors import UsageError
from starvsr.ui.access import MOST_BODY_BYTES, MOST_UPLOAD_BYTES, Guard, Roots

HOST = "127.0.0.1:7860"
TOKEN = "a-token-of-the-test"


async def _page(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"the page"})


def ask(
    guard: Guard, headers: dict[str, str], method: str = "GET", path: str = "/", query: str = ""
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to a request."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": query.encode()}
    asyncio.run(guard({**scope, "headers": raw}, None, send))
    found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], found


@pytest.fixture
def guard(tmp_path: Path) -> Guard:
    """Of a page for this machine alone."""
    return Guard(_page, ("127.0.0.1", "localhost", "::1"), tmp_path)


@pytest.fixture
def open_guard(tmp_path: Path) -> Guard:
    """Of a page for other machines."""
    return Guard(_page, ("0.0.0.0",), tmp_path, TOKEN)


def test_the_page_itself_is_answered(guard: Guard) -> None:
    for host in (HOST, "localhost:7860", "[::1]:7860"):
        status, headers = ask(guard, {"host": host, "sec-fetch-site": "none"})
        assert status == 200
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
    own = {"host": HOST, "origin": f"http://{HOST}", "sec-fetch-site": "same-origin"}
    assert ask(guard, {**own, "content-length": "2"}, "POST")[0] == 200


@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:7860", "127.0.0.1.evil.example"]
)
def test_another_host_name_is_refused(guard: Guard, host: str) -> None:
    assert ask(guard, {"host": host})[0] == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": f"https://{HOST}"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "origin": "null"},
    ],
)
def test_another_site_is_refused(guard: Guard, headers: dict[str, str]) -> None:
    for method in ("GET", "POST"):
        assert ask(guard, {"host": HOST, "content-length": "2", **headers}, method)[0] == 403


def test_a_link_on_another_site_leads_to_the_page(guard: Guard) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask(guard, {"host": HOST, **link})[0] == 200


def test_without_the_token_nothing_is_answered(open_guard: Guard) -> None:
    host = {"host": "192.168.1.5:7860"}
    assert ask(open_guard, host)[0] == 401
    assert ask(open_guard, host, query="token=")[0] == 401
    assert ask(open_guard, host, query="token=another")[0] == 401
    assert ask(open_guard, {**host, "cookie": "starvsr-7860=another"})[0] == 401
    assert ask(open_guard, {**host, "cookie": "starvsr-7860"})[0] == 401
    assert ask(open_guard, {"host": "evil.example:7860"}, query=f"token={TOKEN}")[0] == 403


def test_the_token_of_the_address_becomes_a_cookie(open_guard: Guard) -> None:
    host = {"host": "192.168.1.5:7860"}
    status, headers = ask(open_guard, host, query=f"token={TOKEN}")
    assert (status, headers["location"]) == (303, "/")
    cookie, _, flags = headers["set-cookie"].partition(";")
    assert "HttpOnly" in flags
    assert "SameSite=Strict" in flags
    assert ask(open_guard, {**host, "cookie": cookie})[0] == 200
    own = {"host": "localhost:7860"}
    assert ask(open_guard, own)[0] == 401
    assert ask(open_guard, {**own, "cookie": cookie})[0] == 200


def test_what_is_sent_is_bounded(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    def sent(path: str, length: object, **more: str) -> int:
        headers = {"host": HOST, "content-length": str(length), **more}
        return ask(guard, headers, "POST", path)[0]

    assert sent("/gradio_api/upload", MOST_UPLOAD_BYTES + 1) == 413
    assert sent("/gradio_api/queue/join", MOST_BODY_BYTES + 1) == 413
    assert sent("/gradio_api/queue/join", MOST_BODY_BYTES) == 200
    assert sent("/gradio_api/upload", "many") == 411
    assert sent("/gradio_api/upload", 10, **{"transfer-encoding": "chunked"}) == 411
    assert ask(guard, {"host": HOST}, "POST", "/gradio_api/upload")[0] == 411
    assert sent("/gradio_api/upload", 10) == 200
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": (1 << 30) + 20}))
    assert sent("/gradio_api/upload", 10) == 200
    assert sent("/gradio_api/upload", 11) == 507


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """One folder beside a secret."""
    root = tmp_path / "root"
    (root / "films").mkdir(parents=True)
    (root / "films" / "a.mp4").touch()
    (root / "films" / "notes.txt").touch()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "b.mp4").touch()
    (root / "out").symlink_to(tmp_path / "secret")
    (root / "films" / "b.mp4").symlink_to(tmp_path / "secret" / "b.mp4")
    (root / "films" / "c.mp4").symlink_to(root / "films" / "a.mp4")
    (root / ".hidden").mkdir()
    return Roots([root])


@pytest.mark.parametrize(
    "place",
    [
        *("..", "../secret/b.mp4", "films/../../secret", "/etc/passwd", "out", "out/b.mp4"),
        *("films/b.mp4", "~root/x", "/proc/self/cwd", "root-other", "root/.."),
    ],
)
def test_what_is_outside_is_refused(roots: Roots, place: str) -> None:
    if place in ("root-other", "root/.."):
        place = place.replace("root", str(roots.folders[0]))
    with pytest.raises(UsageError, match=r"is outside .*: --root gives the page other folders"):
        roots.inside(place)


def test_what_is_outside_is_not_listed(roots: Roots) -> None:
    root = roots.folders[0]
    assert roots.listed(root) == (["films"], [])
    assert roots.listed(root / "films") == ([], ["a.mp4", "c.mp4"])
    with pytest.raises(UsageError, match="is outside"):
        roots.listed(root / "out")
    assert roots.inside("films/c.mp4") == root / "films" / "a.mp4"
    for name in ("a\0b", "\udcff.mp4"):
        with pytest.raises(UsageError, match="is not a path") as error:
            roots.inside(name)
        assert str(error.value).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_a_name_that_is_no_text_is_not_listed(roots: Roots) -> None:
    root = roots.folders[0]
    os.close(os.open(os.fsencode(root) + b"/films/\xff.mp4", os.O_CREAT))
    (root / "films" / "d.mp4").symlink_to(os.fsdecode(b"\xff.mp4"))
    assert roots.listed(root / "films") == ([], ["a.mp4", "c.mp4"])
