"""The content of training files, found by decoding each once.

So a corrupt file is reported before training begins and not days later. Findings are cached in a file and reused while
size and modification time are the same.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from starvsr.errors import InputError
from starvsr.media import sequence
from starvsr.media.deadline import TooLongError, within_deadline
from starvsr.media.files import content_digest, write_whole
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.types import VideoIndex, VideoInfo

FINDINGS_NAME = "files.json"
"""File of the findings in a run's folder."""

STILL_SUFFIXES = frozenset((*sequence.STILL_SUFFIXES, ".jp2", ".pgm", ".ppm", ".tga"))
"""Of pictures that Pillow reads."""


@dataclass(frozen=True)
class Media:
    """A still or a video that can be decoded."""

    path: Path
    height: int
    width: int
    frames: int
    digest: str
    """Of the file's content."""
    video: tuple[VideoInfo, VideoIndex] | None
    """None for a still."""

    @property
    def shots(self) -> list[tuple[int, int]]:
        """First frame and exclusive end of every shot."""
        cuts = self.video[1].cuts if self.video else ()
        edges = [0, *cuts, self.frames]
        return list(itertools.pairwise(edges))

    @property
    def longest_shot(self) -> int:
        """Frames of it."""
        return max(end - start for start, end in self.shots)


class Scan:
    """Decodes files; caches findings in `cache`, by path, size and modification time."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache
        self.before: dict[str, Any] = _read_cache(cache)
        self.after: dict[str, Any] = {}

    def __call__(self, path: Path) -> Media | str:
        """What a file contains, or why it cannot be used. Raises InputError where reading hangs."""
        stat = within_deadline(path, path.stat)
        identity = [stat.st_size, stat.st_mtime_ns]
        known = self.before.get(str(path))
        entry = known if known and known["identity"] == identity else {"identity": identity}
        found: Media | str
        try:
            if "fault" in entry:
                raise InputError(entry["fault"])
            is_still = path.suffix.lower() in STILL_SUFFIXES
            found = _still(path, entry) if is_still else _video(path, entry)
        except TooLongError:
            # Its thread continues during training, and the file may be readable next time.
            raise
        except InputError as error:
            found = str(error).removeprefix(f"{path}").lstrip(": ")
            if _is_passing(error):
                return found
            entry["fault"] = found
        self.after[str(path)] = entry
        return found

    def save(self) -> None:
        """Store the findings. Raises OutputError."""
        if self.cache is not None and self.after != self.before:
            write_whole(self.cache, json.dumps(self.after).encode())


def _is_passing(error: InputError) -> bool:
    """Whether the system refused to read, which may change while the file does not."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno is not None


def _read_cache(cache: Path | None) -> dict[str, Any]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
    except (OSError, ValueError):
        # Everything is decoded again then.
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        path: each for path, each in found.items() if isinstance(each, dict) and "identity" in each
    }


def _still(path: Path, entry: dict[str, Any]) -> Media:
    if "size" not in entry:
        with open_still(path) as picture:
            entry["size"] = [picture.height, picture.width]
    height, width = entry["size"]
    return Media(path, height, width, 1, _digest(path, entry), None)


def _digest(path: Path, entry: dict[str, Any]) -> str:
    if "digest" not in entry:
        entry["digest"] = content_digest(path)
    digest: str = entry["digest"]
    return digest


def open_still(path: Path) -> Image.Image:
    """An image upright, as RGB, fully decoded. Raises InputError if it cannot be decoded."""
    try:
        return within_deadline(path, lambda: _decoded(path))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: cannot be decoded ({error})") from error


def _decoded(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return _in_eight_bits(ImageOps.exif_transpose(picture)).convert("RGB")


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """16-bit grey, which Pillow would clip to white. Raises ValueError."""
    if picture.mode == "F":
        raise ValueError("its floating-point samples have no known range")
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _video(path: Path, entry: dict[str, Any]) -> Media:
    info = probe(path)
    known = {field.name for field in dataclasses.fields(VideoIndex)}
    # Another version may have stored less.
    if set(entry.get("index", ())) != known:
        # Training needs no sound.
        index = dataclasses.replace(build_index(info), shifts=())
        entry["index"] = dataclasses.asdict(index)
    fields: dict[str, Any] = {
        key: value if isinstance(value, int) else tuple(value)
        for key, value in entry["index"].items()
    }
    index = VideoIndex(**fields)
    if index.lost_frames:
        raise InputError(f"{path}: lost frames: {index.lost_frames}")
    if index.damaged_frames:
        raise InputError(f"{path}: damaged frames: {index.damaged_frames}")
    return Media(path, info.height, info.width, index.frames, _digest(path, entry), (info, index))
