"""Variables of the hub with which nothing can be fetched, as a command meets them: while its libraries are imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media.clips import Clip, make

SECRET = "s3cr3t-w0rd"
NOWHERE = "http://127.0.0.1:9"
FETCH = ["download-weights", "cogvideox-vae", "--dry-run"]
UPSCALE = ["upscale", "clip.mkv", "out.mkv", "--model", "star-light"]


def run(folder: Path, arguments: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().endswith("_PROXY") and not name.startswith(("HF_", "SSL_", "STARVSR_"))
    }
    home = {"HF_HOME": str(folder / "home"), "HF_ENDPOINT": NOWHERE}
    source = str(Path(__file__).parents[2] / "src")
    return subprocess.run(
        [sys.executable, "-m", "starvsr", *arguments],
        env={**kept, **home, "PYTHONPATH": source, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (FETCH, "HF_ENDPOINT", f"http://[{SECRET}"),
        (FETCH, "HF_ENDPOINT", f"http://{{{SECRET}}}"),
        (UPSCALE, "HF_ENDPOINT", f"http://[{SECRET}"),
        (FETCH, "HF_HUB_DOWNLOAD_TIMEOUT", SECRET),
        (FETCH, "HF_TOKEN", f"{SECRET} ä"),
        (UPSCALE, "HF_TOKEN", f"{SECRET} ä"),
        (FETCH, "ALL_PROXY", f"socks4://user:{SECRET}@127.0.0.1:9"),
        (UPSCALE, "HTTPS_PROXY", f"http://user:{SECRET}@[127.0.0.1"),
        (FETCH, "HF_HOME", "~nobody-of-that-name/x"),
        (["info"], "STARVSR_WEIGHTS", "~nobody-of-that-name/x"),
    ],
)
def test_a_variable_is_named_and_its_value_is_not(
    tmp_path: Path, arguments: list[str], name: str, value: str
) -> None:
    if arguments is UPSCALE:
        make(tmp_path / "clip.mkv", Clip(frames=2, width=32, height=24))
    found = run(tmp_path, [*arguments, "--verbose"], **{name: value})
    errors = [line for line in found.stderr.splitlines() if line.startswith("error: ")]
    assert found.returncode == 4, found.stderr
    assert len(errors) == 1
    assert name in found.stderr
    assert SECRET not in found.stdout + found.stderr


def test_a_password_in_the_endpoint_is_not_shown(tmp_path: Path) -> None:
    endpoint = NOWHERE.replace("://", f"://user:{SECRET}@")
    found = run(tmp_path, [*FETCH, "--verbose"], HF_ENDPOINT=endpoint)
    assert found.returncode == 4
    assert "no answer from http://***@127.0.0.1:9" in found.stderr
    assert SECRET not in found.stdout + found.stderr


@pytest.mark.parametrize(
    "mode", [["--list"], ["--verify"], ["--dry-run", "--source", ".", "--offline"]]
)
def test_modes_that_ask_nothing_need_no_proxy(tmp_path: Path, mode: list[str]) -> None:
    found = run(tmp_path, ["download-weights", *mode], ALL_PROXY="socks4://host", HF_TOKEN="a b")
    assert "PROXY" not in found.stderr
    assert "HF_TOKEN" not in found.stderr
    assert found.returncode in (0, 4)


@pytest.mark.slow
def test_a_folder_that_cannot_be_looked_into_is_no_bug(tmp_path: Path) -> None:
    for folder in (str(tmp_path / ("x" * 300)), "/dev/null/x"):
        for arguments in (["info"], ["download-weights", "--list"], FETCH):
            found = run(tmp_path, arguments, STARVSR_WEIGHTS=folder)
            assert found.returncode in (0, 4), found.stderr
