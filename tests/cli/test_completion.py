"""What shells complete, by the protocol that their scripts speak, and in a real bash."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from starvsr.cli import completion
from starvsr.cli.app import app
from starvsr.metrics.registry import METRICS
from starvsr.specs import SPECS

MODELS = ["auto", *SPECS]


def asked(words: list[str], **variables: str) -> str:
    """What the program answers to a shell; it has to do so without torch."""
    script = (
        "import sys; from starvsr.cli.app import main\n"
        "try: main()\n"
        "finally: assert 'torch' not in sys.modules"
    )
    found = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stderr == ""
    return found.stdout


def in_bash(line: str) -> list[str]:
    words = shlex.split(line)
    if line.endswith(" "):
        words.append("")
    text = asked(
        words,
        _STARVSR_COMPLETE="complete_bash",
        COMP_WORDS="\n".join(words),
        COMP_CWORD=str(len(words) - 1),
    )
    return text.split()


CASES: dict[str, list[str]] = {
    "starvsr pl": ["plan"],
    "starvsr upscale --model ": MODELS,
    "starvsr upscale a.mkv b.mkv -m st": ["star-light", "star-heavy", "star-cogvideox"],
    "starvsr plan --speed ": ["exact", "balanced", "fast", "draft"],
    "starvsr upscale --codec libx": ["libx264", "libx265"],
    # Not one of the usual encoders.
    "starvsr upscale --codec huff": ["huffyuv"],
    "starvsr upscale --preset very": ["veryfast", "veryslow"],
    "starvsr upscale --codec libsvtav1 --preset 1": ["1", "10", "11", "12", "13"],
    "starvsr upscale --codec ffv1 --preset ": [],
    "starvsr upscale --pix-fmt yuv420": ["yuv420p", "yuv420p10le"],
    "starvsr upscale --audio fl": ["flac"],
    "starvsr upscale --resolution 1": ["1080p", "1440p"],
    "starvsr upscale --hwaccel no": ["none"],
    "starvsr degrade --preset v": ["vhs"],
    "starvsr evaluate --metrics vm": ["vmaf", "vmaf_neg"],
    "starvsr compare a.mkv b.mkv --metrics psnr_y,vmaf,t": ["psnr_y,vmaf,tof"],
    "starvsr download-weights star-l": ["star-light"],
    "starvsr bench --model n": ["nano"],
    # Names of files are left to the shell.
    "starvsr upscale cl": [],
    "starvsr upscale a.mkv ": [],
    "starvsr upscale --prompt-file ": [],
    "starvsr upscale --model ./st": [],
    "starvsr finish ": [],
}


@pytest.mark.parametrize(("line", "wanted"), CASES.items())
def test_bash(line: str, wanted: list[str]) -> None:
    assert in_bash(line) == wanted


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("starvsr upscale --model st", '"star-light"\n"star-heavy"\n"star-cogvideox"'),
        ("starvsr upscale --preset veryf", '"veryfast"'),
        ("starvsr evaluate --metrics niqe,br", '"niqe,brisque"'),
        ("starvsr upscale cl", None),
    ],
)
def test_zsh(line: str, wanted: str | None) -> None:
    shown = asked([], _STARVSR_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS=line)
    assert shown.strip() == ("_files" if wanted is None else f"_arguments '*: :(({wanted}))'")


def test_the_script_of_zsh_asks_so() -> None:
    script = asked([], _STARVSR_COMPLETE="source_zsh")
    assert script.lstrip().startswith("#compdef starvsr")
    assert "_STARVSR_COMPLETE=complete_zsh" in script
    assert "_TYPER_COMPLETE_ARGS" in script


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_a_real_bash(tmp_path: Path) -> None:
    command = tmp_path / "starvsr"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m starvsr "$@"\n')
    command.chmod(0o755)
    script = """
        eval "$(_STARVSR_COMPLETE=source_bash starvsr)"
        complete -p starvsr
        COMP_WORDS=(starvsr upscale --model star-l) COMP_CWORD=3
        _starvsr_completion starvsr
        printf '%s\n' "${COMPREPLY[@]}"
    """
    found = subprocess.run(
        ["bash", "--norc", "-c", script],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    # `default` completes names of files where nothing is offered.
    assert found.stdout.split("\n")[:2] == [
        "complete -o default -F _starvsr_completion starvsr",
        "star-light",
    ]


def test_the_metrics_are_those_there_are() -> None:
    assert tuple(METRICS) == completion.METRICS


def test_presets_of_the_encoder_that_is_given() -> None:
    context = typer.Context(typer.main.get_command(app))
    assert "medium" in completion.presets(context, "")
    context.params["codec"] = "no-such-encoder"
    assert completion.presets(context, "") == []
    context.params["codec"] = "h264_nvenc"
    assert completion.presets(context, "p") == [f"p{number}" for number in range(1, 8)]
