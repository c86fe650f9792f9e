"""The scripts of findings/ have one form. They install packages, so nothing runs them here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parent.parent / "findings").glob("*.sh"))
_HEADINGS = ["Question", "Guess", "Behaviour", "Versions", "Seen"]
_PINNED = re.compile(r"[a-z0-9-]+==[\d.]+")


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_finding_states_and_checks_what_it_saw(path: Path) -> None:
    text = path.read_text()
    head = re.match(r"#!/usr/bin/env bash\n((?:#.*\n)+)set -euo pipefail\n", text)
    assert head
    assert re.findall(r"^# (\w+):", head.group(1), re.MULTILINE) == _HEADINGS
    (install,) = re.findall(r"pip install (.*)", text)
    packages = [word for word in install.split() if not word.startswith("--")]
    assert packages
    assert all(_PINNED.fullmatch(word) for word in packages)
    # Every version that the header names is the one that is installed.
    stated = dict(
        re.findall(
            r"\b(av|mutagen|numpy|pillow|pymediainfo|safetensors|torch) ([\d.]+\d)",
            head.group(1).lower(),
        )
    )
    assert stated == dict(word.split("==") for word in packages)
    assert "exit 1" in text
    assert "import starvsr" not in text


@pytest.mark.skipif(os.name != "posix", reason="shell scripts")
def test_shellcheck_has_nothing_to_say() -> None:
    command = shutil.which("shellcheck", path=Path(sys.executable).parent)
    assert command, "pip install '.[dev]' brings shellcheck"
    found = subprocess.run([command, *SCRIPTS], capture_output=True, text=True, check=False)
    assert found.stdout == ""
