"""Time codes: where an output's first frame is, from where the source's is."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from starvsr.media.beside import TIME_CODE, value_of
from starvsr.types import VideoInfo

_FORM = re.compile(r"([0-9]{1,2}):([0-9]{1,2}):([0-9]{1,2})([:;.,])([0-9]{1,3})")
_DAY_S = 24 * 60 * 60


def is_timecode(text: str) -> bool:
    """Whether it has the form hh:mm:ss:ff, without which libav's mp4 muxer writes none."""
    return _FORM.fullmatch(text.strip()) is not None


def timecode_tags(info: VideoInfo, elapsed_s: Fraction, shown: Fraction) -> dict[str, str]:
    """The time code of an output as its video stream's tag, which libav's mp4 muxer writes as a track; empty without.

    elapsed_s: from the source's first frame to the output's. shown: the output's frames per second.
    """
    text = value_of(info, TIME_CODE)
    return {"timecode": moved_timecode(text, elapsed_s, info.frame_rate, shown)} if text else {}


def counted_by(info: VideoInfo, shown: Fraction | None) -> VideoInfo:
    """The facts with another frame rate, by which the time code counts too."""
    beside = tuple(
        (
            kind,
            moved_timecode(text, Fraction(0), info.frame_rate, shown)
            if kind == TIME_CODE
            else text,
        )
        for kind, text in info.beside
    )
    return replace(info, frame_rate=shown, beside=beside)


def moved_timecode(
    text: str, elapsed_s: Fraction, rate: Fraction | None, shown: Fraction | None = None
) -> str:
    """A time code of the form hh:mm:ss:ff some time later; with a semicolon or a dot it drops frame numbers.

    rate: frames per second, whose nearest integer frames are counted by. shown: those that the result counts by, if
    others; only multiples of 30 drop numbers. Text of another form, and any without a rate, is returned unchanged.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None or not rate:
        return text
    hours, minutes, seconds, frames = (int(match[i]) for i in (1, 2, 3, 5))
    nominal = max(1, round(rate))
    # Two numbers in every minute but each tenth, at 30 per second; in proportion at its multiples.
    dropped = 2 * nominal // 30 if match[4] in ";." and nominal % 30 == 0 else 0
    whole = hours * 60 + minutes
    count = (whole * 60 + seconds) * nominal + frames - dropped * (whole - whole // 10)
    count += round(elapsed_s * rate)
    count %= _DAY_S * nominal - dropped * (24 * 60 - 24 * 6)
    if dropped:
        tens, rest = divmod(count, 600 * nominal - 9 * dropped)
        behind = max(0, rest - 60 * nominal) // (60 * nominal - dropped)
        passed = 9 * tens + (behind + 1 if rest >= 60 * nominal else 0)
        count += dropped * passed
    seconds, frames = divmod(count, nominal)
    mark = ":" if shown and round(shown) % 30 else match[4]
    if shown and round(shown) != nominal:
        frames = frames * round(shown) // nominal
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours:02}:{minutes:02}:{seconds:02}{mark}{frames:02}"
