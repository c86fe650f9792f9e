"""`--log-file`: all that is said, whatever is shown."""

from __future__ import annotations

import io
import logging
import os
import re
import shutil
from pathlib import Path

import pytest

from starvsr.cli import messages
from starvsr.cli.printing import printable
from tests.cli.conftest import Cli, listing

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (DEBUG|INFO|WARNING|ERROR) +(\S.*)")


def logged(path: Path) -> list[tuple[str, str]]:
    """Level and text of every line that has a time; a traceback's have none."""
    found = (LINE.fullmatch(line) for line in path.read_text().splitlines())
    return [(match[1], match[2]) for match in found if match]


@pytest.mark.parametrize("loudness", [["--quiet"], [], ["--verbose"]])
def test_all_is_logged_whatever_is_shown(
    cli: Cli, clip: Path, quick: list[str], loudness: list[str]
) -> None:
    log = clip.with_name("run.log")
    options = [*quick, "--segment-frames", "8", *loudness, "--log-file", str(log)]
    result = cli("upscale", clip, clip.with_name("out.mkv"), *options)
    assert result.code == 0
    assert (result.err == "") == (loudness == ["--quiet"])
    assert ("segment 1 of 2" in result.err) == (loudness == ["--verbose"])
    lines = logged(log)
    texts = [text for _, text in lines]
    assert texts[0].startswith(f"{clip} to {clip.with_name('out.mkv')}: UpscaleOptions(model=")
    assert any(text.startswith("12 frames, 32x24 -> 32x24, model ") for text in texts)
    segments = [line for line in lines if line[1].startswith("segment ")]
    assert [(level, text.partition(":")[0]) for level, text in segments] == [
        ("DEBUG", "segment 1 of 2, frames 0 to 6"),
        ("DEBUG", "segment 2 of 2, frames 5 to 11"),
    ]
    assert any(text.startswith(f"{clip.with_name('out.mkv')}: 12 frames in 0:") for text in texts)


@pytest.mark.slow
def test_workers_are_logged(cli: Cli, clip: Path, quick: list[str]) -> None:
    log = clip.with_name("run.log")
    options = [*quick, "--segment-frames", "8", "--workers", "2", "--quiet", "--log-file", str(log)]
    assert cli("upscale", clip, clip.with_name("out.mkv"), *options).code == 0
    found = [text.partition(" of ")[0] for _, text in logged(log) if "restored in" in text]
    assert sorted(found) == ["segment 1", "segment 2"]


def test_a_batch_is_appended_with_its_failures(cli: Cli, clip: Path, quick: list[str]) -> None:
    log = clip.with_name("run.log")
    log.write_text("before\n")
    bad = clip.with_name("bad.mp4")
    bad.write_bytes(b"no video at all")
    arguments = ["upscale", bad, clip, clip.with_name("large"), *quick, "--frames", "1"]
    result = cli(*arguments, "--keep-going", "--log-file", log)
    assert result.code == 6
    assert "Traceback" not in result.err
    text = log.read_text()
    assert text.startswith("before\n")
    assert f"ERROR    {bad} is not a media file" in text
    assert "Traceback (most recent call last):\n" in text
    assert "starvsr.errors.InputError: " in text
    assert "[2/2]" in text
    assert re.search(r"INFO +clip.mp4 -> clip.mp4 +done +0:0", text)


def test_an_error_that_ends_the_run_is_logged(cli: Cli, clip: Path, quick: list[str]) -> None:
    log = clip.with_name("run.log")
    result = cli("upscale", clip, clip, *quick, "--quiet", "--log-file", log)
    assert result.code == 2
    assert ("ERROR", result.error) in logged(log)
    assert "starvsr.errors.UsageError" in log.read_text()
    # The next command of this process does not write there.
    size = log.stat().st_size
    assert cli("upscale", clip, clip, *quick).code == 2
    assert log.stat().st_size == size


def test_places_that_are_refused(cli: Cli, clip: Path, quick: list[str]) -> None:
    movie = shutil.copy(clip, clip.with_name("other.data"))
    before = listing(clip.parent)
    for log, said in (
        (clip.parent, "cannot be written: Is a directory"),
        (clip.parent / "no" / "run.log", "cannot be written: No such file"),
        (movie, "is not a text file: give another name"),
    ):
        result = cli("upscale", clip, clip.with_name("out.mkv"), *quick, "--log-file", log)
        assert (result.code, said in result.error) == (7, True), result.err
        assert listing(clip.parent) == before


def test_a_full_disk_ends_the_log_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(28, "No space left on device")

    with messages.heard():
        messages.log_to(tmp_path / "run.log")
        handler = logging.getLogger("starvsr").handlers[-1]
        assert isinstance(handler, logging.FileHandler)
        handler.close()
        monkeypatch.setattr(handler, "stream", Full())
        messages.say("one")
        messages.say("two")
        monkeypatch.undo()
    warning = f"warning: {tmp_path / 'run.log'} can no longer be written"
    assert sorted(capsys.readouterr().err.splitlines()) == ["one", "two", warning]


def test_names_command_no_terminal_that_shows_the_log(
    cli: Cli, clip: Path, quick: list[str]
) -> None:
    log = clip.with_name("run.log")
    missing = clip.with_name("no\x1b[2J\x9b.mp4")
    assert cli("upscale", missing, clip.with_name("out.mkv"), *quick, "--log-file", log).code == 3
    text = log.read_text()
    assert r"no\x1b[2J\x9b.mp4" in text and "Traceback" in text
    assert printable(text) == text


def test_a_pipe_that_nobody_reads_is_refused(cli: Cli, clip: Path, quick: list[str]) -> None:
    log = clip.with_name("pipe")
    os.mkfifo(log)
    result = cli("upscale", clip, clip.with_name("out.mkv"), *quick, "--log-file", log)
    assert (result.code, "pipe cannot be written: No such device" in result.error) == (7, True)


@pytest.mark.parametrize("place", ["out", "clip.mp4", "other.mp4", "prompt.txt"])
def test_it_is_no_other_file_of_the_command(
    cli: Cli, clip: Path, quick: list[str], place: str
) -> None:
    target, log, prompt = (clip.with_name(name) for name in ("out", place, "prompt.txt"))
    prompt.write_text("a clip")
    before = listing(clip.parent)
    result = cli("upscale", clip, target, *quick, "--log-file", log, "--prompt-file", prompt)
    assert result.code == 2
    assert result.error.startswith(f"--log-file {log} ")
    assert listing(clip.parent) == before
    jobs = clip.with_name("jobs.toml")
    jobs.write_text("")
    assert cli("upscale", "--jobs", jobs, "--log-file", jobs).code == 2
    assert jobs.read_text() == ""
