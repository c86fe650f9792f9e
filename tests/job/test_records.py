"""Journals as data from outside: what is not as this version writes it is refused, and left as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from starvsr.errors import WorkDirError
from starvsr.job.journal import open_begun, open_journal
from starvsr.job.records import MOST_BYTES, PartFile, first_line, recorded, sealed
from tests.cli.conftest import listing
from tests.job.journals import NOTES, REQUEST, STEPS, broken_off, go_on, part


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return broken_off(tmp_path / "out.mkv.starvsr")


FIRST = first_line(REQUEST, NOTES)
CORE = recorded({"core-0": [PartFile("000000-core.mkv", 4, "0" * 64)]})


def steps(name: str, *files: object) -> bytes:
    return FIRST + sealed({"steps": {name: list(files)}})


def file(**changes: object) -> dict[str, object]:
    return {"name": "000000-core.mkv", "bytes": 4, "sha256": "0" * 64, **changes}


def first(**changes: object) -> bytes:
    return sealed({"version": 4, "request": REQUEST, "notes": NOTES, **changes})


def notes(**changes: object) -> bytes:
    return first(notes={**NOTES, **changes})


STRANGE: dict[str, bytes] = {
    "nothing": b"",
    "no end": FIRST[:-1],
    "older": first(version=1),
    "newer": b'{"version": 99, "all": "else"}\n',
    "no version": sealed({"request": REQUEST, "notes": NOTES}),
    "unknown entry": first(more=1),
    "no object": b"[]\n",
    "damaged first": FIRST.replace(b"ffv1", b"ffv2") + CORE,
    "damaged middle": FIRST + CORE.replace(b"core", b"cone") + CORE,
    "torn middle": FIRST + CORE[:20] + b"\n" + CORE,
    "no seal": FIRST + b'{"note": {"made": "1"}}\n' + CORE,
    "unknown line": FIRST + sealed({"else": 1}),
    "two kinds": FIRST + sealed({"steps": {}, "note": {}}),
    "up": steps("core-0", file(name="../000000-core.mkv")),
    "absolute": steps("core-0", file(name="/000000-core.mkv")),
    "another segment": steps("core-0", file(name="000001-core.mkv")),
    "another kind": steps("core-0", file(name="000000-seam.mkv")),
    "line feed": steps("core-0", file(name="000000-core.mkv\n")),
    "digits": steps("core-0", file(name="٠٠٠٠٠٠-core.mkv")),
    "no files": steps("core-0"),
    "two files": steps("core-0", file(), file()),
    "negative": steps("core-0", file(bytes=-1)),
    "huge": steps("core-0", file(bytes=1 << 63)),
    "float": steps("core-0", file(bytes=4.0)),
    "bool": steps("core-0", file(bytes=True)),
    "hash": steps("core-0", file(sha256="0" * 63 + "g")),
    "no hash": steps("core-0", {"name": "000000-core.mkv", "bytes": 4}),
    "more of a file": steps("core-0", file(mode=1)),
    "unknown step": steps("cork-0", file()),
    "step far away": steps("core-99999999999", file()),
    "steps are a list": FIRST + sealed({"steps": []}),
    "files are text": FIRST + sealed({"steps": {"core-0": "x"}}),
    "unknown note": notes(more=1),
    "note of a wrong kind": notes(memory_bytes="1"),
    "no note": first(notes={"threads": 1}),
    "no threads": notes(threads=0),
    "many threads": notes(threads=10**9),
    "request of a wrong kind": first(request=[]),
    "deep": b"[" * 100_000 + b"\n",
    "deep and sealed": FIRST + b'{"note": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n" + CORE,
    "many digits": FIRST + sealed({"note": {"made": 0}}).replace(b"0", b"9" * 5000, 1) + CORE,
    "windows": FIRST + sealed({"note": {"windows": {"network": {}, "autoencoder": {}}}}),
    "too large": FIRST + b" " * MOST_BYTES,
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_strange_journal_is_refused_and_untouched(work: Path, name: str) -> None:
    (work / "journal.jsonl").write_bytes(STRANGE[name])
    before = listing(work)
    with (
        pytest.raises(WorkDirError, match=r"nothing was changed: .* --no-resume"),
        open_journal(work, REQUEST, NOTES, resume=True),
    ):
        raise AssertionError
    with pytest.raises(WorkDirError), open_begun(work):
        raise AssertionError
    assert listing(work) == before
    assert go_on(work, resume=False) == []
    assert not (work / "000000-core.mkv").exists()


def test_a_part_outside_is_neither_read_nor_removed(tmp_path: Path, work: Path) -> None:
    mine = part(tmp_path, "000000-core.mkv", b"mine")
    (work / "journal.jsonl").write_bytes(STRANGE["up"])
    go_on(work, resume=False)
    with open_journal(work, REQUEST, NOTES, resume=True):
        pass
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("torn", [b"x", b'{"steps": {"core-1": [', b"\0" * 99, b"[1]\n", CORE[:-1]])
def test_only_a_torn_last_line_is_cut(work: Path, torn: bytes) -> None:
    journal = work / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole + torn)
    with open_begun(work) as (begun, request):
        assert (sorted(begun.steps), request) == (STEPS, REQUEST)
    assert journal.read_bytes() == whole + torn
    assert go_on(work) == STEPS
    assert journal.read_bytes() == whole


def test_every_line_is_json_with_a_hash(work: Path) -> None:
    lines = (work / "journal.jsonl").read_text().splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [
        ["notes", "request", "sha256", "version"],
        ["sha256", "steps"],
    ]
