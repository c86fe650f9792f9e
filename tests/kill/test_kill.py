"""A small part of what `make kill` runs, and that it would notice."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.kill.cases import (
    KINDS,
    SIGNALS,
    Whole,
    content_of,
    failures_of,
    failures_when_over,
    failures_when_told,
    run_case,
    whole_runs,
)
from tests.kill.inotify import Event, Watch
from tests.kill.runs import Job, Pace, Run
from tests.media.clips import Audio, Clip, make

if sys.platform != "linux":
    pytest.skip("inotify is Linux's", allow_module_level=True)

# While a part is written, while the journal is, and when the output is there already.
SEEDS = (3, 4, 7)


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory) -> list[Whole]:
    return whole_runs(tmp_path_factory.mktemp("wholes"), KINDS[:1])


@pytest.mark.slow
def test_kills(tmp_path: Path, wholes: list[Whole]) -> None:
    """`make kill` does more of them."""
    cases = [run_case(seed, wholes, tmp_path) for seed in SEEDS]
    assert [case.stage for case in cases] == ["encode", "journal", "clearing"]
    assert [case.failures for case in cases] == [()] * len(SEEDS)


@pytest.mark.slow
def test_kills_of_a_job_whose_frames_repeat(tmp_path: Path) -> None:
    """`make kill` does more of them."""
    (tmp_path / "wholes").mkdir()
    wholes = whole_runs(tmp_path / "wholes", KINDS[3:])
    (tmp_path / "case").mkdir()
    case = run_case(3, wholes, tmp_path / "case")
    assert (case.stage, case.failures) == ("encode", ())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_signals(tmp_path: Path, wholes: list[Whole], name: str) -> None:
    """`make kill` does more of them."""
    case = run_case(3, wholes, tmp_path, SIGNALS[name])
    assert (case.stage, case.failures) == ("encode", ())


def test_what_happens_to_files_is_told(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("1")
    with Watch() as watch:
        watch.add(tmp_path)
        assert list(watch.wait(0)) == []
        (tmp_path / "new").write_text("2")
        (tmp_path / "new").replace(tmp_path / "old")
        assert list(watch.wait(1)) == [
            *(Event(kind, tmp_path / "new") for kind in ("made", "opened", "written", "closed")),
            Event("moved from", tmp_path / "new"),
            Event("moved to", tmp_path / "old"),
        ]


def test_what_is_a_failure(tmp_path: Path) -> None:
    clip = Clip(frames=3, audio=(Audio(seconds=0.12),))
    job = Job(tmp_path / "in.mkv", make(tmp_path / "out.mkv", clip), ())
    pace = Pace(seconds=1, lines=3, segments=2, events={}, decode_s=0, quiet_s=0)
    whole = Whole(job, content_of(job.target), pace)
    moved = [(0.1, "rename", Event("moved to", job.work / "000001-core.mkv"))]
    killed, again = Run(code=-9), Run(events=moved)
    kept = ["000000-core.mkv"]

    def said(killed: Run = killed, kept: list[str] = kept, again: Run = again) -> str:
        return " ".join(failures_of(job, whole, killed, kept, again))

    assert not said()
    assert "was not killed" in said(killed=Run())
    assert "says error: a" in " ".join(failures_when_told(job, Run(130, err="error: a")))
    assert not [*failures_when_told(job, Run(-15))]
    assert "dies" in " ".join(failures_when_told(job, Run(-15, stage="encode")))
    (tmp_path / "out.mkv.starvsr").mkdir()
    (tmp_path / "out.mkv.starvsr" / "a.partial").touch()
    assert "left behind: a.partial" in " ".join(failures_when_told(job, Run(143)))
    shutil.rmtree(tmp_path / "out.mkv.starvsr")
    assert "gives 7: no" in said(again=Run(7, err="no"))
    assert "1 segments were restored" in said(kept=[])
    assert "made twice: 000001-core.mkv" in said(kept=[*kept, "000001-core.mkv"])
    refused = Run(7, err="error: out.mkv exists already: give --overwrite")
    assert not [*failures_when_over(job, whole, refused)]
    assert [*failures_when_over(job, whole, again)] == ["the same command gives 0: "]
    (tmp_path / "in.mkv").touch()
    assert said() == "left behind: in.mkv"
    make(job.target, Clip(frames=4, audio=(Audio(seconds=0.2),)))
    assert "the frames are not" in said()
    assert "the sound is not" in said()
