"""Names from outside, and our folders inside the weights folder.

A server's name becomes part of a path only if its form leads nowhere else, and nothing is written or
removed through a link: what a link names is the user's.
"""

from __future__ import annotations

import hashlib
import re
import stat
from contextlib import suppress
from pathlib import Path

from starvsr.errors import WeightsError
from starvsr.media.removal import Right, remove_folder

DOWNLOADS = ".downloads"
MADE = ".made"
"""Inside `DOWNLOADS`: where components are written."""
ORIGINALS = "originals"
LOCKS = ".locks"
CONVERTED = "converted"

_PART = "[A-Za-z0-9_-][A-Za-z0-9_.-]{0,95}"
VERSION_FORM = "[0-9a-f]{16}"
"""Of the folder of one version of a file under `DOWNLOADS`."""


def is_repository(name: str) -> bool:
    """Whether it has the form of `OWNER/NAME`."""
    return re.fullmatch(f"{_PART}/{_PART}", name) is not None


def is_inner_path(path: str) -> bool:
    """Whether it has the form of a file's path inside a repository, which leads nowhere else."""
    return re.fullmatch(f"{_PART}(/{_PART}){{0,9}}", path) is not None


def is_commit(name: str) -> bool:
    """Whether it has the form of a commit's hash."""
    return re.fullmatch("[0-9a-f]{40}([0-9a-f]{24})?", name) is not None


def is_component_name(name: str) -> bool:
    """Whether this is a valid component name: its file has that name."""
    return re.fullmatch(_PART, name) is not None


def version_folder(etag: str) -> str:
    """The folder name for one version of a file, whatever a server calls it."""
    if re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", etag):
        return etag[:16]
    return hashlib.sha256(etag.encode(errors="surrogateescape")).hexdigest()[:16]


def own_folder(folder: Path, *steps: str) -> Path:
    """A folder inside the weights folder, created if it does not exist.

    steps: paths relative to it, as strings. Raises WeightsError if a link or a file is in the way, OSError if it
    cannot be created.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = folder
    for part in Path(*steps).parts:
        place = place / part
        with suppress(FileExistsError):
            place.mkdir()
        if place.is_symlink() or not place.is_dir():
            raise WeightsError(
                f"{place} is a link or not a folder, so nothing is written there: rename it, or give another --dir"
            )
    return place


def remove_empty(place: Path, folder: Path) -> None:
    """Remove a folder and its parents up to the weights folder, as far as they are empty."""
    while place != folder and (remove_folder(place, Right.EMPTY) or not place.exists()):
        place = place.parent


def has_no_link(path: Path, folder: Path) -> bool:
    """Whether neither a path inside the weights folder, existing or not, nor any step to it is a link."""
    steps = [path, *path.parents][: len(path.relative_to(folder).parts)]
    return not any(step.is_symlink() for step in steps)


def check_is_own(path: Path) -> None:
    """Raise WeightsError if one of our names exists and is not a regular file with that one name."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise WeightsError(
            f"{path} is a link or not a regular file, so nothing is written to it: remove it, and run the same command "
            "again"
        )
