"""Packets of other streams: what an edit list hides."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.packet import Packet

from starvsr.media.span import Span
from tests.media.clips import Audio, Clip, make, payloads
from tests.media.jobs import times, upscale


def trimmed(path: Path, start_s: Fraction, seconds: Fraction) -> Path:
    """Have every track's edit list show only a part."""
    data = bytearray(path.read_bytes())
    boxes = [found.start() for found in re.finditer(b"elst", data)]
    scales = [found.start() for found in re.finditer(b"mdhd", data)]
    (movie,) = (found.start() + 16 for found in re.finditer(b"mvhd", data))
    assert len(boxes) == len(scales) > 0
    for edits, scale in zip(boxes, scales, strict=True):
        ticks = int.from_bytes(data[scale + 16 : scale + 20], "big")
        begins = int.from_bytes(data[edits + 16 : edits + 20], "big") + round(start_s * ticks)
        lasts = round(seconds * int.from_bytes(data[movie : movie + 4], "big"))
        data[edits + 12 : edits + 20] = lasts.to_bytes(4, "big") + begins.to_bytes(4, "big")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("codec", ["aac", "libopus", "flac"])
@pytest.mark.parametrize("target", ["o.mkv", "o.mp4"])
def test_sound_that_an_edit_list_hides(tmp_path: Path, codec: str, target: str) -> None:
    clip = Clip(frames=100, audio=(Audio(codec, seconds=4),))
    source = trimmed(make(tmp_path / "a.mp4", clip), Fraction(6, 5), Fraction(8, 5))
    made = upscale(source, tmp_path / target, lengths=(40,))
    assert len(times(made)) == 40
    (sound,) = payloads(made, "audio")
    # Decoders begin with what is before the first sound that is heard.
    assert -Fraction(1, 10) <= sound[0].start <= Fraction(3, 100)
    assert Fraction(3, 2) < sound[-1].start < Fraction(8, 5)
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    shown = [bytes(packet) for packet in packets if not packet.is_discard]
    hidden = len(sound) - len(shown)
    assert 0 <= hidden <= 5 and [each.data for each in sound[hidden:]] == shown


def test_ordinary_priming_is_copied(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", Clip(audio=(Audio("aac", seconds=0.5),)))
    for target in ("o.mkv", "o.mp4"):
        (old,), (new,) = (
            payloads(path, "audio") for path in (source, upscale(source, tmp_path / target))
        )
        assert [each.data for each in new] == [each.data for each in old]
        assert old[0].start < 0


def test_packets_shorter_than_a_tick_of_matroska(tmp_path: Path) -> None:
    """As those of TrueHD, of which 1200 a second would become 1000."""
    plain, source = make(tmp_path / "plain.mkv", Clip(frames=25)), tmp_path / "a.mkv"
    rate, samples = 48000, 40
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        video = new.add_stream_from_template(old.streams.video[0], opaque=True)
        sound = new.add_stream("pcm_s16le", rate=rate, layout="mono")
        new.start_encoding()
        packets: list[Packet[Any]] = [packet for packet in old.demux(video=0) if packet.size]
        for packet in packets:
            packet.stream = video
        for number in range(rate // samples):
            short: Packet[Any] = Packet(bytes([number % 256, 1]) * samples)
            short.stream, short.time_base = sound, Fraction(1, rate)
            short.pts = short.dts = number * samples
            short.duration = samples
            packets.append(short)
        packets.sort(key=lambda each: (each.dts or 0) * each.time_base)
        for packet in packets:
            new.mux(packet)
    (old_sound,), (new_sound,) = (
        payloads(path, "audio") for path in (source, upscale(source, tmp_path / "o.mkv"))
    )
    late = [b.start - a.start for a, b in zip(old_sound, new_sound, strict=True)]
    assert max(map(abs, late)) <= Fraction(1, 1000)


@pytest.mark.parametrize(
    ("start", "length", "kept"),
    [
        (0, 3, (1, 2)),
        (2, 9, (2, 3)),
        (0, 1, None),
        (2, 0, (2, 0)),
        (1, 0, (1, 0)),
        (0, 0, None),
        (5, 0, None),
    ],
)
def test_what_has_no_length_is_in_a_range_if_it_begins_there(
    start: int, length: int, kept: tuple[int, int] | None
) -> None:
    """Pictures of subtitles in Matroska are shown until the next."""
    span = Span(Fraction(1), Fraction(5), Fraction(1))
    found = span.clipped(Fraction(start), Fraction(length))
    assert (None if found is None else tuple(map(int, found))) == kept


@pytest.mark.parametrize(
    ("span", "shown"),
    [
        ((0, 25), [(0.08, b"a"), (0.72, b"-"), (0.8, b"b")]),
        ((10, 25), [(0, b"a"), (0.32, b"-"), (0.4, b"b")]),
        ((19, 25), [(0, b"-"), (0.04, b"b")]),
        ((22, 30), [(0, b"b")]),
    ],
)
def test_a_picture_of_subtitles_that_is_on_screen_at_the_start_is_shown(
    tmp_path: Path, span: tuple[int, int], shown: list[tuple[float, bytes]]
) -> None:
    """Without lengths, as in PGS, each is shown until the next, which may be empty."""
    pictures = ((0.08, "a"), (0.72, "-"), (0.8, "b"), (1.4, "-"))
    subtitles = tuple(("dvb_subtitle", start, 0.0, text) for start, text in pictures)
    source = make(tmp_path / "a.mkv", Clip(frames=40, subtitles=subtitles))
    made = upscale(source, tmp_path / "o.mkv", span=span)
    (found,) = payloads(made, "subtitle")
    assert [(round(float(each.start), 3), each.data) for each in found] == shown
