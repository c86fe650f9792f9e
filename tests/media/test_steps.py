"""A source whose clock steps back or jumps ahead: pictures, sound, subtitles and chapters stay in step."""

from __future__ import annotations

import logging
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.options import StreamOptions
from tests.media.clips import Audio, Clip, make, payloads, tone
from tests.media.jobs import opened, times, upscale
from tests.media.test_audio import place_of

FRAMES = 12
LENGTH = Fraction(FRAMES, 25)
FRAME = Fraction(1, 25)


def piece(folder: Path, suffix: str, start: float, sound: str = "mp2", **changes: Any) -> Path:
    """A clip whose clock begins near `start`."""
    name = f"{start}{suffix}"
    clip = Clip(
        frames=FRAMES,
        codec="mpeg2video",
        time_base=FRAME,
        audio=(Audio(sound, seconds=float(LENGTH)),),
        muxer={"output_ts_offset": str(start)} if start else {},
    )
    return make(folder / name, replace(clip, **changes))


def joined(folder: Path, suffix: str, *starts: float, **changes: Any) -> Path:
    pieces = [piece(folder, suffix, start, **changes) for start in starts]
    path = folder / f"joined{suffix}"
    path.write_bytes(b"".join(each.read_bytes() for each in pieces))
    return path


def jumped(
    source: Path, target: Path, by: float, kinds: str = "video audio subtitle", at: float = 0.48
) -> Path:
    """A copy in which the packets of some streams are later from a time on."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        copies = {each.index: new.add_stream_from_template(each) for each in old.streams}
        new.set_chapters(
            [
                {
                    "id": number,
                    "start": round((begin + (by if begin >= at else 0)) * 1000),
                    "end": round((begin + 0.4 + (by if begin >= at else 0)) * 1000),
                    "time_base": Fraction(1, 1000),
                    "metadata": {"title": str(number)},
                }
                for number, begin in enumerate((0, 0.52), start=1)
            ]
        )
        packets = [packet for packet in old.demux() if packet.size]
        for packet in packets:
            # Matroska states no decode times.
            packet.dts = packet.pts if packet.dts is None else packet.dts
            if _time(packet) >= at and packet.stream.type in kinds.split():
                ticks = round(by / packet.time_base)
                packet.pts, packet.dts = (packet.pts or 0) + ticks, (packet.dts or 0) + ticks
        for packet in sorted(packets, key=_time):
            packet.stream = copies[packet.stream.index]
            new.mux(packet)
    return target


def _time(packet: Packet[Any]) -> Fraction:
    return Fraction((packet.dts or 0) * packet.time_base)


def in_step(made: Path, offsets: list[Fraction]) -> None:
    """Frames are even, and every part's sound is where it is in its piece; a few packets may be squeezed."""
    shown = times(made)
    assert len(shown) == FRAMES * len(offsets)
    assert {round(float(b - a), 3) for a, b in pairwise(shown)} == {0.04}
    (sound,) = payloads(made, "audio")
    per_piece = len(sound) // len(offsets)
    for number, offset in enumerate(offsets):
        starts = [each.start for each in sound[number * per_piece : (number + 1) * per_piece]]
        away = abs(starts[per_piece // 2] - shown[number * FRAMES] - offset)
        assert away <= Fraction(3, 1000)
        close = [b - a < Fraction(1, 100) for a, b in pairwise(starts)]
        assert sum(close) <= 2


def middle_of_sound(path: Path) -> Fraction:
    (sound,) = payloads(path, "audio")
    return sound[len(sound) // 2].start - times(path)[0]


@pytest.mark.parametrize("target", ["o.mp4", "o.mkv"])
@pytest.mark.parametrize("suffix", [".ts", ".mpg"])
@pytest.mark.parametrize(
    "starts", [(0, 0), (50, 0), (0, 1800), (0, 1800, 0)], ids=["anew", "back", "ahead", "advert"]
)
def test_copied_sound_stays_in_step(
    tmp_path: Path, suffix: str, starts: tuple[float, ...], target: str
) -> None:
    source = joined(tmp_path, suffix, *starts)
    offset = middle_of_sound(tmp_path / f"{starts[0]}{suffix}")
    in_step(upscale(source, tmp_path / target, lengths=(20,)), [offset] * len(starts))


@pytest.mark.parametrize("starts", [(0, 0), (0, 1800)])
def test_encoded_sound_stays_in_step(tmp_path: Path, starts: tuple[float, ...]) -> None:
    source = joined(tmp_path, ".ts", *starts)
    made = upscale(source, tmp_path / "o.mkv", streams=StreamOptions(audio="flac"), lengths=(24,))
    assert len(times(made)) == 24
    with av.open(str(made)) as container:
        rate = container.streams.audio[0].rate
        samples = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    whole = np.concatenate(samples).astype(np.float32)[None]
    wave, half = tone(float(LENGTH), rate)[: rate // 3], whole.shape[1] // 2
    first, again = place_of(wave, whole[:, :half]), half + place_of(wave, whole[:, half:])
    assert abs((again - first) / rate - float(LENGTH)) < 0.003


def test_a_range_behind_a_step_has_its_sound(tmp_path: Path) -> None:
    source = joined(tmp_path, ".ts", 0, 0)
    made = upscale(source, tmp_path / "o.mkv", span=(14, 24), lengths=(10,))
    (sound,) = payloads(made, "audio")
    assert sound[0].start < Fraction(1, 20) and sound[-1].start > Fraction(3, 10)
    assert all(a.start < b.start for a, b in pairwise(sound))


def text(start: float) -> tuple[str, float, float, str]:
    return ("subrip", start, 0.1, f"at {start}")


RICH = Clip(
    frames=24,
    options={"bf": "0"},
    audio=(Audio("flac", seconds=0.96),),
    subtitles=(text(0.1), text(0.3), text(0.56), text(0.8)),
)


@pytest.mark.parametrize("by", [30.0, 1800.0])
def test_everything_in_matroska_moves_together(tmp_path: Path, by: float) -> None:
    plain = make(tmp_path / "a.mkv", RICH)
    made = upscale(jumped(plain, tmp_path / "b.mkv", by), tmp_path / "o.mkv", lengths=(24,))
    assert [round(float(time), 3) for time in times(made)] == [n / 25 for n in range(24)]
    for kind in ("audio", "subtitle"):
        (old,), (new,) = payloads(plain, kind), payloads(made, kind)
        assert [each.data for each in new] == [each.data for each in old]
        away = [abs(a.start - b.start) for a, b in zip(old, new, strict=True)]
        # What is cut between two packets of sound may lie that far from the cut between pictures.
        assert max(away) <= Fraction(1, 10)
    with av.open(str(made)) as container:
        starts = [each["start"] * (each["time_base"] or 0) for each in container.chapters()]
    assert [
        abs(float(start) - wanted) < 0.1 for start, wanted in zip(starts, (0, 0.52), strict=True)
    ]


@pytest.mark.parametrize(
    ("suffix", "kinds", "gaps", "longest"),
    [
        # All streams jump.
        (".mkv", "video audio", "auto", 0),
        (".flv", "video audio", "auto", 0),
        (".ts", "video audio", "auto", 0),
        (".mkv", "video audio", "keep", 30),
        (".ts", "video audio", "keep", 30),
        (".mp4", "video audio", "auto", 30),
        (".mp4", "video audio", "close", 0),
        # The pictures alone, without any sound in between.
        (".ts", "video", "auto", 0),
        # The sound alone: the pictures are as they are.
        (".mkv", "audio", "auto", 0),
    ],
)
def test_jump_or_held_picture(
    tmp_path: Path, suffix: str, kinds: str, gaps: str, longest: int
) -> None:
    clip = Clip(frames=24, audio=(Audio("aac", seconds=0.96),), options={"bf": "0"})
    plain = make(tmp_path / f"a{suffix}", replace(clip, time_base=FRAME))
    source = jumped(plain, tmp_path / f"b{suffix}", 30, kinds)
    info = probe(source)
    index = build_index(info, scene_detect=False, gaps=gaps)
    assert abs(max(index.durations) * info.time_base - longest) < Fraction(2, 10)


def test_a_picture_is_held_while_sound_goes_on(tmp_path: Path) -> None:
    clip = Clip(frames=24, audio=(Audio("aac", seconds=15, rate=8000),), options={"bf": "0"})
    for suffix in (".ts", ".mkv", ".flv"):
        rate = 44100 if suffix == ".flv" else 8000
        sound = Audio("aac", seconds=15, rate=rate)
        plain = make(tmp_path / f"a{suffix}", replace(clip, time_base=FRAME, audio=(sound,)))
        info, index = opened(jumped(plain, tmp_path / f"b{suffix}", 14, "video"))
        assert max(index.durations) * info.time_base > 13
        assert not index.shifts


def test_slides_without_sound_are_held(tmp_path: Path) -> None:
    pts = [0, 512 * 25 * 60, 512 * 25 * 90]
    for suffix in (".mp4", ".mkv"):
        info, index = opened(make(tmp_path / f"a{suffix}", Clip(frames=3, pts=pts)))
        shown = [float(time * info.time_base) for time in index.pts]
        assert shown == pytest.approx([0, 60, 90])


@pytest.mark.parametrize(
    ("suffix", "codec", "frames"),
    [(".ts", "libx264", "bf=3"), (".mkv", "libx264", "bf=3"), (".mp4", "libx264", "bf=2")],
)
def test_nothing_moves_in_whole_files(tmp_path: Path, suffix: str, codec: str, frames: str) -> None:
    key, value = frames.split("=")
    clip = Clip(frames=30, codec=codec, options={key: value}, audio=(Audio(),), time_base=FRAME)
    index = opened(make(tmp_path / f"a{suffix}", clip))[1]
    assert (index.shifts, index.stamps) == ((), ())


def with_wild_time(path: Path, kind: int, which: int, seconds: int) -> None:
    """Change the time of one PES packet of a transport stream."""
    data = bytearray(path.read_bytes())
    seen = 0
    for at in range(0, len(data), 188):
        if not data[at + 1] & 0x40:
            continue
        pes = at + 4 + (1 + data[at + 4] if data[at + 3] & 0x20 else 0)
        if data[pes : pes + 3] != b"\0\0\1" or data[pes + 3] != kind:
            continue
        seen += 1
        if seen == which:
            for where in (pes + 9, pes + 14)[: 1 + (data[pes + 7] >> 6 == 3)]:
                _add(data, where, seconds * 90_000)
    path.write_bytes(data)


def _add(data: bytearray, at: int, ticks: int) -> None:
    field = int.from_bytes(data[at : at + 5], "big")
    time = (field >> 33 & 7) << 30 | (field >> 17 & 0x7FFF) << 15 | field >> 1 & 0x7FFF
    time += ticks
    field = field >> 36 << 36 | (time >> 30) << 33 | (time >> 15 & 0x7FFF) << 17
    field |= (time & 0x7FFF) << 1 | 0x1_0001_0001
    data[at : at + 5] = field.to_bytes(5, "big")


@pytest.mark.parametrize("seconds", [1000, 3, -1])
@pytest.mark.parametrize("kind", [0xE0, 0xC0], ids=["picture", "sound"])
def test_one_wrong_time(tmp_path: Path, kind: int, seconds: int) -> None:
    """Of one packet; the others are where they were."""
    clip = Clip(frames=50, time_base=FRAME, options={"bf": "0"}, audio=(Audio("mp2", seconds=2),))
    clip = replace(clip, muxer={"output_ts_offset": "10"})
    source = make(tmp_path / "a.ts", clip)
    right, (sound,) = opened(source)[1], payloads(source, "audio")
    with_wild_time(source, kind, 3 if kind == 0xC0 else 20, seconds)
    index = opened(source)[1]
    assert index.pts == right.pts
    made = upscale(source, tmp_path / "o.mkv", lengths=(50,))
    (new,) = payloads(made, "audio")
    moved = [a.start - b.start for a, b in zip(sound, new, strict=True)]
    assert max(moved) - min(moved) <= Fraction(2, 1000)


def test_what_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        opened(joined(tmp_path, ".ts", 0, 1800, 0))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "the clock at 0.480 s steps ahead by 1799.4" in line and "1 times more" in line
    assert "(frame 12)" in line and "--gaps keep" in line
    caplog.clear()
    opened(jumped(make(tmp_path / "a.mp4", Clip(frames=24)), tmp_path / "b.mp4", 30))
    (line,) = [record.getMessage() for record in caplog.records]
    assert "a picture is held for 30.0" in line and "--gaps close" in line


def test_a_stream_that_begins_behind_the_step(tmp_path: Path) -> None:
    silent = piece(tmp_path, ".ts", 0, audio=())
    loud = piece(tmp_path, ".ts", 1800)
    path = tmp_path / "a.ts"
    path.write_bytes(loud.read_bytes() + silent.read_bytes() + loud.read_bytes())
    index = opened(path)[1]
    seconds = [moved for stream, _, moved in index.shifts if stream == 0]
    assert len(seconds) == 2
    sound = [moved for stream, _, moved in index.shifts if stream == 1]
    assert sound[-1] == seconds[-1]
