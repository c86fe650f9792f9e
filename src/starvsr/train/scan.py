"""What a file of training data holds, by decoding all of it once.

So a corrupt one is named before training begins and not days later. What was found is kept in a file and used again
while size and time of change are the same.
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
from starvsr.media.deadline import TooLongError, within_deadline
from starvsr.media.files import write_whole
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.types import VideoIndex, VideoInfo

FINDINGS_NAME = "files.json"
"""Where a run's folder keeps what was found."""

STILL_SUFFIXES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))


@dataclass(frozen=True)
class Media:
    """A still or a video that can be decoded."""

    path: Path
    height: int
    width: int
    frames: int
    video: tuple[VideoInfo, VideoIndex] | None
    """None for a still."""

    @property
    def shots(self) -> list[tuple[int, int]]:
        """First frame and the one behind the last, of every run of frames without a shot change."""
        cuts = self.video[1].cuts if self.video else ()
        edges = [0, *cuts, self.frames]
        return list(itertools.pairwise(edges))

    @property
    def longest_shot(self) -> int:
        """Frames of it."""
        return max(end - start for start, end in self.shots)


class Scan:
    """Decodes files; remembers in `cache` what it found, by path, size and time of change."""

    def __init__(self, cache: Path | None) -> None:
        self.cache = cache
        self.before: dict[str, Any] = _read_cache(cache)
        self.after: dict[str, Any] = {}

    def __call__(self, path: Path) -> Media | str:
        """What a file holds, or why it cannot be used. Raises InputError where reading hangs."""
        stat = within_deadline(path, path.stat)
        identity = [stat.st_size, stat.st_mtime_ns]
        known = self.before.get(str(path))
        entry = known if known and known["identity"] == identity else {"identity": identity}
        found: Media | str
        try:
            found = _still(path, entry) if _is_still(path) else _video(path, entry)
        except TooLongError:
            # Its thread goes on beside the training, and next time the file may be in order.
            raise
        except InputError as error:
            found = entry["fault"] = str(error).removeprefix(f"{path}").lstrip(": ")
        self.after[str(path)] = entry
        return found

    def save(self) -> None:
        """Keep what was found. Raises OutputError."""
        if self.cache is not None and self.after != self.before:
            write_whole(self.cache, json.dumps(self.after).encode())


def _read_cache(cache: Path | None) -> dict[str, Any]:
    try:
        found = json.loads(cache.read_text()) if cache else {}
    except (OSError, ValueError):
        # Then everything is decoded again.
        return {}
    return found if isinstance(found, dict) else {}


def _is_still(path: Path) -> bool:
    return path.suffix.lower() in STILL_SUFFIXES


def _still(path: Path, entry: dict[str, Any]) -> Media:
    if "fault" in entry:
        raise InputError(entry["fault"])
    if "size" not in entry:
        with open_still(path) as picture:
            entry["size"] = [picture.height, picture.width]
    height, width = entry["size"]
    return Media(path, height, width, 1, None)


def open_still(path: Path) -> Image.Image:
    """A picture upright, as RGB, decoded whole. Raises InputError where it cannot be."""
    try:
        return within_deadline(path, lambda: _decoded(path))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: it cannot be decoded ({error})") from error


def _decoded(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return _in_eight_bits(ImageOps.exif_transpose(picture)).convert("RGB")


def _in_eight_bits(picture: Image.Image) -> Image.Image:
    """Grey of 16 bits, of which Pillow would make white of all but the darkest. Raises ValueError."""
    if picture.mode == "F":
        raise ValueError("its floating-point samples have no known range")
    if not picture.mode.startswith("I"):
        return picture
    levels = np.asarray(picture).astype(np.int64).clip(0, 65535)
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8))


def _video(path: Path, entry: dict[str, Any]) -> Media:
    if "fault" in entry:
        raise InputError(entry["fault"])
    info = probe(path)
    known = {field.name for field in dataclasses.fields(VideoIndex)}
    # Another version may have noted less.
    if set(entry.get("index", ())) != known:
        entry["index"] = dataclasses.asdict(build_index(info))
    fields: dict[str, Any] = {
        key: value if isinstance(value, int) else tuple(value)
        for key, value in entry["index"].items()
    }
    index = VideoIndex(**fields)
    if index.lost_frames:
        raise InputError(f"{path}: frames of it are lost: {index.lost_frames}")
    if index.damaged_frames:
        raise InputError(f"{path}: frames of it are damaged: {index.damaged_frames}")
    return Media(path, info.height, info.width, index.frames, (info, index))
