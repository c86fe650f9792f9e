"""Whatever lies in a work directory: after any command all that is not the job's own is there, byte for byte."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from starvsr.errors import StarvsrError
from starvsr.job.journal import Journal, open_begun, open_journal
from starvsr.job.workdir import discard_left
from tests.job.journals import NOTES, REQUEST, Broken, broken_off, part

# Names that are ours, nearly ours, and not ours at all.
_NUMBERS = st.sampled_from(["000000", "000001", "0000001", "00000", "230615", "٠٠٠٠٠٠", ""])
_ENDS = st.sampled_from(
    ["-core.mkv", "-seam.mkv", "-core.avi", "-core.mkv~", "-00000006.raw", "-birthday.jpg", "-x"]
)
_OTHERS = st.sampled_from(
    [
        ".starvsr-0123456789abcdef.partial",
        ".starvsr-mine.partial",
        "thesis.txt",
        "journal.jsonl.bak",
    ]
)
_NAMES = st.one_of(st.builds("{}{}".format, _NUMBERS, _ENDS), _OTHERS)
_SPECIAL = st.sampled_from(["journal.jsonl", ".lock", ".starvsr-work"])
_KINDS = ("file", "link", "broken link", "link to a folder", "folder", "pipe")
_THINGS = st.dictionaries(st.one_of(_NAMES, _SPECIAL), st.sampled_from(_KINDS), max_size=8)
_OURS = {".starvsr-0123456789abcdef.partial", "journal.jsonl", ".lock", ".starvsr-work"}
_OURS |= {
    f"{number}-{end}"
    for number in ("000000", "000001", "0000001", "230615")
    for end in ("core.mkv", "seam.mkv", "00000006.raw")
}


def upscale(work: Path) -> None:
    with open_journal(work, REQUEST, NOTES, resume=True) as journal:
        _some_work(journal)


def break_off(work: Path) -> None:
    with open_journal(work, REQUEST, NOTES, resume=True) as journal:
        _some_work(journal)
        raise Broken


def begin_anew(work: Path) -> None:
    with open_journal(work, REQUEST, NOTES, resume=False) as journal:
        _some_work(journal)


def finish(work: Path) -> None:
    with open_begun(work) as (journal, _):
        journal.finished("core-0")


def _some_work(journal: Journal) -> None:
    journal.finished("core-0")
    if not (journal.folder / "000005-core.mkv").exists():
        journal.record(**{"core-5": [part(journal.folder, "000005-core.mkv")]})


def put(path: Path, kind: str, outside: Path) -> None:
    """Make something, in the place of what is there."""
    if path.is_symlink() or path.exists():
        path.unlink()
    if kind == "file":
        path.write_bytes(b"mine")
    elif kind == "folder":
        path.mkdir()
        (path / "000000-core.mkv").write_bytes(b"mine")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        names = {"link": "mine", "broken link": "nowhere", "link to a folder": "folder"}
        path.symlink_to(outside / names[kind])


def seen(folder: Path) -> dict[str, object]:
    """Everything in a folder: kinds, contents and what links name."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        content: object = path.is_file() and path.read_bytes()
        found[str(path.relative_to(folder))] = (
            path.readlink() if path.is_symlink() else (path.lstat().st_mode, content)
        )
    return found


@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("command", [upscale, break_off, begin_anew, finish, discard_left])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(things=_THINGS)
def test_what_is_not_the_jobs_own_stays(
    command: Callable[[Path], None], marked: bool, things: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        outside, work = Path(name) / "outside", Path(name) / "work"
        (outside / "folder").mkdir(parents=True)
        (outside / "mine").write_bytes(b"mine")
        (outside / "folder" / "000000-core.mkv").write_bytes(b"mine")
        if marked:
            broken_off(work)
        else:
            work.mkdir()
        for each, kind in things.items():
            put(work / each, kind, outside)
        before, around = seen(work), seen(outside)
        with suppress(StarvsrError, Broken):
            command(work)
        after = seen(work) if work.exists() else {}
        assert seen(outside) == around
        # A regular file with exactly a name of ours counts as ours where the mark is, and nowhere else.
        is_ours = marked and things.get(".starvsr-work") is None
        for path, content in before.items():
            if not (is_ours and path in _OURS and isinstance(content, tuple) and content[1]):
                if marked and path in (".lock", ".starvsr-work") and things.get(path) is None:
                    continue
                assert after.get(path) == content, path


def test_what_would_be_noticed(tmp_path: Path) -> None:
    put(tmp_path / "a", "file", tmp_path)
    before = seen(tmp_path)
    (tmp_path / "a").write_bytes(b"")
    assert seen(tmp_path) != before
    shutil.rmtree(tmp_path)
    assert not tmp_path.exists()
