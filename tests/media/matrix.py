"""Sources of every codec and kind, each restored into every container: `python -m tests.media.matrix` runs them all.

A case differs from a plain clip in some of its properties; `legal` says which combinations a file can have.
"""

from __future__ import annotations

import itertools
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition, Stream

from tests.media.clips import Audio, Clip, make

_QUIET = {"x265-params": "log-level=error"}


@dataclass(frozen=True)
class Format:
    """An encoder, and the pixel formats of its sources."""

    encoder: str
    pix_fmt: str
    homes: tuple[str, ...]
    """Containers that hold it, the usual one first."""
    odd: str = ""
    """Pixel format of pictures with an odd size; empty where the encoder takes none."""
    alpha: str = ""
    interlaced: tuple[tuple[str, str], ...] = ()
    """Encoder options that make interlaced pictures; empty where it has none."""
    any_base: bool = True
    """Whether times may lie between multiples of the frame time."""


_ILME = ("flags", "+ildct+ilme")
_MP4 = (".mp4", ".mkv", ".mov")
_HEVC = (("x265-params", "log-level=error:interlace=tff"),)
FORMATS = {
    "h264-8": Format("libx264", "yuv420p", (*_MP4, ".ts"), "yuv444p", "", (_ILME, ("x264-params", "tff=1"))),
    "h264-10": Format("libx264", "yuv420p10le", (*_MP4, ".ts"), "yuv444p10le", "", (_ILME, ("x264-params", "tff=1"))),
    "hevc-8": Format("libx265", "yuv420p", (*_MP4, ".ts"), "yuv444p", "", _HEVC),
    "hevc-10": Format("libx265", "yuv420p10le", (*_MP4, ".ts"), "yuv444p10le", "", _HEVC),
    "vp9-8": Format("libvpx-vp9", "yuv420p", (".webm", ".mkv", ".mp4"), "yuv420p", "yuva420p"),
    "av1-8": Format("libsvtav1", "yuv420p", (".mp4", ".mkv", ".webm"), "yuv420p"),
    "av1-10": Format("libsvtav1", "yuv420p10le", (".mp4", ".mkv", ".webm"), "yuv420p10le"),
    "mpeg2-8": Format("mpeg2video", "yuv420p", (".ts", ".mkv", ".mp4"), "", "", (_ILME,), any_base=False),
    "prores-10": Format("prores_ks", "yuv422p10le", (".mov", ".mkv"), "yuv422p10le", "yuva444p10le", (_ILME,)),
    "ffv1-8": Format("ffv1", "yuv420p", (".mkv",), "yuv420p", "yuva420p"),
    "ffv1-10": Format("ffv1", "yuv420p10le", (".mkv",), "yuv420p10le", "yuva420p10le"),
    "mjpeg-8": Format("mjpeg", "yuvj420p", (".mov", ".mkv", ".mp4"), "yuvj420p"),
}  # fmt: skip

TARGETS = (".mp4", ".mkv", ".mov", ".webm")


@dataclass(frozen=True)
class Case:
    """One source and the container that it is restored into; the first value of each property is the plain one."""

    format: str = "h264-8"
    time: str = "cfr"
    picture: str = "plain"
    audio: str = "one"
    text: str = "none"
    extra: str = "none"
    target: str = ".mp4"

    @property
    def id(self) -> str:
        """What of it is not plain."""
        plain = Case()
        parts = [
            f"{field.name}-{value}" if value == "none" else str(value)
            for field in fields(self)[1:-1]
            for value in (getattr(self, field.name),)
            if value != getattr(plain, field.name)
        ]
        return " ".join([self.format, *(parts or ["plain"]), self.target.lstrip(".")])


VALUES: dict[str, tuple[str, ...]] = {
    "format": tuple(FORMATS),
    "time": ("cfr", "vfr", "offset"),
    "picture": ("plain", "rotated", "anamorphic", "interlaced", "odd", "alpha"),
    "audio": ("one", "none", "three"),
    "text": ("none", "srt", "ass", "mov_text"),
    "extra": ("none", "chapters", "cover", "font"),
    "target": TARGETS,
}
# Containers of the source that can hold a property's value; any can hold the others.
_NEEDS = {
    ("text", "srt"): {".mkv"},
    ("text", "ass"): {".mkv"},
    ("text", "mov_text"): {".mp4", ".mov"},
    ("extra", "chapters"): {".mkv", ".mp4", ".mov"},
    ("extra", "cover"): {".mkv", ".mp4"},
    ("extra", "font"): {".mkv"},
    ("picture", "rotated"): {".mkv", ".mp4", ".mov"},
}
# Codecs that say themselves how wide a sample is; the others need a container that does.
_TELLS_ASPECT = ("libx264", "libx265", "mpeg2video", "mjpeg")
_CODECS = {
    ".mkv": ("aac", "flac", "libopus"),
    ".mp4": ("aac", "flac", "libopus"),
    ".mov": ("aac", "alac", "ac3"),
    ".webm": ("libopus", "libopus", "libopus"),
    ".ts": ("aac", "ac3", "mp2"),
}


def home(case: Case) -> str | None:
    """The container of a case's source: the usual one of those that can hold it all; None where none can."""
    source = FORMATS[case.format]
    possible = [
        suffix
        for suffix in source.homes
        if all(
            suffix in holding
            for (name, value), holding in _NEEDS.items()
            if getattr(case, name) == value
        )
    ]
    if case.picture == "anamorphic" and source.encoder not in _TELLS_ASPECT:
        possible = [suffix for suffix in possible if suffix in (".mp4", ".mov")]
    if case.picture == "interlaced" and source.encoder == "mpeg2video":
        # Its encoder's own times, which are all that it takes then.
        possible = [suffix for suffix in possible if suffix == ".ts"]
    return possible[0] if possible else None


def legal(case: Case) -> bool:
    """Whether there can be such a source."""
    source = FORMATS[case.format]
    needed = {"interlaced": source.interlaced, "odd": source.odd, "alpha": source.alpha}
    return home(case) is not None and bool(needed.get(case.picture, True))


def every_case() -> Iterator[Case]:
    """Each codec and depth, with each property changed alone, into each container."""
    for name in FORMATS:
        for target in TARGETS:
            plain = Case(name, target=target)
            changed = (
                replace(plain, **{key: value})
                for key, values in VALUES.items()
                if key not in ("format", "target")
                for value in values[1:]
            )
            yield from (case for case in (plain, *changed) if legal(case))


def pairwise_cases() -> list[Case]:
    """Few cases in which every format occurs, and every legal pair of values of the other properties."""
    pairs = {case: _pairs(case) for case in _any_format()}
    left = set().union(*pairs.values())
    formats = itertools.cycle(FORMATS)
    chosen: list[Case] = []
    while left:
        best = max(pairs, key=lambda case: len(left & pairs[case]))
        left -= pairs[best]
        chosen.append(next(case for name in formats if legal(case := replace(best, format=name))))
    missing = set(FORMATS) - {case.format for case in chosen}
    return [*chosen, *(Case(name) for name in sorted(missing))]


def _any_format() -> Iterator[Case]:
    """Every combination of properties that a source of some format can have."""
    keys = [key for key in VALUES if key != "format"]
    for values in itertools.product(*(VALUES[key] for key in keys)):
        case = Case(**dict(zip(keys, values, strict=True)))
        if any(legal(replace(case, format=name)) for name in FORMATS):
            yield case


def _pairs(case: Case) -> set[tuple[tuple[str, str], ...]]:
    values = [(key, str(getattr(case, key))) for key in VALUES if key != "format"]
    return set(itertools.combinations(values, 2))


FRAMES = 8
_FRAME = Fraction(1, 25)
_UNEVEN = (0, 512, 1100, 1131, 2560, 3072, 3100, 5000)
CHAPTERS = ((0.0, 0.1, "Start"), (0.1, 0.32, "End"))
FONT = ("font.ttf", "application/x-truetype-font", b"\x00\x01\x00\x00 font" * 9)
ASS_LINE = r"0,0,Default,,0,0,0,,{\i1}Two{\i0}\Nlines"
LINES = {
    "srt": ("subrip", "Two\nlines"),
    "ass": ("ass", ASS_LINE),
    "mov_text": ("mov_text", "Two\nlines"),
}
SHOWN = ((0.04, 0.08), (0.16, 0.1))


def write_source(case: Case, folder: Path) -> Path:
    """Make the source of a case."""
    suffix = home(case)
    assert suffix is not None
    source = FORMATS[case.format]
    odd = case.picture == "odd"
    base = Fraction(1, 12800) if source.any_base and suffix != ".ts" else _FRAME
    # SVT-AV1 takes no smaller ones.
    width, height = (64, 64) if source.encoder == "libsvtav1" else (32, 24)
    options = {**(_QUIET if source.encoder == "libx265" else {}), "threads": "1"}
    if case.picture == "interlaced":
        options.update(source.interlaced)
    pix_fmt = {"odd": source.odd, "alpha": source.alpha}.get(case.picture, source.pix_fmt)
    clip = Clip(
        frames=FRAMES,
        width=width - odd,
        height=height - odd,
        codec=source.encoder,
        pix_fmt=pix_fmt,
        time_base=base,
        pts=_pts(case, base),
        options=options,
        muxer={"movie_timescale": "96000"} if suffix in (".mp4", ".mov") else {},
        rotation=(90, False, False) if case.picture == "rotated" else None,
        sample_aspect=Fraction(4, 3) if case.picture == "anamorphic" else None,
        color={"colorspace": 1, "color_primaries": 1, "color_trc": 1},
        video_tags={"language": "ita", "title": "The picture"} if suffix == ".mkv" else {},
        audio=_sounds(case, suffix),
        subtitles=_lines(case),
        chapters=CHAPTERS if case.extra == "chapters" else (),
        metadata={"title": "A film", "artist": "Somebody"},
        attachments=(FONT,) if case.extra == "font" else (),
    )
    path = make(folder / f"source{suffix}", clip)
    return _with_cover(path) if case.extra == "cover" else path


def _pts(case: Case, base: Fraction) -> list[int]:
    if case.time == "vfr":
        return list(_UNEVEN) if base != _FRAME else [0, 1, 3, 4, 5, 8, 9, 10]
    first = Fraction(6, 25) if case.time == "offset" else Fraction(0)
    return [round((first + i * _FRAME) / base) for i in range(FRAMES)]


def _sounds(case: Case, suffix: str) -> tuple[Audio, ...]:
    start = Fraction(1, 10) if case.time == "offset" else Fraction(0)
    first, second, third = _CODECS[suffix]
    sounds = (
        Audio(first, start, 0.4, "eng", "Main", disposition=Disposition.default),
        Audio(
            second, start, 0.3, "deu", "Surround", layout="5.1" if second != "alac" else "stereo"
        ),
        Audio(
            third, start + Fraction(1, 20), 0.3, "fra", "Remarks", disposition=Disposition.comment
        ),
    )
    return sounds[: {"none": 0, "one": 1, "three": 3}[case.audio]]


def _lines(case: Case) -> tuple[tuple[str, float, float, str], ...]:
    if case.text == "none":
        return ()
    codec, line = LINES[case.text]
    first = 0.24 if case.time == "offset" else 0.0
    return tuple((codec, first + start, seconds, line) for start, seconds in SHOWN)


def cover_data(folder: Path) -> bytes:
    """A picture as a JPEG file."""
    clip = Clip(frames=1, codec="mjpeg", pix_fmt="yuvj420p", width=16, height=16)
    return make(folder / "cover.mjpeg", clip).read_bytes()


def _with_cover(path: Path) -> Path:
    """The same file with a cover picture, as each container has it."""
    data = cover_data(path.parent)
    covered = path.with_name(f"covered{path.suffix}")
    options = (
        {"movie_timescale": "96000"} if path.suffix == ".mp4" else {"avoid_negative_ts": "disabled"}
    )
    with av.open(str(path)) as old, av.open(str(covered), "w", container_options=options) as new:
        streams: dict[int, Stream] = {}
        for stream in old.streams:
            copy = streams[stream.index] = new.add_stream_from_template(stream, opaque=True)
            copy.metadata.update(stream.metadata)
            copy.disposition = stream.disposition
        new.metadata.update(old.metadata)
        if path.suffix == ".mkv":
            new.add_attachment("cover.jpg", "image/jpeg", data)
        else:
            picture = new.add_mux_stream("mjpeg", width=16, height=16)
            picture.disposition = Disposition.attached_pic
            new.start_encoding()
            packet: Any = av.Packet(data)
            packet.stream, packet.time_base, packet.pts, packet.dts = picture, _FRAME, 0, 0
            packet.is_keyframe = True
            new.mux(packet)
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
    return covered


def main() -> int:
    """Run all cases, print what fails and how many there were; 1 where any failed."""
    from tests.media.matrix_check import Runner

    logging.getLogger("libav").setLevel(logging.ERROR)
    runner, counts, began = Runner(), Counter[str](), time.monotonic()
    wanted = sys.argv[1:]
    for case in every_case():
        if not all(word in case.id.split() for word in wanted):
            continue
        # So that it is known which one a codec's library died of.
        sys.stderr.write(f"{case.id}\n")
        with tempfile.TemporaryDirectory() as folder:
            wrong = runner.problems(case, Path(folder))
        counts["failed" if wrong else "kept"] += 1
        for problem in wrong:
            print(f"{case.id}: {problem}", flush=True)  # noqa: T201
    took = time.monotonic() - began
    print(f"{counts['kept']} cases kept everything, {counts['failed']} did not, in {took:.0f} s")  # noqa: T201
    return 1 if counts["failed"] or not counts["kept"] else 0


if __name__ == "__main__":
    sys.exit(main())
