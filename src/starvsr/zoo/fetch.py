"""Downloads missing published files, and checks all of them against their known hashes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from starvsr.errors import WeightsError
from starvsr.media.removal import Right, remove_file
from starvsr.types import Progress, ProgressCallback
from starvsr.zoo.checkpoint import check_intact
from starvsr.zoo.hashes import RECORD_NAME, SourceRecord, file_sha256, git_blob_sha1, source_key
from starvsr.zoo.hub import download
from starvsr.zoo.metadata import is_described
from starvsr.zoo.ondisk import hash_in_cache
from starvsr.zoo.parallel import in_parallel
from starvsr.zoo.places import own_folder
from starvsr.zoo.sources import CONNECTIONS, Located

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A local published file that passed all known checks."""

    file: Located
    record: SourceRecord
    """What to record about it once something was built from it."""
    is_vouched: bool
    """Whether its publisher or the hub states this hash."""
    is_published: bool = True
    """Whether the record is that of a published file, and not of one that the user gave for its tensors."""


class WrongFileError(WeightsError):
    """A file is not the expected one."""

    def __init__(self, fact: str, advice: str) -> None:
        super().__init__(f"{fact}; {advice}")
        self.fact = fact


@dataclass(frozen=True)
class _Known:
    """Earlier records of files, and where they are."""

    folder: Path
    records: Mapping[str, SourceRecord]


def fetch(
    files: Sequence[Located],
    folder: Path,
    records: Mapping[str, SourceRecord],
    progress: ProgressCallback,
) -> dict[str, Fetched]:
    """Download missing files, several at once, and check all of them; returns them by `source_key`.

    folder: the weights folder. records: its record, by `source_key`. Raises WeightsError for the first file that
    cannot be fetched or is not the right one; complete and partial files stay for the next attempt, wrong ones are
    deleted.
    """
    known = _Known(folder, records)
    for file in files:
        if file.stated is not None and file.stated.sha256:
            _compare(file, file.stated.sha256, known, "the hub now", is_vouched=True)
    meter = _Meter(files, progress)
    found = in_parallel(
        lambda file, stop: _bring(file, known, meter, stop),
        files,
        threads=CONNECTIONS,
        tick=meter.report,
    )
    return {source_key(file.source): one for file, one in zip(files, found, strict=True)}


def _bring(file: Located, known: _Known, meter: _Meter, stop: Event) -> Fetched:
    while file.instead is not None:
        try:
            return _checked(file, known, stop)
        except WeightsError as error:
            fact = error.fact if isinstance(error, WrongFileError) else error
            file = file.instead
            what = "it is fetched" if file.remote is not None else f"{file.path} is used"
            logger.warning("%s; %s instead", fact, what)
            if file.remote is not None:
                meter.expect(file)
    if file.remote is not None:
        own_folder(known.folder, str(file.path.parent.relative_to(known.folder)))
        download(file.remote, file.path, on_bytes=meter.add, stop=stop)
    return _checked(file, known, stop)


class _Meter:
    """The bytes of all files together."""

    def __init__(self, files: Sequence[Located], progress: ProgressCallback) -> None:
        self.total = self.done = 0
        self.progress = progress
        self.lock = threading.Lock()
        for file in files:
            if file.remote is not None:
                self.expect(file)

    def expect(self, file: Located) -> None:
        """Count one more file to fetch."""
        with self.lock:
            self.total += file.size_bytes
            self.done += file.size_bytes - file.missing_bytes

    def add(self, count: int) -> None:
        with self.lock:
            self.done += count

    def report(self) -> None:
        if self.total:
            self.progress(Progress("download", self.done, self.total))


def _checked(file: Located, known: _Known, stop: Event) -> Fetched:
    """Hash a local file and compare it with all that is known about it. Raises WeightsError."""
    try:
        sha256 = file_sha256(file.path, stop)
        if file.stands_in and sha256 != file.source.sha256:
            return _other_file(file, sha256, stop)
        is_stated = _compare_with_cache(file, sha256, stop) | _compare_with_hub(file, sha256, stop)
        _compare(file, sha256, known, str(file.path), is_vouched=is_stated)
    except WrongFileError:
        if file.remote is not None:
            remove_file(file.path, Right.FETCHED)
        raise
    except OSError as error:
        raise WeightsError(f"{file.path} cannot be read: {error.strerror or error}") from error
    record = SourceRecord(file.size_bytes, sha256, file.stated.commit if file.stated else "")
    return Fetched(file, record, is_stated or bool(file.published.sha256))


def _other_file(file: Located, sha256: str, stop: Event) -> Fetched:
    """A file that was given for its tensors, and is not the published one. Raises WeightsError if it is damaged."""
    check_intact(file.path, stop)
    if file.source.sha256 and not is_described(file.path):
        logger.warning(
            "%s is not the file that was published as %s: it is used because its tensors have the same names and "
            "shapes",
            file.path,
            source_key(file.source),
        )
    return Fetched(
        file, SourceRecord(file.size_bytes, sha256, ""), is_vouched=False, is_published=False
    )


def _compare_with_cache(file: Located, sha256: str, stop: Event) -> bool:
    """Whether Hugging Face's cache, if the file is in it, states this hash; False if it states none."""
    stated = hash_in_cache(file.path) if file.remote is None else ""
    if not stated:
        return False
    found = sha256 if len(stated) == len(sha256) else git_blob_sha1(file.path, stop)
    if stated != found:
        raise _wrong(file, "the cache states", stated, str(file.path), found, _another_copy(file))
    return True


def _compare_with_hub(file: Located, sha256: str, stop: Event) -> bool:
    """Whether the hub states this hash for the file; False if it states none."""
    if file.stated is None:
        return False
    if file.stated.sha256:
        who, expected, found = "the hub states", file.stated.sha256, sha256
    elif file.stated.git_sha1:
        who, expected = "the hub states git's", file.stated.git_sha1
        found = git_blob_sha1(file.path, stop)
    else:
        return False
    if expected != found:
        raise _wrong(file, who, expected, str(file.path), found, _another_copy(file))
    return True


def _compare(file: Located, sha256: str, known: _Known, holder: str, *, is_vouched: bool) -> None:
    """Raise WrongFileError if a hash is not the published or recorded one.

    is_vouched: the hub states this hash, so fetching again brings the same file.
    """
    advice = _another_copy(file)
    if is_vouched:
        advice = "it was changed there: give --source with a copy of the earlier one"
    if file.published.sha256 not in ("", sha256):
        raise _wrong(file, "it was published with", file.published.sha256, holder, sha256, advice)
    key = source_key(file.published)
    record = known.records.get(key)
    if record is not None and record.sha256 != sha256:
        advice += (
            f', or, to accept this one from now on, delete the entry "{key}" under "sources" in '
            f"{known.folder / RECORD_NAME}"
        )
        raise _wrong(file, "the first use recorded", record.sha256, holder, sha256, advice)


def _another_copy(file: Located) -> str:
    if file.remote is None:
        return (
            "give --source with another copy, or with the file itself if it was saved anew; if another program keeps "
            "this one, move it away first"
        )
    return "it was deleted: run the same command again, or give --source with a copy that has the right one"


def _wrong(
    file: Located, who: str, expected: str, holder: str, found: str, advice: str
) -> WrongFileError:
    name = f"{file.published.repository}/{file.published.path}"
    return WrongFileError(
        f"{name} has the wrong hash: {who} {expected}, and {holder} has {found}", advice
    )
