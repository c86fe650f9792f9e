"""Tags that libav's mp4 and mov muxers leave out: written all the same, or said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import pytest

from starvsr.errors import OutputError
from starvsr.media import tags as module
from starvsr.media.probe import probe
from starvsr.media.tags import ReservedTags, lost_tags
from starvsr.options import StreamOptions
from tests.media.clips import Clip, make
from tests.media.jobs import upscale

OWN = {
    "com.apple.quicktime.make": "Apple",
    "com.apple.quicktime.software": "17.1 ü",
    "MINE": "x" * 300,
}
LISTED = {"title": "A film", "artist": "Somebody", "comment": "None"}
CLIP = Clip(frames=4, options={"preset": "ultrafast"}, metadata={**OWN, **LISTED})
KEYS = {"movflags": "use_metadata_tags"}


def tags_of(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {name.lower(): text for name, text in container.metadata.items()}


@pytest.mark.parametrize("target", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("home", [".mov", ".mkv"])
def test_all_tags_are_kept(home: str, target: str, tmp_path: Path) -> None:
    clip = replace(CLIP, muxer=KEYS) if home == ".mov" else CLIP
    source = make(tmp_path / f"a{home}", clip)
    codec = "libvpx-vp9" if target == ".webm" else "libx264"
    made = upscale(source, tmp_path / f"o{target}", codec=codec)
    found = tags_of(made)
    for name, text in {**OWN, **LISTED}.items():
        assert found[name.lower()] == text
    assert lost_tags(probe(source), {".mkv": "matroska"}.get(target, target[1:])) == []
    # Nothing but the tags is touched.
    assert len(list(av.open(str(made)).decode(video=0))) == 4


def test_a_file_without_such_tags_has_no_room_for_them(tmp_path: Path) -> None:
    made = upscale(make(tmp_path / "a.mkv", replace(CLIP, metadata=LISTED)), tmp_path / "o.mp4")
    assert b"starvsr reserves" not in made.read_bytes() and b"----" not in made.read_bytes()


def test_no_tags_where_none_are_wanted(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", CLIP)
    made = upscale(source, tmp_path / "o.mp4", streams=StreamOptions(metadata=False))
    assert not {"mine", "title"} & tags_of(made).keys()


def test_what_has_no_place_is_said(tmp_path: Path) -> None:
    source = make(
        tmp_path / "a.mkv", replace(CLIP, video_tags={"MINE": "x", "title": "T", "language": "ita"})
    )
    assert lost_tags(probe(source), "mp4") == ["MINE of stream 0"]
    long = make(tmp_path / "b.mkv", replace(CLIP, metadata={"MINE": "x" * 70_000, "title": "T"}))
    assert lost_tags(probe(long), "mov") == ["MINE"]
    assert {"mine", "title"} & tags_of(upscale(long, tmp_path / "o.mov")).keys() == {"title"}
    assert sorted(lost_tags(probe(long), "image2")) == ["MINE", "title"]
    every = dict.fromkeys((*module._RESERVES["mov"][0], "MINE"), "x")
    full = make(tmp_path / "c.mkv", replace(CLIP, metadata=every))
    assert "MINE" in lost_tags(probe(full), "mov")


def test_a_stream_has_the_file_s_time(tmp_path: Path) -> None:
    time = {"creation_time": "2020-01-02T03:04:05.000000Z"}
    source = make(tmp_path / "a.mkv", replace(CLIP, metadata={**LISTED, **time}, video_tags=time))
    assert lost_tags(probe(source), "mp4") == []
    made = upscale(source, tmp_path / "o.mp4")
    with av.open(str(made)) as container:
        assert container.streams.video[0].metadata["creation_time"] == time["creation_time"]


def test_a_reserve_that_is_gone_is_an_error(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", CLIP)
    with av.open(str(tmp_path / "b.mp4"), "w") as output:
        output.metadata.update(OWN)
        reserved = ReservedTags(output, wanted=True)
        output.add_stream("libx264")
    with pytest.raises(OutputError, match="--no-metadata"):
        reserved.write(path)
