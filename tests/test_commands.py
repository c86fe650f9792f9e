"""The README's commands, run as they stand on small files, and the documents' tables checked against the program."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from starvsr import errors
from starvsr.cli.app import EXIT_BUG, app, run
from starvsr.cli.batch import EXIT_SOME_FAILED
from starvsr.cli.ending import HungUp, Interrupted, Terminated
from starvsr.cli.upscale import EXIT_DAMAGED
from tests.media.clips import Audio, Clip, make
from tests.test_docs import BLOCK, ROOT, script

# Models that have to be downloaded.
FETCHED = ("star-light", "star-heavy", "star-cogvideox")


def readme_commands() -> list[list[str]]:
    lines = [
        shlex.split(line, comments=True)
        for language, block in BLOCK.findall((ROOT / "README.md").read_text())
        if language == "sh"
        for line in block.splitlines()
    ]
    calls = [words[1:] for words in lines if words and words[0] == "starvsr"]
    return [call for call in calls if set(FETCHED).isdisjoint(call)]


def expanded(call: list[str]) -> list[str]:
    """The arguments as a shell makes them."""
    found = (
        [str(path) for path in sorted(Path().glob(word))] if "*" in word else [] for word in call
    )
    return [path for word, paths in zip(call, found, strict=True) for path in paths or [word]]


@pytest.mark.slow
def test_the_commands_of_the_readme_do_what_they_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    once_a_second = [12800 * number for number in range(96)]
    make(Path("in.mp4"), Clip(96, 16, 16, pts=once_a_second, audio=(Audio(seconds=96),)))
    Path("jobs.toml").write_text('[[job]]\ninput = "in.mp4"\noutput = "jobs.mkv"\nframes = 2\n')
    Image.new("RGB", (24, 16), "teal").save("photo.jpg")
    for folder in ("results", "originals"):
        Path(folder).mkdir()
        make(Path(folder) / "a.mp4", Clip(frames=3, width=64, height=48))

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    calls = readme_commands()
    assert len(calls) >= 9
    for call in calls:
        if call[0] == "finish":
            Path("out.mp4").unlink()
            with monkeypatch.context() as patched:
                patched.setattr("starvsr.job.run._join", interrupted)
                assert run(["upscale", "in.mp4", "out.mp4", "--scale", "4"]) == 130
        assert run([*expanded(call), "--quiet"] if "upscale" in call else expanded(call)) == 0, call
        if "large/" in call:
            assert Path("large/in.mp4").is_file()
        if call[0] == "finish":
            shutil.copyfile("out-partial.mp4", "out.mp4")
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"jobs.mkv", "out-preview.mp4", "out-preview.png", "out-partial.mp4"}
    assert "compare.html" in made


def test_the_table_of_options_is_the_programs() -> None:
    generator = script("options_table")
    text = (ROOT / "docs" / "cli.md").read_text()
    table = text.split(generator.BEGIN)[1].split(generator.END)[0]
    assert table.strip() == generator.table().strip(), "python benchmarks/options_table.py --write"


def test_defaults_in_the_text_are_those_of_the_table() -> None:
    """Such as "`--scale` (default 4)"."""
    table = script("options_table").table()
    text = (ROOT / "docs" / "cli.md").read_text().partition("## Options and defaults")[0]
    stated = re.findall(r"`(--[a-z-]+)[^`]*` \((?:[^()]*, )?default ([^(),]+)\)", text)
    assert len(stated) >= 2
    assert [(flag, value) for flag, value in stated if f"`{flag}` ({value})" not in table] == []


def test_the_table_of_commands_is_the_programs() -> None:
    text = (ROOT / "docs" / "cli.md").read_text().partition("## Sizes")[0]
    listed = re.findall(r"^\| `starvsr ([a-z-]+)", text, re.MULTILINE)
    assert sorted(listed) == sorted(command.name or "" for command in app.registered_commands)


def test_the_table_of_exit_codes_is_the_programs() -> None:
    text = (ROOT / "docs" / "cli.md").read_text().partition("## Exit codes")[2]
    listed = [
        int(code)
        for codes in re.findall(r"^\| ([0-9][0-9, ]*) \|", text, re.MULTILINE)
        for code in codes.split(",")
    ]
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    codes = {each.exit_code for each in kinds if issubclass(each, errors.StarvsrError)}
    ended = {each.exit_code for each in (HungUp, Interrupted, Terminated)}
    assert listed == sorted({0, EXIT_BUG, EXIT_SOME_FAILED, EXIT_DAMAGED} | codes | ended)


@pytest.mark.parametrize("name", ["toy_golden", "linear", "memory_table", "gpu", "carry"])
def test_a_benchmark_asked_for_help_does_nothing_else(name: str) -> None:
    golden = ROOT / "tests" / "golden" / "toy.safetensors"
    before = golden.stat().st_mtime_ns
    call = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--help"]
    shown = subprocess.run(call, capture_output=True, text=True, timeout=120, check=True)
    assert shown.stdout.startswith(f"usage: {name}.py")
    assert golden.stat().st_mtime_ns == before


def test_the_source_distribution_has_what_its_tests_and_the_readme_need() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text())
    included = told["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    assert all((ROOT / name.strip("/")).exists() for name in included)
    needed = {"src", "tests", "benchmarks", "configs", "docs", "examples", "findings", "Makefile"}
    assert needed | {"comfyui", "constraints.txt", "CONTRIBUTING.md"} <= {
        name.strip("/") for name in included
    }
