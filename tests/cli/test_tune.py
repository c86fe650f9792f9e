"""`starvsr tune`: its text, JSON and contact sheet, its commands, and what is refused."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from starvsr.job.run import UpscaleResult
from starvsr.tune.rules import MODELS, ModelRule
from tests.cli.conftest import Cli, listing
from tests.media.clips import Clip, make
from tests.metrics.pictures import moving
from tests.tune.test_measure import clip as make_clip


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """12 frames of 96x64, half a second, in a folder whose name has a space."""
    folder = tmp_path / "my films"
    folder.mkdir()
    return make_clip(folder / "film.mkv", moving(12, 64, 96))


def test_it_measures_tries_and_says_what_to_take(cli: Cli, film: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "tune.png"
    result = cli("tune", film, "--seconds", "0.08", "--sheet", sheet)
    assert result.code == 0, result.err
    for line in (
        f"measured in {film}",
        "  video    96x64, 12 frames, 0:00, 8 bit",
        "advised",
        "  --model nano  it is what restores quickest on CPU",
        "  --scale 4     4x is what models were trained for, and 96x64 is small enough for it",
        "tried on 0.08 s from 0.",
        " s; times and sizes are estimates of the whole video",
        "  as advised: 384x256, about 0:",
        "commands",
        f"  starvsr upscale '{film}' --model nano --scale 4\n",
        f"  side by side: {sheet}",
    ):
        assert line in result.out
    assert sorted(listing(tmp_path)) == ["my films", "my films/film.mkv", "tune.png"]
    with Image.open(sheet) as picture:
        shown = np.asarray(picture)
    # The input and two settings, each 320 wide, and below the whole frame a crop.
    assert shown.shape[1] == 3 * 324
    assert shown.shape[0] > 2 * 200
    columns = [shown[260:460, number * 324 : number * 324 + 320].astype(int) for number in range(3)]
    assert all(each.std() > 10 for each in columns)
    assert [np.abs(each - columns[0]).mean() > 0.5 for each in columns] == [False, True, True]
    again = cli("tune", film, "--sheet", sheet)
    assert (again.code, "exists already" in again.error) == (7, True)


def test_its_commands_are_those_of_upscale(cli: Cli, film: Path) -> None:
    result = cli("tune", film, "--seconds", "0.08", "--at", "0.2", "--resolution", "128", "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["event"], found["start_s"], found["frames"]) == ("tuned", 0.2, 2)
    trials = found["trials"]
    assert [each["difference"] for each in trials] == ["", trials[1]["difference"]]
    assert trials[1]["difference"].startswith("--sharpen ")
    for trial in trials:
        assert (trial["width"], trial["height"]) == (192, 128)
        assert trial["whole_s"] > 0
        assert trial["command"].startswith(f"starvsr upscale '{film}' --model nano ")
        options = shlex.split(trial["command"])[2:]
        planned = cli("plan", *options, "--json")
        assert planned.code == 0, planned.err
        assert json.loads(planned.out)["plan"]["width"] == 192
    assert list(listing(film.parent)) == ["film.mkv"]


def test_a_video_of_one_frame(cli: Cli, tmp_path: Path) -> None:
    source = make(tmp_path / "one.mkv", Clip(frames=1, width=32, height=24))
    result = cli("tune", source, "--sheet", tmp_path / "sheet.png", "-q")
    assert result.code == 0, result.err
    assert "  fields   0% of the frames are flagged as interlaced, too little moves" in result.out
    assert "tried on 0.04 s from 0 s" in result.out
    assert result.out.count("starvsr upscale") == 2
    with Image.open(tmp_path / "sheet.png") as picture:
        assert 2 * 128 < picture.width < 2 * 324


def test_an_interrupted_one_leaves_nothing(
    cli: Cli, film: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def interrupted(*_: object, **__: object) -> UpscaleResult:
        assert len(list(tmp_path.iterdir())) == 2
        raise KeyboardInterrupt

    monkeypatch.setattr("starvsr.tune.run.run_job", interrupted)
    result = cli("tune", film, "--sheet", tmp_path / "sheet.png")
    assert result.code == 130
    assert "interrupted; no output was written" in result.err
    assert sorted(listing(tmp_path)) == ["my films", "my films/film.mkv"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--at", "9"], 2, "--at 9 is after the end: the video is 0.480 s long"),
        (["--seconds", "0"], 2, "--seconds 0 is not allowed: give a time above 0"),
        (["--resolution", "0"], 2, "--resolution 0 is not allowed"),
        (["--device", "abacus"], 2, "--device 'abacus' is not allowed"),
        (["--sheet", "tune.jpg"], 2, "--sheet tune.jpg is not a PNG: give a name that ends in"),
        (["--sheet", "none/tune.png"], 7, "none"),
    ],
)
def test_bad_options(
    cli: Cli, film: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(film.parent)
    result = cli("tune", film, *options)
    assert (result.code, said in result.error) == (code, True), result.err
    assert list(listing(film.parent)) == ["film.mkv"]


def test_what_is_no_video_file(cli: Cli, film: Path, tmp_path: Path) -> None:
    photo, pipe = tmp_path / "photo.png", tmp_path / "pipe"
    Image.new("RGB", (64, 48), "teal").save(photo)
    os.mkfifo(pipe)
    for source, code, said in (
        (photo, 2, f"tune is for videos, and {photo} is one picture"),
        ("-", 2, "and - is a pipe: save it as a file first"),
        (pipe, 2, f"and {pipe} is a pipe: save it as a file first"),
        (film.parent, 2, "is a folder: give one video file"),
        (tmp_path / "none.mkv", 3, "none.mkv"),
    ):
        result = cli("tune", source)
        assert (result.code, said in result.error) == (code, True), result.err


def test_what_was_upscaled_before_is_said_once(cli: Cli, film: Path, quick: list[str]) -> None:
    done = film.with_name("done.mkv")
    assert cli("upscale", film, done, *quick, "-q").code == 0
    result = cli("tune", done, "--seconds", "0.08", "--resolution", "64", "-q")
    assert result.code == 0, result.err
    assert f"{result.out}{result.err}".count("already upscaled by starvsr") == 1


@pytest.mark.slow
def test_another_model_is_one_line(cli: Cli, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = (ModelRule("toy", lambda f, m: True, "it is tried in {f.frames} frames"), *MODELS)
    monkeypatch.setattr("starvsr.tune.rules.MODELS", models)
    monkeypatch.setattr("starvsr.tune.run.MODELS", models)
    result = cli("tune", clip, "--seconds", "0.04", "--resolution", "16", "--json")
    assert result.code == 0, result.err
    trials = json.loads(result.out)["trials"]
    assert [each["difference"] for each in trials] == ["", "--model nano", "--speed balanced"]
    assert trials[0]["settings"][0] == {
        "field": "model",
        "value": "toy",
        "reason": "it is tried in 12 frames",
    }
    assert trials[2]["command"].endswith("--model toy --resolution 16 --speed balanced")
