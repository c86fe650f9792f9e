"""What else of the source comes along: subtitles, chapters, tags, fonts, covers; and what a container cannot hold."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import pytest
from av.stream import Disposition

from starvsr.media.encoder import check_encoder
from starvsr.media.index import build_index
from starvsr.media.omitted import _listed, beside_notes
from starvsr.media.passage import check_streams
from starvsr.media.probe import probe
from starvsr.options import EncodeOptions, StreamOptions
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


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_chapters_without_a_title(suffix: str, tmp_path: Path) -> None:
    """An untitled one does not get the title of the one after it."""
    clip = Clip(frames=10, chapters=((0, 0.1, ""), (0.1, 0.3, ""), (0.3, 0.4, "Last")))
    source = make(tmp_path / "a.mkv", clip)
    with av.open(str(upscale(source, tmp_path / f"o{suffix}"))) as made:
        chapters = [(c["start"] * (c["time_base"] or 0), c["metadata"]) for c in made.chapters()]
    assert [1000 * start for start, _ in chapters] == [0, 100, 300]
    assert [tags.get("title", "") for _, tags in chapters] == ["", "", "Last"]


@pytest.mark.parametrize(
    ("layout", "codec", "suffix", "is_said"),
    [
        ("5.1(side)", "pcm_s32le", ".mkv", True),
        ("5.1", "pcm_s32le", ".mkv", False),
        ("quad", "pcm_s16le", ".mkv", True),
        ("quad", "pcm_s16le", ".mov", False),
        ("quad", "flac", ".mkv", False),
        ("stereo", "pcm_s16le", ".mkv", False),
    ],
)
def test_which_channels_pcm_has(
    layout: str, codec: str, suffix: str, is_said: bool, tmp_path: Path
) -> None:
    """Matroska says for PCM how many there are."""
    clip = Clip(frames=10, audio=(Audio(codec, seconds=0.4, layout=layout),))
    source = make(tmp_path / ("a.mkv" if codec == "flac" else "a.mov"), clip)
    made = upscale(source, tmp_path / f"o{suffix}")
    info = probe(source)
    settings = check_encoder(EncodeOptions(), made, info, 128, 96)
    notes = beside_notes(info, build_index(info), settings, StreamOptions())
    said = f"the channel layout of audio stream 1 ({layout}) is left out: "
    assert any(note.startswith(said) for note in notes) == is_said
    detail = probe(made).streams[1].detail.partition(" ")[0]
    assert is_said or detail == layout or codec.startswith("pcm_")


ROLES = ("comment", "forced", "hearing_impaired", "dub", "original", "visual_impaired")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".webm", ".nut"])
def test_roles_of_streams_are_kept_or_said(suffix: str, tmp_path: Path) -> None:
    sounds = tuple(
        Audio("libopus", seconds=0.4, disposition=Disposition[role]) for role in ("default", *ROLES)
    )
    source = make(tmp_path / "a.mkv", Clip(frames=10, audio=sounds))
    codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
    made, info = upscale(source, tmp_path / f"o{suffix}", codec=codec), probe(source)
    settings = check_encoder(EncodeOptions(codec=codec), made, info, 128, 96)
    with av.open(str(made)) as container:
        found = [each.disposition for each in container.streams.audio]
    lost = [
        f"{role.replace('_', ' ')} of stream {number}"
        for number, role in enumerate(ROLES, 2)
        if not found[number - 1] & Disposition[role]
    ]
    notes = beside_notes(info, build_index(info), settings, StreamOptions())
    said = [note.partition("no place: ")[2] for note in notes if note.startswith("stream roles")]
    assert said == ([_listed(lost)] if lost else [])
    assert bool(lost) == (suffix not in (".mkv",))
    without = beside_notes(info, build_index(info), settings, StreamOptions(audio="none"))
    assert not any(note.startswith("stream roles") for note in without)


def test_what_mxf_says_of_its_writer_is_no_tag_of_the_result(tmp_path: Path) -> None:
    source, target = tmp_path / "in.mxf", tmp_path / "out.mkv"
    with av.open(str(source), "w") as output:
        output.metadata["title"] = "A reel"
        stream = output.add_stream("mpeg2video", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        frames = [av.VideoFrame(96, 64, "yuv420p") for _ in range(3)]
        for frame in (*frames, None):
            output.mux(stream.encode(frame))
    with av.open(str(source)) as container:
        assert {"generation_uid", "toolkit_version_num"} <= container.metadata.keys()
    upscale(source, target)
    with av.open(str(target)) as container:
        tags = {name.lower() for name in container.metadata}
    assert not [name for name in tags if name.endswith(("uid", "umid", "_ul", "version_num"))]


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
