"""Who may ask the page for something, how much may be sent to it, and which files it may touch."""

from __future__ import annotations

import hmac
import ipaddress
import os
import shutil
import socket
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from starvsr.errors import InputError, UsageError
from starvsr.media.folders import VIDEO_SUFFIXES
from starvsr.media.sequence import STILL_SUFFIXES, image_path, is_sequence, numbers_of

LOCAL = ("127.0.0.1", "localhost", "::1")
MOST_UPLOAD_BYTES = 1 << 33
"""Of a dropped file."""
MOST_BODY_BYTES = 1 << 20
"""Of any other request."""
_FREE_BYTES = 1 << 30
_MOST_ENTRIES = 1000
_PROBED_BYTES = 1 << 20
"""What libav looks at to tell a file's kind."""
_HEADERS = (
    # The page's framework runs inline scripts; everything else has to come from the page's own address.
    (
        b"content-security-policy",
        b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
        b"frame-ancestors 'none'; form-action 'self'; base-uri 'self'",
    ),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


class Roots:
    """The folders that the page may list, read and write; whatever leads out of them is refused."""

    def __init__(self, folders: Iterable[Path]) -> None:
        """Raises InputError if one is not a folder."""
        self.folders = [Path(os.path.realpath(folder.expanduser())) for folder in folders]
        for folder in self.folders:
            if not folder.is_dir():
                raise InputError(f"--root {folder} is not a folder: give one that exists")

    def inside(self, text: str | os.PathLike[str]) -> Path:
        """The place that a path really names, links followed. Raises UsageError if it is outside, or no path."""
        try:
            path = self.folders[0] / Path(text).expanduser()
            real = Path(os.path.realpath(path))
            # Browsers and JSON have no other text.
            f"{text}{real}".encode()
        except (ValueError, OSError, RuntimeError) as error:
            name = str(text).encode(errors="backslashreplace").decode()
            raise UsageError(f"{name} is not a path: {error}") from error
        if not any(real.is_relative_to(folder) for folder in self.folders):
            allowed = ", ".join(map(str, self.folders))
            raise UsageError(f"{text} is outside {allowed}: --root gives the page other folders")
        return real

    def source(self, text: str | os.PathLike[str]) -> Path:
        """As `inside`, of a file or numbered images to be read: whatever else reading it would open is inside too.

        Raises UsageError, also for a list of other files.
        """
        path = self.inside(text)
        with suppress(OSError):
            for number in numbers_of(path) if is_sequence(path) else ():
                self.inside(image_path(path, number))
            if path.is_file() and _is_list(path):
                raise UsageError(
                    f"{path} is a list of other files, which the page does not read: give one of them"
                )
        return path

    def listed(self, folder: Path) -> tuple[list[str], list[str]]:
        """Names of the subfolders, and of the videos and pictures in a folder.

        Neither hidden ones nor links out nor work directories are among them, nor names that are no text. Raises
        UsageError for a folder outside, InputError for one that cannot be read.
        """
        try:
            found = sorted(self.inside(folder).iterdir())
        except OSError as error:
            raise InputError(f"{folder} cannot be read: {error.strerror}") from error
        seen = [path for path in found if not path.name.startswith(".") and self.holds(path)]
        folders = [p.name for p in seen if _is(Path.is_dir, p) and p.suffix != ".starvsr"]
        known = (*VIDEO_SUFFIXES, *STILL_SUFFIXES)
        files = [p.name for p in seen if p.suffix.lower() in known and _is(Path.is_file, p)]
        return folders[:_MOST_ENTRIES], files[:_MOST_ENTRIES]

    def holds(self, path: str | os.PathLike[str]) -> bool:
        """Whether `inside` returns it."""
        try:
            return bool(self.inside(path))
        except UsageError:
            return False


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    """Whether a path is of a kind; False where nobody may look at it."""
    try:
        return kind(path)
    except OSError:
        return False


def _is_list(path: Path) -> bool:
    """Whether libav would open the files that a file names: HLS, a list of ffmpeg's, or DASH."""
    with path.open("rb") as file:
        head = file.read(_PROBED_BYTES)
    return head.startswith((b"#EXTM3U", b"ffconcat")) or (
        b"<MPD" in head and b"dash:profile" in head
    )


class Guard:
    """ASGI middleware in front of the page.

    A request is answered only if it was sent to a name of this machine (another name that leads here is an attack by
    DNS), does not come from another site's page, carries the token if there is one, and is not too large.
    """

    def __init__(self, app: Any, hosts: Iterable[str], uploads: Path, token: str = "") -> None:
        """hosts: names and addresses of this machine, or 0.0.0.0 or :: for all its addresses.

        uploads: a folder on the disk that takes dropped files. token: empty for none.
        """
        self._app, self._uploads, self._token = app, uploads, token
        self._hosts = set(hosts)
        if self._hosts & {"0.0.0.0", "::"}:
            self._hosts |= {socket.gethostname().lower(), "localhost"}
        self._any_address = bool(self._hosts & {"0.0.0.0", "::"})

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        status, text, more = self._answer(scope, headers)
        if status == 200 and scope["type"] == "http":
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http":
            named = [(b"content-type", b"text/plain; charset=utf-8"), *more]
            await send({"type": "http.response.start", "status": status, "headers": named})
            await send({"type": "http.response.body", "body": text.encode()})
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _answer(
        self, scope: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, str, list[tuple[bytes, bytes]]]:
        """Status, text and headers of a refusal or of the redirection that takes the token; status 200 is neither."""
        host = headers.get("host", "")
        if not self._is_ours(host):
            return 403, f"this page is not at {host!r}\n", []
        if _is_foreign(headers, host):
            return 403, "a page of another site may not ask for this\n", []
        if self._token:
            cookie = f"starvsr-{host.rpartition(':')[2]}"
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
            if self._is_token(given):
                # Out of the address, where it would stay in the history.
                keep = f"{cookie}={given}; HttpOnly; SameSite=Strict; Path=/"
                return 303, "", [(b"location", b"/"), (b"set-cookie", keep.encode())]
            if not self._is_token(_cookie(headers.get("cookie", ""), cookie)):
                return 401, "open the address that starvsr ui printed, with its token\n", []
        return *self._size_refused(scope, headers), []

    def _is_ours(self, host: str) -> bool:
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        name = name.strip("[]").lower()
        if name in self._hosts:
            return True
        try:
            return self._any_address and bool(ipaddress.ip_address(name))
        except ValueError:
            return False

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _size_refused(
        self, scope: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[int, str]:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            return 200, ""
        length = headers.get("content-length", "")
        if not length.isdigit() or "transfer-encoding" in headers:
            return 411, "the length of what is sent has to be said\n"
        is_upload = str(scope["path"]).endswith("/upload")
        most = MOST_UPLOAD_BYTES if is_upload else MOST_BODY_BYTES
        if int(length) > most:
            return 413, f"more than {most >> 20} MiB are not taken: put the file into a folder\n"
        # It is copied once more before it is removed.
        if is_upload and 2 * int(length) + _FREE_BYTES > shutil.disk_usage(self._uploads).free:
            return 507, "the disk has no room for this file\n"
        return 200, ""


def _is_foreign(headers: Mapping[str, str], host: str) -> bool:
    """Whether a page of another site asks; following a link to the page is allowed."""
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return True
    is_link = headers.get("sec-fetch-mode") == "navigate" and "origin" not in headers
    return headers.get("sec-fetch-site", "none") not in ("same-origin", "none") and not is_link


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _with_headers(send: Any) -> Any:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return sending
