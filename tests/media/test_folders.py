"""Folders of videos: what counts as one, and folders that go away when nothing came into them."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.errors import InputError, OutputError
from starvsr.media.folders import new_folders, videos_in


def test_videos_by_name_without_hidden_ones_and_folders(tmp_path: Path) -> None:
    for name in ("b.MP4", "a.mkv", "._a.mkv", "notes.txt", "c.hevc"):
        (tmp_path / name).touch()
    (tmp_path / "d.mp4").mkdir()
    assert [path.name for path in videos_in(tmp_path)] == ["a.mkv", "b.MP4", "c.hevc"]


def test_a_folder_without_videos_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".hidden.mp4").touch()
    with pytest.raises(InputError, match="contains no video: its files must end in one of"):
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
