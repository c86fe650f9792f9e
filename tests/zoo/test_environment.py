"""Variables that nothing can be done with are named, and what is secret in them is never said."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import close_session  # type: ignore[attr-defined]

from starvsr.errors import WeightsError
from starvsr.zoo import environment
from starvsr.zoo.environment import check_hub_variables, expanded, hub_endpoint
from starvsr.zoo.hub import check_connection, look_up
from tests.zoo.hub_server import HubServer

SECRET = "s3cr3t"
NETWORK = "I2VGen-XL-based/light_deg.pt"


@pytest.fixture(autouse=True)
def fresh_session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Connections are set up by the variables of the test, and not by those of another."""
    for name in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    close_session()
    yield
    close_session()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("huggingface.co", "does not begin with"),
        (f"user:{SECRET}@host", "does not begin with"),
        (f"ftp://{SECRET}@host", "does not begin with"),
        (f"https://a {SECRET}", "has spaces"),
        (f"https://a\n{SECRET}", "has spaces"),
        (f"https://ä{SECRET}", "has spaces or other characters"),
        (f"https://\udcff{SECRET}", "has spaces or other characters"),
        (f"https://[{SECRET}", "has an invalid host or port"),
        (f"https://host:{SECRET}", "has an invalid host or port"),
        ("https://host:99999", "has an invalid host or port"),
        (f"https://{{{SECRET}}}", "has no host"),
        ("https://", "does not begin with"),
        (f"https:///{SECRET}", "has no host"),
        (f"https://host/?token={SECRET}", "has characters"),
        (f"https://host/#{SECRET}", "has characters"),
        (f"https://host/{{{SECRET}}}", "has characters"),
    ],
)
def test_an_endpoint_that_is_none(monkeypatch: pytest.MonkeyPatch, value: str, words: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    with pytest.raises(WeightsError, match=f"^HF_ENDPOINT {words}") as caught:
        check_hub_variables()
    assert SECRET not in str(caught.value)
    assert "or unset it" in str(caught.value)
    # A traceback would show what an error came from.
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("value", "url"),
    [
        ("", "https://huggingface.co"),
        ("https://mirror.example/hf/", "https://mirror.example/hf"),
        ("http://127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("HTTP://Host", "http://Host"),
    ],
)
def test_an_endpoint(monkeypatch: pytest.MonkeyPatch, value: str, url: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", value)
    assert hub_endpoint() == environment.Endpoint(url, url, "")


def test_a_password_in_the_endpoint_is_sent_and_not_shown(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("://", f"://us%40er:{SECRET}@"))
    look_up("small/STAR", NETWORK, "main")
    sent = base64.b64encode(f"us@er:{SECRET}".encode()).decode()
    assert [asked.authorization for asked in hub.asked] == [f"Basic {sent}"]
    with pytest.raises(WeightsError) as caught:
        look_up("small/STAR", "not-there.pt", "main")
    assert hub.url.replace("://", "://***@") in str(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("value", [f"{SECRET}\nx", f"{SECRET} x", f"{SECRET}ä", f"{SECRET}\udcff"])
@pytest.mark.parametrize("name", ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"])
def test_a_token_that_is_none(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError, match=f"^{name} contains a space") as caught:
        check_connection()
    assert SECRET not in str(caught.value)


def test_white_space_around_a_token_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", " hf_right\n")
    check_connection()


@pytest.mark.parametrize("content", [b"hf_\xff", "hf_ä".encode(), None])
def test_a_token_file_that_is_none(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "token-file"
    path.mkdir() if content is None else path.write_bytes(content)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(path))
    with pytest.raises(WeightsError, match="token-file"):
        check_connection()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("ALL_PROXY", f"socks5://user:{SECRET}@host:1080", "package socksio is missing"),
        ("all_proxy", f"socks5h://user:{SECRET}@host:1080", "package socksio is missing"),
        ("HTTPS_PROXY", f"socks4://user:{SECRET}@host", "of an unknown kind"),
        ("HTTP_PROXY", f"ftp://{SECRET}", "of an unknown kind"),
        ("HTTP_PROXY", f"http://[{SECRET}", "has an invalid host or port"),
        ("HTTP_PROXY", f"host:{SECRET}", "has an invalid host or port"),
    ],
)
def test_a_proxy_that_cannot_be_used(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    monkeypatch.setattr("starvsr.zoo.environment.importlib.util.find_spec", lambda _: None)
    monkeypatch.setenv(name, value)
    with pytest.raises(WeightsError, match=f"^{name} .*{words}") as caught:
        check_connection()
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_certificates_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", "/not/there")
    with pytest.raises(WeightsError, match=r"correct or unset SSL_CERT_FILE$"):
        check_connection()


def test_a_header_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_USER_AGENT_ORIGIN", "ä")
    # The library reads it once.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_USER_AGENT_ORIGIN", "ä")
    with pytest.raises(WeightsError, match=r"unset or correct HF_HUB_USER_AGENT_ORIGIN$"):
        check_connection()


@pytest.mark.parametrize("value", ["", "abc", "1.5", "-1", "9" * 5000])
def test_seconds_that_are_none(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HF_HUB_ETAG_TIMEOUT", value)
    with pytest.raises(WeightsError, match=r"^HF_HUB_ETAG_TIMEOUT is not a whole number"):
        check_hub_variables()


def test_a_home_that_is_nobodys() -> None:
    assert expanded("~", "X") == Path.home()
    with pytest.raises(WeightsError, match=r"^HF_HOME is in the home of a user who does not exist"):
        expanded("~nobody-of-that-name/x", "HF_HOME")


def test_no_proxies_are_said_where_none_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.proxies_said() == ""
    monkeypatch.setenv("https_proxy", f"http://{SECRET}@host")
    assert environment.proxies_said() == ", asked with https_proxy set"
    assert "https_proxy" in os.environ
