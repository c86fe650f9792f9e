"""What differs between a source and its restored file, each difference with the words that tell of it."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.corpus.ffprobe import Facts, Frame, Packet, fraction, payload_hash

_MICROSECOND = Fraction(1, 1_000_000)
# A broadcast's clock was running before the file began; starvsr lets it begin at 0.
_CLOCK_ANYWHERE = ("mpegts", "mpeg", "mpegtsraw", "rtp", "hls", "vob")
# Tags that describe the old file itself, or that every muxer writes anew.
_TECHNICAL = re.compile(
    r"(major_brand|minor_version|compatible_brands|encoder|creation_time|duration|vendor_id|handler_name|"
    r"bps|number_of_(frames|bytes)|_statistics.*|encoded_by|software|source_id|isvbr|starvsr|service_.*|"
    r"variant_bitrate|metadatacreator|metadatadate|hasaudio|hasvideo|haskeyframes|hasmetadata|canseektoend|"
    r"lasttimestamp|lastkeyframe.*|datasize|videosize|audiosize|totalframerate|totaldatarate|bytelength|"
    r"(video|audio)(codecid|datarate|device|samplerate|samplesize)|aac(a?ot|.*)|avc(level|profile)|canplay|"
    r"filesize|framerate|width|height|stereo|language|rotate|timecode|.*(_umid|_uuid|uid|generation_uid)|"
    r"product_.*|application_platform|toolkit_.*|modification_date|operational_pattern_ul|.*package_name)(-\w+)?",
    re.IGNORECASE,
)
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
                   "Producer", "MPEGTS Stream ID", "Motion", "Video encoding", "New Extradata", "regions", "S12M",
                   "Param Change", "VBI", "GOP timecode", "Replay Gain", "Audio Service Type")  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One difference between source and output."""

    field: str
    source: str
    output: str
    words: str = ""
    """A regular expression for the line that tells of it; empty where telling does not make it right."""


def differences(
    source: Facts, output: Facts, paths: tuple[Path, Path], short_side: int
) -> Iterator[Difference]:
    """All of them. paths: of the two files. short_side: what the output was restored to, pixels."""
    if output.errors:
        yield Difference("output is read without errors", "", output.errors[:300])
    yield from _times(source, output)
    yield from _picture(source, output, short_side)
    yield from _side_data(source, output)
    yield from _streams(source, output, paths)
    yield from _chapters(source, output)
    yield from _tags("file", source.format, output.format)


def _times(source: Facts, output: Facts) -> Iterator[Difference]:
    old, new = _shown(source), _shown(output)
    if len(old) != len(new):
        yield Difference(
            "frames", str(len(old)), str(len(new)), "lost|damaged|more pictures|repeated|film"
        )
        return  # fmt: skip
    tick = max(_base(source.video), _base(output.video)) + _MICROSECOND
    late = [(b - new[0]) - (a - old[0]) for a, b in zip(old, new, strict=True)]
    wrong = [number for number, each in enumerate(late) if abs(each) > tick]
    if wrong:
        worst = max(wrong, key=lambda number: abs(late[number]))
        yield Difference(
            "frame times",
            f"frame {worst} at {_s(old[worst] - old[0])}",
            f"{_s(new[worst] - new[0])}, {len(wrong)} of {len(late)} wrong",
            "clock|jump|even|times",
        )
    if not _floating(source) and abs(new[0] - old[0]) > tick:
        yield Difference("first frame", _s(old[0]), _s(new[0]), "begins|clock")
    yield from _last(source, output, tick)
    yield from _rate(new, output)


def _last(source: Facts, output: Facts, tick: Fraction) -> Iterator[Difference]:
    old, new = source.frames[-1].duration, output.frames[-1].duration
    if old and abs((new or 0) - old) > tick:
        yield Difference("last frame's duration", _s(old), _s(new), "clock|even")


def _rate(new: Sequence[Fraction], output: Facts) -> Iterator[Difference]:
    if len(new) < 3 or new[-1] == new[0]:
        return
    true, said = (len(new) - 1) / (new[-1] - new[0]), fraction(output.video.get("avg_frame_rate"))
    # A held last frame is in the average, so that only what no duration explains is wrong.
    if said and not Fraction(4, 5) < said / true < Fraction(6, 5):
        yield Difference("average rate", f"{float(true):.3f}", f"{float(said):.3f}")
    steps = [b - a for a, b in itertools.pairwise(new)]
    finest = fraction(output.video.get("r_frame_rate"))
    if max(steps) - min(steps) < Fraction(2, 1000) and finest > 2 * true:
        yield Difference("finest rate", f"{float(true):.3f}", f"{float(finest):.3f}")


def _shown(facts: Facts) -> list[Fraction]:
    """Each frame's time, seconds; by the rate where the file has none, as bare streams."""
    stamps = [frame.time for frame in facts.frames]
    if all(stamp is not None for stamp in stamps):
        return sorted(stamp for stamp in stamps if stamp is not None)
    rate = fraction(facts.video.get("r_frame_rate")) or Fraction(25)
    return [number / rate for number in range(len(stamps))]


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
    yield from _unlike(
        "sample aspect", 1 / aspect if turned else aspect, _aspect(output, new), "aspect"
    )
    yield from _unlike("rotation", 0, _turn(output))
    yield from _colours(old, new)
    if new.get("interlaced_frame"):
        yield Difference("interlaced", "", "still interlaced", "stay so")
    elif any(frame.facts.get("interlaced_frame") for frame in source.frames):
        yield Difference("interlaced", "interlaced", "progressive", "interlaced")
    # The range is compared with the colours.
    before, behind = (each["pix_fmt"].replace("yuvj", "yuv") for each in (old, new))
    yield from _unlike(
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
            "change|sizes",
        )


def _colours(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    rgb = old["pix_fmt"].startswith(
        ("rgb", "bgr", "gbr", "pal", "argb", "abgr", "0rgb", "gray", "mono")
    )
    for name in _COLOURS:
        before, behind = (_colour(each, name) for each in (old, new))
        if rgb and name in ("color_space", "color_range", "chroma_location"):
            continue
        yield from _unlike(name, before, behind, "colour|color|matrix|chroma|HDR|sRGB|BT")


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
            content = {key: value for key, value in each.items() if key != "side_data_type"}
            found.setdefault(kind, str(content or "present")[:200])
    if facts.video.get("closed_captions"):
        found["Closed Captions"] = "present"
    code = facts.video.get("tags", {}).get("timecode") or facts.format.get("tags", {}).get(
        "timecode"
    )
    if code:
        found["timecode"] = code
    return found


def _streams(source: Facts, output: Facts, paths: tuple[Path, Path]) -> Iterator[Difference]:
    for stream in source.kind("video"):
        if stream["index"] != source.film:
            yield Difference(
                f"video stream {stream['index']}", _name(stream), "none", _left(stream)
            )
    for kind in ("cover", "data", "attachment", "unknown"):
        old, new = source.kind(kind), output.kind(kind)
        for stream in old[len(new) :]:
            yield Difference(
                f"{kind} stream {stream['index']}", _name(stream), "none", _left(stream)
            )
    for kind in ("audio", "subtitle"):
        old, new = source.kind(kind), output.kind(kind)
        empty = [stream for stream in old if not source.packets[stream["index"]]]
        if len(old) != len(new):
            old = [stream for stream in old if stream not in empty]
            for stream in empty:
                yield Difference(
                    f"{kind} stream {stream['index']}",
                    f"{_name(stream)}, empty",
                    "none",
                    _left(stream),
                )
        for stream in old[len(new) :]:
            yield Difference(
                f"{kind} stream {stream['index']}", _name(stream), "none", _left(stream)
            )
        for pair in zip(old, new, strict=False):
            yield from _stream(source, output, pair, paths)
    yield from _tags("film", source.video, output.video)
    yield from _marks("film", source.video, output.video)


def _stream(
    source: Facts,
    output: Facts,
    pair: tuple[Mapping[str, Any], Mapping[str, Any]],
    paths: tuple[Path, Path],
) -> Iterator[Difference]:
    before, behind = pair
    name = f"{before['codec_type']} stream {before['index']}"
    yield from _tags(name, before, behind)
    yield from _marks(name, before, behind)
    old, new = source.packets[before["index"]], output.packets[behind["index"]]
    if before.get("codec_name") != behind.get("codec_name"):
        yield Difference(
            f"codec of {name}",
            str(before.get("codec_name")),
            str(behind.get("codec_name")),
            _left(before),
        )
        yield from _encoded(name, source, output, old, new)
        return
    for key in ("sample_rate", "channels", "channel_layout"):
        yield from _unlike(f"{key} of {name}", before.get(key), behind.get(key))
    if before.get("codec_name") == "mov_text":
        old, new = ([packet for packet in each if packet.size > 2] for each in (old, new))
    hashes = [[packet.hash for packet in each] for each in (old, new)]
    if hashes[0] != hashes[1] and not _same_payload(pair, paths):
        lost, added = (sum((Counter(a) - Counter(b)).values()) for a, b in (hashes, hashes[::-1]))
        yield Difference(
            f"packets of {name}",
            f"{len(old)}",
            f"{len(new)}: {lost} lost, {added} others",
            "damaged|truncated|empty|gap",
        )
        return
    yield from _packet_times(name, source, output, pair, old, new)


def _same_payload(
    pair: tuple[Mapping[str, Any], Mapping[str, Any]], paths: tuple[Path, Path]
) -> bool:
    """Whether two streams hold the same bytes where packets may be cut otherwise, or lack their ADTS headers."""
    before, behind = pair
    adts = before.get("codec_name") == "aac" and not before.get("extradata_size")
    if not adts and not str(before.get("codec_name")).startswith("pcm_"):
        return False
    return payload_hash(paths[0], before["index"], adts=adts) == payload_hash(
        paths[1], behind["index"], adts=False
    )


def _packet_times(
    name: str,
    source: Facts,
    output: Facts,
    pair: tuple[Mapping[str, Any], Mapping[str, Any]],
    old: Sequence[Packet],
    new: Sequence[Packet],
) -> Iterator[Difference]:
    """Of packets that are the same, relative to the first frame."""
    if len(old) != len(new) or not old:
        return
    zero = _shown(source)[0], _shown(output)[0]
    tick = max(_base(each) for each in (*pair, source.video, output.video)) + _MICROSECOND
    late = [
        (b.time - zero[1]) - (a.time - zero[0])
        for a, b in zip(old, new, strict=True)
        if a.time is not None and b.time is not None
    ]
    wrong = [each for each in late if abs(each) > tick]
    if wrong:
        worst = max(wrong, key=abs)
        yield Difference(
            f"packet times of {name}",
            f"{len(late)} packets",
            f"{len(wrong)} wrong, up to {_s(worst)} late",
            "clock|jump|gap|even",
        )


def _encoded(
    name: str, source: Facts, output: Facts, old: Sequence[Packet], new: Sequence[Packet]
) -> Iterator[Difference]:
    """Sound or text in another codec begins and ends where it did, within a packet."""
    old_ends, new_ends = _ends(old, _shown(source)[0]), _ends(new, _shown(output)[0])
    if old_ends is None or new_ends is None:
        return
    for what, before, behind in zip(("begin", "end"), old_ends, new_ends, strict=True):
        if abs(before - behind) > Fraction(1, 10):
            yield Difference(f"{what} of {name}", _s(before), _s(behind), "gap|clock")


def _ends(packets: Sequence[Packet], zero: Fraction) -> tuple[Fraction, Fraction] | None:
    timed = [
        (p.time - zero, p.time - zero + (p.duration or 0))
        for p in packets
        if p.time is not None and p.size > 2
    ]
    return (min(a for a, _ in timed), max(b for _, b in timed)) if timed else None


def _chapters(source: Facts, output: Facts) -> Iterator[Difference]:
    yield from _unlike("chapters", _listed(source), _listed(output), "chapter")


def _listed(facts: Facts) -> list[tuple[float, float, str]]:
    return [
        (
            round(float(each["start_time"]), 2),
            round(float(each["end_time"]), 2),
            each.get("tags", {}).get("title", ""),
        )
        for each in facts.chapters
    ]


def _tags(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    before, behind = (
        {key.lower(): value for key, value in each.get("tags", {}).items()} for each in (old, new)
    )
    for key, value in before.items():
        if _TECHNICAL.fullmatch(key):
            continue
        if behind.get(key) != value and value not in behind.values():
            yield Difference(
                f"tag {key} of {name}",
                str(value)[:80],
                str(behind.get(key))[:80],
                f"tag|{re.escape(key)}",
            )
    old_language, new_language = (each.get("language", "und") for each in (before, behind))
    yield from _unlike(f"language of {name}", old_language, new_language, "language")


def _marks(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Difference]:
    """Dispositions; the default one may be added, since mp4 always has it."""
    before, behind = (
        {key for key, on in each.get("disposition", {}).items() if on} for each in (old, new)
    )
    if before - behind or behind - before - {"default"}:
        yield Difference(
            f"disposition of {name}",
            " ".join(sorted(before)),
            " ".join(sorted(behind)),
            "disposition|role",
        )


def _unlike(field: str, old: object, new: object, words: str = "") -> Iterator[Difference]:
    if old != new:
        yield Difference(field, str(old)[:300], str(new)[:300], words)


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


def _base(stream: Mapping[str, Any]) -> Fraction:
    return fraction(stream.get("time_base"))


def _name(stream: Mapping[str, Any]) -> str:
    return f"{stream.get('codec_name', stream.get('codec_tag_string', 'unknown'))}"


def _left(stream: Mapping[str, Any]) -> str:
    """Words of a line that tells what becomes of a stream."""
    words = {"cover": "cover", "data": "data stream|data", "attachment": "attach|font|left out"}
    index = rf"stream {stream['index']}\b|streams [\d, and]*\b{stream['index']}\b"
    return "|".join(filter(None, (index, words.get(str(stream.get("codec_type"))))))


def _s(seconds: Fraction | None) -> str:
    return "none" if seconds is None else f"{float(seconds):.4f} s"
