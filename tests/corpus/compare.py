"""What differs between a source and its restored file, each difference with the words that tell of it."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.corpus.difference import MICROSECOND, Difference, base_of, in_seconds, shown, unlike
from tests.corpus.ffprobe import Facts, Frame, fraction
from tests.corpus.streams import chapter_differences, stream_differences, tag_differences

# A broadcast's clock was running before the file began; starvsr lets it begin at 0.
_CLOCK_ANYWHERE = ("mpegts", "mpeg", "mpegtsraw", "rtp", "hls", "vob")
_CLOCK_WORDS = r"\bclock|\bjump|\beven\b|steps? of"
_COLOURS = ("color_range", "color_space", "color_primaries", "color_transfer", "chroma_location")
# ffprobe's name of a kind of side data, and what must be found in the line that tells of it.
_SIDE_WORDS = {
    "Spherical": "360|spherical|projection",
    "Stereo": "3D|stereo|frame packing",
    "DOVI": "Dolby Vision",
    "Dolby Vision": "Dolby Vision",
    "HDR10+": "HDR10\\+",
    "Dynamic Metadata": "HDR10\\+|dynamic",
    "Mastering": "mastering",
    "Content light": "content light",
    "Closed Captions": "captions",
    "A/53": "captions",
    "AFD": "active format|AFD",
    "Active": "active format|AFD",
    "timecode": "time ?code",
    "ICC": "ICC",
    "Film grain": "film grain",
    "Display": "rotat|turn|display matrix",
}  # fmt: skip
# What an encoder or a muxer says of its own work, or what is applied to the pictures.
_SIDE_OF_CODING = ("User Data Unregistered", "CPB properties", "3x3", "Display", "QP", "Encryption", "Skip Samples",
                   "Producer", "MPEGTS Stream ID", "Motion", "Video encoding", "New Extradata", "regions",
                   "Param Change", "VBI", "GOP timecode", "Replay Gain", "Audio Service Type")  # fmt: skip


def differences(
    source: Facts, output: Facts, paths: tuple[Path, Path], short_side: int
) -> Iterator[Difference]:
    """All of them. paths: of the two files. short_side: what the output was restored to, pixels."""
    if output.errors:
        yield Difference("output is read without errors", "", output.errors[:300])
    yield from _times(source, output)
    yield from _picture(source, output, short_side)
    yield from _side_data(source, output)
    yield from stream_differences(source, output, paths)
    yield from chapter_differences(source, output)
    yield from tag_differences("file", source.format, output.format)


def _times(source: Facts, output: Facts) -> Iterator[Difference]:
    old, new = shown(source), shown(output)
    if len(old) != len(new):
        yield Difference(
            "frames", str(len(old)), str(len(new)), "lost|damaged|repeated|progressive"
        )
        return
    tick = max(base_of(source.video), base_of(output.video)) + MICROSECOND
    late = [(b - new[0]) - (a - old[0]) for a, b in zip(old, new, strict=True)]
    # Of frames that the source shows at one time each needs one of its own, before the next.
    wrong = [
        number
        for number, each in enumerate(late)
        if abs(each) > tick and not (0 < each < _next(old, number) - old[number])
    ]
    if wrong:
        worst = max(wrong, key=lambda number: abs(late[number]))
        yield Difference(
            "frame times",
            f"frame {worst} at {in_seconds(old[worst] - old[0])}",
            f"{in_seconds(new[worst] - new[0])}, {len(wrong)} of {len(late)} wrong",
            _CLOCK_WORDS,
        )
    if not _floating(source) and abs(new[0] - old[0]) > tick:
        yield Difference("first frame", in_seconds(old[0]), in_seconds(new[0]), _CLOCK_WORDS)
    yield from _last(source, output, tick)
    yield from _rate(new, output)


def _next(times: Sequence[Fraction], number: int) -> Fraction:
    """The first time after that of a frame which shares it with the frame before; its own if it shares it not."""
    if number == 0 or times[number - 1] != times[number]:
        return times[number]
    return next((time for time in times[number:] if time > times[number]), times[number] + 1)


def _last(source: Facts, output: Facts, tick: Fraction) -> Iterator[Difference]:
    old, new = _held(source), _held(output)
    steps = sorted(b - a for a, b in itertools.pairwise(shown(source)))
    # A rate of 1000 that the source states is no wish to end after a millisecond.
    least = steps[len(steps) // 2] / 2 if steps else 0
    if old and old >= least and abs((new or 0) - old) > max(tick, Fraction(1, 1000)):
        yield Difference("last frame's duration", in_seconds(old), in_seconds(new), _CLOCK_WORDS)


def _held(facts: Facts) -> Fraction | None:
    """How long the frame that is shown last is shown; None where neither packet nor stream says."""
    packets = facts.packets[facts.video["index"]]
    last, duration = max(
        ((packet.time, packet.duration) for packet in packets if packet.time is not None),
        key=lambda pair: pair[0],
        default=(None, None),
    )
    if last is None or duration:
        return duration
    # ffprobe gives no duration to the last packet behind an edit list.
    base, begin, length = (
        facts.video.get(key) for key in ("time_base", "start_pts", "duration_ts")
    )
    if begin is None or length is None:
        return None
    left = (begin + length) * fraction(base) - last
    return left if left > 0 else None


def _rate(new: Sequence[Fraction], output: Facts) -> Iterator[Difference]:
    if len(new) < 3 or new[-1] == new[0]:
        return
    true, said = (len(new) - 1) / (new[-1] - new[0]), fraction(output.video.get("avg_frame_rate"))
    # A held last frame is in the average, so that only what no duration explains is wrong.
    if said and not Fraction(4, 5) < said / true < Fraction(6, 5):
        yield Difference("average rate", f"{float(true):.3f}", f"{float(said):.3f}")
    steps = [b - a for a, b in itertools.pairwise(new)]
    finest = fraction(output.video.get("r_frame_rate"))
    # libav's guess of Matroska's may be a multiple of the true one.
    if max(steps) < 2 * min(steps) and finest > max(2 * true, Fraction(240)):
        yield Difference("finest rate", f"{float(true):.3f}", f"{float(finest):.3f}")


def _picture(source: Facts, output: Facts, short_side: int) -> Iterator[Difference]:
    old, new = source.frames[0].facts, output.frames[0].facts
    turned = _turn(source) % 180 != 0
    width, height = (old["height"], old["width"]) if turned else (old["width"], old["height"])
    scale = Fraction(short_side, min(width, height))
    wanted = (width * scale, height * scale)
    if any(abs(a - new[key]) > 2 for a, key in zip(wanted, ("width", "height"), strict=True)):
        yield Difference(
            "size", f"{width}x{height}", f"{new['width']}x{new['height']}", "crop|largest|size"
        )
    aspect = _aspect(source, old)
    yield from unlike(
        "sample aspect", 1 / aspect if turned else aspect, _aspect(output, new), "aspect"
    )
    yield from unlike("rotation", 0, _turn(output))
    yield from _colours(old, new)
    if new.get("interlaced_frame"):
        yield Difference("interlaced", "", "still interlaced", "stay so")
    elif any(frame.facts.get("interlaced_frame") for frame in source.frames):
        yield Difference("interlaced", "interlaced", "progressive", "interlaced")
    # The range is compared with the colours.
    before, behind = (each["pix_fmt"].replace("yuvj", "yuv") for each in (old, new))
    yield from unlike(
        "pixel format", before, behind, "bits become|alpha|chroma|4:2:0|palette|pix-fmt"
    )
    changes = {
        (f.facts.get("width"), f.facts.get("height"), f.facts.get("sample_aspect_ratio"))
        for f in source.frames
    }
    if len(changes) > 1:
        yield Difference(
            "size or aspect within the film",
            str(sorted(map(str, changes)))[:200],
            "one",
            "another size|another sample aspect|change",
        )


def _colours(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    rgb = old["pix_fmt"].startswith(
        ("rgb", "bgr", "gbr", "pal", "argb", "abgr", "0rgb", "gray", "mono")
    )
    for name in _COLOURS:
        before, behind = (_colour(each, name) for each in (old, new))
        if rgb and name in ("color_space", "color_range", "chroma_location"):
            continue
        yield from unlike(name, before, behind, "colour|color|matrix|chroma|HDR|sRGB|BT")


def _colour(facts: Mapping[str, Any], name: str) -> str:
    value = str(facts.get(name, "unknown"))
    if name == "color_range" and facts["pix_fmt"].startswith("yuvj"):
        return "pc"
    if name == "color_range" and value == "unknown":
        return "tv"
    if name == "chroma_location" and value in ("unknown", "unspecified"):
        return "left"
    return {"reserved": "unknown", "unspecified": "unknown"}.get(value, value)


def _side_data(source: Facts, output: Facts) -> Iterator[Difference]:
    old, new = (_side_kinds(facts) for facts in (source, output))
    for kind, text in old.items():
        if any(word in kind for word in _SIDE_OF_CODING):
            continue
        words = next(
            (w for name, w in _SIDE_WORDS.items() if name.lower() in kind.lower()), re.escape(kind)
        )
        if kind not in new:
            yield Difference(f"side data {kind}", text, "none", words)
        elif text != new[kind]:
            yield Difference(f"side data {kind}", text, new[kind], words)


def _side_kinds(facts: Facts) -> dict[str, str]:
    """Kinds of side data of the film's stream and frames, each with its first content."""
    found: dict[str, str] = {}
    carriers: list[Mapping[str, Any]] = [facts.video, *(frame.facts for frame in facts.frames)]
    for carrier in carriers:
        for each in carrier.get("side_data_list", ()):
            kind = each.get("side_data_type", "unknown")
            content = {
                key: _decimal(value) for key, value in each.items() if key != "side_data_type"
            }
            found.setdefault(kind, str(content or "present")[:200])
    if facts.video.get("closed_captions"):
        found["Closed Captions"] = "present"
    for tags in (facts.format.get("tags", {}), facts.video.get("tags", {})):
        codes = (text for key, text in tags.items() if key.lower() == "timecode")
        for code in codes:
            found["timecode"] = code
    return found


def _decimal(value: object) -> object:
    """A fraction as a number: denominators differ by container and codec."""
    if isinstance(value, str) and re.fullmatch(r"\d+/\d+", value):
        return f"{float(fraction(value)):.4f}"
    return value


def _turn(facts: Facts) -> int:
    """Degrees by which players turn it, without sign."""
    for each in (*facts.video.get("side_data_list", ()), *_first_side(facts.frames)):
        if "rotation" in each:
            return abs(round(float(each["rotation"])))
    return 0


def _first_side(frames: Sequence[Frame]) -> Sequence[Mapping[str, Any]]:
    return frames[0].facts.get("side_data_list", ()) if frames else ()


def _aspect(facts: Facts, frame: Mapping[str, Any]) -> Fraction:
    # What the container says goes before the codec's word, as in players.
    return (
        fraction(facts.video.get("sample_aspect_ratio"))
        or fraction(frame.get("sample_aspect_ratio"))
        or Fraction(1)
    )


def _floating(facts: Facts) -> bool:
    return any(name in facts.format["format_name"].split(",") for name in _CLOCK_ANYWHERE)
