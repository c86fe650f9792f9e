"""AVIF and WebP as Pillow sees them: ffprobe 5.1 misreads many, knows no alpha of theirs, no tiles and no turns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import ExifTags, Image

from tests.corpus.difference import Difference, unlike
from tests.corpus.ffprobe import Facts

SUFFIXES = (".avif", ".webp")
_ALPHA = ("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya")


def still_differences(source: Path, output: Facts, short_side: int) -> Iterator[Difference]:
    """What of number, size and alpha differs; nothing where Pillow does not read the file either."""
    try:
        with Image.open(source) as image:
            count, alpha = getattr(image, "n_frames", 1), "A" in image.getbands()
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            width, height = image.size[::-1] if turned else image.size
    except (OSError, RuntimeError, ValueError, SyntaxError):
        return
    yield from unlike("frames by Pillow", count, len(output.frames), r"lost|damaged|picture")
    new = output.frames[0].facts
    scale = short_side / min(width, height)
    if any(abs(a * scale - b) > 2 for a, b in ((width, new["width"]), (height, new["height"]))):
        yield Difference(
            "size by Pillow",
            f"{width}x{height}",
            f"{new['width']}x{new['height']}",
            r"\btiles?\b|crop",
        )
    if alpha and not output.video["pix_fmt"].startswith(_ALPHA):
        yield Difference("alpha by Pillow", "yes", output.video["pix_fmt"], "alpha")
