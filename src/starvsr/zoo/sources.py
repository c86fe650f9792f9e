"""Published files: where each one can be had, fetching those that are not here yet, and checking all of them.

A file may lie in a folder that the user filled by hand, in Hugging Face's own cache, in `.downloads` of the weights
folder, or on the hub. Only what is in `.downloads` is ours to delete.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from starvsr.errors import UsageError, WeightsError
from starvsr.types import Progress, ProgressCallback, SourceFile
from starvsr.zoo.hashes import SourceRecord, file_sha256, git_blob_sha1, source_key
from starvsr.zoo.hub import (
    HubUnreachableError,
    NotOnHubError,
    RemoteFile,
    StoppedError,
    download,
    look_up,
    size_of,
)

DOWNLOADS = ".downloads"
CONNECTIONS = 4

_REPORT_S = 0.2


@dataclass(frozen=True)
class Located:
    """One published file and where it is had."""

    source: SourceFile
    path: Path
    """Where the file is, or will be once it is fetched."""
    size_bytes: int
    remote: RemoteFile | None
    """None where `path` is a copy that is not ours."""

    @property
    def missing_bytes(self) -> int:
        """What is still to be fetched."""
        if self.remote is None:
            return 0
        return max(0, self.size_bytes - size_of(self.path))

    @property
    def place(self) -> str:
        """For people: where it comes from."""
        if self.remote is None:
            return str(self.path)
        return f"{self.remote.repository}/{self.remote.path}"


def locate(
    sources: Sequence[SourceFile], folder: Path, *, origin: str | None, offline: bool
) -> list[Located]:
    """Find every file without fetching any.

    folder: the weights folder. origin: `--source`, a folder or a repository; None is where each was published.
    Raises WeightsError where one is not to be had, UsageError for an origin that is neither.
    """
    if origin is not None and Path(origin).is_dir():
        return _in_folder(sources, Path(origin))
    if origin is not None and not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", origin):
        raise UsageError(
            f"--source {origin} is neither a folder that exists nor a repository: give a folder, or OWNER/NAME"
        )
    if offline:
        return _in_cache(sources, folder, "--offline forbids fetching")
    try:
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(pool.map(lambda source: _on_hub(source, folder, origin), sources))
    except HubUnreachableError as error:
        return _in_cache(sources, folder, str(error))


def _in_folder(sources: Sequence[SourceFile], origin: Path) -> list[Located]:
    names = [Path(source.path).name for source in sources]
    found, missing = [], []
    for source in sources:
        name = Path(source.path).name
        within = [source.path, name] if names.count(name) == 1 else [source.path]
        # A path without folders is a bare name, which must not be another file's.
        if within == [name]:
            within = []
        repository = source.repository.partition("/")[2]
        places = [f"{source.repository}/{source.path}", f"{repository}/{source.path}", *within]
        path = next((origin / place for place in places if (origin / place).is_file()), None)
        if path is None:
            missing.append(f"{source.repository}/{source.path}")
        else:
            found.append(Located(source, path, size_of(path), None))
    if missing:
        raise WeightsError(
            f"--source {origin} lacks {len(missing)} of {len(sources)} files: {', '.join(missing)}; each is looked "
            "for under that path, without the owner, without the repository, and by its bare name where no other "
            "file has it"
        )
    return found


def _cached(source: SourceFile, revision: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(source.repository, source.path, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _in_cache(sources: Sequence[SourceFile], folder: Path, why_not_fetched: str) -> list[Located]:
    found, missing = [], []
    for source in sources:
        path = _cached(source, source.revision)
        if path is None:
            missing.append(f"{source.repository}/{source.path}")
        else:
            found.append(Located(source, path, size_of(path), None))
    if missing:
        raise HubUnreachableError(
            f"{why_not_fetched}; missing are {', '.join(missing)}: fetch them where there is a network, copy them into "
            "one folder under these paths, and give it as `starvsr download-weights --source`, or copy the "
            f".safetensors files of a weights folder that has them to {folder}"
        )
    return found


def _on_hub(source: SourceFile, folder: Path, mirror: str | None) -> Located:
    if mirror is None:
        remote = look_up(source.repository, source.path, source.revision)
        cached = _cached(source, remote.commit)
        if cached is not None:
            return Located(source, cached, size_of(cached), None)
    else:
        remote = _on_mirror(source, mirror)
    # By its tag, so that what is left of another version is never continued.
    path = folder / DOWNLOADS / source.repository / remote.etag[:16] / source.path
    return Located(source, path, remote.size_bytes, remote)


def _on_mirror(source: SourceFile, mirror: str) -> RemoteFile:
    try:
        return look_up(mirror, source.path, "main")
    except NotOnHubError:
        return look_up(mirror, f"{source.repository}/{source.path}", "main")


def fetch(
    files: Sequence[Located],
    known: Mapping[str, SourceRecord],
    progress: ProgressCallback,
) -> dict[str, SourceRecord]:
    """Bring every file here, several at once, and check it; gives what is to be recorded of each, by `source_key`.

    known: what was recorded before. Raises WeightsError for the first file that cannot be had or is not the right
    one; what is complete or begun stays for the next attempt, what is wrong is deleted.
    """
    for file in files:
        if file.remote is not None and file.remote.sha256:
            _compare(file, file.remote.sha256, known, "the hub now")
    meter = _Meter(files, progress)
    stop = threading.Event()

    def bring(file: Located) -> SourceRecord:
        if stop.is_set():
            raise StoppedError
        if file.remote is not None:
            download(file.remote, file.path, on_bytes=meter.add, stop=stop)
        return check(file, known)

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        work = {source_key(file.source): pool.submit(bring, file) for file in files}
        try:
            _watch(list(work.values()), meter)
        finally:
            # Reached on Ctrl-C too; the pool waits for its threads.
            stop.set()
    return {key: future.result() for key, future in work.items()}


def _watch(work: list[Future[SourceRecord]], meter: _Meter) -> None:
    """Report until all is done; raises the first error that is not a consequence of stopping."""
    waiting = set(work)
    while waiting:
        done, waiting = wait(waiting, timeout=_REPORT_S)
        meter.report()
        for future in done:
            error = future.exception()
            if isinstance(error, OSError):
                raise WeightsError(f"a download cannot be read back: {error}") from error
            if error is not None and not isinstance(error, StoppedError):
                raise error


class _Meter:
    """The bytes of all files together."""

    def __init__(self, files: Sequence[Located], progress: ProgressCallback) -> None:
        fetched = [file for file in files if file.remote is not None]
        self.total = sum(file.size_bytes for file in fetched)
        self.done = self.total - sum(file.missing_bytes for file in fetched)
        self.progress = progress
        self.lock = threading.Lock()

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count

    def report(self) -> None:
        if self.total:
            self.progress(Progress("download", self.done, self.total))


def check(file: Located, known: Mapping[str, SourceRecord]) -> SourceRecord:
    """Hash a file that is here and compare it with all that is known of it.

    Raises WeightsError where it is another one; it is deleted if it is ours.
    """
    try:
        sha256 = file_sha256(file.path)
        remote = file.remote
        _compare(file, sha256, known, str(file.path))
        if remote is not None and remote.sha256 not in ("", sha256):
            raise _wrong(file, "the hub states", remote.sha256, str(file.path), sha256)
        if remote is not None and remote.git_sha1:
            name = git_blob_sha1(file.path)
            if name != remote.git_sha1:
                raise _wrong(file, "the hub states git's", remote.git_sha1, str(file.path), name)
    except WeightsError:
        if file.remote is not None:
            file.path.unlink(missing_ok=True)
        raise
    except OSError as error:
        raise WeightsError(f"{file.path} cannot be read: {error.strerror or error}") from error
    return SourceRecord(file.size_bytes, sha256, file.remote.commit if file.remote else "")


def _compare(file: Located, sha256: str, known: Mapping[str, SourceRecord], holder: str) -> None:
    if file.source.sha256 not in ("", sha256):
        raise _wrong(file, "it was published with", file.source.sha256, holder, sha256)
    record = known.get(source_key(file.source))
    if record is not None and record.sha256 != sha256:
        raise _wrong(file, "the first download recorded", record.sha256, holder, sha256)


def _wrong(file: Located, who: str, expected: str, holder: str, found: str) -> WeightsError:
    if file.remote is None:
        advice = "give another copy"
    else:
        advice = (
            "nothing of it was kept: try again, or give --source with a copy that has the right one"
        )
    return WeightsError(
        f"{file.source.repository}/{file.source.path} has the wrong hash: {who} {expected}, and {holder} has {found}; "
        f"{advice}"
    )
