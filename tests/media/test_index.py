"""The pass over the whole video: times, keyframes, losses, shots."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from shutil import which
from subprocess import run
from typing import Any, Literal

import av
import numpy as np
import pytest
from av.packet import Packet

from starvsr.errors import InputError
from starvsr.media import reader
from starvsr.media.boxes import is_cut
from starvsr.media.encoder import check_encoder
from starvsr.media.index import build_index
from starvsr.media.notes import picture_notes
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import EncodeOptions, UpscaleOptions
from starvsr.types import Progress, VideoIndex
from tests.media.clips import Audio, Clip, clip_pts, cut, make, payloads, picture

GROUPS = {"g": "6", "keyint_min": "6", "sc_threshold": "0"}


def index_of(path: Path, *, scene_detect: bool = True) -> VideoIndex:
    return build_index(probe(path), scene_detect=scene_detect)


def stored_packets(path: Path) -> list[tuple[int, int]]:
    """Presentation time of the video's packets and the file's position after each, in the order of the file."""
    with av.open(path) as container:
        return [
            (packet.pts, packet.pos + packet.size)
            for packet in container.demux(video=0)
            if packet.pts is not None and packet.pos is not None
        ]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_constant_rate_with_b_frames(tmp_path: Path, suffix: str) -> None:
    clip = Clip(frames=20, options=GROUPS)
    path = make(tmp_path / f"a{suffix}", clip)
    info, index = probe(path), index_of(path)
    assert [pts * info.time_base for pts in index.pts] == [Fraction(i, 25) for i in range(20)]
    assert [ticks * info.time_base for ticks in index.durations] == [Fraction(1, 25)] * 20
    assert [pts * info.time_base for pts in index.keyframe_pts] == [
        Fraction(i, 25) for i in (0, 6, 12, 18)
    ]
    assert index.lost_frames == 0


def test_variable_rate_and_late_start(tmp_path: Path) -> None:
    clip = Clip(
        frames=6,
        pts=[9000, 9100, 12000, 30000, 30001, 60000],
        # Without it the muxer would round the start to a millisecond.
        muxer={"movie_timescale": "12800"},
    )
    index = index_of(make(tmp_path / "v.mp4", clip))
    assert list(index.pts) == clip_pts(clip)
    assert index.durations[:-1] == (100, 2900, 18000, 1, 29999)


@pytest.mark.parametrize(
    ("codec", "suffix", "base"),
    [
        ("libx265", ".mp4", Fraction(1, 12800)),
        ("libvpx-vp9", ".webm", Fraction(1, 1000)),
        ("ffv1", ".mkv", Fraction(1, 1000)),
        ("mpeg4", ".avi", Fraction(1, 25)),
        ("mjpeg", ".avi", Fraction(1, 25)),
        ("mpeg2video", ".ts", Fraction(1, 25)),
        ("libx264", ".ts", Fraction(1, 25)),
        ("libx264", ".flv", Fraction(1, 25)),
    ],
)
def test_codecs_and_containers(tmp_path: Path, codec: str, suffix: str, base: Fraction) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = make(
        tmp_path / f"c{suffix}",
        Clip(frames=9, codec=codec, pix_fmt=pix_fmt, time_base=base, options=options),
    )
    info, index = probe(path), index_of(path)
    steps = [(pts - index.pts[0]) * info.time_base for pts in index.pts]
    assert [round(step * 25, 1) for step in steps] == list(range(9))
    assert index.lost_frames == 0


def test_one_frame(tmp_path: Path) -> None:
    index = index_of(make(tmp_path / "a.mp4", Clip(frames=1)))
    assert index.frames == 1 and index.durations[0] >= 1 and index.cuts == ()


@pytest.mark.parametrize("gap", [False, True])
def test_cut_faststart(tmp_path: Path, *, gap: bool) -> None:
    whole = make(tmp_path / "a.mp4", Clip(frames=40, muxer={"movflags": "faststart"}))
    stored = stored_packets(whole)
    shown = [pts for pts, _ in stored]
    # After a picture whose B-frames, which are shown before it, are cut off; or where none is missing.
    count = next(n for n in range(15, 40) if (sorted(shown[:n]) != sorted(shown)[:n]) is gap)
    short = tmp_path / "short.mp4"
    short.write_bytes(whole.read_bytes()[: stored[count - 1][1]])
    assert is_cut(short) and not is_cut(whole)
    index = index_of(short)
    assert (index.frames, index.lost_frames) == (count, 40 - count)
    assert index.pts == tuple(sorted(shown[:count]))


@pytest.mark.parametrize("share", [0.45, 0.6, 0.75, 0.95])
def test_cut_fragments(tmp_path: Path, share: float) -> None:
    muxer = {"movflags": "frag_keyframe+empty_moov"}
    whole = make(tmp_path / "a.mp4", Clip(frames=36, options=GROUPS, muxer=muxer))
    assert index_of(whole).lost_frames == 0
    index = index_of(cut(whole, share))
    assert 0 < index.frames < 36
    # How much was to follow is not written anywhere but in the fragment that was begun.
    assert 1 <= index.lost_frames <= 36 - index.frames


def test_cut_matroska(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mkv", Clip(frames=40, audio=(Audio(seconds=1.6),)))
    index = index_of(cut(whole, 0.6))
    assert 0 < index.frames < 40
    assert index.frames + index.lost_frames == pytest.approx(40, abs=1)


def test_cut_avi(tmp_path: Path) -> None:
    whole = make(
        tmp_path / "a.avi",
        Clip(frames=40, codec="mjpeg", pix_fmt="yuvj420p", time_base=Fraction(1, 25)),
    )
    index = index_of(cut(whole, 0.7))
    assert 0 < index.frames < 40
    assert index.lost_frames == 40 - index.frames


def test_damage_in_the_middle(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", Clip(frames=30, codec="ffv1", options={"slicecrc": "1"}))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    path.write_bytes(data)
    index = index_of(path)
    assert 25 <= index.frames <= 30


def test_nothing_decodes(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mp4", Clip(frames=3, muxer={"movflags": "faststart"}))
    data = whole.read_bytes()
    start = data.index(b"mdat") + 4
    whole.write_bytes(data[:start] + bytes(len(data) - start))
    with pytest.raises(InputError, match="decoded"):
        index_of(whole)


def test_progress_ends_at_the_frame_count(tmp_path: Path) -> None:
    reports: list[Progress] = []
    info = probe(make(tmp_path / "a.mp4", Clip(frames=120, width=16, height=16)))
    build_index(info, progress=reports.append)
    assert [report.done for report in reports] == [50, 100, 120]
    assert {report.total for report in reports} == {120}
    assert {report.stage for report in reports} == {"index"}


def test_cuts_only_when_asked_for(tmp_path: Path) -> None:
    def shots(frame: object, number: int) -> None:
        level = 40 if number < 15 else 200
        for plane in frame.planes:  # type: ignore[attr-defined]
            plane.update(bytes([level]) * plane.buffer_size)

    path = make(tmp_path / "a.mp4", Clip(frames=30, fill=shots))
    assert index_of(path).cuts == (15,)
    assert index_of(path, scene_detect=False).cuts == ()


def in_one(path: Path, *clips: Clip) -> VideoIndex:
    """The index of clips in one stream."""
    data = b""
    for number, clip in enumerate(clips):
        data += make(path.with_name(f"{number}{path.suffix}"), clip).read_bytes()
    path.write_bytes(data)
    return index_of(path, scene_detect=False)


def test_sizes_and_aspects_that_change(tmp_path: Path) -> None:
    clip = Clip(frames=5, codec="mpeg2video", time_base=Fraction(1, 25))
    wide = replace(clip, sample_aspect=Fraction(16, 11))
    small = replace(clip, codec="libx264")
    large = replace(small, width=96, height=64)
    found = {
        name: in_one(tmp_path / f"{name}.ts", *clips)
        for name, clips in {
            "same": (clip, clip),
            "wide": (clip, wide),
            "large": (small, large, small),
        }.items()
    }
    changing = {name: index.changing for name, index in found.items()}
    assert changing == {"same": (), "wide": ("sample aspect",), "large": ("size",)}
    info = probe(tmp_path / "wide.ts")
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mkv", info, 64, 48)
    for name in ("wide", "large"):
        notes = picture_notes(info, found[name], settings, UpscaleOptions())
        says = f"the {changing[name][0]} changes in mid-stream: the first frame's is used"
        assert [note for note in notes if note == says]


def test_images_of_mixed_sizes(tmp_path: Path) -> None:
    for number, width in enumerate((64, 64, 80)):
        clip = Clip(frames=1, width=width, codec="png", pix_fmt="rgb24")
        make(tmp_path / "one.nut", clip)
        (tmp_path / f"{number}.png").write_bytes(payloads(tmp_path / "one.nut", "video")[0][0].data)
    assert index_of(tmp_path / "%d.png").changing == ("size",)


def in_decode_order(path: Path) -> Path:
    """A clip whose packets have the times at which they are decoded, as AVI has them."""
    encoder = av.CodecContext.create("libx264", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = 64, 48, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.thread_count = Fraction(1, 25), Fraction(25), 1
    encoder.options = {"bf": "3", "b_strategy": "0", "x264-params": "keyint=12:scenecut=0"}
    packets: list[Packet[Any]] = []
    for number in range(30):
        frame = av.VideoFrame.from_ndarray(picture(number), "rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, 25)
        packets += encoder.encode(frame)
    packets += encoder.encode(None)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
        for number, packet in enumerate(packets):
            packet.time_base, packet.stream = Fraction(1, 25), stream
            packet.pts = packet.dts = number
            packet.duration = 1
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".asf"])
def test_times_in_decode_order(tmp_path: Path, suffix: str) -> None:
    info = probe(in_decode_order(tmp_path / f"a{suffix}"))
    index = build_index(info, scene_detect=False)
    steps = {round(float((b - a) * info.time_base), 3) for a, b in pairwise(index.pts)}
    assert index.frames == 30 and steps == {0.04}
    assert index.durations[-1] * info.time_base == Fraction(1, 25)
    # AVI counts pictures; the times of the others are those of decoding, after which pictures wait for the two that
    # they are ordered with.
    begins = {".avi": 0, ".asf": Fraction(2, 25)}
    assert index.pts[0] * info.time_base == begins.get(suffix, index.pts[0] * info.time_base)
    # Any frame is found from the keyframe before it.
    whole = list(read_frames(info, index, 0, 30))
    for first in (5, 13, 24):
        part = list(read_frames(info, index, first, first + 4))
        assert all(np.array_equal(a, b) for a, b in zip(part, whole[first:], strict=False))


@pytest.mark.parametrize(("codec", "suffix"), [("libx264", ".ts"), ("mpeg4", ".mkv")])
def test_avi_begins_with_its_first_picture(tmp_path: Path, codec: str, suffix: str) -> None:
    """Whatever the delay by reordering that libav adds; pictures that the decoder drops have been shown before it."""
    options = {"bf": "2", "g": "12", "keyint_min": "12"}
    options |= {"x264-params": "open-gop=1:b-adapt=0:scenecut=0"} if codec == "libx264" else {}
    clip = Clip(frames=40, codec=codec, time_base=Fraction(1, 25), options=options)
    plain = make(tmp_path / f"plain{suffix}", clip)
    for skipped, lost in ((0, 0), (1, 2)):
        path = tmp_path / f"{skipped}.avi"
        with av.open(str(plain)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            keyframes, number = 0, 0
            for packet in old.demux(video=0):
                keyframes += packet.is_keyframe
                if packet.size and keyframes > skipped:
                    packet.pts, packet.dts, packet.time_base = number, number, Fraction(1, 25)
                    packet.stream, packet.duration, number = stream, 1, number + 1
                    new.mux(packet)
        info, index = probe(path), index_of(path)
        times = [pts * info.time_base for pts in index.pts]
        assert index.lost_frames == lost
        assert times == [Fraction(place, 25) for place in range(lost, number)]
        assert len(list(read_frames(info, index, 20, 25))) == 5


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_avi_whose_pictures_begin_late(tmp_path: Path, codec: str) -> None:
    """Where ffmpeg puts the gap after the first one; the pictures' rate is half the one that the header states."""
    base = Fraction(1, 50)
    options = {"bf": "2"} | ({"x264-params": "b-adapt=0"} if codec == "libx264" else {})
    clip = Clip(frames=20, codec=codec, time_base=Fraction(1, 25), options=options)
    plain = make(tmp_path / ("plain.ts" if codec == "libx264" else "plain.mkv"), clip)
    path = tmp_path / "a.avi"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        stream.time_base = base
        packets = [packet for packet in old.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = 60 * (number > 0) + 2 * number
            packet.stream, packet.time_base, packet.duration = stream, base, 1
            new.mux(packet)
    info, index = probe(path), index_of(path)
    times = [pts * info.time_base for pts in index.pts]
    assert times == [Fraction(30 + number, 25) for number in range(20)]
    assert set(index.durations) == {2} and info.time_base == base


def test_decode_order_is_sought(tmp_path: Path) -> None:
    info = probe(in_decode_order(tmp_path / "a.avi"))
    index = build_index(info, scene_detect=False)
    starts = list(reader._starts(index, 26))
    assert starts[0] == index.stamps[24] and starts[-1] is None


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_length_that_is_too_large(tmp_path: Path, suffix: str) -> None:
    """Nothing is lost where a box claims more bytes than there are, but all frames are there."""
    clip = Clip(frames=20, audio=(Audio(seconds=0.9),), muxer={"movflags": "faststart"})
    if suffix == ".avi":
        clip = replace(clip, codec="mpeg4", audio=(), time_base=Fraction(1, 25))
    path = make(tmp_path / f"a{suffix}", clip)
    data = bytearray(path.read_bytes())
    mark = {".mp4": b"mdat", ".mkv": b"\x18\x53\x80\x67", ".avi": b"RIFF"}[suffix]
    at = data.rindex(mark)
    where, size = {".mp4": (at - 4, 4), ".mkv": (at + 5, 7), ".avi": (at + 4, 4)}[suffix]
    order: Literal["big", "little"] = "little" if suffix == ".avi" else "big"
    length = int.from_bytes(data[where : where + size], order)
    data[where : where + size] = (length + 100).to_bytes(size, order)
    path.write_bytes(data)
    assert is_cut(path)
    index = index_of(path)
    assert (index.frames, index.lost_frames) == (20, 0)


def test_a_picture_that_is_dropped_where_the_size_changes_is_lost(tmp_path: Path) -> None:
    sizes = (64, 96, 64)
    parts = [
        make(
            tmp_path / f"{n}.ts",
            Clip(frames=10, codec="mpeg2video", width=width, time_base=Fraction(1, 25)),
        )
        for n, width in enumerate(sizes)
    ]
    path = tmp_path / "a.ts"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    index = index_of(path)
    assert (index.frames, index.lost_frames, index.changing) == (28, 2, ("size",))
    assert len(list(read_frames(probe(path), index, 0, 28))) == 28


@pytest.mark.parametrize("suffix", [".m1v", ".m2v"])
def test_bare_streams_with_b_frames_are_even(tmp_path: Path, suffix: str) -> None:
    """libav has the first picture of MPEG-1 shown a frame early."""
    codec = {".m1v": "mpeg1video", ".m2v": "mpeg2video"}[suffix]
    clip = Clip(frames=20, codec=codec, time_base=Fraction(1, 25), options={"bf": "2"})
    path = make(tmp_path / f"a{suffix}", clip)
    info, index = probe(path), index_of(path)
    assert {ticks * info.time_base for ticks in index.durations} == {Fraction(1, 25)}
    assert len(list(read_frames(info, index, 0, 20))) == 20 and index.lost_frames == 0


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("skipped", [0, 1])
def test_h264_in_a_program_stream_is_even(tmp_path: Path, skipped: int, twice: bool) -> None:
    """Where few packets have a time, which is not always theirs, and libav makes times of decoding of some."""
    options = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"}
    plain = make(tmp_path / "plain.ts", Clip(frames=75, options=options))
    path = tmp_path / "a.mpg"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        keyframes = 0
        for packet in old.demux(video=0):
            keyframes += packet.is_keyframe
            if packet.size and keyframes > skipped:
                packet.stream = stream
                new.mux(packet)
    path.write_bytes(path.read_bytes() * (1 + twice))
    info, index = probe(path), index_of(path)
    steps = [(b - a) * info.time_base for a, b in pairwise(index.pts)]
    assert set(steps) == {Fraction(1, 25)}
    assert len(list(read_frames(info, index, 0, index.frames))) == index.frames


@pytest.mark.skipif(which("ffmpeg") is None, reason="PyAV's wheel has no encoder of Theora")
def test_headers_of_chained_theora_are_no_lost_frames(tmp_path: Path) -> None:
    one, path = tmp_path / "one.ogv", tmp_path / "a.ogv"
    clip = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-c:v", "libtheora"]
    run(["ffmpeg", "-v", "error", *clip, str(one)], check=True, timeout=60)
    path.write_bytes(2 * one.read_bytes())
    index = index_of(path)
    assert (index.frames, index.lost_frames) == (2 * index_of(one).frames, 0)
    assert index.shifts[0] == (0, index.frames // 2, Fraction(1))
    assert len(list(read_frames(probe(path), index, 0, index.frames))) == index.frames
