"""What else of the source comes along: subtitles, chapters, tags, fonts, covers; and what a container cannot hold."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import pytest

from starvsr.media.passage import check_streams
from starvsr.media.probe import probe
from starvsr.options import StreamOptions
from tests.media.clips import Audio, Clip, make, payloads
from tests.media.jobs import RICH, upscale


def test_everything_else_of_a_matroska(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", RICH)
    made = upscale(source, tmp_path / "o.mkv")
    info = probe(made)
    assert [stream.kind for stream in info.streams] == ["video", "audio", "subtitle", "attachment"]
    assert info.streams[2].language == "fra"
    assert payloads(made, "subtitle") == payloads(source, "subtitle")
    with av.open(str(made)) as new, av.open(str(source)) as old:
        assert new.metadata["title"] == "A film" and new.metadata["ARTIST"] == "Somebody"
        assert new.streams.attachments[0].data == old.streams.attachments[0].data
        assert new.streams.attachments[0].name == "font.ttf"
        titles = [(c["start"], c["end"], c["metadata"]["title"]) for c in new.chapters()]
        assert titles == [(c["start"], c["end"], c["metadata"]["title"]) for c in old.chapters()]
        assert len(titles) == 2


def test_everything_else_of_an_mp4(tmp_path: Path) -> None:
    texts = (("mov_text", 0.1, 0.2, "one"), ("mov_text", 0.4, 0.1, "two"))
    clip = Clip(audio=(Audio(),), subtitles=texts, chapters=RICH.chapters, metadata=RICH.metadata)
    source = make(tmp_path / "a.mp4", clip)
    made = upscale(source, tmp_path / "o.mp4")
    assert payloads(made, "subtitle") == payloads(source, "subtitle")
    assert probe(made).chapters == 2
    with av.open(str(made)) as container:
        assert container.metadata["title"] == "A film"


def test_nothing_else_where_nothing_is_wanted(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", RICH)
    none = StreamOptions("none", "none", chapters=False, metadata=False, attachments=False)
    made = upscale(source, tmp_path / "o.mkv", streams=none)
    info = probe(made)
    assert [stream.kind for stream in info.streams] == ["video"]
    assert info.chapters == 0
    with av.open(str(made)) as container:
        assert "title" not in container.metadata


def test_fonts_that_mp4_cannot_hold_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make(tmp_path / "a.mkv", RICH)
    with caplog.at_level(logging.WARNING):
        check_streams(probe(source), tmp_path / "o.mp4", StreamOptions(subtitles="none"))
        upscale(source, tmp_path / "o.mp4", streams=StreamOptions(subtitles="none"))
    assert caplog.messages == ["attachment font.ttf is left out: only .mkv supports attachments"]
    without = StreamOptions(subtitles="none", attachments=False)
    check_streams(probe(source), tmp_path / "o.mp4", without)
    assert len(caplog.messages) == 1


def test_cover_picture(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Clip(audio=(Audio(),)))
    picture = make(tmp_path / "cover.mjpeg", Clip(frames=1, codec="mjpeg", pix_fmt="yuvj420p"))
    covered = tmp_path / "covered.mkv"
    with av.open(str(source)) as old, av.open(str(covered), "w") as new:
        streams = {s.index: new.add_stream_from_template(s, opaque=True) for s in old.streams}
        new.add_attachment("cover.jpg", "image/jpeg", picture.read_bytes())
        for packet in old.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
    assert [s.detail for s in probe(covered).streams][-1] == "cover picture"
    for target in ("o.mkv", "o.mp4"):
        made = upscale(covered, tmp_path / target)
        info = probe(made)
        assert info.streams[info.stream_index].codec == "h264"
        with av.open(str(made)) as container:
            cover = next(s for s in container.streams.video if s.index != info.stream_index)
            data = next(bytes(packet) for packet in container.demux(cover))
        assert data == picture.read_bytes()
