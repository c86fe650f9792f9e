"""An output that nobody named: beside the input, with the size in its name; and a file that is dragged here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from starvsr.media.probe import probe
from tests.cli.conftest import Cli, listing

SHORT = ("--steps", "1", "--cfg", "1", "--frames", "2")


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (["--scale", "1"], "clip-32x24.mkv"),
        (["--scale", "1.3"], "clip-42x30.mkv"),
        (["--resolution", "48"], "clip-64x48.mkv"),
        (["--scale", "1.3", "--pix-fmt", "yuv444p"], "clip-42x31.mkv"),
        (["--scale", "1", "--codec", "ffv1"], "clip-32x24.mkv"),
    ],
)
def test_a_video(cli: Cli, clip: Path, toy_path: Path, size: list[str], name: str) -> None:
    target, options = clip.with_name(name), ["--model", str(toy_path), *SHORT, *size]
    plan = cli("plan", clip, *options, "--json")
    assert json.loads(plan.out)["target"] == str(target)
    assert not target.exists()
    result = cli("upscale", clip, *options, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["target"] == str(target)
    assert [path.name for path in listing_of(clip.parent)] == [name, "clip.mp4"]
    assert (probe(target).width, probe(target).height) == tuple(
        map(int, target.stem.split("-")[1].split("x"))
    )


def listing_of(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_nothing_is_overwritten_unless_asked_for(cli: Cli, clip: Path, quick: list[str]) -> None:
    target = clip.with_name("clip-32x24.mkv")
    target.write_bytes(b"mine")
    result = cli("upscale", clip, *quick)
    assert result.code == 7
    assert result.error == f"{target} exists already: give --overwrite to replace it"
    assert target.read_bytes() == b"mine"
    assert cli("upscale", clip, *quick, "--overwrite").code == 0
    assert probe(target).width == 32


def test_a_result_of_a_result_has_another_name(cli: Cli, clip: Path, quick: list[str]) -> None:
    assert cli("upscale", clip, *quick).code == 0
    again = cli("upscale", clip.with_name("clip-32x24.mkv"), *quick)
    assert "was already upscaled by" in again.err
    assert clip.with_name("clip-32x24-32x24.mkv").exists()


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("a.jpg", "a-32x24.jpg"),
        ("a.PNG", "a-32x24.PNG"),
        ("a.webp", "a-32x24.webp"),
        ("a.jpe", "a-32x24.png"),
    ],
)
def test_a_picture_stays_of_its_kind(
    cli: Cli, tmp_path: Path, quick: list[str], name: str, made: str
) -> None:
    kind = "JPEG" if name.endswith("jpe") else None
    Image.effect_noise((32, 24), 50).convert("RGB").save(tmp_path / name, kind)
    plan = cli("plan", tmp_path / name, *quick)
    assert str(tmp_path / made) in plan.out
    assert cli("upscale", tmp_path / name, *quick).code == 0
    with Image.open(tmp_path / made) as picture:
        assert picture.size == (32, 24)


@pytest.mark.parametrize(
    ("pattern", "made"), [("frame-%03d.png", "frame-32x24.mkv"), ("%03d.png", "shot 1-32x24.mkv")]
)
def test_numbered_images_are_a_video(
    cli: Cli, tmp_path: Path, quick: list[str], pattern: str, made: str
) -> None:
    folder = tmp_path / "shot 1"
    folder.mkdir()
    for number in range(3):
        Image.effect_noise((32, 24), 50).convert("RGB").save(folder / (pattern % number))
    result = cli("upscale", folder / pattern, *quick)
    assert result.code == 0, result.err
    assert probe(folder / made).width == 32


@pytest.mark.parametrize(
    ("size", "name"),
    [
        (["--scale", "1"], "clips-1x"),
        (["--resolution", "24"], "clips-24p"),
        (["--width", "32"], "clips-32x"),
        (["--height", "24"], "clips-x24"),
    ],
)
def test_a_folder_goes_into_a_folder_beside_it(
    cli: Cli, clip: Path, toy_path: Path, size: list[str], name: str
) -> None:
    folder = clip.parent / "clips"
    folder.mkdir()
    shutil.move(clip, folder / "b.mp4")
    options = ["--model", str(toy_path), *SHORT, *size]
    assert cli("upscale", folder, *options).code == 0
    made = clip.parent / name / "b.mp4"
    assert probe(made).width == 32
    before = listing(clip.parent)
    again = cli("upscale", folder, *options)
    assert again.code == 0
    assert "already exists" in again.err
    assert listing(clip.parent) == before


def test_the_current_folder_has_a_name_too(
    cli: Cli, clip: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clip.parent / "films"
    folder.mkdir()
    shutil.move(clip, folder / "b.mp4")
    monkeypatch.chdir(folder)
    assert cli("upscale", ".", *quick).code == 0
    assert (clip.parent / "films-1x" / "b.mp4").exists()


def test_a_preview_beside_the_input(cli: Cli, clip: Path, quick: list[str]) -> None:
    assert cli("upscale", clip, *quick, "--preview", "0.1").code == 0
    names = [path.name for path in listing_of(clip.parent)]
    assert names == ["clip-32x24-preview.mkv", "clip-32x24-preview.png", "clip.mp4"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["-"], 2, "OUTPUT is required for the input -: give a file, or - for standard output"),
        (["*.mp4"], 2, "OUTPUT is required for the files of *.mp4: give a folder"),
        (["no.mp4"], 3, "no.mp4 does not exist"),
    ],
)
def test_where_there_is_no_place_beside(
    cli: Cli,
    clip: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(clip.parent)
    result = cli("upscale", *arguments)
    assert (result.code, said in result.error) == (code, True), result.err


def test_a_file_that_is_dragged_onto_the_program(
    cli: Cli, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    awkward = clip.rename(clip.with_name("-a film [1].mp4"))
    result = cli(awkward)
    assert result.code == 0, result.err
    assert probe(clip.with_name("-a film [1]-128x96.mkv")).width == 128
    # A file in the current folder is no option, and a command stays one.
    monkeypatch.chdir(clip.parent)
    assert "-128x96.mkv exists already" in cli("-a film [1].mp4").error
    clip.with_name("info").write_bytes(b"")
    assert "torch" in cli("info").out
    clip.with_name("notes.txt").write_text("no video")
    result = cli(clip.with_name("notes.txt"))
    assert (result.code, "notes.txt is not a media file" in result.error) == (3, True)
    # A folder may be a mistyped command, and several files may be an input and its output.
    assert "No such command" in cli(clip.parent).error
    assert cli("a" * 5000).code == 2
