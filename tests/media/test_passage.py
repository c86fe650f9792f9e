"""Which streams are copied, encoded or converted, what is said of it, and what is refused."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.packet import Packet

from starvsr.errors import OutputError
from starvsr.media.passage import check_streams
from starvsr.media.probe import probe
from starvsr.options import StreamOptions
from tests.media.clips import Audio, Clip, make, payloads
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


def test_a_line_that_cannot_be_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # More than the 16 bits of its length can say.
    lines = (("subrip", 0.1, 0.1, "x" * 70_000), ("subrip", 0.3, 0.1, "good"))
    source = make(tmp_path / "a.mkv", Clip(subtitles=lines))
    with caplog.at_level(logging.WARNING):
        made = upscale(source, tmp_path / "o.mp4", codec="mpeg4")
    (shown,) = payloads(made, "subtitle")
    assert [line.data for line in shown if len(line.data) > 2] == [mov_text("good")]
    assert "a line of subtitle stream 1 at 0.100 s is left out" in caplog.text


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
