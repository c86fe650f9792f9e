"""The work directory and the journal: nothing that is finished is lost, and nothing of somebody else's is touched."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from starvsr.errors import OutputError, UsageError, WorkDirError
from starvsr.job import journal as journal_module
from starvsr.job import workdir
from starvsr.job.journal import as_argument, fingerprint, is_made, open_begun, open_journal
from starvsr.job.workdir import discard_left, is_begun
from starvsr.media import files
from tests.cli.conftest import listing
from tests.job.journals import NOTES, REQUEST, STEPS, Broken, broken_off, go_on, part


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return broken_off(tmp_path / "out.mkv.starvsr")


def test_what_is_finished_is_there_again(work: Path) -> None:
    assert sorted(listing(work)) == [
        ".lock",
        ".starvsr-work",
        "000000-00000006.raw",
        "000000-core.mkv",
        "journal.jsonl",
    ]
    assert go_on(work) == STEPS
    with open_journal(work, REQUEST, NOTES, resume=True):
        pass
    assert not work.exists()


# Fault 1: an error while the journal is read.


@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("name", ["read_records", "cut_file", "_check_request"])
def test_nothing_goes_where_the_journal_cannot_be_read(
    work: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: type[BaseException]
) -> None:
    journal = work / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"torn')
    before = listing(work)

    def failing(*_: object) -> None:
        raise kind(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(journal_module, name, failing)
        wanted = OutputError if kind is OSError and name != "_check_request" else kind
        with pytest.raises(wanted), open_journal(work, REQUEST, NOTES, resume=True):
            raise AssertionError
    assert listing(work) == before
    assert go_on(work) == STEPS


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.EIO])
def test_a_part_that_cannot_be_read_is_not_taken_for_damaged(
    work: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    before = listing(work)

    def failing(path: Path, **_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with (
        pytest.raises(OutputError, match=r"000000-core\.mkv cannot be read: .*nothing was removed"),
        open_journal(work, REQUEST, NOTES, resume=True) as journal,
        monkeypatch.context() as patched,
    ):
        patched.setattr(journal_module, "open_regular", failing)
        journal.finished("core-0")
    assert listing(work) == before
    assert go_on(work) == STEPS


def test_a_line_that_could_not_be_written_is_taken_back(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where that itself fails at first."""
    before = (work / "journal.jsonl").read_bytes()

    def failing(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(Broken), open_journal(work, REQUEST, NOTES, resume=True) as journal:
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing)
            patched.setattr(journal_module, "cut_file", failing)
            with pytest.raises(OutputError, match="no space left in"):
                journal.record(**{"core-1": [part(work, "000001-core.mkv")]})
        assert "core-1" not in journal.steps
        journal.record(**{"core-2": [part(work, "000002-core.mkv")]})
        raise Broken
    after = (work / "journal.jsonl").read_bytes()
    assert after.startswith(before)
    assert after[len(before) :].count(b"\n") == 1
    assert go_on(work) == [*STEPS, "core-2"]
    assert not (work / "000001-core.mkv").exists()


# Fault 2: a folder of somebody's.


@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize(
    "names",
    [
        ["230615-birthday.jpg", "123456-invoice.pdf"],
        ["000000-core.mkv"],
        [".lock"],
        [".starvsr-0123456789abcdef.partial"],
        ["journal.jsonl"],
    ],
)
def test_a_folder_without_the_mark_is_refused(
    tmp_path: Path, names: list[str], resume: bool
) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"mine")
    before = listing(tmp_path)
    with (
        pytest.raises(
            UsageError, match="is not a starvsr work directory and not empty: it contains"
        ),
        open_journal(tmp_path, REQUEST, NOTES, resume=resume),
    ):
        raise AssertionError
    discard_left(tmp_path)
    assert listing(tmp_path) == before


def test_an_empty_folder_is_taken_and_stays(tmp_path: Path) -> None:
    with open_journal(tmp_path, REQUEST, NOTES, resume=True):
        assert is_begun(tmp_path)
    assert listing(tmp_path) == {}


@pytest.mark.parametrize("ending", ["well", "badly", "anew"])
def test_what_somebody_puts_there_stays_and_is_named(
    work: Path, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    mine = {
        "notes.txt": b"mine",
        "000000-core.mkv.bak": b"mine",
        "000000-holiday.jpg": b"mine",
        "0-core.mkv": b"mine",
        "000001-core.avi": b"mine",
        ".starvsr-mine.partial": b"mine",
        "folder": None,
        "folder/000000-core.mkv": b"mine",
    }
    (work / "folder").mkdir()
    for name, content in mine.items():
        if content is not None:
            (work / name).write_bytes(content)
    # By their names these are ours, and no line says that they are finished.
    stale = ["000001-seam.mkv", "000002-00000012.raw", ".starvsr-0123456789abcdef.partial"]
    for name in stale:
        (work / name).touch()
    if ending == "well":
        with open_journal(work, REQUEST, NOTES, resume=True):
            pass
        assert listing(work) == mine
        assert f"{work} stays: not starvsr's own: " in caplog.text
        assert "and 2 more" in caplog.text
    else:
        assert go_on(work, resume=ending == "badly") == (STEPS if ending == "badly" else [])
        left = listing(work)
        assert {name: content for name, content in left.items() if name in mine} == mine
        assert not left.keys() & set(stale)


# Faults 3 and 5: links.


@pytest.mark.parametrize(
    "name", ["journal.jsonl", ".lock", ".starvsr-work", "000000-core.mkv", "000007-seam.mkv"]
)
@pytest.mark.parametrize("kind", ["link", "broken link", "folder", "pipe"])
@pytest.mark.parametrize("resume", [True, False])
def test_what_is_no_regular_file_is_refused_and_untouched(
    tmp_path: Path, work: Path, name: str, kind: str, resume: bool
) -> None:
    path, mine = work / name, tmp_path / "mine"
    content = path.read_bytes() if path.exists() else b"1"
    path.unlink(missing_ok=True)
    if kind == "link":
        mine.write_bytes(content)
    if "link" in kind:
        path.symlink_to(mine)
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    before = listing(tmp_path)
    with (
        pytest.raises(WorkDirError, match=f"{name} is not a regular file"),
        open_journal(work, REQUEST, NOTES, resume=resume),
    ):
        raise AssertionError
    with pytest.raises(WorkDirError, match=f"{name} is not a regular file"), open_begun(work):
        raise AssertionError
    assert listing(tmp_path) == before
    assert path.is_symlink() == ("link" in kind)


def test_a_lock_that_holds_something_is_none(work: Path) -> None:
    (work / ".lock").write_bytes(b"mine")
    before = listing(work)
    with (
        pytest.raises(WorkDirError, match="is not a starvsr lock"),
        open_journal(work, REQUEST, NOTES, resume=False),
    ):
        raise AssertionError
    assert listing(work) == before


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"version": 9, "made": true}', "of another format, 9"),
        (b"x", "not in this version's format"),
        (b'{"version": 1, "made": 1}', "made has the wrong type"),
        (b'{"version": 1, "made": true, "more": 1}', "not have the required entries"),
        (b"", "not in this version's format"),
        (b"[" * 2000, "not in this version's format"),
    ],
)
def test_a_strange_mark_is_refused(work: Path, content: bytes, said: str) -> None:
    (work / ".starvsr-work").write_bytes(content)
    before = listing(work)
    for resume in (True, False):
        with (
            pytest.raises(WorkDirError, match=said),
            open_journal(work, REQUEST, NOTES, resume=resume),
        ):
            raise AssertionError
    discard_left(work)
    assert listing(work) == before


def test_a_mark_that_a_kill_left_empty_is_made_again(tmp_path: Path) -> None:
    (tmp_path / ".starvsr-work").touch()
    assert go_on(tmp_path) == []
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / ".starvsr-work").touch()
    discard_left(tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", ["_write_mark", "_locked"])
def test_a_folder_that_cannot_be_begun_in_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original: Callable[..., object] = getattr(workdir, name)

    def failing(*arguments: Any, **named: Any) -> None:
        original(*arguments, **named)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workdir, name, failing)
    with (
        pytest.raises(OutputError, match="no space left in"),
        open_journal(tmp_path / "work", REQUEST, NOTES, resume=True),
    ):
        raise AssertionError
    assert listing(tmp_path) == {}


def test_a_journal_that_cannot_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", failing)
    with (
        pytest.raises(OutputError, match="no space left in"),
        open_journal(tmp_path / "work", REQUEST, NOTES, resume=True),
    ):
        raise AssertionError
    assert listing(tmp_path) == {}


def test_what_cannot_be_removed_is_said_and_does_no_harm(
    work: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    target = part(work.parent, "out.mkv", b"whole")

    def failing(*_: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    with (
        monkeypatch.context() as patched,
        open_journal(work, REQUEST, NOTES, resume=True) as journal,
    ):
        journal.note_made(target)
        patched.setattr(workdir, "remove_file", failing)
    assert f"{work} stays: it cannot be cleared (Permission denied)" in caplog.text
    assert is_made(work, target)
    with open_journal(work, REQUEST, NOTES, resume=True):
        pass
    assert not work.exists()


def test_a_mark_that_could_not_be_removed_goes_later(work: Path) -> None:
    (work / "mine.txt").write_bytes(b"mine")
    for name in ("journal.jsonl", "000000-core.mkv"):
        (work / name).unlink()
    discard_left(work)
    assert (work / ".starvsr-work").exists(), "a part is left"
    (work / "000000-00000006.raw").unlink()
    discard_left(work)
    assert listing(work) == {"mine.txt": b"mine"}


def test_other_errors_in_the_folder_are_of_the_output(work: Path) -> None:
    """Fault 9: no write of a job ends as a bug."""
    with (
        pytest.raises(OutputError, match="no space left in"),
        open_journal(work, REQUEST, NOTES, resume=True),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", str(work / "000001-core.mkv"))
    with pytest.raises(OSError, match="elsewhere"), open_journal(work, REQUEST, NOTES, resume=True):
        raise OSError(errno.ENOSPC, "No space left on device", "/elsewhere")
    assert go_on(work) == STEPS


def test_a_journal_does_not_grow_beyond_what_is_read(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "MOST_BYTES", (work / "journal.jsonl").stat().st_size + 9)
    with (
        pytest.raises(OutputError, match="give a larger --segment-frames"),
        open_journal(work, REQUEST, NOTES, resume=True) as journal,
    ):
        journal.note("made", "1")
    assert go_on(work) == STEPS


def test_a_fingerprint_of_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        fingerprint(tmp_path / "pipe")


def test_a_name_with_a_dash_in_front_is_no_option() -> None:
    assert as_argument(Path("-a b.mp4")) == "'./-a b.mp4'"
    assert as_argument(Path("/x/-a.mp4")) == "/x/-a.mp4"
