"""Networks that were given by path in a published layout: converted once, and found again by their content.

A file is converted into `converted` of the weights folder, under its model's name and its hash. `hashes.json` remembers
the hash of each path with its size and time, so that it is not hashed again as long as these stay.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from starvsr.errors import OutputError, WeightsError
from starvsr.media.removal import Right, put_in_place, remove_tree
from starvsr.specs import COMPONENTS
from starvsr.types import Progress, ProgressCallback
from starvsr.zoo.amounts import format_bytes
from starvsr.zoo.apart import published_hashes
from starvsr.zoo.folder import component_file, converted_file, is_file
from starvsr.zoo.hashes import (
    ConvertedRecord,
    file_sha256,
    folder_lock,
    read_hashes,
    record_hashes,
)
from starvsr.zoo.places import CONVERTED, DOWNLOADS, MADE, own_folder, remove_empty

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """A file that must be converted before its model can be loaded."""

    source: Path
    model: str
    folder: Path
    """The weights folder."""

    @property
    def text(self) -> str:
        """What it does, for messages."""
        size = format_bytes(self.source.stat().st_size)
        return f"{self.source} ({size}) is converted once into {self.folder / CONVERTED}, and is left as it is"


def find_converted(conversion: Conversion) -> Path | None:
    """The file that an earlier conversion wrote, or the installed component from the same file; None if there is none.

    Hashes the source if one of its size was converted and its path and time do not say which. Raises WeightsError if it
    cannot be read.
    """
    hashes = read_hashes(conversion.folder)
    stamp = _stamp(conversion.source)
    known = hashes.converted.get(_key(conversion.source))
    if known is not None and (known.size_bytes, known.mtime_ns) == stamp:
        return _of_hash(conversion, known.sha256)
    sizes = {record.size_bytes for record in hashes.converted.values()}
    sizes |= {record.size_bytes for record in hashes.sources.values()}
    if stamp[0] not in sizes:
        return None
    sha256 = _hashed(conversion.source)
    found = _of_hash(conversion, sha256)
    if found is not None:
        # The next run need not hash it; where nothing can be written, it does.
        with suppress(OSError, OutputError, WeightsError):
            _remember(conversion, ConvertedRecord(*stamp, sha256))
    return found


def _remember(conversion: Conversion, record: ConvertedRecord) -> None:
    record_hashes(conversion.folder, converted={_key(conversion.source): record})


def _of_hash(conversion: Conversion, sha256: str) -> Path | None:
    from starvsr.zoo.components import read_component_info

    installed = component_file(conversion.model, conversion.folder)
    for path in (converted_file(conversion.model, sha256, conversion.folder), installed):
        try:
            if is_file(path) and read_component_info(path).source_sha256 == sha256:
                return path
        except WeightsError:
            continue
    return None


def convert(conversion: Conversion, progress: ProgressCallback) -> Path:
    """Convert a file unless that was done, and return the result's path.

    Raises WeightsError if the file is damaged, is by its hash another model's published one, or there is no space or
    right to write.
    """
    source, folder = conversion.source, conversion.folder
    try:
        own_folder(folder, CONVERTED)
        with folder_lock(folder, CONVERTED):
            found = find_converted(conversion)
            if found is None:
                progress(Progress("convert", 0, 1, source.name))
                found = _converted(conversion)
                progress(Progress("convert", 1, 1, source.name))
            return found
    except OutputError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise WeightsError(
            f"{source} cannot be converted: {error.strerror or error}; give another --weights-dir"
        ) from error


def _converted(conversion: Conversion) -> Path:
    from starvsr.zoo.checkpoint import check_intact
    from starvsr.zoo.components import make_component

    source = conversion.source
    stamp, sha256 = _stamp(source), _hashed(source)
    published = published_hashes(source).get(sha256, "")
    if published not in ("", conversion.model):
        raise WeightsError(
            f"{source} is the published file of {published} by its hash, and not of {conversion.model}: give "
            f"--model {published}={source}"
        )
    if not published:
        check_intact(source)
    _check_space(conversion)
    logger.warning(conversion.text)
    component = COMPONENTS[conversion.model]
    target = converted_file(conversion.model, sha256, conversion.folder)
    # A killed process may have left it, with gigabytes inside.
    remove_tree(own_folder(conversion.folder, DOWNLOADS, MADE, target.stem), Right.FETCHED)
    made = own_folder(conversion.folder, DOWNLOADS, MADE, target.stem) / target.name
    try:
        make_component(component, {component.sources[0].path: source}, made, source_sha256=sha256)
        if _stamp(source) != stamp:
            raise WeightsError(
                f"{source} was changed while it was converted: run the same command again"
            )
        put_in_place(made, target, Right.FETCHED)
    finally:
        remove_tree(made.parent, Right.FETCHED)
        remove_empty(made.parent, conversion.folder)
    _remember(conversion, ConvertedRecord(*stamp, sha256))
    return target


def _check_space(conversion: Conversion) -> None:
    from starvsr.zoo.planning import free_bytes

    size, free = conversion.source.stat().st_size, free_bytes(conversion.folder)
    if size > free:
        raise WeightsError(
            f"{conversion.folder} has {format_bytes(free)} of free space, and {conversion.source} needs up to "
            f"{format_bytes(size)} there once it is converted: free some or give another --weights-dir"
        )


def _key(path: Path) -> str:
    """A path's name in the record: of one length, and text whatever the path is."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _hashed(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error
