"""What the probe says of good and bad files."""

from __future__ import annotations

import logging
import shutil
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import pytest

from starvsr.errors import InputError, UsageError
from starvsr.media.clock import with_true_rate
from starvsr.media.index import build_index
from starvsr.media.probe import bit_depth, probe
from tests.media.clips import Audio, Clip, make, picture


def test_a_recording_of_matroska_that_begins_late(tmp_path: Path) -> None:
    """Its header counts from the clock's 0, where nothing is shown yet."""
    times = range(5 * 12800, 5 * 12800 + 12 * 512, 512)
    info = probe(make(tmp_path / "late.mkv", Clip(pts=times)))
    assert info.duration_s == pytest.approx(0.48, abs=2e-3)


@pytest.mark.skipif(shutil.which("mkvmerge") is None, reason="needs mkvmerge")
def test_mkvmerge_counts_from_the_first_frame(tmp_path: Path) -> None:
    source, late = make(tmp_path / "a.mkv", Clip()), tmp_path / "late.mkv"
    command = ["mkvmerge", "-q", "-o", str(late), "--sync", "0:3000", str(source)]
    subprocess.run(command, check=True)
    assert probe(late).duration_s == pytest.approx(0.48, abs=2e-3)


def test_plain_clip(tmp_path: Path) -> None:
    info = probe(make(tmp_path / "a.mp4", Clip(audio=(Audio(),), chapters=((0, 0.2, "one"),))))
    assert (info.width, info.height, info.codec, info.pix_fmt) == (64, 48, "h264", "yuv420p")
    assert (info.bit_depth, info.rotation, info.sample_aspect) == (8, 0, Fraction(1))
    assert info.time_base == Fraction(1, 12800)
    assert info.frame_rate == 25
    assert info.header_frames == 12
    assert info.duration_s == pytest.approx(0.48)
    assert [(s.kind, s.codec, s.language) for s in info.streams[:2]] == [
        ("video", "h264", "und"),
        ("audio", "aac", "eng"),
    ]
    assert info.streams[1].detail == "mono 48000 Hz"
    assert info.chapters == 1


@pytest.mark.parametrize(
    ("counter_clockwise", "clockwise", "size"),
    [(0, 0, (64, 48)), (90, 270, (48, 64)), (180, 180, (64, 48)), (270, 90, (48, 64))],
)
def test_rotation(
    tmp_path: Path, counter_clockwise: int, clockwise: int, size: tuple[int, int]
) -> None:
    clip = Clip(frames=2, rotation=(counter_clockwise, False, False), sample_aspect=Fraction(4, 3))
    info = probe(make(tmp_path / "r.mp4", clip))
    assert info.rotation == clockwise
    assert (info.width, info.height) == size
    assert info.sample_aspect == (Fraction(4, 3) if size == (64, 48) else Fraction(3, 4))


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "suffix", "name", "depth"),
    [
        ("libx264", "yuv420p10le", ".mkv", "h264", 10),
        ("libx265", "yuv420p", ".mp4", "hevc", 8),
        ("libvpx-vp9", "yuv420p", ".webm", "vp9", 8),
        ("ffv1", "bgr0", ".mkv", "ffv1", 8),
        ("mpeg4", "yuv420p", ".avi", "mpeg4", 8),
        ("mjpeg", "yuvj420p", ".avi", "mjpeg", 8),
        ("prores_ks", "yuv422p10le", ".mov", "prores", 10),
    ],
)
def test_codecs(
    tmp_path: Path, codec: str, pix_fmt: str, suffix: str, name: str, depth: int
) -> None:
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    time_base = Fraction(1, 25) if suffix == ".avi" else Fraction(1, 12800)
    clip = Clip(frames=3, codec=codec, pix_fmt=pix_fmt, options=options, time_base=time_base)
    info = probe(make(tmp_path / f"c{suffix}", clip))
    assert (info.codec, info.pix_fmt, info.bit_depth) == (name, pix_fmt, depth)


def test_color_tags(tmp_path: Path) -> None:
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
    info = probe(make(tmp_path / "c.mkv", Clip(frames=2, pix_fmt="yuv420p10le", color=tags)))
    color = info.color
    assert (color.matrix, color.range, color.primaries, color.transfer) == (9, 1, 9, 16)


@pytest.mark.parametrize("size", [(1, 1), (175, 99)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    clip = Clip(frames=1, codec="ffv1", width=size[0], height=size[1])
    info = probe(make(tmp_path / "odd.mkv", clip))
    assert (info.width, info.height) == size


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("zero.mp4", b"", "is empty"),
        ("text.mp4", b"no video at all\n" * 40, "not a media file"),
        ("noise.mkv", bytes(range(256)) * 16, "not a media file"),
    ],
)
def test_not_media(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=says):
        probe(path)


def test_missing_and_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        probe(tmp_path / "none.mp4")
    with pytest.raises(InputError, match="is a folder"):
        probe(tmp_path)


def test_without_index(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.mp4")
    data = whole.read_bytes()
    recording = tmp_path / "recording.mp4"
    recording.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(InputError, match="moov"):
        probe(recording)


def test_audio_only(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Clip(frames=0, audio=(Audio(),)))
    with pytest.raises(InputError, match="only audio"):
        probe(path)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.mp4")

    def refuse(*_: object, **__: object) -> None:
        raise av.error.PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(InputError, match="permission denied"):
        probe(path)


def bare(path: Path, codec: str, rate: Fraction, **options: str) -> Path:
    """An encoder's packets, one after the other."""
    size = {"dvvideo": (720, 576), "h263": (128, 96)}.get(codec, (64, 48))
    context = av.CodecContext.create(codec, "w")
    assert isinstance(context, av.VideoCodecContext)
    context.width, context.height = size
    context.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    context.framerate, context.time_base, context.options = rate, 1 / rate, options
    context.thread_count = 1
    with path.open("wb") as file:
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24")
            frame = frame.reformat(format=context.pix_fmt)
            frame.pts, frame.time_base = number, 1 / rate
            file.writelines(bytes(packet) for packet in context.encode(frame))
        file.writelines(bytes(packet) for packet in context.encode(None))
    return path


@pytest.mark.parametrize(
    ("suffix", "codec", "rate"),
    [
        (".h264", "libx264", Fraction(50)),
        (".h264", "libx264", Fraction(24000, 1001)),
        (".hevc", "libx265", Fraction(50)),
        (".m2v", "mpeg2video", Fraction(50)),
        (".m4v", "mpeg4", Fraction(50)),
        (".h263", "h263", Fraction(30000, 1001)),
        (".dv", "dvvideo", Fraction(25)),
    ],
)
def test_rates_of_bare_streams(tmp_path: Path, suffix: str, codec: str, rate: Fraction) -> None:
    """libav counts 25 per second for most, and the ticks of its clock for DV."""
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    info = probe(bare(tmp_path / f"a{suffix}", codec, rate, **options))
    index = build_index(info, scene_detect=False)
    assert info.frame_rate == rate
    shown = [(time - index.pts[0]) * info.time_base for time in index.pts]
    assert len(shown) == 10
    assert max(abs(time - n / rate) for n, time in enumerate(shown)) <= info.time_base
    assert abs(index.durations[-1] * info.time_base - 1 / rate) <= info.time_base


@pytest.mark.parametrize(("suffix", "codec"), [(".h264", "libx264"), (".m2v", "mpeg2video")])
def test_fps_of_a_bare_stream(tmp_path: Path, suffix: str, codec: str) -> None:
    path = bare(tmp_path / f"a{suffix}", codec, Fraction(25))
    info = probe(path, Fraction(24000, 1001))
    index = build_index(info, scene_detect=False)
    assert info.frame_rate == Fraction(24000, 1001)
    steps = {(b - a) * info.time_base for a, b in pairwise(index.pts)}
    assert steps == {Fraction(1001, 24000)}
    with pytest.raises(
        UsageError, match=r"--fps is for image sequences and raw streams.*has times"
    ):
        probe(make(tmp_path / "a.mp4"), Fraction(30))


@pytest.mark.parametrize(("suffix", "codec"), [(".mjpeg", "mjpeg"), (".h264", "libx264")])
def test_a_rate_that_no_one_states_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, codec: str
) -> None:
    path = bare(tmp_path / f"a{suffix}", codec, Fraction(30))
    with caplog.at_level(logging.WARNING):
        info = probe(path)
    said = [
        f"{path} states no frame rate: it is read at 25 frames per second; --fps sets another one"
    ]
    assert info.frame_rate == Fraction(25 if codec == "mjpeg" else 30)
    assert caplog.messages == (said if codec == "mjpeg" else [])
    caplog.clear()
    assert probe(path, Fraction(50)).frame_rate == 50 and not caplog.messages


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(25)])
def test_a_rate_of_1000_is_not_believed(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    """Cameras and browsers state the clock's ticks."""
    pts = [round(number * 1000 / rate) for number in range(20)]
    path = make(
        tmp_path / f"a{suffix}",
        Clip(frames=20, pts=pts, time_base=Fraction(1, 1000), options={"bf": "0"}, rate=1000),
    )
    info = probe(path)
    index = build_index(info, scene_detect=False)
    assert (info.frame_rate, with_true_rate(info, index).frame_rate) == (rate, rate)
    assert abs(index.durations[-1] * info.time_base - 1 / rate) <= info.time_base


def test_bit_depth() -> None:
    assert [bit_depth(name) for name in ("yuv420p", "yuva444p12le", "gray16le", "pal8")] == [
        8,
        12,
        16,
        8,
    ]


def test_sound_of_an_unknown_codec(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", Clip(audio=(Audio(seconds=0.2),)))
    data = path.read_bytes().replace(b"mp4a", b"zzzz").replace(b"esds", b"zzzz")
    path.write_bytes(data)
    assert [(stream.kind, stream.codec) for stream in probe(path).streams] == [
        ("video", "h264"),
        ("audio", ""),
    ]
