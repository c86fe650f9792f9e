"""Tables, JSON and CSV of made-up figures."""

from __future__ import annotations

import csv
import errno
import io
import json
from pathlib import Path

import pytest

from starvsr.errors import OutputError
from starvsr.evaluate.measure import ClipResult
from starvsr.evaluate.pairs import ClipPair
from starvsr.evaluate.report import FILES, check_folder, to_csv, to_json, to_markdown, write_report
from starvsr.media import files


def result(
    name: str, psnr: tuple[float, ...], group: str = "", *, niqe: float | None = 5.0
) -> ClipResult:
    curves: dict[str, tuple[float | None, ...]] = {"psnr_y": psnr}
    if niqe is not None:
        curves["niqe"] = (niqe,) * len(psnr)
    reason = {} if niqe is not None else {"niqe": "frames are 9x9"}
    pair = ClipPair(name, Path(f"{name}.mkv"), Path(f"{name}.gt.mkv"), group)
    return ClipResult(pair, 64, 48, len(psnr), curves, reason, ())


def test_markdown() -> None:
    clips = [result("a", (20.0, 22.0)), result("b|c", (30.0,))]
    assert to_markdown(clips, {"vmaf": "needs the extra metrics"}) == (
        "| clip | PSNR-Y (dB) ↑ | NIQE ↓ |\n"
        "| --- | ---: | ---: |\n"
        "| a | 21.00 | 5.000 |\n"
        "| b\\|c | 30.00 | 5.000 |\n"
        "| **mean** | **25.50** | **5.000** |\n"
        "\n"
        "- no VMAF: needs the extra metrics\n"
    )


def test_groups_have_means_of_their_own() -> None:
    clips = [
        result("a", (20.0,), "light"),
        result("a", (10.0,), "heavy"),
        result("b", (30.0,), "light"),
    ]
    text = to_markdown(clips, {})
    assert "| **light mean** | **25.00** |" in text
    assert "heavy mean" not in text
    assert text.index("| light a |") < text.index("| light b |") < text.index("| heavy a |")


def test_a_mean_over_fewer_clips_is_none() -> None:
    clips = [result("a", (20.0,)), result("b", (30.0,), niqe=None)]
    assert "| **mean** | **25.00** | **–** |" in to_markdown(clips, {})
    assert "- b: no NIQE: frames are 9x9" in to_markdown(clips, {})
    assert to_json(clips, {})["means"] == [{"group": "", "clips": 2, "psnr_y": 25.0, "niqe": None}]


def test_json_has_everything() -> None:
    data = json.loads(json.dumps(to_json([result("a", (20.0, 22.0))], {"vmaf": "why"})))
    assert data["report_version"] == 1
    assert data["left_out"] == {"vmaf": "why"}
    assert data["metrics"]["psnr_y"] == {"title": "PSNR-Y", "unit": "dB", "better": "higher"}
    (clip,) = data["clips"]
    assert clip["result"] == "a.mkv" and clip["reference"] == "a.gt.mkv"
    assert clip["mean"] == {"psnr_y": 21.0, "niqe": 5.0}
    assert clip["per_frame"]["psnr_y"] == [20.0, 22.0]


def test_csv_has_a_line_per_frame() -> None:
    clips = [result("a", (20.0, 22.5)), result("b", (30.0,), niqe=None)]
    rows = list(csv.DictReader(io.StringIO(to_csv(clips))))
    assert [(row["clip"], row["frame"], row["psnr_y"], row["niqe"]) for row in rows] == [
        ("a", "0", "20.0", "5.0"),
        ("a", "1", "22.5", "5.0"),
        ("b", "0", "30.0", ""),
    ]


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    check_folder(folder, overwrite=False)
    assert not folder.exists()
    write_report(folder, [result("a", (20.0,))], {})
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    with pytest.raises(OutputError, match=r"metrics\.json exists: give --overwrite to replace it"):
        check_folder(folder, overwrite=False)
    check_folder(folder, overwrite=True)
    before = {name: (folder / name).read_bytes() for name in FILES}
    write_report(folder, [result("a", (20.0,))], {})
    assert {name: (folder / name).read_bytes() for name in FILES} == before


def test_a_full_disk_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(OutputError, match=r"metrics\.json cannot be written: no space left"):
        write_report(tmp_path / "report", [result("a", (20.0,))], {})
    assert list(tmp_path.iterdir()) == []


def test_folders_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(OutputError, match="file is a file: give the name of a folder"):
        check_folder(file, overwrite=True)
    with pytest.raises(OutputError, match=r"cannot be created: the folder .*none"):
        check_folder(tmp_path / "none" / "report", overwrite=True)
