"""Files on the Hugging Face hub: their metadata, and downloading them in as many attempts as needed.

`huggingface_hub` provides the endpoint's addresses, the token and the connection. The transfer itself is ours, since
the library's starts over after every interruption. Importing this raises WeightsError for invalid hub variables.
"""

from __future__ import annotations

import errno
import logging
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import RawIOBase
from pathlib import Path
from threading import Event
from typing import Any, NoReturn
from urllib.parse import quote

from starvsr.errors import WeightsError
from starvsr.media.removal import Right, cut_file, remove_file
from starvsr.zoo.environment import (
    check_headers,
    check_hub_variables,
    check_proxies,
    connection_problem,
    hub_endpoint,
    proxies_said,
)
from starvsr.zoo.parallel import StoppedError
from starvsr.zoo.places import check_is_own, is_commit, is_inner_path, is_repository

# The library reads them when it is imported; its own errors do not say what to change.
check_hub_variables()

from huggingface_hub import constants, get_hf_file_metadata  # noqa: E402
from huggingface_hub.errors import (  # noqa: E402
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The base of what the hub's HTTP client raises, whichever client that is.
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]  # noqa: E402
from huggingface_hub.utils import (  # type: ignore[attr-defined]  # noqa: E402
    build_hf_headers,
    get_session,
    hf_raise_for_status,
)

RETRY_WAITS_S = (1.0, 2.0, 4.0, 8.0)
"""How long to wait before each further attempt; any byte that arrives restarts the list."""

_LONGEST_WAIT_S = 60.0
_TIMEOUT_S = 30.0
_PASSING_STATUSES = (408, 429, 500, 502, 503, 504)
_BEYOND_ITS_END = 416
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)

logger = logging.getLogger(__name__)


class HubUnreachableError(WeightsError):
    """Nothing answers at the hub's address, or the user forbade requests."""

    missing: tuple[str, ...] = ()
    """The files that are not on this machine either, if that is known."""


class NotOnHubError(WeightsError):
    """The repository exists, but has no such file or revision."""


@dataclass(frozen=True)
class RemoteFile:
    """One version of one file on the hub."""

    repository: str
    path: str
    url: str
    """Of this exact version."""
    commit: str
    size_bytes: int
    etag: str

    @property
    def sha256(self) -> str:
        """The hash that the hub states; empty for files that it does not store by hash."""
        return self.etag if re.fullmatch("[0-9a-f]{64}", self.etag) else ""

    @property
    def git_sha1(self) -> str:
        """git's hash of the contents; empty for files that the hub does not store in git."""
        return self.etag if re.fullmatch("[0-9a-f]{40}", self.etag) else ""


def endpoint() -> str:
    """The hub's address for messages. Raises WeightsError if `HF_ENDPOINT` is invalid."""
    return hub_endpoint().shown


def check_connection() -> None:
    """Raise WeightsError if variables or the token file prevent any request; sends none."""
    check_proxies()
    _headers()
    _session()


def _headers() -> dict[str, str]:
    try:
        headers = build_hf_headers(library_name="starvsr")
    # Anything that prevents reading a token; the message is not shown, since it may contain a part of it.
    except Exception as error:
        raise WeightsError(
            f"the token of the hub cannot be read ({type(error).__name__}): give HF_TOKEN, or have {_token_file()} "
            "created again by `hf auth login`"
        ) from None
    check_headers(headers, _token_file())
    headers["Accept-Encoding"] = "identity"
    user = hub_endpoint().authorization
    return {**headers, "authorization": user} if user else headers


def _token_file() -> Path:
    return Path(constants.HF_TOKEN_PATH)


def _session() -> Any:
    try:
        return get_session()
    # Each kind of proxy and certificate fails in its own way, and some messages contain passwords.
    except Exception:
        raise WeightsError(connection_problem()) from None


def look_up(repository: str, path: str, revision: str, *, stop: Event | None = None) -> RemoteFile:
    """The hub's current metadata for this name, without fetching the file.

    Raises NotOnHubError, HubUnreachableError, and WeightsError for any other failure, including an implausible
    answer; StoppedError after `stop` is set, also while waiting.
    """
    if not is_repository(repository) or not is_inner_path(path) or not is_inner_path(revision):
        raise WeightsError(f"{repository}/{path}@{revision} is not a valid name of a file on a hub")
    stop = stop or Event()
    waits = list(RETRY_WAITS_S)
    while True:
        _raise_if_set(stop)
        try:
            return _look_up_once(repository, path, revision)
        except (ClientError, OSError) as error:
            # Without a network, long retries are pointless.
            if not isinstance(error, HfHubHTTPError):
                waits = waits[:1] if len(waits) == len(RETRY_WAITS_S) else []
            if not waits or not _may_pass(error):
                raise _explained(error, repository, path) from error
            stop.wait(_wait_s(error, waits.pop(0)))


def _raise_if_set(stop: Event) -> None:
    if stop.is_set():
        raise StoppedError


def _look_up_once(repository: str, path: str, revision: str) -> RemoteFile:
    base = hub_endpoint().url

    def url(version: str) -> str:
        return f"{base}/{repository}/resolve/{quote(version, safe='')}/{quote(path)}"

    headers = _headers()
    _session()
    try:
        found = get_hf_file_metadata(
            url(revision), token=False, timeout=_TIMEOUT_S, endpoint=base, headers=headers
        )
    except (ClientError, OSError):
        raise
    # The library parses answers as if only its own hub sent them.
    except Exception as error:
        raise _odd_answer(f"{repository}/{path}: {type(error).__name__}") from error
    commit, size = found.commit_hash, found.size
    if not commit or not is_commit(commit) or not found.etag or size is None or size < 0:
        raise _odd_answer(f"it states no plausible commit, tag or size of {repository}/{path}")
    return RemoteFile(repository, path, url(commit), commit, size, found.etag)


def _odd_answer(why: str) -> WeightsError:
    return WeightsError(
        f"{endpoint()} does not answer as a Hugging Face hub does: {why}; check HF_ENDPOINT"
    )


def download(
    file: RemoteFile, target: Path, *, on_bytes: Callable[[int], None], stop: Event
) -> None:
    """Fetch a file to `target`, resuming a partial one; on return `target` has the stated size.

    target: in a folder of ours; a link there is refused. on_bytes: called with every number of bytes written
    (negative: dropped again). Raises WeightsError, keeping the partial file for the next attempt; StoppedError after
    `stop` is set, as soon as the connection responds, and nothing is written from then on.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    waits = list(RETRY_WAITS_S)
    while True:
        _raise_if_set(stop)
        check_is_own(target)
        before = size_of(target)
        try:
            _go_on(file, target, on_bytes, stop)
            return
        except (ClientError, OSError) as error:
            if size_of(target) > before:
                waits = list(RETRY_WAITS_S)
            if not waits or not _may_pass(error):
                raise _explained(error, file.repository, file.path, target) from error
            logger.debug("%s: %s; resuming", file.path, error)
            stop.wait(_wait_s(error, waits.pop(0)))


def _go_on(file: RemoteFile, target: Path, on_bytes: Callable[[int], None], stop: Event) -> None:
    have = size_of(target)
    if have == file.size_bytes:
        return
    headers = _headers()
    if have:
        headers["Range"] = f"bytes={have}-"
    with _session().stream("GET", file.url, headers=headers, timeout=_TIMEOUT_S) as answer:
        if answer.status_code == _BEYOND_ITS_END:
            _refuse_size(file, target, on_bytes)
        hf_raise_for_status(answer)
        if have and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            cut_file(target, 0, Right.FETCHED)
            on_bytes(-have)
            have = 0
        # Unbuffered, since a buffer could be written after the request to stop.
        with open(_to_append(target), "ab", buffering=0) as partial:
            # Without a chunk size, which would hold back the last bytes before a cut.
            for chunk in answer.iter_bytes():
                _raise_if_set(stop)
                have += len(chunk)
                if have > file.size_bytes:
                    _refuse_size(file, target, on_bytes, more=True)
                _write(partial, chunk)
                on_bytes(len(chunk))
            os.fsync(partial.fileno())
    if size_of(target) != file.size_bytes:
        _refuse_size(file, target, on_bytes)


def _to_append(target: Path) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.open(target, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0), 0o666)


def _write(file: RawIOBase, chunk: bytes) -> None:
    rest = memoryview(chunk)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _refuse_size(
    file: RemoteFile, target: Path, on_bytes: Callable[[int], None], *, more: bool = False
) -> NoReturn:
    size = size_of(target)
    remove_file(target, Right.FETCHED)
    on_bytes(-size)
    arrived = "more" if more else size
    raise WeightsError(
        f"{file.repository}/{file.path} should have {file.size_bytes} bytes according to the hub, but {arrived} arrived"
        "; what arrived was deleted, try again later or give --source"
    )


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if it does not exist."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _PASSING_STATUSES
    return isinstance(error, ClientError)


def _wait_s(error: Exception, least: float) -> float:
    wanted = ""
    if isinstance(error, HfHubHTTPError):
        wanted = error.response.headers.get("Retry-After", "")
    return min(max(least, float(wanted) if wanted.isdecimal() else 0.0), _LONGEST_WAIT_S)


def _explained(
    error: Exception, repository: str, path: str, target: Path | None = None
) -> WeightsError:
    """What a user can do about an error of the hub's client."""
    what = f"{repository}/{path}"
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnreachableError(f"{what} is not fetched, since HF_HUB_OFFLINE forbids it")
    if isinstance(error, HfHubHTTPError):
        return _explained_status(error, repository, what)
    if isinstance(error, ClientError):
        why = str(error) or type(error).__name__
        return HubUnreachableError(
            f"{what} cannot be fetched: no answer from {endpoint()} ({why}){proxies_said()}"
        )
    if isinstance(error, OSError) and target is not None:
        return write_error(error, target)
    return WeightsError(f"{what} cannot be fetched: {error}")


def _explained_status(error: HfHubHTTPError, repository: str, what: str) -> WeightsError:
    status = error.response.status_code
    if isinstance(error, (EntryNotFoundError, RevisionNotFoundError)):
        return NotOnHubError(
            f"{what} does not exist on {endpoint()}: it was moved or deleted; give --source with a folder or a mirror "
            "that has it"
        )
    if isinstance(error, RepositoryNotFoundError) and status == 404:
        return WeightsError(
            f"{what} cannot be fetched: {endpoint()} has no repository {repository}; give --source with a folder or a "
            "mirror that has the file"
        )
    if isinstance(error, GatedRepoError) or status in (401, 403):
        return WeightsError(f"{what} cannot be fetched: {_access_steps(repository, status)}")
    if status in _PASSING_STATUSES:
        why = "too many requests" if status == 429 else "unavailable"
        return WeightsError(
            f"{what} cannot be fetched: {endpoint()} keeps answering {status} ({why}); run the same command later, "
            "it resumes from what is here"
        )
    return WeightsError(f"{what} cannot be fetched: {endpoint()} answers {status}")


def _access_steps(repository: str, status: int) -> str:
    page = f"{endpoint()}/{repository}"
    if "authorization" not in _headers():
        problem = f"{endpoint()} answers {status} without a token"
    else:
        problem = f"{endpoint()} answers {status} to the given token"
    return (
        f"{problem}; open {page} signed in, accept its licence if it asks for that, create a token with read access at "
        f"{endpoint()}/settings/tokens, and give it as HF_TOKEN or by `hf auth login`"
    )


def write_error(error: OSError, target: Path) -> WeightsError:
    """The error for a file of the weights folder that cannot be written."""
    if error.errno in _NO_SPACE:
        return WeightsError(
            f"{target} cannot be written: no space left in {target.parent}; free some or give another --dir, the same "
            "command resumes from what is there"
        )
    return WeightsError(f"{target} cannot be written: {error.strerror or error}")
