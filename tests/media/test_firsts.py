"""Streams that are announced and have no packets."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from starvsr.media.firsts import first_packets
from starvsr.media.passage import check_streams
from starvsr.media.probe import probe
from starvsr.media.source import open_source
from starvsr.options import StreamOptions
from tests.media.clips import Audio, Clip, make, payloads
from tests.media.jobs import pictures, upscale


def emptied(path: Path, *, kept: int = 0) -> Path:
    """A copy of a file without the packets of its second stream, except the last `kept`."""
    made = path.with_name(f"emptied{path.suffix}")
    with av.open(str(path)) as old, av.open(str(made), "w") as new:
        streams = [new.add_stream_from_template(stream, opaque=True) for stream in old.streams]
        packets = [packet for packet in old.demux() if packet.size]
        sounds = [packet for packet in packets if packet.stream_index == 1]
        for packet in packets:
            if packet not in sounds or packet in sounds[len(sounds) - kept :]:
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
    return made


@pytest.mark.parametrize(
    ("source", "codec", "name"),
    [
        ("a.ts", "aac", "aac"),
        ("a.ts", "ac3", "ac3"),
        ("a.mkv", "aac", "aac"),
        ("a.mkv", "pcm_s16le", "pcm_s16le"),
        ("a.avi", "libmp3lame", "mp3"),
        ("a.nut", "flac", "flac"),
    ],
)
@pytest.mark.parametrize("target", ["o.mkv", "o.mp4"])
def test_an_empty_stream_is_left_out_and_said(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    source: str,
    codec: str,
    name: str,
    target: str,
) -> None:
    sounds = (Audio(codec, seconds=0.3), Audio(codec, seconds=0.3))
    clip = Clip(codec="mpeg4", time_base=Fraction(1, 25), audio=sounds)
    path = emptied(make(tmp_path / source, clip))
    firsts = first_packets(path)
    assert firsts[1] == b"" and firsts[2]
    with caplog.at_level(logging.WARNING):
        check_streams(probe(path), tmp_path / target, StreamOptions())
    assert caplog.messages[0] == f"audio stream 1 ({name}) is left out: it is empty (no packets)"
    made = upscale(path, tmp_path / target, codec="mpeg4")
    assert [stream.kind for stream in probe(made).streams] == ["video", "audio"]
    assert len(pictures(made)) == 12


def test_a_stream_that_begins_late_is_not_empty(tmp_path: Path) -> None:
    clip = Clip(codec="mpeg4", frames=75, audio=(Audio(seconds=3.0),))
    path = emptied(make(tmp_path / "a.mkv", clip), kept=1)
    made = upscale(path, tmp_path / "o.mkv", codec="mpeg4")
    (old,), (new,) = payloads(path, "audio"), payloads(made, "audio")
    assert [packet.data for packet in new] == [packet.data for packet in old] and len(old) == 1


def test_a_damaged_first_packet_is_not_the_first(tmp_path: Path) -> None:
    source = make(tmp_path / "a.ts", Clip(audio=(Audio(seconds=0.3),)))
    whole = first_packets(source)[1]
    data = source.read_bytes()
    source.write_bytes(data.replace(whole[:4], b"\0\0" + whole[2:4], 1))
    damaged = first_packets(source)[1]
    assert damaged[:2] == whole[:2] and damaged != whole


def test_no_sound_wanted_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starvsr.media.passage.first_packets", None)
    source = make(tmp_path / "a.mkv", Clip(audio=(Audio(seconds=0.1),)))
    check_streams(probe(source), tmp_path / "o.mkv", StreamOptions("none", "none"))


def test_a_file_is_read_once_for_each_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To find out that a stream is empty, all of the file is read."""
    path = make(tmp_path / "a.mkv", Clip(frames=3, audio=(Audio(seconds=0.1),)))
    opened: list[Path] = []

    def counted(path: Path) -> Any:
        opened.append(path)
        return open_source(path)

    monkeypatch.setattr("starvsr.media.firsts.open_source", counted)
    assert first_packets(path) == first_packets(path)
    assert len(opened) == 1
    make(path, Clip(frames=4, audio=(Audio(seconds=0.2),)))
    assert first_packets(path)
    assert len(opened) == 2
