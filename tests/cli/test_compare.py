"""`starvsr compare` from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, listing
from tests.evaluate.videos import clip, write
from tests.metrics.pictures import blurred


@pytest.fixture
def videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Before and after, in the working directory."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.mkv", [blurred(each) for each in clip()])
    write(tmp_path / "b.mkv", clip())
    write(tmp_path / "small.mkv", [each[::2, ::2] for each in clip()])
    return Path("a.mkv"), Path("b.mkv")


def test_figures_and_page(cli: Cli, videos: tuple[Path, Path]) -> None:
    result = cli("compare", *videos)
    assert result.code == 0
    assert result.out.splitlines()[0].split() == ["A", "B"]
    assert "PSNR-Y (dB) ↑" in result.out and "no NIQE: frames are 64x48" in result.out
    assert "compare.html: 6 frames" in result.err
    assert Path("compare.html").read_text().startswith("<!DOCTYPE html>")


def test_json(cli: Cli, videos: tuple[Path, Path]) -> None:
    result = cli("compare", *videos, "-o", "p.html", "--json", "-q", "--metrics", "psnr_y,tof")
    assert (result.code, result.err) == (0, "")
    data = json.loads(result.out)
    assert (data["version"], data["event"], data["page"]) == (1, "compared", "p.html")
    assert set(data["mean"]) == {"psnr_y", "tof"}


def test_resize(cli: Cli, videos: tuple[Path, Path]) -> None:
    arguments = ("compare", "small.mkv", videos[1], "-o", "p.html")
    result = cli(*arguments)
    assert result.code == 3
    assert (
        "b.mkv has 64x48 pixels and small.mkv has 32x24: both must have the same size "
        "(starvsr compare --resize scales A to B's)" in result.error
    )
    assert not Path("p.html").exists()
    assert cli(*arguments, "--resize").code == 0
    assert Path("p.html").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.mkv", "none.mkv"], 3, "none.mkv does not exist: check the name"),
        (["a.mkv", "."], 2, ". is a folder: give one video file"),
        (
            ["a.mkv", "b.mkv", "--page-frames", "0"],
            2,
            "--page-frames 0 is not allowed: give 1 or more",
        ),
        (
            ["a.mkv", "b.mkv", "-o", "small.mkv"],
            7,
            "small.mkv exists already: give --overwrite to replace it",
        ),
        (
            ["a.mkv", "b.mkv", "-o", "none/p.html"],
            7,
            "the folder none does not exist: make it first",
        ),
        (["a.mkv", "b.mkv", "--metrics", ""], 2, "--metrics is empty: choose from psnr_y, "),
    ],
)
def test_bad_input(
    cli: Cli,
    videos: tuple[Path, Path],
    tmp_path: Path,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    before = listing(tmp_path)
    result = cli("compare", *arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.error
    assert listing(tmp_path) == before


def test_pipes_are_refused(cli: Cli, videos: tuple[Path, Path]) -> None:
    """What is compared is read several times, and a file named `-` is nobody's wish."""
    before = listing(Path())
    for arguments, said in (
        (("compare", "-", videos[1]), "compare reads its input several times, and - is a pipe"),
        (("compare", *videos, "-o", "-"), "compare does not write to standard output"),
        (("evaluate", "-"), "evaluate reads its input several times, and - is a pipe"),
        (("evaluate", *videos, "-o", "-"), "evaluate does not write to standard output"),
    ):
        result = cli(*arguments)
        assert (result.code, said in result.error) == (2, True), result.err
    assert listing(Path()) == before


def test_the_page_may_not_replace_what_is_compared(cli: Cli, videos: tuple[Path, Path]) -> None:
    before = Path("a.mkv").read_bytes()
    result = cli("compare", *videos, "-o", "a.mkv", "-y")
    assert result.code == 2
    assert "a.mkv is the input itself: give another output" in result.error
    assert Path("a.mkv").read_bytes() == before
