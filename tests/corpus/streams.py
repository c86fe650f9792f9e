"""What becomes of the streams beside the film: their packets and times, and tags, marks and chapters."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from tests.corpus.difference import MICROSECOND, Difference, base_of, in_seconds, shown, unlike
from tests.corpus.ffprobe import Facts, Packet, payload_hash

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


def stream_differences(
    source: Facts, output: Facts, paths: tuple[Path, Path]
) -> Iterator[Difference]:
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
    yield from tag_differences("film", source.video, output.video)
    yield from _marks("film", source.video, output.video)


def _stream(
    source: Facts,
    output: Facts,
    pair: tuple[Mapping[str, Any], Mapping[str, Any]],
    paths: tuple[Path, Path],
) -> Iterator[Difference]:
    before, behind = pair
    name = f"{before['codec_type']} stream {before['index']}"
    yield from tag_differences(name, before, behind)
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
        yield from unlike(f"{key} of {name}", before.get(key), behind.get(key))
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
    zero = shown(source)[0], shown(output)[0]
    tick = max(base_of(each) for each in (*pair, source.video, output.video)) + MICROSECOND
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
            f"{len(wrong)} wrong, up to {in_seconds(worst)} late",
            r"\bclock|\bjump|\bgap",
        )


def _encoded(
    name: str, source: Facts, output: Facts, old: Sequence[Packet], new: Sequence[Packet]
) -> Iterator[Difference]:
    """Sound or text in another codec begins and ends where it did, within a packet."""
    old_ends, new_ends = _ends(old, shown(source)[0]), _ends(new, shown(output)[0])
    if old_ends is None or new_ends is None:
        return
    for what, before, behind in zip(("begin", "end"), old_ends, new_ends, strict=True):
        if abs(before - behind) > Fraction(1, 10):
            yield Difference(
                f"{what} of {name}", in_seconds(before), in_seconds(behind), r"\bclock|\bgap"
            )


def _ends(packets: Sequence[Packet], zero: Fraction) -> tuple[Fraction, Fraction] | None:
    timed = [
        (p.time - zero, p.time - zero + (p.duration or 0))
        for p in packets
        if p.time is not None and p.size > 2
    ]
    return (min(a for a, _ in timed), max(b for _, b in timed)) if timed else None


def chapter_differences(source: Facts, output: Facts) -> Iterator[Difference]:
    yield from unlike("chapters", _listed(source), _listed(output), "chapter")


def _listed(facts: Facts) -> list[tuple[float, float, str]]:
    return [
        (
            round(float(each["start_time"]), 2),
            round(float(each["end_time"]), 2),
            each.get("tags", {}).get("title", ""),
        )
        for each in facts.chapters
    ]


def tag_differences(
    name: str, old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[Difference]:
    before, behind = (
        {key.lower(): value for key, value in each.get("tags", {}).items()} for each in (old, new)
    )
    for key, value in before.items():
        if not value or _TECHNICAL.fullmatch(key):
            continue
        if _same_place(key, value, behind.get(key, "")):
            continue
        if behind.get(key) != value and value not in behind.values():
            yield Difference(
                f"tag {key} of {name}",
                str(value)[:80],
                str(behind.get(key))[:80],
                f"tag|{re.escape(key)}",
            )
    old_language, new_language = (each.get("language", "und") for each in (before, behind))
    yield from unlike(f"language of {name}", old_language, new_language, "language")


def _same_place(key: str, old: str, new: str) -> bool:
    """Whether two locations (ISO 6709) are the same degrees, written with more or fewer digits."""
    places = [[float(part) for part in re.findall(r"[+-][\d.]+", text)] for text in (old, new)]
    return key.startswith("location") and bool(places[0]) and places[0] == places[1]


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


def _name(stream: Mapping[str, Any]) -> str:
    return f"{stream.get('codec_name', stream.get('codec_tag_string', 'unknown'))}"


def _left(stream: Mapping[str, Any]) -> str:
    """Words of a line that tells what becomes of a stream."""
    words = {"cover": "cover", "data": "data stream|data", "attachment": "attach|font|left out"}
    number = stream["index"]
    index = rf"stream {number}\b|streams [\d, and]*\b{number}\b|stream .*\b{number} \("
    return "|".join(filter(None, (index, words.get(str(stream.get("codec_type"))))))
