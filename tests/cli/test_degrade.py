"""`starvsr degrade`: one file, folders, pairs, and everything that it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from starvsr.media.probe import probe
from starvsr.train.degrade import Degradation
from tests.cli.conftest import FRAMES, Cli, listing
from tests.media.clips import Clip, cut, make

LIGHT = ("--preset", "light", "--scale", "2", "--progress", "none")


@pytest.fixture
def folder(clip: Path) -> Path:
    """Two clips in a folder of their own."""
    inside = clip.parent / "clips"
    inside.mkdir()
    shutil.copy(clip, inside / "a.mp4")
    shutil.copy(clip, inside / "b.mov")
    return inside


def test_one_file(cli: Cli, clip: Path) -> None:
    output = clip.with_name("low.mkv")
    result = cli("degrade", clip, output, *LIGHT)
    assert (result.code, result.out) == (0, "")
    assert f"{output}: {FRAMES} frames of 16x12" in result.err
    assert "without its audio" in result.err
    made = probe(output)
    assert (made.width, made.height, made.pix_fmt) == (16, 12, "yuv420p")
    assert [stream.kind for stream in made.streams] == ["video"]
    assert listing(clip.parent).keys() == {"clip.mp4", "low.mkv"}


def test_heavy_is_the_default_and_a_quarter(cli: Cli, tmp_path: Path) -> None:
    source = make(tmp_path / "in.mp4", Clip(frames=2))
    result = cli("degrade", source, tmp_path / "low.mp4", "--json", "--quiet")
    assert (result.code, result.err) == (0, "")
    done = json.loads(result.out)
    assert (done["width"], done["height"]) == (16, 12)
    assert len(done["degradation"]["stages"]) == 2


def test_json_can_be_replayed(cli: Cli, clip: Path) -> None:
    result = cli("degrade", clip, clip.with_name("low.mp4"), *LIGHT, "--json", "--seed", "4")
    done = json.loads(result.out)
    assert done.keys() == {
        *("version", "event", "source", "target", "truth", "width", "height", "frames"),
        *("lost_frames", "left_out", "degradation", "elapsed_s"),
    }
    assert (done["version"], done["event"], done["truth"]) == (1, "degraded", None)
    assert (done["source"], done["left_out"]) == (str(clip), ["audio"])
    degradation = Degradation.from_json(done["degradation"])
    assert degradation.scale == 2
    assert json.loads(json.dumps(degradation.to_json())) == done["degradation"]


def test_a_seed_decides(cli: Cli, clip: Path) -> None:
    made = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        target = clip.with_name(f"{name}.mp4")
        assert cli("degrade", clip, target, "--scale", "2", "--seed", str(seed)).code == 0
        made[name] = target.read_bytes()
    assert made["a"] == made["b"] != made["c"]


def test_a_folder_into_a_folder(cli: Cli, folder: Path) -> None:
    out = folder.parent / "out"
    result = cli("degrade", folder, out, *LIGHT, "--json")
    assert result.code == 0
    assert listing(out).keys() == {"a.mp4", "b.mp4"}
    first, second = (json.loads(line) for line in result.out.splitlines())
    assert first["degradation"]["seed"] != second["degradation"]["seed"]
    alone = cli("degrade", folder / "b.mov", folder.parent / "b.mp4", *LIGHT, "--json")
    assert json.loads(alone.out)["degradation"] == second["degradation"]


def test_pairs(cli: Cli, folder: Path) -> None:
    out = folder.parent / "data"
    result = cli("degrade", folder, out, *LIGHT, "--pairs", "--prompt", "a test card")
    assert result.code == 0
    assert {path for path, data in listing(out).items() if data is not None} == {
        *("gt/a.mp4", "gt/b.mp4", "lq/a.mp4", "lq/b.mp4", "text/a.txt", "text/b.txt")
    }
    assert (out / "text" / "a.txt").read_text() == "a test card"
    assert (probe(out / "gt" / "a.mp4").width, probe(out / "lq" / "a.mp4").width) == (32, 16)
    again = cli("degrade", folder, out, *LIGHT, "--pairs")
    assert again.code == 7
    assert "exists already: give --overwrite" in again.error
    assert cli("degrade", folder, out, *LIGHT, "--pairs", "-y").code == 0
    assert (out / "text" / "a.txt").read_text() == ""


def test_into_images(cli: Cli, clip: Path) -> None:
    folder = clip.parent / "low"
    folder.mkdir()
    result = cli("degrade", clip, folder / "%03d.png", *LIGHT)
    assert result.code == 0, result.err
    assert list(listing(folder)) == [f"{number:03d}.png" for number in range(1, FRAMES + 1)]
    with Image.open(folder / "001.png") as picture:
        assert picture.size == (16, 12)


def test_drift_and_encoder(cli: Cli, clip: Path) -> None:
    output = clip.with_name("low.mkv")
    result = cli("degrade", clip, output, *LIGHT, "--drift", "0.5", "--codec", "ffv1", "--json")
    assert 0 < json.loads(result.out)["degradation"]["drift"] <= 0.5
    assert probe(output).codec == "ffv1"
    smaller = clip.with_name("small.mp4")
    assert cli("degrade", clip, smaller, *LIGHT, "--crf", "40").code == 0
    assert smaller.stat().st_size < output.stat().st_size


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scale", "0"], "--scale 0 is not allowed: give 1 to 64"),
        (["--scale", "65"], "--scale 65 is not allowed: give 1 to 64"),
        (["--seed", "-1"], "--seed -1 is not allowed: give 0 or more"),
        (["--drift", "1.5"], "--drift 1.5 is not allowed: give 0 to 1"),
        (["--drift", "nan"], "--drift nan is not allowed: give 0 to 1"),
        (["--prompt", "x"], "--prompt would have no effect without --pairs"),
        (["--verbose", "--quiet"], "contradict"),
        (["--preset", "middling"], "middling"),
        (["--scale", "half"], "'half' is not an integer"),
        (["--drift", "some"], "'some' is not a number"),
    ],
)
def test_usage(cli: Cli, clip: Path, options: list[str], message: str) -> None:
    before = listing(clip.parent)
    result = cli("degrade", clip, clip.with_name("low.mp4"), *options)
    assert result.code == 2
    assert message in result.error
    assert listing(clip.parent) == before


@pytest.mark.parametrize("pairs", [[], ["--pairs"]])
@pytest.mark.parametrize(
    ("name", "data"), [("none.mp4", None), ("empty.mp4", b""), ("text.mp4", b"just words")]
)
def test_inputs_that_cannot_be_read(
    cli: Cli, tmp_path: Path, name: str, data: bytes | None, pairs: list[str]
) -> None:
    source = tmp_path / name
    if data is not None:
        source.write_bytes(data)
    before = listing(tmp_path)
    result = cli("degrade", source, tmp_path / ("out" if pairs else "out.mp4"), *LIGHT, *pairs)
    assert result.code == 3
    assert str(source) in result.error
    assert listing(tmp_path) == before


def test_a_folder_without_video(cli: Cli, tmp_path: Path) -> None:
    result = cli("degrade", tmp_path, tmp_path / "out", *LIGHT)
    assert result.code == 3
    assert "contains no video" in result.error
    assert listing(tmp_path) == {}


def test_outputs_that_cannot_be_written(cli: Cli, clip: Path, folder: Path) -> None:
    (clip.parent / "there.mp4").write_bytes(b"precious")
    before = listing(clip.parent)
    for target, code, words in (
        (clip, 2, "is the input itself"),
        (clip.with_name("there.mp4"), 7, "exists already"),
        (clip.with_name("low.avi"), 7, "the extension .avi"),
        (clip.parent / "no" / "low.mp4", 7, "does not exist: make it first"),
        (folder, 7, "is a folder"),
    ):
        result = cli("degrade", clip, target, *LIGHT)
        assert result.code == code
        assert words in result.error
    into_file = cli("degrade", folder, clip.with_name("there.mp4"), *LIGHT)
    assert into_file.code == 7
    into_itself = cli("degrade", folder, folder, *LIGHT, "--overwrite")
    assert (into_itself.code, "is the input itself" in into_itself.error) == (2, True)
    assert listing(clip.parent) == before


def test_a_bad_clip_in_a_folder(cli: Cli, folder: Path) -> None:
    (folder / "aa.mp4").write_bytes(b"no video at all")
    stopped = cli("degrade", folder, folder.parent / "one", *LIGHT)
    assert stopped.code == 3
    assert str(folder / "aa.mp4") in stopped.error
    assert listing(folder.parent / "one").keys() == {"a.mp4"}
    result = cli("degrade", folder, folder.parent / "all", *LIGHT, "--keep-going")
    assert result.code == 6
    assert f"warning: skipped: {folder / 'aa.mp4'}" in result.err
    assert "1 of 3 inputs failed, the others are done" in result.err
    assert listing(folder.parent / "all").keys() == {"a.mp4", "b.mp4"}
    (folder.parent / "all" / "b.mp4").unlink()
    result = cli("degrade", folder, folder.parent / "all", *LIGHT, "--keep-going")
    assert (result.code, "2 of 3 inputs failed" in result.err) == (6, True)
    assert listing(folder.parent / "all").keys() == {"a.mp4", "b.mp4"}, (
        "also after one that is done"
    )


def test_a_damaged_clip(cli: Cli, tmp_path: Path) -> None:
    whole = make(tmp_path / "whole.mkv", Clip(frames=40, codec="mpeg4", options={"g": "5"}))
    source = cut(whole, 0.6)
    result = cli("degrade", source, tmp_path / "low.mp4", *LIGHT)
    assert result.code == 8
    assert f"warning: {source} is damaged" in result.err
