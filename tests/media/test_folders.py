"""Folders of videos: what counts as one, and folders that go away when nothing came into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.errors import InputError, OutputError
from starvsr.media.folders import new_folders, stills_in, videos_in
from tests.media.clips import Audio, Clip, make


def test_videos_by_name_without_hidden_ones_and_folders(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.mkv", "._a.mkv", "notes.txt", "c.hevc"):
        (tmp_path / name).touch()
    (tmp_path / "d.mp4").mkdir()
    assert [path.name for path in videos_in(tmp_path)] == ["a.mkv", "b.MP4", "c.hevc"]


def test_every_file_that_libav_reads_counts_whatever_its_name(tmp_path: Path) -> None:
    names = (
        "a.VOB",
        "b.dv",
        "c.MXF",
        "d.M2TS",
        "e.3gp",
        "f.Wmv",
        "g.FLV",
        "h.ogv",
        "i.GIF",
        "j.y4m",
        "k.mk3d",
    )
    for name in names:
        (tmp_path / name).touch()
    film = make(tmp_path / "film.mkv", Clip(frames=2))
    sound = make(tmp_path / "sound.mkv", Clip(frames=0, audio=(Audio("aac", seconds=0.1),)))
    for name in (
        "l",
        "m.mod",
        "n.recording",
        "beside.srt",
        "beside.nfo",
        "cover.JPG",
        "half.mkv.part",
    ):
        (tmp_path / name).write_bytes(film.read_bytes())
    sound.rename(tmp_path / "o.strange")
    (tmp_path / "p.strange").write_text("1\n00:00:00,000 --> 00:00:01,000\nText\n")
    (tmp_path / "q.strange").write_bytes(
        make(tmp_path / "q.png", Clip(1, codec="png", pix_fmt="rgb24")).read_bytes()
    )
    found = [path.name for path in videos_in(tmp_path)]
    assert found == sorted([*names, "film.mkv", "l", "m.mod", "n.recording"])


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden.mp4").touch()
    with pytest.raises(InputError, match="contains no video: none of its files"):
        videos_in(tmp_path)


def test_only_what_was_made_and_stayed_empty_goes_away(tmp_path: Path) -> None:
    own, empty, full = tmp_path / "own", tmp_path / "empty", tmp_path / "full"
    own.mkdir()
    with new_folders([own, empty, full, empty / "inner"]):
        assert (empty / "inner").is_dir()
        (full / "file").touch()
    assert own.is_dir()
    assert not empty.exists()
    assert (full / "file").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError), new_folders([tmp_path / "new", tmp_path / "file" / "in"]):
        raise AssertionError("never reached")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_pictures(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "c.heic", "d.mkv", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [path.name for path in stills_in(tmp_path)] == ["a.png", "b.JPG"]
    assert "HEIC is not read: c.heic" in caplog.text
    with pytest.raises(InputError, match="cannot be read"):
        stills_in(tmp_path / "no")
