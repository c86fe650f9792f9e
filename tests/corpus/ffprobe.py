"""What the system's ffprobe says of a file, in exact numbers."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

LONGEST_S = 300.0
_COVERS = ("attached_pic", "timed_thumbnails")


class FfprobeError(Exception):
    """ffprobe does not read the file, or is not installed."""


@dataclass(frozen=True)
class Packet:
    """One packet, times in seconds; None where the file does not say."""

    time: Fraction | None
    duration: Fraction | None
    size: int
    hash: str


@dataclass(frozen=True)
class Frame:
    """One decoded frame."""

    time: Fraction | None
    """Seconds."""
    facts: Mapping[str, Any]
    """ffprobe's fields as they are."""


@dataclass(frozen=True)
class Facts:
    """A file as ffprobe sees it."""

    format: Mapping[str, Any]
    streams: Sequence[Mapping[str, Any]]
    chapters: Sequence[Mapping[str, Any]] = ()
    packets: Mapping[int, Sequence[Packet]] = field(default_factory=dict)
    """Of each stream, without those that the file marks as not shown."""
    film: int | None = None
    """Index of the video stream that is meant; None without any."""
    frames: Sequence[Frame] = ()
    """Of the film, in the order of showing."""
    errors: str = ""
    """What ffprobe complained of."""

    def kind(self, kind: str) -> list[Mapping[str, Any]]:
        """Streams of a kind, in order; cover pictures are of the kind `cover`."""
        return [stream for stream in self.streams if kind_of(stream) == kind]

    @property
    def video(self) -> Mapping[str, Any]:
        """The film's stream. Raises StopIteration without one."""
        return next(stream for stream in self.streams if stream["index"] == self.film)


def tool(name: str) -> str:
    """The path of `ffprobe` or `ffmpeg`. Raises FfprobeError if it is not installed."""
    found = shutil.which(name)
    if found is None:
        raise FfprobeError(
            f"{name} is not installed: install ffmpeg, which this target compares with"
        )
    return found


def kind_of(stream: Mapping[str, Any]) -> str:
    """ffprobe's codec_type, or `cover` for pictures that are no film."""
    if any(stream.get("disposition", {}).get(name) for name in _COVERS):
        return "cover"
    return str(stream.get("codec_type", "unknown"))


def facts_of(path: Path) -> Facts:
    """Read a whole file. Raises FfprobeError if it cannot be opened; a file without video has no frames."""
    said, errors = _ask(
        path, "-show_format", "-show_streams", "-show_chapters", "-show_packets", "-show_data_hash", "md5"
    )  # fmt: skip
    if "format" not in said:
        raise FfprobeError(errors.strip() or "ffprobe does not open it")
    streams = said.get("streams", [])
    packets = _packets(said.get("packets", []), streams)
    film = _film(streams, packets)
    frames: list[Frame] = []
    if film is not None:
        shown, more = _ask(path, "-select_streams", str(film), "-show_frames")
        errors += more
        base = Fraction(next(s for s in streams if s["index"] == film)["time_base"])
        # Some streams carry entries of other kinds here.
        frames = [
            _frame(each, base)
            for each in shown.get("frames", [])
            if each.get("media_type") == "video"
        ]
    return Facts(
        said["format"], streams, said.get("chapters", []), packets, film, frames, errors.strip()
    )


def payload_hash(path: Path, index: int, *, adts: bool) -> str:
    """MD5 of a stream's packets without their borders, and without ADTS headers."""
    command = [tool("ffmpeg"), "-v", "error", "-nostdin", "-i", str(path), "-map", f"0:{index}"]
    command += ["-c", "copy", *(("-bsf", "aac_adtstoasc") if adts else ())]
    command += ["-f", "streamhash", "-hash", "md5", "-"]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=LONGEST_S, check=False
    )
    return done.stdout.rpartition("=")[2].strip()


def _ask(path: Path, *options: str) -> tuple[dict[str, Any], str]:
    command = [tool("ffprobe"), "-v", "error", "-of", "json", *options, "-i", f"file:{path}"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=LONGEST_S, check=False)
    except subprocess.TimeoutExpired:
        raise FfprobeError(f"ffprobe takes over {LONGEST_S:.0f} s") from None
    text = done.stdout.decode(errors="replace")
    errors = done.stderr.decode(errors="replace")
    try:
        return json.loads(text, strict=False) if text.strip() else {}, errors
    except json.JSONDecodeError:
        # It stopped in the middle: what cannot be opened ends so, and what it dies of.
        raise FfprobeError(errors.strip() or f"ffprobe ends with {done.returncode}") from None


def _packets(
    said: Sequence[Mapping[str, Any]], streams: Sequence[Mapping[str, Any]]
) -> dict[int, list[Packet]]:
    found: dict[int, list[Packet]] = {stream["index"]: [] for stream in streams}
    bases = {stream["index"]: fraction(stream.get("time_base")) for stream in streams}
    for each in said:
        index = each.get("stream_index")
        if index not in found or "D" in each.get("flags", ""):
            continue
        base = bases[index]
        stamp = each.get("pts", each.get("dts"))
        found[index].append(
            Packet(
                time=None if stamp is None else stamp * base,
                duration=None if each.get("duration") is None else each["duration"] * base,
                size=int(each.get("size", 0)),
                hash=each.get("data_hash", "").removeprefix("MD5:"),
            )
        )
    return found


def _film(
    streams: Sequence[Mapping[str, Any]], packets: Mapping[int, Sequence[Packet]]
) -> int | None:
    """The video stream that is meant: no cover, most pictures, marked as the default, largest."""

    def weight(stream: Mapping[str, Any]) -> tuple[bool, int, int, int]:
        marks = stream.get("disposition", {})
        area = stream.get("width", 0) * stream.get("height", 0)
        count = len(packets[stream["index"]])
        return count > 1, marks.get("default", 0), count, area

    films = [stream for stream in streams if kind_of(stream) == "video"]
    return max(films, key=weight)["index"] if films else None


def _frame(said: Mapping[str, Any], base: Fraction) -> Frame:
    # The best effort goes by the decode times as soon as two frames have one time.
    stamp = said.get("pts", said.get("best_effort_timestamp"))
    return Frame(None if stamp is None else stamp * base, said)


def fraction(text: str | None) -> Fraction:
    """0 where there is none, or a zero denominator."""
    over, _, under = (text or "0/1").replace(":", "/").partition("/")
    return Fraction(int(over), int(under or 1)) if int(under or 1) else Fraction(0)
