"""The part of the source that is written."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Span:
    """The part of the source that is written, in seconds of its clock."""

    start: Fraction
    end: Fraction | None
    """None: everything is written, and `start` is ignored."""
    origin: Fraction
    """The time that becomes 0."""

    def clipped(self, start: Fraction, length: Fraction) -> tuple[Fraction, Fraction] | None:
        """Start and length of the overlap with the span; None if there is none.

        A length of 0 is an unknown one, as of pictures of subtitles, which are shown until the next.
        """
        if self.end is None or (not length and self.start <= start < self.end):
            return start, length
        begins, ends = max(start, self.start), min(start + length, self.end)
        return (begins, ends - begins) if begins < ends else None
