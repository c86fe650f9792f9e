"""Captions and format descriptions in the picture stream: found in every frame, and put into the output's packets."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path

import av
import pytest
from av.sidedata.sidedata import Type

from starvsr.media.encoder import check_encoder
from starvsr.media.index import build_index
from starvsr.media.messages import (
    AFD,
    CAPTIONS,
    _as_leb128,
    _leb128,
    inserter,
    kinds_of,
    messages_of,
)
from starvsr.media.notes import picture_notes
from starvsr.media.probe import probe
from starvsr.media.sidedata import side_data_of
from starvsr.options import EncodeOptions, UpscaleOptions
from tests.media.clips import Clip, make
from tests.media.jobs import upscale

FRAMES = 10
CLIP = Clip(frames=FRAMES, options={"preset": "ultrafast", "bf": "2"})
# Two zeros and a small number are escaped in H.264 and HEVC.
TRIPLETS = [bytes([0xFC, 0, 0, 0xFC, 1, number]) for number in range(FRAMES)]


def caption(data: bytes) -> bytes:
    return b"\xb5\x00\x31GA94\x03" + bytes([0x40 | len(data) // 3, 0xFF]) + data + b"\xff"


def description(code: int) -> bytes:
    return b"\xb5\x00\x31DTG1\x41" + bytes([0xF0 | code])


def with_messages(path: Path, clip: Clip, *, active: int = 0) -> Path:
    """A clip whose frame n has the nth caption, and a description of its active format."""
    plain = make(path.with_name(f"plain{path.suffix}"), clip)
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream, opaque=True)
        packets = [packet for packet in old.demux(stream) if packet.size]
        shown = sorted(packet.pts or 0 for packet in packets)
        insert = inserter(stream.codec_context.codec.canonical_name, stream.codec_context.extradata)
        assert insert is not None
        for packet in packets:
            messages = [caption(TRIPLETS[shown.index(packet.pts or 0)])]
            made = av.Packet(insert(bytes(packet), messages + [description(active)] * bool(active)))
            made.stream, made.time_base, made.is_keyframe = (
                copy,
                packet.time_base,
                packet.is_keyframe,
            )
            made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
            new.mux(made)
    return path


def found(path: Path, kind: Type = Type.A53_CC) -> list[bytes]:
    """What libav finds in every frame."""
    with av.open(str(path)) as container:
        return [
            b"".join(bytes(side) for side in side_data_of(frame) if side.type == kind)
            for frame in container.decode(video=0)
        ]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx264", ".mp4"), ("libx264", ".mkv"), ("libx265", ".mkv"), ("libsvtav1", ".mp4")],
)
def test_captions_are_kept_by_every_codec_with_a_place_for_them(
    codec: str, suffix: str, tmp_path: Path
) -> None:
    source = with_messages(tmp_path / f"a{suffix}", CLIP, active=9)
    assert found(source) == TRIPLETS
    assert dict(probe(source).beside) == {CAPTIONS: "A/53, in the pictures", AFD: "9"}
    made = upscale(source, tmp_path / f"o{suffix}", codec=codec)
    assert found(made) == TRIPLETS
    # libav reads it from H.264 and HEVC alone.
    assert set(found(made, Type.AFD)) == ({b""} if codec == "libsvtav1" else {b"\x09"})


def test_captions_of_a_range(tmp_path: Path) -> None:
    made = upscale(with_messages(tmp_path / "a.mp4", CLIP), tmp_path / "o.mkv", span=(3, 8))
    assert found(made) == TRIPLETS[3:8]


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_captions_of_other_codecs(codec: str, tmp_path: Path) -> None:
    options = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    clip = Clip(FRAMES, 64, 64, codec=codec, options=options)
    made = upscale(with_messages(tmp_path / "a.mkv", clip), tmp_path / "o.mp4")
    assert found(made) == TRIPLETS


def test_captions_as_mpeg_2_has_them(tmp_path: Path) -> None:
    clip = replace(CLIP, codec="mpeg2video", options={"bf": "0"}, pts=range(FRAMES))
    plain = make(tmp_path / "plain.ts", replace(clip, time_base=Clip().time_base * 512))
    source = tmp_path / "a.ts"
    with av.open(str(plain)) as old, av.open(str(source), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0], opaque=True)
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for packet, triplets in zip(packets, TRIPLETS, strict=True):
            data = bytes(packet)
            # User data stand before the first slice.
            at = data.index(b"\0\0\1\1")
            made = av.Packet(data[:at] + b"\0\0\1\xb2" + caption(triplets)[3:] + data[at:])
            made.stream, made.time_base, made.is_keyframe = (
                stream,
                packet.time_base,
                packet.is_keyframe,
            )
            made.pts, made.dts = packet.pts, packet.dts
            new.mux(made)
    assert found(source) == TRIPLETS
    assert found(upscale(source, tmp_path / "o.mp4")) == TRIPLETS


def test_what_a_codec_has_no_place_for_is_said(tmp_path: Path) -> None:
    info = probe(with_messages(tmp_path / "a.mp4", CLIP, active=8))
    index = build_index(info)
    assert kinds_of(index.messages) == [CAPTIONS, AFD]

    def notes(codec: str) -> str:
        target = tmp_path / "o.mkv"
        settings = check_encoder(EncodeOptions(codec=codec), target, info, 128, 96)
        return " ".join(picture_notes(info, index, settings, UpscaleOptions()))

    said = "closed captions and active format in the pictures cannot be kept by ffv1: left out"
    assert said in notes("ffv1") and "captions" not in notes("libx265")


def test_start_codes_and_lengths() -> None:
    message = caption(b"\xfc\1\2")
    for extradata, slice_, width in (
        (b"\1\0\0\0\xff", b"\0\0\0\2\x65\1", 4),
        (None, b"\0\0\0\1\x65\1", 4),
    ):
        insert = inserter("h264", extradata)
        assert insert is not None
        parameters = (b"\0\0\0\2" if extradata else b"\0\0\0\1") + b"\x67\2"
        made = insert(parameters + slice_, [message])
        assert made.startswith(parameters) and made.endswith(slice_)
        assert made[len(parameters) + width :].startswith(
            b"\x06\x04" + bytes([len(message)]) + b"\xb5"
        )
        # Without a picture there is no place.
        assert insert(parameters, [message]) == parameters
        assert insert(b"\xff\xff", [message]) == b"\xff\xff"
    assert inserter("vp9", None) is None


@pytest.mark.parametrize("number", [0, 127, 128, 300, 1 << 20])
def test_numbers_of_av1(number: int) -> None:
    data = _as_leb128(number)
    assert _leb128(b"\0" + data, 1) == (number, 1 + len(data))


def test_a_frame_that_was_looked_at_is_let_go(tmp_path: Path) -> None:
    """Without the garbage collector: frames of a film would fill the memory before it runs."""
    path = make(tmp_path / "a.mp4", Clip(frames=20))
    gc.collect()
    before = sum(type(each) is av.VideoFrame for each in gc.get_objects())
    gc.disable()
    try:
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                messages_of(frame)
            alive = [each for each in gc.get_objects() if type(each) is av.VideoFrame]
    finally:
        gc.enable()
    assert len(alive) - before <= 2
