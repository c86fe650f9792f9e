"""Work directories on the command line: nothing of the user's goes, and errors have codes of their own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from starvsr.job.executor import InTurn, Made, OnLoad, Work
from starvsr.job.segment import OnFrames
from starvsr.media import files, removal
from starvsr.plan.segments import Segment
from tests.cli.conftest import Cli, listing


@pytest.fixture
def command(tmp_path: Path, clip: Path, quick: list[str]) -> list[str | Path]:
    """Three segments, which share frames."""
    return ["upscale", clip, tmp_path / "out.mkv", *quick, "--segment-frames", "6"]


@pytest.fixture
def work(tmp_path: Path, cli: Cli, command: list[str | Path]) -> Path:
    """The work directory of a job that was broken off."""
    call = InTurn.__call__

    def some(
        self: InTurn, work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
    ) -> Generator[Made, None, None]:
        yield from call(self, work, segments[:1], on_load, on_frames)
        raise OSError(errno.ENOSPC, "No space left on device", str(work.folder / "x"))

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(InTurn, "__call__", some)
        assert cli(*command).code == 7
    return tmp_path / "out.mkv.starvsr"


@pytest.mark.parametrize("anew", [[], ["--no-resume"]])
def test_a_folder_of_photographs_is_refused(
    cli: Cli, tmp_path: Path, command: list[str | Path], anew: list[str]
) -> None:
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for name in ("230615-birthday.jpg", "123456-invoice.pdf"):
        (photographs / name).write_bytes(b"mine")
    before = listing(tmp_path)
    outcome = cli(*command, "--work-dir", photographs, *anew)
    said = "is not a starvsr work directory and not empty: it contains 123456-invoice.pdf, 230615-"
    assert (outcome.code, said in outcome.error) == (2, True)
    outcome = cli("finish", photographs)
    assert (outcome.code, "is not a starvsr work directory: give one" in outcome.error) == (2, True)
    assert listing(tmp_path) == before


def test_an_empty_folder_may_be_given_and_stays(
    cli: Cli, tmp_path: Path, command: list[str | Path]
) -> None:
    (tmp_path / "empty").mkdir()
    assert cli(*command, "--work-dir", tmp_path / "empty").code == 0
    assert listing(tmp_path / "empty") == {}
    assert (tmp_path / "empty").is_dir()


@pytest.mark.parametrize("name", ["journal.jsonl", "000000-core.mkv", "000001-core.mkv"])
def test_a_link_is_not_followed(
    cli: Cli, tmp_path: Path, command: list[str | Path], work: Path, name: str
) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes((work / name).read_bytes() if (work / name).exists() else b"mine")
    (work / name).unlink(missing_ok=True)
    (work / name).symlink_to(mine)
    before = listing(tmp_path)
    for arguments in (command, [*command, "--no-resume"], ["finish", work]):
        outcome = cli(*arguments)
        assert (outcome.code, f"{name} is not a regular file" in outcome.error) == (9, True)
        assert listing(tmp_path) == before


def test_a_journal_of_another_version_is_refused(
    cli: Cli, tmp_path: Path, command: list[str | Path], work: Path
) -> None:
    journal = work / "journal.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'{"version": 4', b'{"version": 5', 1))
    before = listing(tmp_path)
    for arguments in (command, ["finish", work]):
        outcome = cli(*arguments)
        assert (outcome.code, "in format 5; nothing was changed" in outcome.error) == (9, True)
        assert listing(tmp_path) == before
    assert cli(*command, "--no-resume").code == 0
    assert not work.exists()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_full_disk_under_the_work_directory(
    cli: Cli,
    tmp_path: Path,
    command: list[str | Path],
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: bool,
) -> None:
    """The raw frames that segments share are written by Python, not by libav."""
    folder = tmp_path / "work"
    given = ["--work-dir", folder] if elsewhere else []
    put = removal.put_in_place

    def full(made: Path, target: Path, right: removal.Right) -> None:
        if target.suffix == ".raw":
            raise OSError(errno.ENOSPC, "No space left on device")
        put(made, target, right)

    def none_left(self: Path, *arguments: Any, **named: Any) -> Any:
        if self.suffix == ".partial" and arguments == ("xb",):
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(self, *arguments, **named)

    opened = Path.open
    with monkeypatch.context() as patched:
        patched.setattr(files, "put_in_place", full)
        outcome = cli(*command, *given)
        place = folder if elsewhere else tmp_path
        assert (outcome.code, f"no space left in {place}" in outcome.error) == (7, True)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", none_left)
        outcome = cli(*command, *given)
        assert (outcome.code, f"no space left in {place}" in outcome.error) == (7, True)
    assert cli(*command, *given).code == 0
    assert not folder.exists()


@pytest.mark.parametrize("name", ["out.mkv", "%d.png"])
@pytest.mark.parametrize("linked", [False, True])
def test_an_output_that_is_replaced_keeps_its_permissions(
    cli: Cli, tmp_path: Path, clip: Path, quick: list[str], name: str, linked: bool
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    targets = [folder / (name if "%" not in name else f"{number}.png") for number in (1, 2)]
    for number, target in enumerate(targets[:1] if "%" not in name else targets):
        old = tmp_path / f"old-{number}" if linked else target
        old.write_bytes(b"old")
        old.chmod(0o640)
        if linked:
            target.symlink_to(old)
    before = os.umask(0o022)
    try:
        assert cli("upscale", clip, folder / name, *quick, "--overwrite").code == 0
    finally:
        os.umask(before)
    assert targets[0].read_bytes() != b"old"
    assert targets[0].is_symlink() == linked
    assert stat.S_IMODE(targets[0].stat().st_mode) == 0o640
    if "%" in name:
        assert stat.S_IMODE(targets[1].stat().st_mode) == 0o640
        assert stat.S_IMODE((folder / "3.png").stat().st_mode) == 0o644


def test_a_file_of_somebodys_stays_and_is_named(
    cli: Cli, tmp_path: Path, command: list[str | Path], work: Path
) -> None:
    (work / "thesis.txt").write_bytes(b"mine")
    outcome = cli(*command)
    assert outcome.code == 0
    assert f"warning: {work} stays: not starvsr's own: thesis.txt" in outcome.err
    assert listing(work) == {"thesis.txt": b"mine"}


def test_nothing_is_written_into_the_work_directory_of_another_job(
    cli: Cli, work: Path, clip: Path, quick: list[str]
) -> None:
    """Names like parts' are cleared there, and an output could have one."""
    before = listing(work)
    target = work / "000004-core.mkv"
    for arguments in (
        ["upscale", clip, target, *quick],
        ["upscale", clip, clip.with_name("other.mkv"), *quick, "--log-file", work / "a.log"],
        ["degrade", clip, work / "a.mp4", "--scale", "2"],
        ["compare", clip, clip, "-o", work / "a.html"],
        ["evaluate", clip, "-o", work / "scores"],
    ):
        result = cli(*arguments)
        assert result.code == 2, arguments
        assert f"{work} is a work directory of starvsr" in result.error
    assert listing(work) == before
