"""One difference between two files, and what comparisons share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from tests.corpus.ffprobe import Facts, fraction

MICROSECOND = Fraction(1, 1_000_000)
_MOST_PER_S = 240
# Streams without a container: what times their demuxers give are guesses.
_BARE = ("h264", "hevc", "m4v", "mpegvideo", "vc1", "obu")


@dataclass(frozen=True)
class Difference:
    """One difference between source and output."""

    field: str
    source: str
    output: str
    words: str = ""
    """A regular expression for the line that tells of it; empty where telling does not make it right."""


def unlike(field: str, old: object, new: object, words: str = "") -> Iterator[Difference]:
    if old != new:
        yield Difference(field, str(old)[:300], str(new)[:300], words)


def base_of(stream: Mapping[str, Any]) -> Fraction:
    return fraction(stream.get("time_base"))


def in_seconds(seconds: Fraction | None) -> str:
    return "none" if seconds is None else f"{float(seconds):.4f} s"


def shown(facts: Facts) -> list[Fraction]:
    """Each frame's time, seconds; by the rate where the file has none, as bare streams."""
    stamps = [frame.time for frame in facts.frames]
    bare = facts.format["format_name"] in _BARE
    if not bare and all(stamp is not None for stamp in stamps):
        return sorted(stamp for stamp in stamps if stamp is not None)
    rate = fraction(facts.video.get("r_frame_rate")) or Fraction(25)
    if rate > _MOST_PER_S:
        # The clock of a camera with a variable rate, whose times are lost with the container.
        rate = Fraction(25)
    return [number / rate for number in range(len(stamps))]
