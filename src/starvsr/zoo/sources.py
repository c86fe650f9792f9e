"""Published files: where each one is available.

A file may be in a folder that the user filled, in Hugging Face's own cache, in `.downloads` of the weights
folder, or on the hub. Only files in `.downloads` are ours to delete.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from starvsr.errors import UsageError, WeightsError
from starvsr.specs import SourceFile
from starvsr.zoo.amounts import format_bytes
from starvsr.zoo.hub import (
    HubUnreachableError,
    NotOnHubError,
    RemoteFile,
    cached_file,
    check_connection,
    look_up,
    size_of,
)
from starvsr.zoo.parallel import in_parallel
from starvsr.zoo.places import DOWNLOADS, is_repository, version_folder

CONNECTIONS = 4
_MOST_BYTES = {True: 100_000_000_000, False: 64_000_000}
"""Of a published file of unknown size: one of tensors, and any other."""
_TOLERANCE = 1.02
"""Sizes are known to three digits."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Located:
    """One published file and its location."""

    source: SourceFile
    path: Path
    """Where the file is, or will be once it is fetched."""
    size_bytes: int
    remote: RemoteFile | None
    """None if `path` is a copy that is not ours."""
    instead: Located | None = None
    """Where to fetch it if that copy is a different file."""

    @property
    def stated(self) -> RemoteFile | None:
        """The hub's metadata of the file, if it was queried."""
        return self.instead.remote if self.instead is not None else self.remote

    @property
    def missing_bytes(self) -> int:
        """What must still be fetched."""
        if self.remote is None:
            return 0
        return max(0, self.size_bytes - size_of(self.path))

    @property
    def place(self) -> str:
        """For messages: where it comes from."""
        if self.remote is None:
            return str(self.path)
        return f"{self.remote.repository}/{self.remote.path}"


def locate(sources: Sequence[SourceFile], folder: Path, *, origin: str | None) -> list[Located]:
    """Find every file without fetching any.

    folder: the weights folder. origin: `--source`, a folder or a repository; None is where each was published.
    Raises WeightsError if one is unavailable, UsageError for an origin that is neither.
    """
    # Unlike Path's, it accepts names that no file can have.
    if origin is not None and os.path.isdir(origin):  # noqa: PTH112
        return _in_folder(sources, Path(origin))
    if origin is not None and not is_repository(origin):
        raise UsageError(
            f"--source {origin} is neither a folder that exists nor a repository: give a folder, or OWNER/NAME"
        )
    if sources:
        check_connection()
    try:
        return in_parallel(
            lambda source, stop: _on_hub(source, folder, origin, stop), sources, threads=CONNECTIONS
        )
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
            "for under that path, without the owner, without the repository, and by its bare name if no other "
            "file has it"
        )
    return found


def _in_cache(sources: Sequence[SourceFile], folder: Path, why_not_fetched: str) -> list[Located]:
    found, missing = [], []
    for source in sources:
        path = cached_file(source.repository, source.path, source.revision)
        if path is None:
            missing.append(f"{source.repository}/{source.path}")
        else:
            found.append(Located(source, path, size_of(path), None))
    if missing:
        raise HubUnreachableError(
            why_not_fetched,
            f"missing are {', '.join(missing)}",
            "fetch them where there is a network, copy them into one folder under these paths, and give it as `starvsr "
            f"download-weights --source`, or copy the .safetensors files of a weights folder that has them to {folder}",
        )
    return found


def _on_hub(source: SourceFile, folder: Path, mirror: str | None, stop: Event) -> Located:
    if mirror is None:
        remote = look_up(source.repository, source.path, source.revision, stop=stop)
        cached = cached_file(source.repository, source.path, remote.commit)
    else:
        remote, cached = _on_mirror(source, mirror, stop), None
    _check_size(source, remote)
    # By its tag, so that a partial file of another version is never resumed.
    path = folder / DOWNLOADS / source.repository / version_folder(remote.etag) / source.path
    fetched = Located(source, path, remote.size_bytes, remote)
    if cached is None:
        return fetched
    if size_of(cached) != remote.size_bytes:
        logger.warning(
            "%s has %d bytes, but the hub states %d: it is fetched instead",
            cached,
            size_of(cached),
            remote.size_bytes,
        )
        return fetched
    return Located(source, cached, remote.size_bytes, None, instead=fetched)


def _check_size(source: SourceFile, remote: RemoteFile) -> None:
    holds_tensors = source.path.endswith((".pt", ".safetensors"))
    most = int(source.size_bytes * _TOLERANCE) or _MOST_BYTES[holds_tensors]
    if remote.size_bytes > most:
        raise WeightsError(
            f"{remote.repository}/{remote.path} has {format_bytes(remote.size_bytes)} according to the hub, and at most"
            f" {format_bytes(most)} are expected: it is another file; give --source with a copy of the right one"
        )


def _on_mirror(source: SourceFile, mirror: str, stop: Event) -> RemoteFile:
    try:
        return look_up(mirror, source.path, "main", stop=stop)
    except NotOnHubError:
        return look_up(mirror, f"{source.repository}/{source.path}", "main", stop=stop)
