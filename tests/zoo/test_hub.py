"""Looking files up on a hub and fetching them, against one that fails in every way we know of."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from starvsr.errors import WeightsError
from starvsr.zoo import hub as hub_module
from starvsr.zoo.hub import (
    HubUnreachableError,
    NotOnHubError,
    download,
    look_up,
)
from starvsr.zoo.parallel import StoppedError
from tests.zoo.hub_server import COMMIT, Fault, HubServer, hub_server, use_hub

REPOSITORY, LARGE, SMALL = "owner/name", "sub/net.pt", "config.json"
CONTENT = bytes(range(256)) * 5000
"""More than one chunk."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one large and one small file."""
    published = tmp_path / "published"
    for path, content in ((LARGE, CONTENT), (SMALL, b'{"a": 1}')):
        target = published / REPOSITORY / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    with hub_server(published) as server:
        use_hub(monkeypatch, server.url, tmp_path / "home")
        yield server


def fetched(path: str, target: Path) -> int:
    """Look up and download; gives the sum of what was reported."""
    counts: list[int] = []
    download(look_up(REPOSITORY, path, "main"), target, on_bytes=counts.append, stop=Event())
    return sum(counts)


def test_look_up_tells_size_version_and_hash(hub: HubServer) -> None:
    file = look_up(REPOSITORY, LARGE, "main")
    assert (file.size_bytes, file.commit) == (len(CONTENT), COMMIT)
    assert file.sha256 == hub.etag(LARGE, CONTENT)
    assert not file.git_sha1
    small = look_up(REPOSITORY, SMALL, "main")
    assert (small.sha256, small.size_bytes) == ("", 8)
    assert len(small.git_sha1) == 40
    assert not any(asked.method == "GET" for asked in hub.asked)


@pytest.mark.parametrize(("path", "content"), [(LARGE, CONTENT), (SMALL, b'{"a": 1}')])
def test_download_brings_the_whole_file(
    hub: HubServer, tmp_path: Path, path: str, content: bytes
) -> None:
    target = tmp_path / "here" / "file"
    assert fetched(path, target) == len(content)
    assert target.read_bytes() == content
    assert hub.bodies(path) == [""]


def test_cut_connections_are_continued(hub: HubServer, tmp_path: Path) -> None:
    hub.fail("GET", LARGE, Fault(cut_after=300_000), Fault(cut_after=70_000))
    target = tmp_path / "file"
    assert fetched(LARGE, target) == len(CONTENT)
    assert target.read_bytes() == CONTENT
    assert hub.bodies(LARGE) == ["", "bytes=300000-", "bytes=370000-"]


def test_arriving_bytes_renew_the_patience(hub: HubServer, tmp_path: Path) -> None:
    cuts = 3 * len(hub_module.RETRY_WAITS_S)
    hub.fail("GET", LARGE, *[Fault(cut_after=1000)] * cuts)
    assert fetched(LARGE, tmp_path / "file") == len(CONTENT)
    assert len(hub.bodies(LARGE)) == cuts + 1


def test_next_run_asks_only_for_the_rest(hub: HubServer, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(CONTENT[:1234])
    assert fetched(LARGE, target) == len(CONTENT) - 1234
    assert target.read_bytes() == CONTENT
    assert hub.bodies(LARGE) == ["bytes=1234-"]


def test_complete_file_is_not_asked_for(hub: HubServer, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(CONTENT)
    assert fetched(LARGE, target) == 0
    assert hub.bodies(LARGE) == []


def test_server_without_ranges_makes_it_begin_anew(hub: HubServer, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(CONTENT[:1234])
    hub.fail("GET", LARGE, Fault(ignore_range=True))
    assert fetched(LARGE, target) == len(CONTENT) - 1234
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [0, 5000])
@pytest.mark.parametrize("length", [3000, len(CONTENT) + 1])
def test_file_of_another_size_is_refused_and_deleted(
    hub: HubServer, tmp_path: Path, length: int, begun: int
) -> None:
    target = tmp_path / "file"
    target.write_bytes(CONTENT[:begun])
    hub.fail("GET", LARGE, Fault(body=(CONTENT + b"x")[:length]))
    with pytest.raises(WeightsError, match=f"should have {len(CONTENT)} bytes"):
        fetched(LARGE, target)
    assert not target.exists()


def test_more_bytes_than_stated_are_not_written(hub: HubServer, tmp_path: Path) -> None:
    target, counts = tmp_path / "file", [0]
    hub.fail("GET", LARGE, Fault(body=CONTENT * 10))
    file = look_up(REPOSITORY, LARGE, "main")
    largest = 0

    def count(number: int) -> None:
        nonlocal largest
        counts.append(number)
        largest = max(largest, sum(counts))

    with pytest.raises(WeightsError, match=f"should have {len(CONTENT)} bytes .* but more arrived"):
        download(file, target, on_bytes=count, stop=Event())
    assert not target.exists()
    assert sum(counts) == 0
    assert 0 < largest <= len(CONTENT)


def test_stop_ends_waiting_for_the_hub(hub: HubServer) -> None:
    stop = Event()
    stop.set()
    hub.fail("HEAD", LARGE, Fault(429, {"Retry-After": "60"}))
    with pytest.raises(StoppedError):
        look_up(REPOSITORY, LARGE, "main", stop=stop)
    assert hub.asked == []


@pytest.mark.parametrize("status", [429, 500, 503])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_passing_trouble_passes(hub: HubServer, tmp_path: Path, method: str, status: int) -> None:
    hub.fail(method, LARGE, Fault(status=status), Fault(status=status))
    assert fetched(LARGE, tmp_path / "file") == len(CONTENT)


def test_server_says_how_long_to_wait(hub: HubServer) -> None:
    waits: list[float] = []

    class Clock(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0)
            return False

    hub.fail("HEAD", LARGE, Fault(429, {"Retry-After": "7"}), Fault(429, {"Retry-After": "9999"}))
    look_up(REPOSITORY, LARGE, "main", stop=Clock())
    assert waits == [7, 60]


def test_lasting_trouble_is_an_error_that_keeps_what_is_there(
    hub: HubServer, tmp_path: Path
) -> None:
    target = tmp_path / "file"
    target.write_bytes(CONTENT[:1000])
    hub.fail("GET", LARGE, *[Fault(status=429)] * 99)
    with pytest.raises(WeightsError, match=r"keeps answering 429 .too many requests.; run the"):
        fetched(LARGE, target)
    assert target.read_bytes() == CONTENT[:1000]
    assert len(hub.bodies(LARGE)) == 1 + len(hub_module.RETRY_WAITS_S)


@pytest.mark.parametrize("status", [401, 403])
def test_gated_repository_explains_licence_and_token(hub: HubServer, status: int) -> None:
    hub.gated[REPOSITORY] = status
    with pytest.raises(WeightsError) as caught:
        look_up(REPOSITORY, LARGE, "main")
    message = str(caught.value)
    assert f"answers {status} without a token" in message
    assert f"open {hub.url}/{REPOSITORY}" in message
    assert "accept its licence" in message
    assert "HF_TOKEN" in message
    assert "hf auth login" in message
    assert len(hub.asked) == 1


def test_token_without_access_is_told_apart(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    hub.gated[REPOSITORY] = 403
    with pytest.raises(WeightsError, match="answers 403 to the given token"):
        look_up(REPOSITORY, LARGE, "main")


def test_token_opens_and_stays_on_the_hub(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    hub.gated[REPOSITORY] = 401
    assert fetched(LARGE, tmp_path / "file") == len(CONTENT)
    for asked in hub.asked:
        assert bool(asked.authorization) == (not asked.at_storage)


def test_what_is_not_there_is_said(hub: HubServer) -> None:
    with pytest.raises(NotOnHubError, match=r"owner/name/other.pt does not exist on"):
        look_up(REPOSITORY, "other.pt", "main")
    with pytest.raises(NotOnHubError, match=r"net.pt does not exist on"):
        look_up(REPOSITORY, LARGE, "other-branch")
    with pytest.raises(WeightsError, match="has no repository owner/other; give --source"):
        look_up("owner/other", LARGE, "main")


def test_silence_is_told_apart_and_tried_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Nothing listens on the discard port here.
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    with pytest.raises(HubUnreachableError, match=r"no answer from http://127\.0\.0\.1:9"):
        look_up(REPOSITORY, LARGE, "main")


def test_hubs_own_offline_switch_is_respected(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubUnreachableError, match="HF_HUB_OFFLINE forbids it"):
        look_up(REPOSITORY, LARGE, "main")
    assert hub.asked == []


def test_something_that_is_no_hub_is_said(hub: HubServer) -> None:
    hub.stated[SMALL] = ""
    with pytest.raises(WeightsError, match="does not answer as a Hugging Face hub does"):
        look_up(REPOSITORY, SMALL, "main")


def test_stop_ends_a_download_and_keeps_its_bytes(hub: HubServer, tmp_path: Path) -> None:
    stop, target = Event(), tmp_path / "file"
    file = look_up(REPOSITORY, LARGE, "main")
    with pytest.raises(StoppedError):
        download(file, target, on_bytes=lambda _: stop.set(), stop=stop)
    kept = target.read_bytes()
    assert 0 < len(kept) < len(CONTENT)
    assert kept == CONTENT[: len(kept)]


def test_full_disk_is_said_and_keeps_what_is_there(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "file"
    target.write_bytes(CONTENT[:1000])

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(WeightsError, match=r"no space left in .*give another --dir"):
        fetched(LARGE, target)
    assert target.read_bytes()[:1000] == CONTENT[:1000]
    assert len(hub.bodies(LARGE)) == 1


@pytest.mark.parametrize("size", ["-5", "abc", "9" * 5000, ""])
def test_sizes_that_could_not_be_are_refused(hub: HubServer, size: str) -> None:
    hub.sizes[LARGE] = size
    with pytest.raises(WeightsError, match=r"does not answer as a Hugging Face hub does|bytes"):
        look_up(REPOSITORY, LARGE, "main")


@pytest.mark.parametrize("commit", ["../../../x", "main", "a" * 39, "/etc", "\t"])
def test_a_commit_that_is_none_is_refused(hub: HubServer, commit: str) -> None:
    hub.commit = commit
    with pytest.raises(WeightsError, match="does not answer as a Hugging Face hub does"):
        look_up(REPOSITORY, LARGE, "main")


@pytest.mark.parametrize(
    ("repository", "path", "revision"),
    [
        ("../..", LARGE, "main"),
        ("owner/..", LARGE, "main"),
        (REPOSITORY, "../x", "main"),
        (REPOSITORY, "/etc/passwd", "main"),
        (REPOSITORY, LARGE, "../main"),
        (REPOSITORY, LARGE, "a\nb"),
    ],
)
def test_names_that_lead_elsewhere_are_not_asked_for(
    hub: HubServer, repository: str, path: str, revision: str
) -> None:
    with pytest.raises(WeightsError, match="is not a valid name of a file on a hub"):
        look_up(repository, path, revision)
    assert not hub.asked


@pytest.mark.parametrize("hard", [True, False])
def test_a_partial_download_that_is_a_link_is_not_written_through(
    hub: HubServer, tmp_path: Path, hard: bool
) -> None:
    mine, target = tmp_path / "mine", tmp_path / "here" / "file"
    mine.write_bytes(b"mine")
    target.parent.mkdir()
    target.hardlink_to(mine) if hard else target.symlink_to(mine)
    with pytest.raises(WeightsError, match="is a link or not a regular file"):
        fetched(LARGE, target)
    assert mine.read_bytes() == b"mine"


@pytest.mark.timeout(20)
def test_a_partial_download_that_is_a_pipe_is_not_waited_for(
    hub: HubServer, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(WeightsError, match="is a link or not a regular file"):
        fetched(LARGE, tmp_path / "file")


def test_a_server_that_sends_more_than_it_stated_is_stopped(hub: HubServer, tmp_path: Path) -> None:
    hub.sizes[LARGE] = "1000"
    with pytest.raises(WeightsError, match="1000 bytes according to the hub, but more arrived"):
        fetched(LARGE, tmp_path / "file")
    assert not (tmp_path / "file").exists()
