"""Part files: one for a run of frames, complete or absent."""

from __future__ import annotations

import dataclasses
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from platform import machine

import av
import numpy as np
import pytest

from starvsr.errors import OutputError
from starvsr.media.encoder import with_codec
from starvsr.media.index import build_index
from starvsr.media.notes import picture_notes
from starvsr.media.pixfmt import layout_of
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.writer import EncoderSettings, PartWriter, check_encoder
from starvsr.options import EncodeOptions, UpscaleOptions
from starvsr.types import VideoInfo
from tests.media.clips import Clip, make, picture

SIZE = (64, 48)


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    return probe(make(tmp_path / "source.mp4"))


def write(path: Path, settings: EncoderSettings, info: VideoInfo, frames: int = 8) -> Path:
    with PartWriter(path, settings, info, *SIZE) as writer:
        for number in range(frames):
            writer.write(picture(number).astype(np.uint16) * 257, number * 512, 512)
    return path


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond this many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("codec", "target", "pix_fmt", "crf"),
    [
        ("libx264", "o.mp4", "yuv420p", "17"),
        ("libx264", "o.mkv", "yuv420p", "17"),
        ("libx265", "o.mov", "yuv420p", "17"),
        ("libvpx-vp9", "o.webm", "yuv420p", "17"),
        ("libsvtav1", "o.mp4", "yuv420p", "17"),
        ("ffv1", "o.mkv", "yuv420p", None),
        ("prores_ks", "o.mov", "yuv422p10le", None),
        ("mjpeg", "o.mov", "yuv420p", None),
        ("png", "o.mov", "rgb24", None),
        ("mpeg4", "o.mp4", "yuv420p", None),
        ("mpeg2video", "o.mkv", "yuv420p", None),
        ("libx264rgb", "o.mkv", "bgr0", "17"),
    ],
)
def test_encoders(
    tmp_path: Path, info: VideoInfo, codec: str, target: str, pix_fmt: str, crf: str | None
) -> None:
    settings = check_encoder(EncodeOptions(codec=codec), tmp_path / target, info, *SIZE)
    assert (settings.codec, settings.pix_fmt, dict(settings.options).get("crf")) == (
        codec,
        pix_fmt,
        crf,
    )
    assert not (tmp_path / target).exists()
    part = write(tmp_path / f"part{settings.part_suffix}", settings, info)
    with av.open(str(part)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
    assert len(packets) == 8 and packets[0].is_keyframe
    decoded = probe(part)
    index = build_index(decoded)
    frames = list(read_frames(decoded, index, 0, 8))
    assert len(frames) == 8
    for number, frame in enumerate(frames):
        error = frame.astype(np.float64) / 257 - picture(number)
        # Chroma of such coarse pictures suffers in 4:2:0; their mean colour must not.
        assert np.abs(error.mean(axis=(0, 1))).max() < 2.5, (codec, number)


def test_lossless_part_is_exact(tmp_path: Path, info: VideoInfo) -> None:
    source = dataclasses.replace(info, pix_fmt="bgr0")
    options = EncodeOptions(codec="ffv1", pix_fmt="bgr0")
    settings = check_encoder(options, tmp_path / "o.mkv", source, *SIZE)
    part = probe(write(tmp_path / "part.mkv", settings, source))
    for number, frame in enumerate(read_frames(part, build_index(part), 0, 8)):
        assert np.array_equal(frame, picture(number).astype(np.uint16) * 257)


def test_settings_are_json_and_the_same_every_time(tmp_path: Path, info: VideoInfo) -> None:
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mp4", info, *SIZE)
    again = check_encoder(EncodeOptions(), tmp_path / "o.mp4", info, *SIZE)
    assert json.dumps(dataclasses.asdict(settings)) == json.dumps(dataclasses.asdict(again))
    one, other = (write(tmp_path / f"{name}.mp4", settings, info) for name in "ab")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_what_was_in_memory_before_changes_nothing(
    tmp_path: Path, info: VideoInfo, codec: str
) -> None:
    settings = check_encoder(EncodeOptions(codec=codec), tmp_path / "o.mp4", info, *SIZE)
    made = set()
    for seed in range(6):
        # What is freed here is what the encoder is given next.
        random = np.random.default_rng(seed)
        rubbish = [random.bytes(int(size)) for size in random.integers(1_000, 300_000, 20)]
        del rubbish
        made.add(write(tmp_path / f"{seed}.mp4", settings, info, frames=40).read_bytes())
    assert len(made) == 1


def test_lively_frames_give_one_stream(tmp_path: Path, info: VideoInfo) -> None:
    """Whatever was in memory, and whether the processor has AVX-512; 21 blocks in a row are no multiple of 16."""
    width, height = 336, 192
    rows, columns = np.mgrid[0:height, 0:width]
    frames = []
    for number in range(16):
        noise = np.random.default_rng(number).normal(0, 5000, (height, width))
        waves = np.sin((columns + 7 * number) / 11) * np.cos((rows - 5 * number) / 7)
        luma = (32768 + 20000 * waves + noise).clip(0, 65535).astype(np.uint16)
        frames.append(np.repeat(luma[..., None], 3, axis=2))
    # The last one only where there is such a processor.
    plain = (("preset", "veryfast"),)
    limited = (*plain, ("x264-params", "asm=sse4.2"))
    made = set()
    for seed, extra in enumerate([plain, plain, plain, *([limited] * (machine() == "x86_64"))]):
        path = tmp_path / f"{seed}.mkv"
        settings = check_encoder(EncodeOptions(extra=extra), path, info, width, height)
        assert dict(settings.options)["mbtree"] == "0"
        with PartWriter(path, settings, info, width, height) as writer:
            for number, pixels in enumerate(frames):
                writer.write(pixels, number * 512, 512)
        random = np.random.default_rng(seed)
        rubbish = [random.bytes(int(size)) for size in random.integers(1_000, 300_000, 40)]
        del rubbish
        with av.open(str(path)) as container:
            made.add(b"".join(bytes(packet) for packet in container.demux(video=0)))
    assert len(made) == 1


def test_what_runs_on_a_device_is_said(info: VideoInfo, tmp_path: Path) -> None:
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mp4", info, *SIZE)
    index = build_index(info)
    assert picture_notes(info, index, settings, UpscaleOptions()) == ()
    device = dataclasses.replace(settings, codec="h264_nvenc")
    (note,) = picture_notes(info, index, device, UpscaleOptions())
    assert note.startswith("a job that is interrupted and resumed may differ in bits")


def test_tags_and_aspect(tmp_path: Path) -> None:
    tags = {"colorspace": 1, "color_range": 1, "color_primaries": 1, "color_trc": 1}
    clip = Clip(sample_aspect=Fraction(4, 3), color=tags)
    info = probe(make(tmp_path / "source.mkv", clip))
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mkv", info, *SIZE)
    part = probe(write(tmp_path / "part.mkv", settings, info))
    assert part.sample_aspect == Fraction(4, 3)
    assert (part.color.matrix, part.color.range, part.color.primaries, part.color.transfer) == (
        1,
        1,
        1,
        1,
    )


@pytest.mark.parametrize(
    ("codec", "preset"), [("libx264", "veryfast"), ("libx264rgb", "veryfast"), ("libx265", None)]
)
def test_default_presets(tmp_path: Path, info: VideoInfo, codec: str, preset: str | None) -> None:
    settings = check_encoder(EncodeOptions(codec=codec), tmp_path / "o.mkv", info, *SIZE)
    assert dict(settings.options).get("preset") == preset


def test_asked_options_win(tmp_path: Path, info: VideoInfo) -> None:
    options = EncodeOptions(crf=23.5, preset="ultrafast", extra=(("tune", "film"), ("bf", "0")))
    settings = check_encoder(options, tmp_path / "o.mp4", info, *SIZE)
    assert dict(settings.options) == {
        "crf": "23.5",
        "preset": "ultrafast",
        "tune": "film",
        "bf": "0",
        "mbtree": "0",
    }


@pytest.mark.parametrize(
    ("options", "target", "says"),
    [
        (EncodeOptions(codec="nonsense"), "o.mp4", "--codec nonsense"),
        (EncodeOptions(codec="aac"), "o.mp4", "--codec aac"),
        (EncodeOptions(), "o.xyz", "extension .xyz"),
        (EncodeOptions(), "o", "without an extension"),
        (EncodeOptions(codec="prores_ks"), "o.mp4", "cannot contain"),
        (EncodeOptions(codec="libx264"), "o.webm", "cannot contain"),
        (EncodeOptions(pix_fmt="yuv999"), "o.mp4", "--pix-fmt yuv999"),
        (EncodeOptions(extra=(("nonsense", "1"),)), "o.mp4", "-e nonsense"),
        (EncodeOptions(codec="ffv1", crf=20), "o.mkv", "--crf 20"),
        (EncodeOptions(codec="libvpx-vp9", preset="slow"), "o.mkv", "--preset slow"),
        (EncodeOptions(codec="libsvtav1", preset="99"), "o.mkv", "give -2 to 13"),
        (EncodeOptions(extra=(("profile", "none"),)), "o.mkv", "libx264 refuses"),
    ],
)
def test_refusals(
    tmp_path: Path, info: VideoInfo, options: EncodeOptions, target: str, says: str
) -> None:
    with pytest.raises(OutputError, match=says):
        check_encoder(options, tmp_path / target, info, *SIZE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.mp4"]


def test_too_large_for_the_encoder(tmp_path: Path, info: VideoInfo) -> None:
    with pytest.raises(OutputError, match="libx264 takes at most 16384x16384 pixels, not 20000x48"):
        check_encoder(EncodeOptions(), tmp_path / "o.mkv", info, 20000, 48)


@pytest.mark.parametrize("codec", ["libvpx-vp9", "mpeg4", "libx264"])
def test_times_finer_than_an_encoders_clock(tmp_path: Path, info: VideoInfo, codec: str) -> None:
    base = Fraction(1, 23_040_000)
    info = dataclasses.replace(info, time_base=base, frame_rate=1 / (767_849 * base))
    settings = check_encoder(EncodeOptions(codec=codec), tmp_path / "o.mkv", info, *SIZE)
    with PartWriter(tmp_path / "part.mkv", settings, info, *SIZE) as writer:
        for number in range(12):
            pixels = picture(number).astype(np.uint16) * 257
            writer.write(pixels, number * 767_849, 767_849)
    assert build_index(probe(tmp_path / "part.mkv"), scene_detect=False).frames == 12


def test_a_rate_that_an_encoder_lacks(tmp_path: Path, info: VideoInfo) -> None:
    info = dataclasses.replace(info, time_base=Fraction(1, 1000), frame_rate=Fraction(2000, 3))
    with pytest.raises(OutputError, match=r"mpeg2video does not support the frame rate 666\.667"):
        check_encoder(EncodeOptions(codec="mpeg2video"), tmp_path / "o.mkv", info, *SIZE)


def test_error_in_the_block_leaves_nothing(tmp_path: Path, info: VideoInfo) -> None:
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mp4", info, *SIZE)
    for error in (RuntimeError("network"), KeyboardInterrupt()):
        with (
            pytest.raises(type(error)),
            PartWriter(tmp_path / "part.mp4", settings, info, *SIZE) as writer,
        ):
            writer.write(picture(0).astype(np.uint16), 0, 512)
            raise error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.mp4"]


def test_no_space_leaves_nothing(tmp_path: Path, info: VideoInfo) -> None:
    settings = check_encoder(EncodeOptions(codec="ffv1"), tmp_path / "o.mkv", info, *SIZE)
    with largest_file(20_000), pytest.raises(OutputError, match=r"part\.mkv cannot be written"):
        write(tmp_path / "part.mkv", settings, info, frames=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.mp4"]


class _FullDisk:
    """Stands in for a container on a full disk, to which nothing may be written again."""

    calls = 0

    def mux(self, _packet: object) -> None:
        self.calls += 1
        raise OSError(28, "No space left on device")

    def close(self) -> None:
        pass


def test_nothing_is_written_behind_a_write_that_failed(
    tmp_path: Path, info: VideoInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = check_encoder(EncodeOptions(codec="ffv1"), tmp_path / "o.mkv", info, *SIZE)
    refused, disk = 0, _FullDisk()
    with (
        pytest.raises(RuntimeError),
        PartWriter(tmp_path / "part.mkv", settings, info, *SIZE) as writer,
    ):
        monkeypatch.setattr(writer, "_container", disk)
        for number in range(20):
            try:
                writer.write(picture(number).astype(np.uint16), number * 512, 512)
            except OutputError:
                refused += 1
        raise RuntimeError
    assert (refused > 1, disk.calls) == (True, 1)


def test_wrong_use(tmp_path: Path, info: VideoInfo) -> None:
    settings = check_encoder(EncodeOptions(), tmp_path / "o.mp4", info, *SIZE)
    with pytest.raises(ValueError, match="settings are for"):
        PartWriter(tmp_path / "part.mp4", settings, info, 32, 32)
    with (
        pytest.raises(ValueError, match="no frame"),
        PartWriter(tmp_path / "p.mp4", settings, info, *SIZE),
    ):
        pass
    assert not (tmp_path / "p.mp4").exists()


@pytest.mark.parametrize(
    ("target", "bits", "codec"),
    [
        ("o.mp4", 8, "libx264"),
        ("o.mp4", 10, "libx265"),
        ("o.mov", 12, "libx265"),
        ("o.mkv", 10, "libx264"),
        ("o.MKV", 8, "libx264"),
        ("o.webm", 8, "libvpx-vp9"),
        ("o.webm", 10, "libsvtav1"),
    ],
)
def test_the_usual_codec_of_a_container(
    tmp_path: Path, info: VideoInfo, target: str, bits: int, codec: str
) -> None:
    info = dataclasses.replace(info, bit_depth=bits)
    assert with_codec(EncodeOptions(), tmp_path / target, info).codec == codec
    assert with_codec(EncodeOptions(codec="ffv1"), tmp_path / target, info).codec == "ffv1"
    # HDR, siting and quiet logs are by encoder, so a codec's name is replaced once.
    names = {"hevc": "libx265", "h264": "libx264", "av1": "libsvtav1", "vp9": "libvpx-vp9"}
    for name, encoder in names.items():
        assert with_codec(EncodeOptions(codec=name), tmp_path / target, info).codec == encoder


@pytest.mark.parametrize(
    ("encode", "target", "said"),
    [
        # A build of libvpx with more bits would keep them, and be right to say nothing.
        (EncodeOptions(codec="libvpx-vp9"), "o.webm", "--codec libsvtav1 or libx265 keep them"),
        (EncodeOptions(codec="mpeg4"), "o.mp4", "--codec libsvtav1 or libx265 keep them"),
        (EncodeOptions(), "%d.jpg", ".png and .tif keep up to 16"),
        (EncodeOptions(codec="libx264", pix_fmt="yuv420p"), "o.mp4", ""),
        (EncodeOptions(codec="libsvtav1"), "o.webm", ""),
    ],
)
def test_bits_that_are_lost_are_said(
    tmp_path: Path, encode: EncodeOptions, target: str, said: str
) -> None:
    path = make(tmp_path / "a.mkv", Clip(frames=2, codec="ffv1", pix_fmt="yuv420p10le"))
    info = probe(path)
    index = build_index(info, scene_detect=False)
    settings = check_encoder(encode, tmp_path / target, info, *SIZE)
    notes = picture_notes(info, index, settings, UpscaleOptions(encode=encode))
    kept = layout_of(settings.pix_fmt).depth >= 10
    lost = f"10 bits become 8: {settings.codec} supports no more here; "
    assert [note for note in notes if "bits" in note] == (
        [lost + said] if said and not kept else []
    )
