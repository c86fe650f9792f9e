"""Time codes: counted on by the range, with and without dropped numbers, kept in every container."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import pytest
from av.sidedata.sidedata import Type

from starvsr.media.beside import TIME_CODE, _timecode_of, value_of
from starvsr.media.encoder import check_encoder
from starvsr.media.fields import made_index, plan_fields
from starvsr.media.index import build_index
from starvsr.media.omitted import beside_notes
from starvsr.media.probe import probe
from starvsr.media.timecode import counted_by, moved_timecode
from starvsr.options import EncodeOptions, LookOptions, StreamOptions
from tests.media.clips import Clip, make
from tests.media.jobs import upscale

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("text", "frames", "rate", "moved"),
    [
        ("10:00:00:00", 50, Fraction(25), "10:00:02:00"),
        ("00:00:59:24", 1, Fraction(25), "00:01:00:00"),
        ("23:59:59:24", 1, Fraction(25), "00:00:00:00"),
        ("01:00:00:00", 24, Fraction(24000, 1001), "01:00:01:00"),
        ("00:00:59;29", 1, NTSC, "00:01:00;02"),
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),
        ("00:00:59:29", 1, NTSC, "00:01:00:00"),
        ("00:00:59;59", 1, NTSC * 2, "00:01:00;04"),
        ("23:59:59;29", 1, NTSC, "00:00:00;00"),
        ("nothing", 1, Fraction(25), "nothing"),
        ("10:00:00:00", 1, None, "10:00:00:00"),
    ],
)
def test_a_time_code_later(text: str, frames: int, rate: Fraction | None, moved: str) -> None:
    assert moved_timecode(text, frames / (rate or Fraction(25)), rate) == moved


def test_every_number_of_an_hour_is_reached_once_in_order() -> None:
    """Against counting: two numbers are left out in each minute but every tenth."""
    wanted = (
        f"{minute // 60:02}:{minute % 60:02}:{second:02};{frame:02}"
        for minute in range(61)
        for second in range(60)
        for frame in range(30)
        if frame > 1 or second or minute % 10 == 0
    )
    for number, text in zip(range(60 * 1798), wanted, strict=False):
        if number % 97 == 0 or text[6:8] in ("00", "59"):
            assert moved_timecode("00:00:00;00", number / NTSC, NTSC) == text


@pytest.mark.parametrize(
    ("text", "rate", "shown", "moved"),
    [
        ("10:00:00:20", Fraction(30), Fraction(24), "10:00:00:16"),
        # No number is dropped at 24 per second: libav's muxers would leave the time code out.
        ("10:00:59;20", NTSC, NTSC * 4 / 5, "10:00:59:16"),
        ("10:00:59;20", Fraction(25), Fraction(25), "10:00:59:20"),
        ("10:00:59;20", NTSC, NTSC * 2, "10:00:59;40"),
        ("10:00:59:20", Fraction(25), Fraction(50), "10:00:59:40"),
    ],
)
def test_another_rate_of_the_output(
    text: str, rate: Fraction, shown: Fraction, moved: str, tmp_path: Path
) -> None:
    assert moved_timecode(text, Fraction(0), rate, shown) == moved
    info = replace(
        probe(make(tmp_path / "a.mov", Clip(frames=2))),
        frame_rate=rate,
        beside=(("projection", "flat"), (TIME_CODE, text)),
    )
    made = counted_by(info, shown)
    assert made.frame_rate == shown
    assert made.beside == (("projection", "flat"), (TIME_CODE, moved))


def test_fields_are_numbered_as_frames(tmp_path: Path) -> None:
    tags = {"timecode": "10:00:00:20"}
    source = make(tmp_path / "a.mov", Clip(frames=4, video_tags=tags))
    info = probe(source)
    index = build_index(info, scene_detect=False)
    plan = plan_fields(info, index, LookOptions(deinterlace="field"))
    made, _ = made_index(info, index, plan)
    assert (made.frame_rate, value_of(made, TIME_CODE)) == (Fraction(50), "10:00:00:40")


@pytest.mark.parametrize("home", [".mov", ".mp4", ".mkv"])
@pytest.mark.parametrize("target", [".mov", ".mp4", ".mkv"])
def test_a_range_moves_its_time_code(home: str, target: str, tmp_path: Path) -> None:
    clip = Clip(frames=10, options={"preset": "ultrafast"}, video_tags={"timecode": "10:00:00:20"})
    source = make(tmp_path / f"a{home}", clip)
    assert value_of(probe(source), TIME_CODE) == "10:00:00:20"
    made = upscale(source, tmp_path / f"o{target}", span=(6, 10))
    assert value_of(probe(made), TIME_CODE) == "10:00:01:01"
    whole = upscale(source, tmp_path / f"w{target}")
    assert value_of(probe(whole), TIME_CODE) == "10:00:00:20"


def test_no_time_code_without_tags(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mov", Clip(frames=4, video_tags={"timecode": "10:00:00:20"}))
    made = upscale(source, tmp_path / "o.mov", streams=StreamOptions(metadata=False))
    assert value_of(probe(made), TIME_CODE) == ""


def test_the_time_code_of_mpeg_2(tmp_path: Path) -> None:
    """It is in the groups of pictures; one of 0 is what every encoder writes."""
    options = {"gop_timecode": "01:02:03:04"}
    clip = Clip(4, codec="mpeg2video", options=options, time_base=Fraction(1, 25))
    source = make(tmp_path / "a.ts", clip)
    assert value_of(probe(source), TIME_CODE) == "01:02:03:04"
    assert value_of(probe(upscale(source, tmp_path / "o.mp4")), TIME_CODE) == "01:02:03:04"
    plain = make(tmp_path / "b.ts", Clip(4, codec="mpeg2video", time_base=Fraction(1, 25)))
    assert value_of(probe(plain), TIME_CODE) == ""
    assert _timecode_of([]) == ""


class _Side:
    """Side data of a frame."""

    def __init__(self, kind: Type, data: bytes) -> None:
        self.type, self._data = kind, data

    def __bytes__(self) -> bytes:
        return self._data


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0x12_34_45_09, "09:45:34:12"),
        (0x40_00_00_00 | 0x29_59_59_23, "23:59:59;29"),
        (0, "00:00:00:00"),
    ],
)
def test_time_codes_of_frames(number: int, text: str) -> None:
    """SMPTE 12M's decimal digits, as H.264 and DV have them; the first number says how many there are."""
    side = _Side(Type.S12M_TIMECODE, struct.pack("=4I", 1, number, 0, 0))
    assert _timecode_of([cast("Any", side)]) == text


def test_a_mxf_has_one_for_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mxf"
    with av.open(str(path), "w") as output:
        output.metadata["timecode"] = "02:00:00:00"
        stream = output.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv422p"
        for number in range(3):
            frame = av.VideoFrame(64, 48, "yuv422p")
            for plane in frame.planes:
                plane.update(bytes([128]) * plane.buffer_size)
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    made = upscale(path, tmp_path / "o.mov", span=(2, 3))
    assert value_of(probe(made), TIME_CODE) == "02:00:00:02"


@pytest.mark.parametrize(("target", "is_kept"), [(".mkv", True), (".mp4", False), (".mov", False)])
def test_what_is_no_time_code(target: str, is_kept: bool, tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Clip(frames=5, video_tags={"TIMECODE": "roll 7"}))
    info, made = probe(source), upscale(source, tmp_path / f"o{target}")
    settings = check_encoder(EncodeOptions(), made, info, 128, 96)
    notes = beside_notes(info, build_index(info), settings, StreamOptions())
    said = "the time code 'roll 7' is left out: it is not of the form hh:mm:ss:ff"
    assert notes == ([] if is_kept else [said])
    assert value_of(probe(made), TIME_CODE) == ("roll 7" if is_kept else "")
