"""Several videos by one command."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from starvsr.cli import batch
from starvsr.errors import StarvsrError
from starvsr.models.build import empty_network
from starvsr.models.network import VideoNetwork
from starvsr.models.unet import StarUNet
from starvsr.options import UpscaleOptions
from starvsr.types import NetworkConfig
from starvsr.zoo import load
from tests.cli.conftest import Cli, listing


@pytest.fixture
def videos(clip: Path) -> Path:
    """A folder with two videos and something else."""
    folder = clip.parent / "videos"
    folder.mkdir()
    shutil.copy(clip, folder / "b.mp4")
    clip.rename(folder / "a.avi")
    (folder / "notes.txt").write_text("no video")
    (folder / "deeper").mkdir()
    return folder


def events(out: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_folder_becomes_a_folder(
    cli: Cli, videos: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = 0
    build = empty_network

    def counted(config: NetworkConfig) -> VideoNetwork:
        nonlocal loads
        loads += 1
        return build(config)

    monkeypatch.setattr(load, "empty_network", counted)
    before = listing(videos)
    output = videos.with_name("large")
    result = cli("upscale", videos, output, *quick, "--frames", "2", "--json")
    assert result.code == 0
    assert sorted(listing(output)) == ["a.mkv", "b.mp4"]
    assert listing(videos) == before
    assert loads == 1
    found = events(result.out)
    assert [event["event"] for event in found] == ["done", "done", "batch"]
    assert {k: found[-1][k] for k in ("done", "damaged", "there", "failed")} == {
        "done": 2,
        "damaged": 0,
        "there": 0,
        "failed": 0,
    }
    assert "[2/2]" in result.err


def test_endings_that_are_written_are_kept(tmp_path: Path) -> None:
    names = ["a.MP4", "b.webm", "c.mov", "d.m4v", "e.mkv", "f.avi"]
    for name in names:
        (tmp_path / name).touch()
    items = batch.find_items([tmp_path], tmp_path / "out", batch.NAME_TEMPLATE, UpscaleOptions())
    assert [item.target.name for item in items] == [*names[:5], "f.mkv"]


def test_files_that_are_there_are_passed_over(cli: Cli, videos: Path, quick: list[str]) -> None:
    output = videos.with_name("large")
    output.mkdir()
    (output / "a.mkv").write_bytes(b"made before")
    arguments = ["upscale", str(videos / "b.mp4"), str(videos / "a.avi"), str(output), *quick]
    result = cli(*arguments, "--frames", "1")
    assert result.code == 0
    assert (output / "a.mkv").read_bytes() == b"made before"
    assert (output / "b.mp4").stat().st_size > 1000
    assert "already exists" in result.err
    assert cli(*arguments, "--frames", "1", "--overwrite").code == 0
    assert (output / "a.mkv").stat().st_size > 1000


def test_the_first_error_ends_it_unless_it_may_go_on(
    cli: Cli, videos: Path, quick: list[str]
) -> None:
    (videos / "a.avi").write_bytes(b"no video at all")
    output = videos.with_name("large")
    result = cli("upscale", videos, output, *quick, "--frames", "1")
    assert result.code == 3
    assert not output.exists(), "nothing was done, so no empty folder is left"
    output.mkdir()
    assert cli("upscale", videos, output, *quick, "--frames", "1").code == 3
    assert output.is_dir(), "it was there before"
    result = cli("upscale", videos, output, *quick, "--frames", "1", "--keep-going", "--json")
    assert result.code == 6
    assert list(listing(output)) == ["b.mp4"]
    assert "a.avi" in result.error
    failed, done, whole = events(result.out)
    assert (failed["event"], failed["exit_code"]) == ("failed", 3)
    assert done["event"] == "done"
    assert (whole["done"], whole["failed"]) == (1, 1)


def test_a_batch_that_is_interrupted_goes_on(
    cli: Cli, videos: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, calls = StarUNet.forward, 0

    def interrupted(*arguments: object, **named: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return forward(*arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(StarUNet, "forward", interrupted)
    output = videos.with_name("large")
    options = [*quick, "--cfg", "1", "--frames", "8"]
    result = cli("upscale", videos, output, *options, "--chunk-frames", "4")
    assert result.code == 130
    assert "interrupted; nothing was written" in result.err
    finished = sorted(listing(output))
    assert finished in ([], ["a.mkv"])
    assert cli("upscale", videos, output, *options, "--chunk-frames", "4").code == 0
    assert sorted(listing(output)) == ["a.mkv", "b.mp4"]


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{stem}-4x{ext}", ["a-4x.mkv", "b-4x.mp4"]),
        ("clip{number:03}.mov", ["clip001.mov", "clip002.mov"]),
    ],
)
def test_names(videos: Path, template: str, names: list[str]) -> None:
    items = batch.find_items([videos], videos.with_name("large"), template, UpscaleOptions())
    assert [item.target.name for item in items] == names
    assert [item.source.name for item in items] == ["a.avi", "b.mp4"]


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{stem", "is not allowed"),
        ("{name}", "is not allowed: give text with"),
        ("{stem.x}", "is not allowed"),
        ("{number[0]}", "is not allowed"),
        ("{}", "is not allowed"),
        # Each would take gigabytes, or show what nobody asked for.
        ("{stem:>3000000000}", "is not allowed"),
        ("{number:3000000000}", "is not allowed"),
        ("{number:.3000000000f}", "is not allowed"),
        ("{number:{number}}", "is not allowed"),
        ("{stem!r}", "is not allowed"),
        ("{stem.__class__}", "is not allowed"),
        ("same.mkv", "would both become same.mkv"),
        ("../{stem}.mkv", "is not a file name"),
        ("", "is not a file name"),
    ],
)
def test_templates_that_mean_nothing(videos: Path, template: str, said: str) -> None:
    with pytest.raises(StarvsrError, match=said):
        options = UpscaleOptions()
        batch.check_items(batch.find_items([videos], videos.with_name("large"), template, options))


def test_a_pattern_that_no_shell_expanded(
    cli: Cli, videos: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = videos.rename(videos.with_name("videos [2024]"))
    (folder / ".hidden.mp4").write_bytes(b"no video")
    output = folder.with_name("large")
    options = [*quick, "--frames", "1"]
    assert cli("upscale", folder / "*.mp4", output, *options).code == 0
    assert sorted(listing(output)) == ["b.mp4"], "one match goes to a folder, too"
    monkeypatch.chdir(folder)
    assert cli("upscale", "[ab].*", output, *options).code == 0
    assert sorted(listing(output)) == ["a.mkv", "b.mp4"]
    for pattern, code, said in (
        ("*.webm", 3, "*.webm does not exist, and matches no files as a pattern"),
        ("a**b.mp4", 2, "the pattern a**b.mp4 is not allowed"),
    ):
        if code == 2 and sys.version_info >= (3, 13):
            continue
        result = cli("upscale", pattern, output, *options)
        assert (result.code, said in result.error) == (code, True), result.err


def test_a_file_that_is_called_like_a_pattern(cli: Cli, videos: Path, quick: list[str]) -> None:
    (videos / "b.mp4").rename(videos / "[ab].mp4")
    output = videos.with_name("one.mp4")
    result = cli("upscale", videos / "[ab].mp4", output, *quick, "--frames", "1")
    assert result.code == 0
    assert output.is_file()


def test_places_that_are_refused(cli: Cli, videos: Path, quick: list[str]) -> None:
    before = listing(videos.parent)
    empty = videos / "deeper"
    for arguments, code, said in (
        ([videos, videos], 2, "is one of the inputs"),
        ([videos, videos / "notes.txt"], 7, "is a file"),
        ([videos, videos / "no" / "where"], 7, "does not exist"),
        ([empty, videos.with_name("large")], 3, "contains no video"),
        ([videos, videos.with_name("large"), "--work-dir", "x"], 2, "--work-dir is for one input"),
        ([videos / "b.mp4", videos / "c.mp4", "--keep-going"], 2, "--keep-going would have no"),
        ([videos / "b.mp4", videos / "c.mp4", "--name-template", "x"], 2, "--name-template would"),
    ):
        result = cli("upscale", *map(str, arguments), *quick)
        assert (result.code, said in result.error) == (code, True), result.err
    assert listing(videos.parent) == before


def test_a_name_that_is_a_folder_is_no_result(cli: Cli, videos: Path, quick: list[str]) -> None:
    output = videos.with_name("large")
    (output / "a.mkv").mkdir(parents=True)
    result = cli("upscale", videos, output, *quick, "--frames", "1", "--keep-going")
    assert result.code == 6
    assert "a.mkv is a folder: give the name of a file" in result.err
    assert (output / "b.mp4").is_file()


def test_a_batch_of_image_sequences_goes_on(cli: Cli, videos: Path, quick: list[str]) -> None:
    output = videos.with_name("stills")
    arguments = ["upscale", videos, output, *quick, "--frames", "2"]
    arguments += ["--name-template", "{stem}-%04d.png"]
    assert cli(*arguments).code == 0
    made = sorted(listing(output))
    assert made == ["a-0001.png", "a-0002.png", "b-0001.png", "b-0002.png"]
    (output / "b-0001.png").unlink()
    (output / "b-0002.png").unlink()
    before = (output / "a-0001.png").stat().st_mtime_ns
    result = cli(*arguments)
    assert result.code == 0, result.err
    assert result.err.count("already exists") == 1
    assert sorted(listing(output)) == made
    assert (output / "a-0001.png").stat().st_mtime_ns == before


@pytest.mark.parametrize("template", ["{stem}-large{ext}", "{number:02}-{stem}{ext}"])
def test_results_beside_their_inputs_are_no_inputs(
    cli: Cli, videos: Path, quick: list[str], template: str
) -> None:
    arguments = ["upscale", videos, videos, *quick, "--frames", "1", "--name-template", template]
    before = set(listing(videos))
    assert cli(*arguments).code == 0
    made = set(listing(videos))
    for more, words in (([], "already exists"), (["--overwrite"], "done")):
        result = cli(*arguments, *more)
        assert result.code == 0, result.err
        assert f"left out, since starvsr has written them into {videos}: " in result.err
        assert result.err.count(f"  {words}") == 2
        assert set(listing(videos)) == made
    assert len(made - before) == 2


def test_videos_that_only_have_the_name_of_a_result_are_not_left_out(
    cli: Cli, videos: Path, quick: list[str]
) -> None:
    shutil.copy(videos / "b.mp4", videos / "b-large.mp4")
    result = cli("upscale", videos, videos, *quick, "--name-template", "{stem}-large{ext}")
    assert (result.code, "b-large.mp4 is one of the inputs" in result.error) == (2, True)


def test_numbers_alone_do_not_say_whose_a_result_is(
    cli: Cli, videos: Path, quick: list[str]
) -> None:
    arguments = ["upscale", videos, videos.with_name("large"), *quick, "--frames", "1"]
    arguments += ["--name-template", "{number:03}.mkv"]
    result = cli(*arguments)
    assert (result.code, "{stem}" in result.err) == (0, False)
    result = cli(*arguments)
    assert (result.code, "put {stem} into --name-template" in result.err) == (0, True)


def test_what_cannot_be_done_keeps_nothing_else_from_it(
    cli: Cli, videos: Path, quick: list[str]
) -> None:
    """A folder without videos, a pattern without files, and two videos of one name."""
    output = videos.with_name("large")
    (videos / "extras").mkdir()
    shutil.copy(videos / "a.avi", videos / "a.ts")
    arguments = [videos / "[abe]*", videos / "none*.mp4", output, *quick, "--frames", "1"]
    result = cli("upscale", *arguments, "--keep-going", "--json")
    assert result.code == 6
    assert sorted(listing(output)) == ["a.mkv", "b.mp4"]
    failed = [event for event in events(result.out) if event["event"] == "failed"]
    assert [Path(str(event["source"])).name for event in failed] == ["a.ts", "extras", "none*.mp4"]
    assert "would both become a.mkv" in str(failed[0]["error"])
    assert "extras contains no video" in str(failed[1]["error"])
    assert cli("upscale", *arguments).code == 3
    result = cli("upscale", videos / "extras", videos / "none*", output, "--keep-going")
    assert (result.code, "extras contains no video" in result.error) == (3, True), "nothing is left"


def test_a_second_input_is_not_taken_for_the_output(
    cli: Cli, videos: Path, quick: list[str]
) -> None:
    other = videos / "c.mp4"
    shutil.copy(videos / "b.mp4", other)
    result = cli("upscale", videos / "b.mp4", other, *quick)
    assert result.code == 7
    assert result.error.endswith("; if it is an input too, give a folder as the output")


def test_a_plan_is_of_one_video(cli: Cli, videos: Path) -> None:
    for output in ([], [f"{videos.with_name('large')}/"]):
        result = cli("plan", videos / "*", *output)
        assert result.code == 3
        assert (
            result.error
            == f"{videos / '*'} does not exist; as a pattern it may be several: give one video"
        )


def test_the_folder_above_gets_a_name(
    cli: Cli, videos: Path, quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = videos / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)
    assert cli("upscale", "..", *quick, "--frames", "1").code == 0
    assert sorted(listing(videos.with_name(f"{videos.name}-1x"))) == ["a.mkv", "b.mp4"]
    assert not list(inside.iterdir())
