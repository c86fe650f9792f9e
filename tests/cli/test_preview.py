"""`--preview` and `--at`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import Cli, listing


def test_of_one_video(cli: Cli, clip: Path, quick: list[str]) -> None:
    finished = clip.with_name("out.mkv")
    finished.write_bytes(b"finished before")
    arguments = ["upscale", str(clip), str(finished), *quick, "--preview", "0:00:00.12"]
    result = cli(*arguments, "--at", "0.2", "--json")
    assert result.code == 0, result.err
    video, picture = clip.with_name("out-preview.mkv"), clip.with_name("out-preview.png")
    done = json.loads(result.out)
    assert (done["event"], done["frames"]) == ("preview", 3)
    assert (done["target"], done["picture"]) == (str(video), str(picture))
    assert f"{picture}: its middle frame, input left, result right." in result.err
    assert "The whole video would take about 0:0" in result.err
    assert sorted(listing(clip.parent)) == [
        "clip.mp4",
        "out-preview.mkv",
        "out-preview.png",
        "out.mkv",
    ]
    assert finished.read_bytes() == b"finished before"
    again = cli(*arguments)
    assert (again.code, "out-preview.png exists already" in again.error) == (7, True)
    assert cli(*arguments, "--overwrite").code == 0


def test_of_several_videos(cli: Cli, clip: Path, quick: list[str]) -> None:
    other = clip.with_name("other.mp4")
    shutil.copy(clip, other)
    output = clip.with_name("large")
    arguments = ["upscale", clip, other, output, *quick, "--preview", "0.08"]
    assert cli(*arguments, "--quiet").code == 0
    names = ["clip-preview.mp4", "clip-preview.png", "other-preview.mp4", "other-preview.png"]
    assert sorted(listing(output)) == names
    jobs = clip.with_name("jobs.toml")
    jobs.write_text('[[job]]\ninput = "clip.mp4"\noutput = "large/clip.mp4"\n')
    for more, code in (([], 7), (["--keep-going"], 6), (["--overwrite"], 0)):
        result = cli("upscale", "--jobs", jobs, *quick, "--preview", "0.08", *more)
        assert (result.code, "exists already" in result.err) == (code, code != 0)
    jobs.write_text(f"{jobs.read_text()}start = 0.2\n")
    result = cli("upscale", "--jobs", jobs, *quick, "--preview", "0.08")
    said = f"{clip}: --preview and --start contradict each other"
    assert (result.code, said in result.error) == (2, True)


def test_names_that_differ_in_their_ending_alone(cli: Cli, clip: Path, quick: list[str]) -> None:
    other = clip.with_suffix(".mov")
    shutil.copy(clip, other)
    output = clip.with_name("large")
    result = cli("upscale", clip, other, output, *quick, "--preview", "0.08")
    assert result.code == 0, result.err
    assert sorted(listing(output)) == [
        "clip-mov-preview.mov",
        "clip-mov-preview.png",
        "clip-mp4-preview.mp4",
        "clip-mp4-preview.png",
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--preview", "1", "--start", "2"], "--preview and --start contradict each other"),
        (["--preview", "1", "--to", "2"], "No such option"),
        (["--preview", "1", "-to", "2", "--frames", "3"], "--preview and --end and --frames cont"),
        (["--preview", "1", "-t", "2"], "--preview and --duration contradict each other"),
        (["--preview", "1", "--work-dir", "w"], "--preview and --work-dir contradict each other"),
        (["--preview", "0"], "--preview 0 is not allowed: give a time above 0"),
        (["--preview", "soon"], "'soon' is not a time: give seconds or hh:mm:ss.s"),
        (["--at", "1"], "--at would have no effect without --preview"),
        (["--preview", "1", "--at", "9"], "the video is 0.480 s long"),
    ],
)
def test_what_is_refused(
    cli: Cli, clip: Path, quick: list[str], options: list[str], said: str
) -> None:
    result = cli("upscale", clip, clip.with_name("out.mkv"), *quick, *options)
    assert (result.code, said in result.error) == (2, True), result.err
    assert list(listing(clip.parent)) == ["clip.mp4"]
