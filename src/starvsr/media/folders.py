"""Folders of videos: their contents, and new folders for results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starvsr.errors import InputError
from starvsr.media.files import written_errors
from starvsr.media.removal import Right, remove_folder

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts", ".mpg", ".mpeg"),
    *(".wmv", ".flv", ".ogv", ".3gp", ".mxf", ".y4m", ".gif", ".h264", ".264", ".hevc", ".265"),
)
"""Extensions of files that count as videos."""


def videos_in(folder: Path) -> list[Path]:
    """The videos of a folder in name order, without hidden ones and subfolders.

    Raises InputError if there are none, or the folder cannot be read.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error
    videos = [
        path
        for path in found
        if path.suffix.lower() in VIDEO_SUFFIXES
        and not path.name.startswith(".")
        and path.is_file()
    ]
    if not videos:
        raise InputError(
            f"{folder} contains no video: its files must end in one of {' '.join(VIDEO_SUFFIXES)}"
        )
    return videos


@contextmanager
def new_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Create the missing folders, and on exit remove those created here that stayed empty.

    Raises OutputError if one cannot be created.
    """
    made: list[Path] = []
    try:
        for folder in dict.fromkeys(folders):
            with written_errors(folder):
                if not folder.is_dir():
                    # Another process may create it too.
                    folder.mkdir(exist_ok=True)
                    made.append(folder)
        yield
    finally:
        for folder in reversed(made):
            remove_folder(folder, Right.EMPTY)
