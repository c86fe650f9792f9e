"""`starvsr evaluate` from end to end."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, listing
from tests.evaluate.videos import clip, write
from tests.media.clips import Clip, make
from tests.metrics.pictures import blurred

COLUMNS = "| clip | PSNR-Y (dB) ↑ | SSIM-Y ↑ | VMAF ↑ | VMAF-NEG ↑ | BRISQUE ↓ | E*warp (1e-3) ↓ | tOF (px) ↓ |"


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Two clips and their originals."""
    for name, step in (("one", (2, 1)), ("two", (0, 2))):
        pictures = clip(step=step)
        write(tmp_path / "originals" / f"{name}.mkv", pictures)
        write(tmp_path / "results" / f"{name}.mkv", [blurred(each) for each in pictures])
    return tmp_path / "results", tmp_path / "originals"


def test_table(cli: Cli, folders: tuple[Path, Path]) -> None:
    result = cli("evaluate", *folders)
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == COLUMNS
    assert [line.split(" | ")[0] for line in lines[2:5]] == ["| one", "| two", "| **mean**"]
    assert (
        "- one: no NIQE: frames are 64x48: at least two blocks of 96x96 pixels are needed" in lines
    )
    assert "measuring: 12/12 frames" in result.err


def test_report_files_are_the_same_twice(
    cli: Cli, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    outs = []
    for number in range(2):
        report = tmp_path / f"report{number}"
        result = cli("evaluate", *folders, "-o", report, "--json", "-q")
        assert (result.code, result.err) == (0, "")
        outs.append((result.out, listing(report)))
    assert outs[0] == outs[1]
    shown, written = outs[0]
    assert set(written) == {"metrics.json", "metrics.md", "frames.csv"}
    data = json.loads(shown)
    assert (data.pop("version"), data.pop("event")) == (1, "evaluated")
    assert data == json.loads(written["metrics.json"] or b"")
    rows = list(csv.DictReader(io.StringIO((written["frames.csv"] or b"").decode())))
    assert [(row["clip"], row["frame"]) for row in rows] == [
        (name, str(n)) for name in ("one", "two") for n in range(6)
    ]
    means = [clip["mean"]["psnr_y"] for clip in data["clips"]]
    assert data["means"][0]["psnr_y"] == pytest.approx(sum(means) / 2)


def test_manifest_with_groups(cli: Cli, folders: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = tmp_path / "clips.toml"
    manifest.write_text(
        "".join(
            f'[[clip]]\nname = "{name}"\ngroup = "{group}"\nresult = "{group}/{name}.mkv"\n'
            f'reference = "originals/{name}.mkv"\n'
            for group in ("results", "originals")
            for name in ("one", "two")
        )
    )
    result = cli("evaluate", manifest, "--metrics", "psnr_y,tof", "-q")
    assert result.code == 0
    assert "| **originals mean** | **100.00** | **0.000** |" in result.out
    assert "| **results mean** |" in result.out


def test_one_video_without_a_reference(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", clip(2, 96, 192))
    result = cli("evaluate", path, "--metrics", "niqe", "-q")
    assert result.code == 0
    assert result.out.startswith("| clip | NIQE ↓ |\n| --- | ---: |\n| a | ")


@pytest.mark.parametrize("shift", ["pixel", "frame"])
def test_a_shift_is_said(cli: Cli, tmp_path: Path, shift: str) -> None:
    frames = clip(10, 96, 128, (0, 0) if shift == "pixel" else (2, 1))
    if shift == "pixel":
        result, reference = [each[:, :-1] for each in frames], [each[:, 1:] for each in frames]
    else:
        result, reference = frames[:-1], frames[1:]
    a, b = write(tmp_path / "a.mkv", result), write(tmp_path / "b.mkv", reference)
    shown = cli("evaluate", a, b, "--metrics", "psnr_y", "--json")
    assert shown.code == 0
    expected = (
        "shifted by +1.0 pixels to the right" if shift == "pixel" else "the result is 1 frame late"
    )
    (warning,) = json.loads(shown.out)["clips"][0]["warnings"]
    assert expected in warning
    assert f"warning: a: {warning}" in shown.err
    assert f"- warning: a: {warning}" in cli("evaluate", a, b, "--metrics", "psnr_y").out


def test_a_damaged_video_is_exit_code_8(cli: Cli, tmp_path: Path) -> None:
    # An mp4 whose index is at its end cannot be read once it is cut; one of fragments can.
    cut = make(
        tmp_path / "cut.mp4",
        Clip(frames=12, muxer={"movflags": "frag_keyframe+empty_moov"}, options={"g": "3"}),
    )
    cut.write_bytes(cut.read_bytes()[:-400])
    result = cli("evaluate", cut, "--metrics", "niqe", "-q")
    assert result.code == 8
    assert "cut.mp4 is damaged:" in result.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.mkv"], 3, "none.mkv does not exist: check the name"),
        (["results/one.mkv", "none.mkv"], 3, "none.mkv does not exist: check the name"),
        (["results/one.mkv", "short.mkv"], 3, "both must have the same number of frames"),
        (["results/one.mkv", "wide.mkv"], 3, "both must have the same size"),
        (["results", "lonely"], 3, "results/two.mkv has no reference: there is no video two.* in "),
        (["results/one.mkv", "text.mkv"], 3, "text.mkv is not a"),
        (
            ["results", "originals", "--metrics", "psnr"],
            2,
            "--metrics psnr is unknown: did you mean psnr_y? choose from psnr_y, ",
        ),
        (
            ["results", "--metrics", "psnr_y,brisque,tof"],
            2,
            "--metrics psnr_y,tof needs a reference: give REFERENCE, or one in the manifest",
        ),
        (["results", "originals", "--device", "gpu"], 2, "--device"),
        (
            ["results", "originals", "-o", "text.mkv"],
            7,
            "text.mkv is a file: give the name of a folder",
        ),
        (["results", "originals", "-q", "-v"], 2, "--verbose and --quiet contradict each other"),
    ],
)
def test_bad_input(
    cli: Cli,
    folders: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    write(tmp_path / "short.mkv", clip(5))
    write(tmp_path / "wide.mkv", clip(6, 48, 80))
    write(tmp_path / "lonely" / "one.mkv", clip(6))
    (tmp_path / "text.mkv").write_text("no video")
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    result = cli("evaluate", *arguments)
    assert (result.code, result.out) == (code, "")
    assert message in result.error
    assert listing(tmp_path) == before
