"""A hub on the loopback interface that speaks the protocol of Hugging Face's, and fails on demand.

Large files are answered with a redirect to another host name, as the hub sends clients to its storage; small ones
directly. What is asked of it is written down.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

COMMIT = "c0ffee" + "0" * 34
LARGE = (".pt", ".safetensors", ".bin")


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request; for HEAD only `status`, `headers` and `silent` count."""

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    stall_after: int | None = None
    """Send so many bytes of the body, and then nothing until the end."""
    body: bytes | None = None
    """Send this instead, whole and with its own length."""
    ignore_range: bool = False
    silent: bool = False
    """Never answer."""


@dataclass(frozen=True)
class Asked:
    """One request that arrived."""

    method: str
    path: str
    """Of the file, inside its repository."""
    range: str
    authorization: str
    at_storage: bool
    """Whether it was the redirected request."""


@dataclass
class HubServer:
    """The state of a running server; change it between requests as the test needs."""

    url: str
    files: dict[tuple[str, str], bytes]
    """Contents by repository and path."""
    faults: dict[tuple[str, str], list[Fault]] = field(default_factory=dict)
    """By method and path in the repository: what goes wrong with the next requests, in order."""
    gated: dict[str, int] = field(default_factory=dict)
    """Repositories that want `token`, and the status that others get."""
    token: str = "hf_right"
    stated: dict[str, str] = field(default_factory=dict)
    """What is said of the hash of a file instead of the truth, by path."""
    sizes: dict[str, str] = field(default_factory=dict)
    """What is said of the size of a large file instead of the truth, by path."""
    commit: str = COMMIT
    """What is said of the commit."""
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    def fail(self, method: str, path: str, *faults: Fault) -> None:
        """Let the next requests for a file go wrong."""
        self.faults.setdefault((method, path), []).extend(faults)

    def etag(self, path: str, content: bytes) -> str:
        """As the hub: SHA-256 of what is kept in large file storage, git's name of what is not."""
        if path in self.stated:
            return self.stated[path]
        if path.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def bodies(self, path: str) -> list[str]:
        """The `Range` of every request for a file's contents, empty for all of it."""
        return [a.range for a in self.asked if _is_body(a) and a.path == path]


def _is_body(asked: Asked) -> bool:
    return asked.method == "GET" and asked.at_storage == asked.path.endswith(LARGE)


def use_hub(patch: pytest.MonkeyPatch, url: str, home: Path) -> None:
    """Let everything in this process ask the hub at `url`, without a token, with an empty cache, without waiting."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy"):
        patch.delenv(name, raising=False)
    patch.setenv("HF_ENDPOINT", url)
    patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home / "hub"))
    patch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(home / "token"))
    patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    patch.setattr("starvsr.zoo.hub.RETRY_WAITS_S", (0.01, 0.01, 0.01, 0.01))


@contextmanager
def hub_server(folder: Path) -> Iterator[HubServer]:
    """Serve `folder/owner/repository/path` files until the end of the block."""
    files = {
        (
            "/".join(path.relative_to(folder).parts[:2]),
            "/".join(path.relative_to(folder).parts[2:]),
        ): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    listener = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    listener.daemon_threads = True
    hub = HubServer(f"http://127.0.0.1:{listener.server_port}", files)
    listener.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=listener.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.ended.set()
        listener.shutdown()
        listener.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass

    @property
    def hub(self) -> HubServer:
        found: HubServer = self.server.hub  # type: ignore[attr-defined]
        return found

    @property
    def port(self) -> int:
        found: int = self.server.server_port  # type: ignore[attr-defined]
        return found

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def _answer(self, method: str) -> None:
        place = unquote(self.path.partition("?")[0]).lstrip("/")
        at_storage = place.startswith("storage/")
        if at_storage:
            place = place.removeprefix("storage/")
        parts = place.split("/", 4)
        if len(parts) < 5 or parts[2] != "resolve":
            # The client asks for other things too, which a hub need not have.
            self._send(404, {})
            return
        owner, name, _, revision, path = parts
        repository = f"{owner}/{name}"
        with self.hub.lock:
            self.hub.asked.append(
                Asked(
                    method,
                    path,
                    self.headers.get("Range", ""),
                    self.headers.get("Authorization", ""),
                    at_storage,
                )
            )
        if not at_storage and self._refused(repository, path, revision):
            return
        content = self.hub.files[repository, path]
        redirected = path.endswith(LARGE) and not at_storage
        fault = None if redirected and method == "GET" else self._next_fault(method, path)
        if fault is not None and fault.silent:
            self.hub.ended.wait()
        elif fault is not None and fault.status is not None:
            self._send(fault.status, dict(fault.headers))
        elif redirected:
            self._redirect(place, path, content)
        else:
            self._send_content(method, path, content, fault or Fault())

    def _next_fault(self, method: str, path: str) -> Fault | None:
        with self.hub.lock:
            waiting = self.hub.faults.get((method, path))
            return waiting.pop(0) if waiting else None

    def _refused(self, repository: str, path: str, revision: str) -> bool:
        status, code = 0, ""
        authorized = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        if repository not in {name for name, _ in self.hub.files}:
            status, code = 404, "RepoNotFound"
        elif repository in self.hub.gated and not authorized:
            status, code = self.hub.gated[repository], "GatedRepo"
        elif revision not in ("main", COMMIT):
            status, code = 404, "RevisionNotFound"
        elif (repository, path) not in self.hub.files:
            status, code = 404, "EntryNotFound"
        if status:
            self._send(status, {"X-Error-Code": code, "X-Error-Message": code})
        return bool(status)

    def _redirect(self, place: str, path: str, content: bytes) -> None:
        headers = {
            "X-Repo-Commit": self.hub.commit,
            "X-Linked-Size": self.hub.sizes.get(path, str(len(content))),
            "X-Linked-Etag": f'"{self.hub.etag(path, content)}"',
            "Location": f"http://localhost:{self.port}/storage/{place}?signed",
        }
        self._send(302, headers)

    def _send_content(self, method: str, path: str, content: bytes, fault: Fault) -> None:
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": f'"{self.hub.etag(path, content)}"'}
        content = content if fault.body is None else fault.body
        begin = 0
        if "Range" in self.headers and not fault.ignore_range:
            begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                self._send(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        body = content[begin:]
        self._send(206 if begin else 200, headers, len(body))
        if method == "GET":
            end = fault.cut_after if fault.stall_after is None else fault.stall_after
            # Clients may leave in the middle.
            with suppress(ConnectionError):
                self.wfile.write(body[:end])
        if fault.stall_after is not None:
            self.hub.ended.wait()

    def _send(self, status: int, headers: Mapping[str, str], length: int = 0) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
