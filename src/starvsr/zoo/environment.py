"""The variables that set the hub, the connection to it, and the user.

Their values may be secret, so messages name a variable and what is wrong with it, never its value.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from starvsr.errors import WeightsError

ENDPOINT = "HF_ENDPOINT"
_DEFAULT_ENDPOINT = "https://huggingface.co"
_WHOLE_SECONDS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_PROXIES = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY")
_OF_CONNECTIONS = (*_PROXIES, "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
_PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
_HOST = r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
_PATH = r"[A-Za-z0-9._~/%-]*"


@dataclass(frozen=True)
class Endpoint:
    """The hub to use."""

    url: str
    """Without a trailing slash, user and password."""
    shown: str
    """For messages: user and password as stars."""
    authorization: str
    """The header with user and password; empty without them."""


def hub_endpoint() -> Endpoint:
    """`HF_ENDPOINT`, else huggingface.co. Raises WeightsError if it is not a valid address."""
    value = os.environ.get(ENDPOINT, "").rstrip("/") or _DEFAULT_ENDPOINT
    try:
        parts = _address(value)
        if parts.scheme not in ("http", "https"):
            raise ValueError("does not begin with https:// or http://")
        if not re.fullmatch(_PATH, parts.path) or "?" in value or "#" in value:
            raise ValueError("has characters that a hub's address cannot contain")
    except ValueError as error:
        raise WeightsError(
            f"{ENDPOINT} {error}: give a hub's address, such as {_DEFAULT_ENDPOINT}, or unset it"
        ) from None
    user, at, place = parts.netloc.rpartition("@")
    # Never part of an address that a message or an error could show.
    authorization = f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if at else ""
    stars = "***@" if at else ""
    url, shown = (f"{parts.scheme}://{mark}{place}{parts.path}" for mark in ("", stars))
    return Endpoint(url, shown, authorization)


def _address(value: str) -> SplitResult:
    """An address split into parts. Raises ValueError without the value, any part of which may be secret."""
    if not re.fullmatch("[!-~]+", value):
        raise ValueError("has spaces or other characters that an address cannot contain")
    if "://" not in value:
        raise ValueError("does not begin with https:// or http://")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has an invalid host or port") from None
    if host is None or not re.fullmatch(_HOST, host):
        raise ValueError("has no host, or an invalid one")
    return parts


def check_hub_variables() -> None:
    """Raise WeightsError for values that prevent importing huggingface_hub and libraries that use it."""
    hub_endpoint()
    for name in _WHOLE_SECONDS:
        value = os.environ.get(name)
        if value is not None and not re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
            raise WeightsError(f"{name} is not a whole number of seconds: give one, or unset it")


def check_headers(headers: dict[str, str], token_file: Path) -> None:
    """Raise WeightsError if the variables or the token file contain characters that no request can contain."""
    given = next((name for name in _TOKENS if os.environ.get(name)), None)
    holder = given or f"the token file {token_file}"
    sent = headers.get("authorization", "").removeprefix("Bearer ")
    value = os.environ[given].strip() if given else sent
    if "authorization" in headers and not re.fullmatch("[!-~]+", value):
        raise WeightsError(
            f"{holder} contains a space, a line end or another invalid character: copy the token again from the "
            "hub's settings, or unset it"
        )
    if not all(re.fullmatch("[ -~]*", value) for value in headers.values()):
        odd = [n for n, v in os.environ.items() if n[:3] == "HF_" and not re.fullmatch("[ -~]*", v)]
        names = _those_set(odd)
        raise WeightsError(
            f"the headers for the hub contain invalid characters: unset or correct {names}"
        )


def check_proxies() -> None:
    """Raise WeightsError for a variable with an unusable proxy."""
    no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [] if "*" in re.split(r"\s*,\s*", no_proxy.strip()) else _set_here(_PROXIES)
    for name in names:
        problem = _proxy_problem(name)
        if problem:
            raise WeightsError(f"{name} {problem}, or unset it")


def _proxy_problem(name: str) -> str:
    try:
        value = os.environ[name]
        scheme = _address(value if "://" in value else f"http://{value}").scheme
    except ValueError as error:
        return f"{error}: give a proxy's address, such as http://host:8080"
    if scheme not in _PROXY_SCHEMES:
        return f"names a proxy of an unknown kind: use {', '.join(_PROXY_SCHEMES)}"
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        return "names a SOCKS proxy, for which the package socksio is missing: install it"
    return ""


def connection_problem() -> str:
    """For messages when no connection can be set up: what to change."""
    return f"no connection can be set up: correct or unset {_those_set(_set_here(_OF_CONNECTIONS))}"


def proxies_said() -> str:
    """For messages: the variables that set proxies, or nothing."""
    names = _set_here(_PROXIES)
    return f", asked with {_those_set(names)} set" if names else ""


def _set_here(names: tuple[str, ...]) -> list[str]:
    return [
        each
        for name in names
        for each in dict.fromkeys((name, name.lower()))
        if os.environ.get(each)
    ]


def _those_set(names: list[str]) -> str:
    return " and ".join(sorted(names)) or "the variables of its settings"


def expanded(path: str, name: str) -> Path:
    """A folder from a variable or an option, `~` expanded. Raises WeightsError if there is no such home."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise WeightsError(
            f"{name} is in the home of a user who does not exist: give another folder"
        ) from None
