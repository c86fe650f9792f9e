"""Which streams are copied, encoded or converted, what is said of it, and what is refused."""

from __future__ import annotations

import logging
import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.packet import Packet

from starvsr.errors import OutputError
from starvsr.media.passage import check_streams
from starvsr.media.probe import probe
from starvsr.options import StreamOptions
from tests.media.clips import Audio, Clip, heard, make, payloads
from tests.media.jobs import upscale

LINE = "<i>Sla&nted</i>\nand <b>bold</b>"
STYLED = r"0,0,Default,,0,0,0,,{\pos(10,20)\i1}Sla&nted{\i0}\Nand {\b1}bold{\b0}"


def mov_text(plain: str) -> bytes:
    return len(plain).to_bytes(2, "big") + plain.encode()


@pytest.mark.parametrize(
    ("codec", "text", "target", "becomes", "data"),
    [
        ("subrip", LINE, "o.mp4", "mov_text", mov_text("Sla&nted\nand bold")),
        ("subrip", LINE, "o.mov", "mov_text", mov_text("Sla&nted\nand bold")),
        ("subrip", LINE, "o.webm", "webvtt", b"<i>Sla&amp;nted</i>\nand <b>bold</b>"),
        ("ass", STYLED, "o.mp4", "mov_text", mov_text("Sla&nted\nand bold")),
        ("ass", STYLED, "o.webm", "webvtt", b"<i>Sla&amp;nted</i>\nand <b>bold</b>"),
        ("mov_text", "Upright\nlines", "o.mkv", "subrip", b"Upright\nlines"),
        ("mov_text", "a < b", "o.webm", "webvtt", b"a &lt; b"),
        ("webvtt", "<b>x</b> &lt; y", "o.mp4", "mov_text", mov_text("x < y")),
    ],
)
def test_text_is_converted_and_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    codec: str,
    text: str,
    target: str,
    becomes: str,
    data: bytes,
) -> None:
    lines = ((codec, 0.1, 0.2, text), (codec, 0.36, 0.08, text))
    source = make(tmp_path / ("a.mp4" if codec == "mov_text" else "a.mkv"), Clip(subtitles=lines))
    with caplog.at_level(logging.WARNING):
        check_streams(probe(source), tmp_path / target, StreamOptions())
    (said,) = caplog.messages
    assert f"subtitle stream 1 ({codec}) is converted to {becomes}" in said
    assert ("styles" in said) == (codec == "ass")
    video = "libvpx-vp9" if target.endswith("webm") else "mpeg4"
    made = upscale(source, tmp_path / target, codec=video)
    stream = probe(made).streams[1]
    assert (stream.codec, stream.language) == (becomes, "fra")
    (old,), (new,) = payloads(source, "subtitle"), payloads(made, "subtitle")
    old, new = ([line for line in lines if line.data != b"\0\0"] for lines in (old, new))
    assert [round(line.start, 3) for line in new] == [round(line.start, 3) for line in old]
    assert all(line.data.startswith(data) for line in new) and len(new) == 2


def test_converted_text_of_a_range(tmp_path: Path) -> None:
    lines = tuple(("subrip", at, 0.3, f"at {at}") for at in (0.0, 0.5, 1.5))
    source = make(tmp_path / "a.mkv", Clip(frames=50, subtitles=lines))
    made = upscale(source, tmp_path / "o.mp4", codec="mpeg4", span=(15, 25))
    (shown,) = payloads(made, "subtitle")
    (line,) = (line for line in shown if len(line.data) > 2)
    assert line.start == 0 and line.data == mov_text("at 0.5")


def test_lines_that_overlap_keep_their_times(tmp_path: Path) -> None:
    """Samples of mp4 follow each other; its muxer would begin them late, and all that come after them."""
    lines = (
        ("subrip", 0.0, 1.6, "sign"),
        ("subrip", 0.4, 0.4, "said"),
        ("subrip", 1.2, 0.2, "last"),
    )
    source = make(tmp_path / "a.mkv", Clip(frames=50, subtitles=lines))
    made = upscale(source, tmp_path / "o.mp4", codec="mpeg4")
    (shown,) = payloads(made, "subtitle")
    assert [(round(float(line.start), 3), line.data) for line in shown if len(line.data) > 2] == [
        (0.0, mov_text("sign")),
        (0.4, mov_text("sign\nsaid")),
        (0.8, mov_text("sign")),
        (1.2, mov_text("sign\nlast")),
        (1.4, mov_text("sign")),
    ]


def test_lines_that_are_joined_stay_as_they_were(tmp_path: Path) -> None:
    """A style ends with its line, a text on two layers is one, and what cannot be encoded spoils no other."""
    italic = r"0,0,Default,,0,0,0,,{\i1}Sign"
    lines = [
        *[("ass", 0.0, 0.6, italic.replace("0,0", f"{layer},{layer}", 1)) for layer in range(2)],
        ("ass", 0.2, 0.2, "2,0,Default,,0,0,0,,said"),
        ("ass", 1.0, 0.4, "3,0,Default,,0,0,0,," + "x" * 70_000),
        ("ass", 1.2, 0.2, "4,0,Default,,0,0,0,,good"),
    ]
    source = make(tmp_path / "a.mkv", Clip(frames=40, subtitles=tuple(lines)))
    made = upscale(source, tmp_path / "o.mp4", codec="mpeg4")
    (shown,) = payloads(made, "subtitle")
    found = [(round(float(each.start), 3), each.data) for each in shown if len(each.data) > 2]
    assert [start for start, _ in found] == [0.0, 0.2, 0.4, 1.2]
    assert all(data.startswith(mov_text("Sign")) for _, data in (found[0], found[2]))
    joined = found[1][1]
    assert joined.startswith(mov_text("Sign\nsaid"))
    # One style, of the first four letters or with the line's end; what follows begins a plain one.
    count, first, last = struct.unpack(">HHH", joined[joined.index(b"styl") + 4 :][:6])
    assert (first, last) in ((0, 4), (0, 5)) and count >= 1
    assert found[3][1] == mov_text("good")


def test_a_line_is_near_its_picture_in_the_file(tmp_path: Path) -> None:
    """What has ended does not wait for the next line, if another stream says that it has."""
    lines = (("subrip", 0.1, 0.4, "first"), ("subrip", 14.0, 0.4, "second"))
    clip = Clip(frames=360, audio=(Audio("aac", seconds=14.4),), subtitles=lines)
    made = upscale(make(tmp_path / "a.mkv", clip), tmp_path / "o.mp4", codec="mpeg4")
    with av.open(str(made)) as container:
        places = {bytes(p): p.pos or 0 for p in container.demux(subtitles=0) if p.size}
    assert places[mov_text("first")] < 0.5 * places[mov_text("second")]


def test_a_line_that_cannot_be_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # More than the 16 bits of its length can say.
    lines = (("subrip", 0.1, 0.1, "x" * 70_000), ("subrip", 0.3, 0.1, "good"))
    source = make(tmp_path / "a.mkv", Clip(subtitles=lines))
    with caplog.at_level(logging.WARNING):
        made = upscale(source, tmp_path / "o.mp4", codec="mpeg4")
    (shown,) = payloads(made, "subtitle")
    assert [line.data for line in shown if len(line.data) > 2] == [mov_text("good")]
    assert "a subtitle at 0.100 s is left out" in caplog.text


def test_sound_is_encoded_where_it_must_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracks = (Audio("flac", seconds=0.4, title="first"), Audio("libopus", seconds=0.4))
    source = make(tmp_path / "a.mkv", Clip(audio=tracks))
    with caplog.at_level(logging.WARNING):
        check_streams(probe(source), tmp_path / "o.webm", StreamOptions())
    assert caplog.messages == [
        "audio stream 1 (flac) is encoded by libopus: a .webm file cannot contain a copy"
    ]
    made = upscale(source, tmp_path / "o.webm", codec="libvpx-vp9")
    assert [stream.codec for stream in probe(made).streams] == ["vp9", "opus", "opus"]
    assert [p.data for p in payloads(made, "audio")[1]] == [
        p.data for p in payloads(source, "audio")[1]
    ]
    with av.open(str(made)) as container:
        assert container.streams.audio[0].metadata["title"] == "first"
        assert container.streams.audio[0].language == "eng"


@pytest.mark.parametrize(
    ("codec", "target", "encoder"),
    [("wavpack", "o.mp4", "flac"), ("wavpack", "o.mov", "alac"), ("libopus", "o.mov", "aac")],
)
def test_lossless_sound_stays_lossless(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, codec: str, target: str, encoder: str
) -> None:
    source = make(tmp_path / "a.mkv", Clip(audio=(Audio(codec, seconds=0.2),)))
    with caplog.at_level(logging.WARNING):
        check_streams(probe(source), tmp_path / target, StreamOptions())
    assert f"is encoded by {encoder}: a {target[1:]} file" in caplog.text


@pytest.mark.parametrize(
    ("source", "codec", "layout", "says"),
    [
        # Matroska and AVI do not say which channels these are, without which libav writes no PCM in mp4.
        ("a.mkv", "pcm_s16le", "stereo", "flac: a .mp4 file cannot contain a copy"),
        ("a.mkv", "pcm_s24le", "5.1", "flac: a .mp4 file cannot contain a copy"),
        ("a.avi", "pcm_s16le", "stereo", "flac: a .mp4 file cannot contain a copy"),
        ("a.nut", "pcm_f32le", "stereo", "flac with 24 bits: a .mp4 file cannot contain a copy"),
        ("a.mov", "pcm_s24le", "stereo", "flac: many players cannot read pcm_s24le in .mp4"),
        ("a.mov", "pcm_s16be", "mono", "flac: many players cannot read pcm_s16be in .mp4"),
        ("a.mov", "pcm_f32le", "5.1", "flac with 24 bits: many players cannot read pcm_f32le"),
    ],
)
def test_pcm_in_mp4_is_what_players_read(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    source: str,
    codec: str,
    layout: str,
    says: str,
) -> None:
    sounds = (Audio(codec, seconds=0.2, layout=layout),)
    clip = Clip(codec="mpeg4", frames=5, time_base=Fraction(1, 25), audio=sounds)
    path = make(tmp_path / source, clip)
    with caplog.at_level(logging.WARNING):
        check_streams(probe(path), tmp_path / "o.mp4", StreamOptions())
    (said,) = caplog.messages
    assert says in said
    made = upscale(path, tmp_path / "o.mp4", codec="mpeg4")
    assert probe(made).streams[1].codec == "flac"
    (_, rate, old), (_, new_rate, new) = heard(path), heard(made)
    assert rate == new_rate and old.shape == new.shape
    assert np.abs(old - new).max() < 2**-23


@pytest.mark.parametrize("target", ["o.mkv", "o.mov"])
def test_pcm_is_copied_elsewhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, target: str
) -> None:
    source = make(tmp_path / "a.mov", Clip(frames=5, audio=(Audio("pcm_s24le", seconds=0.2),)))
    check_streams(probe(source), tmp_path / target, StreamOptions())
    made = upscale(source, tmp_path / target, codec="mpeg4")
    assert not caplog.messages
    assert [[p.data for p in each] for each in payloads(made, "audio")] == [
        [p.data for p in each] for each in payloads(source, "audio")
    ]


def test_more_channels_than_flac_has(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mov", Clip(audio=(Audio("pcm_s24le", layout="hexadecagonal"),)))
    says = (
        r"cannot contain audio stream 1 \(pcm_s24le\): give an output that ends in .mkv or .mov, or"
    )
    with pytest.raises(OutputError, match=says):
        check_streams(probe(source), tmp_path / "o.mp4", StreamOptions())


def test_a_form_of_webvtt_that_libav_does_not_know(tmp_path: Path) -> None:
    lines = (("webvtt", 0.1, 0.1, "one"),)
    source = make(tmp_path / "a.mkv", Clip(subtitles=lines))
    data = source.read_bytes()
    assert b"D_WEBVTT/SUBTITLES" in data
    # Names of the same length, one of them known to no libav.
    source.write_bytes(data.replace(b"D_WEBVTT/SUBTITLES", b"S_TEXT/WEBVTT\0\0\0\0\0"))
    info = probe(source)
    says = r"subtitle stream 1 \(S_TEXT/WEBVTT\) cannot be read: .*mkvextract, or give --subtitles none"
    with pytest.raises(OutputError, match=says):
        check_streams(info, tmp_path / "o.mkv", StreamOptions())
    check_streams(info, tmp_path / "o.mkv", StreamOptions(subtitles="none"))


def test_a_codec_that_libav_does_not_decode_is_named(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", Clip(audio=(Audio(seconds=0.1),)))
    data = source.read_bytes()
    assert data.count(b"mp4a") == 1
    source.write_bytes(data.replace(b"mp4a", b"ac-4").replace(b"esds", b"free"))
    says = r"audio stream 1 \(ac4\) cannot be read: this libav has no decoder for it; give --audio none"
    with pytest.raises(OutputError, match=says):
        check_streams(probe(source), tmp_path / "o.mp4", StreamOptions())
    check_streams(probe(source), tmp_path / "o.mp4", StreamOptions(audio="none"))


def subtitled(path: Path, codec: str) -> Path:
    """A file with one packet of subtitles that are no text."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height = 64, 48
        subtitles = container.add_mux_stream(codec)
        container.mux(video.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(video.encode(None))
        packet: Packet[Any] = Packet(b"\x0f\x14\x20\x94\x2c\x41")
        packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
        packet.pts, packet.dts, packet.duration = 0, 0, 40
        container.mux(packet)
    return path


@pytest.mark.parametrize(
    ("source", "codec", "target", "better"),
    [
        ("a.mkv", "dvb_subtitle", "o.webm", ".mkv"),
        ("a.mkv", "dvb_subtitle", "o.mov", ".mkv"),
        ("a.mov", "eia_608", "o.mkv", ".mov"),
    ],
)
def test_pictures_and_captions_cannot_become_text(
    tmp_path: Path, source: str, codec: str, target: str, better: str
) -> None:
    info = probe(subtitled(tmp_path / source, codec))
    says = rf"{target}: .*subtitle stream 1 \({codec}\).*ends in .*\{better}, or --subtitles none"
    with pytest.raises(OutputError, match=says):
        check_streams(info, tmp_path / target, StreamOptions())
    check_streams(info, tmp_path / target, StreamOptions(subtitles="none"))
    check_streams(info, tmp_path / f"o{better}", StreamOptions())


@pytest.mark.parametrize(
    ("layout", "codec", "read"),
    [("2.1", "flac", "3.0"), ("5.1", "ac3", ""), ("6.1", "aac", "7 channels"), ("quad", "aac", "")],
)
def test_channels_that_are_read_as_others_are_said(
    layout: str, codec: str, read: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clip = Clip(frames=3, audio=(Audio("pcm_s16le", seconds=0.1, layout=layout),))
    source = make(tmp_path / "a.mov", clip)
    with caplog.at_level(logging.WARNING):
        check_streams(probe(source), tmp_path / "o.mp4", StreamOptions(audio=codec))
    said = f"its channels, {layout}, are read as {read} from {codec} in this container"
    assert [said in message for message in caplog.messages] == ([True] if read else [])
    with av.open(str(upscale(source, tmp_path / "o.mp4", streams=StreamOptions(codec)))) as made:
        heard = next(made.decode(audio=0)).layout.name
    assert heard.removesuffix("(side)") == (read or layout)
