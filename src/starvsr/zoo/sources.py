"""Published files: where each one is available.

A file may be where the user says (`given`), where other programs keep it (`ondisk`), in `.downloads` of the weights
folder, or on the hub. Only files in `.downloads` are ours to delete.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from starvsr.errors import UsageError, WeightsError
from starvsr.specs import SourceFile
from starvsr.zoo.amounts import format_bytes
from starvsr.zoo.given import given_files
from starvsr.zoo.hub import (
    HubUnreachableError,
    NotOnHubError,
    RemoteFile,
    check_connection,
    look_up,
    size_of,
)
from starvsr.zoo.ondisk import cached_copies, comfyui_copies, hash_in_cache
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
    """Where else it is, if that copy is a different file."""
    alternative: SourceFile | None = None
    """The published file that the copy is of, if that is another one with the same tensors."""
    stands_in: bool = False
    """Whether the user gave it for its tensors, so that it may be another file with the same ones."""

    @property
    def published(self) -> SourceFile:
        """The published file that `path` is a copy of."""
        return self.alternative or self.source

    @property
    def stated(self) -> RemoteFile | None:
        """The hub's metadata of the file, if it was queried."""
        if self.remote is not None or self.instead is None or self.alternative is not None:
            return self.remote
        return self.instead.on_hub

    @property
    def on_hub(self) -> RemoteFile | None:
        """The hub's metadata of what is fetched if every copy is a different file."""
        return self.remote if self.instead is None else self.instead.on_hub

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


def locate(
    sources: Sequence[SourceFile],
    folder: Path,
    *,
    origins: Sequence[str] = (),
    offline: bool = False,
) -> list[Located]:
    """Find every file without fetching any.

    folder: the weights folder. origins: values of `--source`: folders and files, which are looked at first, and
    repositories, which are asked before the original ones. offline: send no request. Raises WeightsError if a file is
    unavailable, UsageError for an origin that is none of these, or a file whose model cannot be told.
    """
    places, mirrors = _sorted_out(origins)
    if mirrors and offline:
        raise UsageError(
            f"--source {mirrors[0]} is no file or folder here, and --offline asks no repository: leave one out"
        )
    found = {
        source: Located(
            source,
            given.path,
            size_of(given.path),
            None,
            alternative=given.alternative,
            stands_in=given.stands_in,
        )
        for source, given in given_files(sources, places).items()
    }
    rest = [source for source in sources if source not in found]
    try:
        if rest and offline:
            raise HubUnreachableError("downloads are off (--offline, or `download` of the node)")
        if rest:
            check_connection()
        others = in_parallel(
            lambda source, stop: _on_hub(source, folder, mirrors, stop), rest, threads=CONNECTIONS
        )
    except HubUnreachableError as error:
        others = _on_this_machine(rest, folder, places, str(error))
    found |= {one.source: one for one in others}
    return [found[source] for source in sources]


def _sorted_out(origins: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Folders and files, and repositories. Raises UsageError for an origin that is neither."""
    # Unlike Path's, it accepts names that no file can have.
    places = [origin for origin in origins if os.path.isdir(origin) or os.path.isfile(origin)]  # noqa: PTH112, PTH113
    mirrors = [origin for origin in origins if origin not in places]
    for origin in mirrors:
        if not is_repository(origin):
            raise UsageError(
                f"--source {origin} is neither a folder that exists nor a repository, nor a file: give a folder, a "
                "file, or OWNER/NAME"
            )
    return [Path(place) for place in places], mirrors


def _copies(source: SourceFile, commit: str = "") -> Iterator[Located]:
    """Copies that other programs keep, those of alternatives last."""
    for path in (*cached_copies(source, commit), *comfyui_copies(source)):
        yield Located(source, path, size_of(path), None)
    for other in source.alternatives:
        for path in cached_copies(other):
            yield Located(source, path, size_of(path), None, alternative=other)


def _on_this_machine(
    sources: Sequence[SourceFile], folder: Path, places: Sequence[Path], why_not_fetched: str
) -> list[Located]:
    """Without the hub: copies that other programs keep. Raises HubUnreachableError that names what is missing."""
    found = {source: _chained(_without_hub(source)) for source in sources}
    missing = [f"{s.repository}/{s.path}" for s, copy in found.items() if copy is None]
    if missing:
        where = "".join(f", nor in {place}" for place in places)
        error = HubUnreachableError(
            why_not_fetched,
            f"missing are {', '.join(missing)}: not where other programs keep them{where}",
            "fetch them where there is a network, copy them into one folder under these paths, and give it as `starvsr "
            f"download-weights --source`, or copy the .safetensors files of a weights folder that has them to {folder}",
        )
        error.missing = tuple(missing)
        raise error
    return [copy for copy in found.values() if copy is not None]


def _without_hub(source: SourceFile) -> Iterator[Located]:
    """Copies with a known hash, or in Hugging Face's cache, whose files come from the hub."""
    in_comfyui = comfyui_copies(source)
    return (copy for copy in _copies(source) if source.sha256 or copy.path not in in_comfyui)


def _chained(copies: Iterable[Located], last: Located | None = None) -> Located | None:
    """The first of several copies, which leads to the next ones and to the last."""
    for copy in reversed(list(copies)):
        last = replace(copy, instead=last)
    return last


def _on_hub(source: SourceFile, folder: Path, mirrors: Sequence[str], stop: Event) -> Located:
    try:
        remote = _asked(source, mirrors, stop)
    except WeightsError as error:
        # Such as a repository that asks for an account, and its file that was fetched with one.
        copy = None if isinstance(error, HubUnreachableError) else _chained(_without_hub(source))
        if copy is None:
            raise
        return copy
    _check_size(source, remote)
    # By its tag, so that a partial file of another version is never resumed.
    path = folder / DOWNLOADS / source.repository / version_folder(remote.etag) / source.path
    fetched = Located(source, path, remote.size_bytes, remote)
    copies: list[Located] = []
    for copy in _copies(source, remote.commit):
        if copy.alternative is not None:
            copies += _vouched(copy, copy.alternative, stop)
        elif copy.size_bytes == remote.size_bytes:
            copies.append(copy)
        else:
            logger.warning(
                "%s has %d bytes, but the hub states %d: it is fetched instead",
                copy.path,
                copy.size_bytes,
                remote.size_bytes,
            )
    return _chained(copies, fetched) or fetched


def _vouched(copy: Located, alternative: SourceFile, stop: Event) -> Iterator[Located]:
    """A copy of an alternative, if its hash is known here or on the hub."""
    if not alternative.sha256 and not hash_in_cache(copy.path):
        try:
            remote = look_up(
                alternative.repository, alternative.path, alternative.revision, stop=stop
            )
        except WeightsError as error:
            logger.warning("%s is not used: its hash is unknown (%s)", copy.path, error)
            return
        if not remote.sha256:
            return
        copy = replace(copy, alternative=replace(alternative, sha256=remote.sha256))
    yield copy


def _check_size(source: SourceFile, remote: RemoteFile) -> None:
    holds_tensors = source.path.endswith((".pt", ".safetensors"))
    most = int(source.size_bytes * _TOLERANCE) or _MOST_BYTES[holds_tensors]
    if remote.size_bytes > most:
        raise WeightsError(
            f"{remote.repository}/{remote.path} has {format_bytes(remote.size_bytes)} according to the hub, and at most"
            f" {format_bytes(most)} are expected: it is another file; give --source with a copy of the right one"
        )


def _asked(source: SourceFile, mirrors: Sequence[str], stop: Event) -> RemoteFile:
    """The hub's metadata of a file: of the first mirror that has it, else of its own repository."""
    for mirror in mirrors:
        for path in (source.path, f"{source.repository}/{source.path}"):
            try:
                return look_up(mirror, path, "main", stop=stop)
            except NotOnHubError:
                continue
    return look_up(source.repository, source.path, source.revision, stop=stop)
