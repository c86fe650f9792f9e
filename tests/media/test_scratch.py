"""Temporary folders go when they are left, and after a kill with the next one; nobody else's folder ever does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from starvsr.errors import OutputError
from starvsr.media.scratch import scratch_folder
from tests.cli.conftest import listing

_KILLED = """
import os, signal, sys
from pathlib import Path
from starvsr.errors import OutputError
from starvsr.media.scratch import scratch_folder

with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "large").write_bytes(b"x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_one(place: Path) -> Path:
    """The folder that a killed process left."""
    before = set(place.iterdir())
    subprocess.run([sys.executable, "-c", _KILLED, str(place)], check=False)
    (left,) = set(place.iterdir()) - before
    assert (left / "large").is_file()
    return left


def test_it_goes_with_all_in_it_whatever_happens(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.is_absolute() and folder.parent == tmp_path
        (folder / "deeper").mkdir()
        (folder / "deeper" / "file").touch()
    assert listing(tmp_path) == {}
    with pytest.raises(KeyboardInterrupt), scratch_folder(tmp_path) as folder:
        raise KeyboardInterrupt
    assert listing(tmp_path) == {}


def test_what_a_kill_left_goes_with_the_next_one(tmp_path: Path) -> None:
    left = kill_one(tmp_path)
    with scratch_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert not left.exists()


def test_one_that_is_in_use_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as first, scratch_folder(tmp_path):
        assert first.is_dir()


def test_what_only_looks_like_one_stays(tmp_path: Path) -> None:
    left = kill_one(tmp_path)
    outside = tmp_path / "outside"
    shutil.copytree(left, outside)
    (tmp_path / ".starvsr-0123456789abcde").symlink_to(outside)
    (tmp_path / ".starvsr-0123456789abcdef").symlink_to(outside)
    # A name like ours without the mark, with another one, and with a link as mark.
    for number, mark in enumerate((None, b"temporary files of starvsr, version 2\n", outside)):
        strange = tmp_path / f".starvsr-{number:016x}"
        strange.mkdir()
        (strange / "holiday.jpg").write_bytes(b"precious")
        (strange / ".lock").touch()
        if isinstance(mark, bytes):
            (strange / ".starvsr-scratch").write_bytes(mark)
        elif mark is not None:
            (strange / ".starvsr-scratch").symlink_to(outside / ".starvsr-scratch")
    shutil.rmtree(left)
    before = listing(tmp_path)
    with scratch_folder(tmp_path):
        pass
    assert listing(tmp_path) == before
    assert len(before) > 10


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a folder to somebody else needs root")
def test_what_somebody_else_left_stays(tmp_path: Path) -> None:
    left = kill_one(tmp_path)
    os.chown(left, 65534, 65534)
    with scratch_folder(tmp_path):
        pass
    assert (left / "large").is_file()


def test_a_place_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"/no: No such file"), scratch_folder(tmp_path / "no"):
        pass
    assert listing(tmp_path) == {}
