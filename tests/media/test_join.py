"""The whole file: frames with their own times, and everything else of the source beside them."""

from __future__ import annotations

import dataclasses
import errno
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from starvsr.errors import OutputError, StarvsrError, WorkDirError
from starvsr.media import join as join_module
from starvsr.media.join import join
from starvsr.media.passage import check_streams
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.writer import check_encoder
from starvsr.options import EncodeOptions, StreamOptions
from tests.media.clips import Audio, Clip, cut, make, payloads
from tests.media.jobs import RICH, TICK, offsets, opened, stamps, times, upscale
from tests.media.test_writer import largest_file

VARIABLE = [0, 512, 1100, 1130, 5000, 5512, 6024, 12800, 12900, 14000, 14512, 20000, 20030, 22000]


@pytest.mark.parametrize("target", ["o.mp4", "o.mkv"])
def test_a_bare_stream_begins_at_0(tmp_path: Path, target: str) -> None:
    base = Fraction(1, 25)
    clip = Clip(frames=8, codec="mpeg2video", options={"bf": "2"}, time_base=base)
    source = make(tmp_path / "a.m2v", clip)
    assert times(source)[0] == base
    assert times(upscale(source, tmp_path / target)) == [i * base for i in range(8)]


@pytest.mark.parametrize("target", ["o.mp4", "o.mov", "o.mkv"])
@pytest.mark.parametrize("pts", [None, VARIABLE, [9000 + each for each in VARIABLE]])
def test_every_frame_keeps_its_time(tmp_path: Path, target: str, pts: list[int] | None) -> None:
    clip = Clip(frames=len(pts) if pts else 14, pts=pts, muxer={"movie_timescale": "12800"})
    source = make(tmp_path / "a.mp4", clip)
    made = upscale(source, tmp_path / target)
    wanted, got = times(source), times(made)
    if target == "o.mkv":
        assert max(abs(a - b) for a, b in zip(got, wanted, strict=True)) <= TICK / 2
    else:
        assert got == wanted
        assert opened(made)[1].durations == opened(source)[1].durations
    decode = [dts for dts, _ in stamps(made)]
    assert decode == sorted(decode)
    assert all(dts <= shown for dts, shown in stamps(made))


@pytest.mark.parametrize(
    ("codec", "target"),
    [
        ("libx265", "o.mp4"),
        ("libvpx-vp9", "o.webm"),
        ("libsvtav1", "o.mkv"),
        ("ffv1", "o.mkv"),
        ("prores_ks", "o.mov"),
        ("mjpeg", "o.mov"),
        ("png", "o.mov"),
        ("mpeg4", "o.mp4"),
        ("libx264rgb", "o.mkv"),
    ],
)
def test_codecs(tmp_path: Path, codec: str, target: str) -> None:
    # VP9 and AV1 do not say how wide a sample is, and PyAV cannot have Matroska say it.
    aspect = Fraction(1) if codec in ("libvpx-vp9", "libsvtav1") else Fraction(4, 3)
    source = make(tmp_path / "a.mp4", Clip(sample_aspect=aspect))
    made = upscale(source, tmp_path / target, codec=codec)
    info, index = opened(made)
    assert index.frames == 12 and (info.width, info.height) == (128, 96)
    assert info.sample_aspect == aspect
    whole = list(read_frames(*opened(source), 0, 12))
    for frame, before in zip(read_frames(info, index, 0, 12), whole, strict=True):
        error = frame.mean(axis=(0, 1)) - before.mean(axis=(0, 1))
        assert np.abs(error).max() / 257 < 2.5


def test_aspect_that_cannot_be_kept(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", Clip(sample_aspect=Fraction(4, 3)))
    with pytest.raises(OutputError, match=r"sample aspect 4/3.*\.mp4"):
        upscale(source, tmp_path / "o.webm", codec="libvpx-vp9")
    assert probe(upscale(source, tmp_path / "o.mp4", codec="libvpx-vp9")).sample_aspect == Fraction(
        4, 3
    )


@pytest.mark.parametrize("codec", ["libx264", "ffv1", "libvpx-vp9"])
def test_nut(tmp_path: Path, codec: str) -> None:
    """Its times have no sign, so all of them are moved by what frames are decoded before 0."""
    source = make(tmp_path / "a.mkv", dataclasses.replace(RICH, subtitles=()))
    made = upscale(source, tmp_path / "b.nut", codec=codec)
    info, index = opened(made)
    assert (info.container, index.frames, info.chapters) == ("nut", 25, 2)
    moved = {behind - before for before, behind in zip(times(source), times(made), strict=True)}
    assert len(moved) == 1 and 0 <= moved.pop() < Fraction(1, 5)
    assert abs(offsets(made)[0] - offsets(source)[0]) < Fraction(1, 1000)
    sound = [[packet.data for packet in payloads(path, "audio")[0]] for path in (source, made)]
    assert sound[0] == sound[1]


def test_what_nut_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot contain subtitle stream .*--subtitles none"):
        check_streams(probe(make(tmp_path / "a.mkv", RICH)), tmp_path / "b.nut", StreamOptions())
    source = probe(make(tmp_path / "b.mkv"))
    with pytest.raises(OutputError, match="cannot contain video of the encoder prores_ks"):
        check_encoder(EncodeOptions(codec="prores_ks"), tmp_path / "b.nut", source, 64, 48)


def test_pixels_follow_their_times(tmp_path: Path) -> None:
    """Every frame is the source's frame of the same number, across part borders and B frames."""
    source = make(tmp_path / "a.mp4", Clip(frames=24))
    made = upscale(source, tmp_path / "o.mp4", lengths=(7, 1, 1, 9))
    for frame, before in zip(
        read_frames(*opened(made), 0, 24), read_frames(*opened(source), 0, 24), strict=True
    ):
        small = frame.reshape(48, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(small - before).mean() / 257 < 4


@pytest.mark.parametrize(
    ("codec", "suffixes"), [("aac", "mp4 mkv mov"), ("libopus", "mp4 mkv"), ("flac", "mp4 mkv")]
)
def test_audio_packets_are_the_same(tmp_path: Path, codec: str, suffixes: str) -> None:
    tracks = (Audio(codec, seconds=0.5, title="first"), Audio(codec, seconds=0.4, language="deu"))
    for suffix in suffixes.split():
        source = make(tmp_path / "a.mkv", Clip(audio=tracks))
        made = upscale(source, tmp_path / f"o.{suffix}")
        before, behind = payloads(source, "audio"), payloads(made, "audio")
        assert len(behind) == 2
        for old, new in zip(before, behind, strict=True):
            assert [packet.data for packet in new] == [packet.data for packet in old]
        languages = [stream.language for stream in probe(made).streams if stream.kind == "audio"]
        # QuickTime's own list of languages has German under its other code.
        assert languages == ["eng", "ger" if suffix == "mov" else "deu"]


@pytest.mark.parametrize("target", ["o.mp4", "o.mkv"])
@pytest.mark.parametrize("source", ["a.mp4", "a.mkv", "a.ts"])
@pytest.mark.parametrize(
    ("video_ticks", "audio_start"),
    [(0, Fraction(0)), (0, Fraction(3, 10)), (6656, Fraction(0)), (6657, Fraction(1, 7))],
)
def test_start_offset_is_kept(
    tmp_path: Path, source: str, target: str, video_ticks: int, audio_start: Fraction
) -> None:
    base = Fraction(1, 25) if source == "a.ts" else Fraction(1, 12800)
    pts = [round((video_ticks + i * 512) * Fraction(1, 12800) / base) for i in range(12)]
    clip = Clip(pts=pts, time_base=base, audio=(Audio(start_s=audio_start),))
    path = make(tmp_path / source, clip)
    made = upscale(path, tmp_path / target)
    assert abs(offsets(made)[0] - offsets(path)[0]) <= TICK
    steps = [b - a for a, b in zip(times(path), times(made), strict=True)]
    assert max(steps) - min(steps) <= TICK


def test_primed_audio_does_not_move_the_pictures(tmp_path: Path) -> None:
    """AAC begins before 0; Matroska's muxer would make that 0 and everything else later."""
    source = make(tmp_path / "a.mp4", Clip(audio=(Audio("aac"),)))
    with av.open(str(source)) as container:
        first = next(packet for packet in container.demux(audio=0) if packet.size)
    assert first.pts is not None and first.pts < 0
    made = upscale(source, tmp_path / "o.mkv")
    assert max(abs(a - b) for a, b in zip(times(made), times(source), strict=True)) <= TICK / 2
    assert abs(offsets(made)[0] - offsets(source)[0]) <= TICK


def test_broadcast_clock_begins_at_zero(tmp_path: Path) -> None:
    clip = Clip(
        pts=[90_000_000 + i * 3600 for i in range(12)],
        time_base=Fraction(1, 90000),
        muxer={"output_ts_offset": "5000"},
        audio=(Audio("mp2", start_s=Fraction(1000)),),
    )
    source = make(tmp_path / "a.ts", clip)
    assert times(source)[0] > 1000
    made = upscale(source, tmp_path / "o.mp4")
    assert 0 <= times(made)[0] < 1
    assert abs(offsets(made)[0] - offsets(source)[0]) <= TICK


@pytest.mark.parametrize("target", ["o.mp4", "o.mkv"])
def test_trimmed_with_the_video(tmp_path: Path, target: str) -> None:
    texts = () if target == "o.mp4" else RICH.subtitles
    chapters = ((0, 0.3, "a"), (0.3, 0.9, "b"), (0.9, 2, "c"))
    sound = (Audio("flac", seconds=2),)
    clip = Clip(frames=50, audio=sound, subtitles=texts, chapters=chapters)
    source = make(tmp_path / "a.mkv", clip)
    made = upscale(source, tmp_path / target, span=(10, 20))
    got = times(made)
    assert got[0] == 0 and len(got) == 10
    assert abs(got[-1] - Fraction(9, 25)) <= TICK
    (old,), (new,) = payloads(source, "audio"), payloads(made, "audio")
    kept = [packet for packet in old if Fraction(2, 5) <= packet.start < Fraction(4, 5)]
    assert [packet.data for packet in new] == [packet.data for packet in kept]
    assert abs(new[0].start - (kept[0].start - Fraction(2, 5))) <= TICK
    with av.open(str(made)) as container:
        found = [
            (c["start"] * c["time_base"], c["metadata"]["title"])
            for c in container.chapters()
            if c["time_base"]
        ]
        assert found == [(Fraction(0), "b")]
    if texts:
        (lines,) = payloads(made, "subtitle")
        assert [line.data for line in lines] == [b"two"]
        assert lines[0].start == 0


@pytest.mark.parametrize(
    ("turn", "size"), [((90, False, False), (96, 128)), ((180, False, False), (128, 96))]
)
def test_rotation_is_done_and_not_written_again(
    tmp_path: Path, turn: tuple[float, bool, bool], size: tuple[int, int]
) -> None:
    made = probe(upscale(make(tmp_path / "a.mp4", Clip(rotation=turn)), tmp_path / "o.mp4"))
    assert (made.rotation, made.width, made.height) == (0, *size)


def test_color_tags_are_written(tmp_path: Path) -> None:
    for target in ("o.mp4", "o.mkv"):
        # PQ is not for VP9's 8 bits.
        for codec, transfer in (("libx264", 16), ("libx265", 16), ("libvpx-vp9", 14)):
            tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": transfer}
            source = make(tmp_path / "a.mkv", Clip(frames=3, pix_fmt="yuv420p10le", color=tags))
            color = probe(upscale(source, tmp_path / target, codec=codec)).color
            assert (color.matrix, color.range, color.primaries, color.transfer) == (
                *(9, 1, 9),
                transfer,
            )
    untagged = make(tmp_path / "u.mp4", Clip(frames=3))
    color = probe(upscale(untagged, tmp_path / "o.mp4")).color
    assert (color.matrix, color.range) == (6, 1)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        *(("libx264", ".mkv"), ("mjpeg", ".mov"), ("prores_ks", ".mov"), ("png", ".mov")),
        *(("mpeg2video", ".mp4"), ("mpeg4", ".mkv"), ("libvpx-vp9", ".webm"), ("ffv1", ".mkv")),
    ],
)
@pytest.mark.parametrize("color_range", [1, 2])
def test_colours_are_read_as_they_were_written(
    tmp_path: Path, codec: str, suffix: str, color_range: int
) -> None:
    """Whatever a codec defines or a container cannot say of matrix and range."""
    tags = {"colorspace": 9, "color_range": color_range}
    source = make(
        tmp_path / "a.mkv", Clip(frames=3, codec="ffv1", pix_fmt="yuv444p10le", color=tags)
    )
    made = upscale(source, tmp_path / f"o{suffix}", codec=codec)
    before, behind = (next(read_frames(*opened(path), 0, 1)) for path in (source, made))
    difference = behind.mean(axis=(0, 1)) - before.mean(axis=(0, 1))
    assert np.abs(difference).max() < 2 * 257


def test_damaged_source(tmp_path: Path) -> None:
    clip = Clip(frames=40, audio=(Audio(seconds=1.6),), muxer={"movflags": "faststart"})
    whole = make(tmp_path / "a.mp4", clip)
    short = cut(whole, 0.6)
    index = opened(short)[1]
    assert index.lost_frames > 0
    made = upscale(short, tmp_path / "o.mp4")
    assert times(made) == times(short)
    (old,), (new,) = payloads(whole, "audio"), payloads(made, "audio")
    assert 0 < len(new) < len(old)
    assert [packet.data for packet in new] == [packet.data for packet in old[: len(new)]]


def test_failures_leave_the_target_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make(tmp_path / "a.mp4", Clip(audio=(Audio(),)))
    target = tmp_path / "o.mp4"
    target.write_text("older")

    def full(*_: object) -> None:
        raise av.error.OSError(errno.ENOSPC, "No space left on device", str(target))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for replacement, error in ((full, OutputError), (interrupted, KeyboardInterrupt)):
        monkeypatch.setattr(join_module, "other_packets", replacement)
        with pytest.raises(error):
            upscale(source, target)
        assert target.read_text() == "older"
        assert not list(tmp_path.glob(".*"))


def test_no_space(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", Clip(frames=30, audio=(Audio("flac", seconds=2),)))
    with largest_file(30_000), pytest.raises(OutputError, match=r"o\.mp4 cannot be written"):
        upscale(source, tmp_path / "o.mp4", lengths=(10,))
    assert not (tmp_path / "o.mp4").exists() and not list(tmp_path.glob(".*"))


def test_parts_that_do_not_add_up(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4")
    info, index = opened(source)
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mp4", info, 64, 48)
    with pytest.raises(WorkDirError, match="contain 12 frames, not 11"):
        join([source], info, index, tmp_path / "o.mp4", settings, StreamOptions(), 0, 11)
    assert not (tmp_path / "o.mp4").exists()


def test_parts_that_are_none(tmp_path: Path) -> None:
    source, part = make(tmp_path / "a.mp4"), tmp_path / "part.mp4"
    info, index = opened(source)
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mp4", info, 64, 48)
    part.write_bytes(b"no video")
    with pytest.raises(OutputError, match=r"part\.mp4 cannot be read"):
        join([part], info, index, tmp_path / "o.mp4", settings, StreamOptions(), 0, 12)
    with av.open(str(part), "w") as container:
        container.add_stream("aac", rate=48000)
    with pytest.raises(StarvsrError, match=r"part\.mp4"):
        join([part], info, index, tmp_path / "o.mp4", settings, StreamOptions(), 0, 12)
    assert not (tmp_path / "o.mp4").exists()


@pytest.mark.parametrize("damaged", [0, 3])
def test_sound_with_a_damaged_packet(tmp_path: Path, damaged: int) -> None:
    """The first packet is what a muxer judges the stream by."""
    source = make(tmp_path / "a.ts", Clip(audio=(Audio(seconds=0.5),)))
    whole = payloads(upscale(source, tmp_path / "whole.mkv"), "audio")[0]
    data = bytearray(source.read_bytes())
    headers = [found.start() for found in re.finditer(b"\xff\xf1\x4c[\x40-\x43]", data)]
    assert len(headers) == len(whole)
    data[headers[damaged] : headers[damaged] + 2] = b"\0\0"
    source.write_bytes(data)
    made = payloads(upscale(source, tmp_path / "o.mkv"), "audio")[0]
    assert [packet.data for packet in made] == [
        packet.data for number, packet in enumerate(whole) if number != damaged
    ]
