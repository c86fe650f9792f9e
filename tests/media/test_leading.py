"""Pictures that decoders drop without an error at the beginning of a stream."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import av
import pytest

from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from tests.media.clips import Clip, make
from tests.media.field_coded import field_coded

OPEN = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
FRAMES = 40
OPEN_CLIPS = {
    ".h264": Clip(frames=FRAMES, options={"x264-params": OPEN}),
    ".hevc": Clip(
        frames=FRAMES, codec="libx265", options={"x265-params": f"{OPEN}:log-level=none"}
    ),
    ".m2v": Clip(frames=FRAMES, codec="mpeg2video", time_base=Fraction(1, 25), options={"bf": "2"}),
    ".m4v": Clip(frames=FRAMES, codec="mpeg4", time_base=Fraction(1, 25), options={"bf": "2"}),
}


def counts(path: Path) -> tuple[int, int]:
    """Frames, and lost frames; all frames can be read."""
    info = probe(path)
    index = build_index(info, scene_detect=False)
    assert len(list(read_frames(info, index, 0, index.frames))) == index.frames
    return index.frames, index.lost_frames


def packets_of(path: Path, clip: Clip) -> tuple[list[bytes], list[int]]:
    """Packets of a clip's stream, and the numbers of the keyframes."""
    with av.open(str(make(path, clip))) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        return [bytes(packet) for packet in packets], [
            number for number, packet in enumerate(packets) if packet.is_keyframe
        ]


def bare_packets(folder: Path, suffix: str) -> tuple[list[bytes], list[int]]:
    """The same of a bare stream of open groups."""
    return packets_of(folder / f"plain{suffix}", OPEN_CLIPS[suffix])


def header(folder: Path, suffix: str) -> bytes:
    """What MPEG-4 has before its first picture only."""
    with av.open(str(folder / f"plain{suffix}")) as container:
        return (
            (container.streams.video[0].codec_context.extradata or b"") if suffix == ".m4v" else b""
        )


@pytest.mark.parametrize("suffix", [".h264", ".mkv"])
def test_frames_before_the_first_keyframe_are_lost(tmp_path: Path, suffix: str) -> None:
    plain = make(
        tmp_path / "plain.mp4",
        Clip(frames=24, options={"g": "6", "keyint_min": "6", "sc_threshold": "0", "bf": "0"}),
    )
    path = tmp_path / f"a{suffix}"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size and number:
                packet.stream = stream
                new.mux(packet)
    index = build_index(probe(path))
    assert (index.frames, index.lost_frames) == (18, 5)


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_frames_that_refer_to_pictures_before_the_first_keyframe_are_lost(
    tmp_path: Path, suffix: str
) -> None:
    """A recording that begins within a stream of open groups: what is shown before its first I picture is dropped."""
    options = {"x264-params": "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"}
    plain = make(tmp_path / f"plain{suffix}", Clip(frames=40, options=options))
    path = tmp_path / f"a{suffix}"
    with av.open(str(plain)) as old, av.open(str(path), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        keyframes, times = 0, []
        for packet in old.demux(video=0):
            keyframes += packet.is_keyframe
            if packet.size and keyframes > 1 and packet.pts is not None:
                times.append((packet.pts, packet.is_keyframe))
                packet.stream = stream
                new.mux(packet)
    first = next(pts for pts, is_keyframe in times if is_keyframe)
    early = sum(pts < first for pts, _ in times)
    index = build_index(probe(path))
    assert early > 0 and (index.frames, index.lost_frames) == (len(times) - early, early)
    assert len(list(read_frames(probe(path), index, 0, index.frames))) == index.frames


@pytest.mark.parametrize(("suffix", "lost"), [(".h264", 3), (".hevc", 3), (".m2v", 2), (".m4v", 2)])
def test_bare_stream_that_begins_with_an_open_group(tmp_path: Path, suffix: str, lost: int) -> None:
    packets, keyframes = bare_packets(tmp_path, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(header(tmp_path, suffix) + b"".join(packets[keyframes[1] :]))
    assert counts(path) == (FRAMES - keyframes[1] - lost, lost)


@pytest.mark.parametrize("suffix", [".h264", ".hevc", ".m2v", ".m4v"])
def test_nothing_is_lost_of_a_whole_bare_stream(tmp_path: Path, suffix: str) -> None:
    packets, _ = bare_packets(tmp_path, suffix)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(header(tmp_path, suffix) + b"".join(packets))
    assert counts(path) == (FRAMES, 0)


def test_bare_stream_that_begins_before_an_open_group(tmp_path: Path) -> None:
    """With P and B pictures whose references are missing; then come the first I picture and three before it."""
    packets, keyframes = bare_packets(tmp_path, ".h264")
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(packets[keyframes[1] - 4 :]))
    assert counts(path) == (FRAMES - keyframes[1] - 3, 4 + 3)


@pytest.mark.parametrize("suffix", [".h264", ".mkv"])
def test_pictures_until_a_refresh_is_complete_are_lost(tmp_path: Path, suffix: str) -> None:
    options = {"x264-params": "intra-refresh=1:keyint=10:bframes=0"}
    packets, _ = packets_of(tmp_path / "plain.h264", Clip(frames=30, options=options))
    bare = tmp_path / "bare.h264"
    bare.write_bytes(b"".join(packets[10:]))
    path = tmp_path / f"a{suffix}"
    if suffix == ".mkv":
        with av.open(str(bare)) as old, av.open(str(path), "w") as new:
            stream = new.add_stream_from_template(old.streams.video[0])
            for number, packet in enumerate(old.demux(video=0)):
                if packet.size:
                    packet.stream = stream
                    packet.pts = packet.dts = number * 48_000
                    new.mux(packet)
    else:
        bare.replace(path)
    frames, lost = counts(path)
    assert lost > 0 and frames + lost == 20


@pytest.mark.parametrize("is_bla", [True, False])
def test_hevc_that_begins_anew(tmp_path: Path, is_bla: bool) -> None:
    """In mid-stream, by a broken link or after an end of sequence: the pictures before it in time are dropped too."""
    packets, keyframes = bare_packets(tmp_path, ".hevc")
    at = keyframes[2]
    if is_bla:
        packets[at] = re.sub(rb"\x00\x00\x01\x2a", b"\0\0\1\x20", packets[at], count=1)
    else:
        packets[at - 1] += b"\0\0\1\x48\1"
    path = tmp_path / "a.hevc"
    path.write_bytes(b"".join(packets))
    frames, lost = counts(path)
    assert lost == 3 and frames <= FRAMES - lost


@pytest.mark.parametrize(
    ("opens", "recovery_points", "lost"), [(False, True, 0), (True, True, 2), (True, False, 3)]
)
def test_two_fields_are_one_frame(
    tmp_path: Path, opens: bool, recovery_points: bool, lost: int
) -> None:
    """Without recovery points no packet is a keyframe, and libav holds back one more frame."""
    data, frames = field_coded(4, opens=opens, recovery_points=recovery_points)
    path = tmp_path / "a.h264"
    path.write_bytes(data)
    assert counts(path) == (frames - lost, lost)


def test_several_slices_are_one_frame(tmp_path: Path) -> None:
    clip = Clip(frames=20, height=96, options={"x264-params": f"{OPEN}:slices=4:aud=1"})
    packets, keyframes = packets_of(tmp_path / "plain.h264", clip)
    path = tmp_path / "a.h264"
    path.write_bytes(b"".join(packets[keyframes[1] :]))
    assert counts(path) == (20 - keyframes[1] - 3, 3)
