"""Help, version and start-up: what a person or a shell script sees before any video is touched."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

import starvsr
from starvsr.cli.app import app
from starvsr.cli.help import EXAMPLES
from starvsr.models.device import _may_have_gpu
from starvsr.zoo.folder import embedded_file
from tests.cli.conftest import Cli
from tests.media.clips import Clip, make

COMMANDS = (
    "upscale",
    "plan",
    "finish",
    "download-weights",
    "info",
    "degrade",
    "evaluate",
    "compare",
    "train",
    "bench",
    "ui",
    "tune",
)

# Each costs from a tenth of a second to seconds to import.
HEAVY = (
    "torch",
    "numpy",
    "av",
    "safetensors",
    "einops",
    "diffusers",
    "transformers",
    "xformers",
    "gradio",
)

LIGHT_SCRIPT = f"""
import contextlib, io, json, sys
import starvsr
loaded = {{}}
def note(name):
    loaded[name] = [module for module in {HEAVY!r} if module in sys.modules]
note("import starvsr")
from starvsr.cli.app import run
for arguments in (["--help"], ["--version"], ["upscale", "--help"], ["plan", "--help"], ["info", "--help"],
                  ["download-weights", "--help"], ["download-weights", "--list"], ["degrade", "--help"],
                  ["train", "--help"], ["ui", "--help"],
                  ["degrade", "a", "b", "--scale", "0"],
                  ["evaluate", "--help"], ["compare", "--help"], ["compare", "a", "b", "--page-frames", "0"],
                  ["upscale", "--no-such-option"], ["upscale", "a", "b", "--scale", "0"]):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            run(arguments)
        except SystemExit:
            pass
    note(" ".join(arguments))
print(json.dumps(loaded))
"""


# What `nano` has no use for, though it is installed beside it, and what a line of progress has none for.
UNUSED = (
    "diffusers",
    "transformers",
    "cv2",
    "huggingface_hub",
    "xformers",
    "scipy",
    "ray",
    "rich",
    "torch._dynamo",
    "torch._inductor",
    "starvsr.job.processes",
    "starvsr.train",
)

# What only restoring needs.
RESTORING = ("torch", "einops", "diffusers", "transformers", "huggingface_hub", "rich")

LOADED_SCRIPT = """
import json, sys
from starvsr.cli.app import run
code = run(sys.argv[2:])
print(json.dumps([code, sorted(set(json.loads(sys.argv[1])) & sys.modules.keys())]), file=sys.stderr)
"""


def parameters(command: str) -> list[Any]:
    group: Any = typer.main.get_command(app)
    return list(group.commands[command].params)


@pytest.mark.parametrize("command", ["upscale", "evaluate", "info", "finish"])
def test_types_are_shown_only_of_options_that_take_a_value(cli: Cli, command: str) -> None:
    text = cli(command, "--help").out
    assert "<bool>" not in text and "list[" not in text and "<path>" not in text
    assert "<str>" not in text and "[[" not in text and "{" not in text.partition("─")[0]


def test_help_and_refused_options_load_nothing_heavy() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", LIGHT_SCRIPT], capture_output=True, text=True, check=True
    )
    loaded: dict[str, list[str]] = json.loads(shown.stdout)
    assert len(loaded) == 17
    assert not any(loaded.values()), loaded


def loaded(tmp_path: Path, modules: tuple[str, ...], command: str, *options: str) -> list[str]:
    """Which of the modules a command on a short video has loaded in the end."""
    source = make(tmp_path / "in.mp4", Clip(frames=3, width=64, height=36))
    told = {"OMP_NUM_THREADS", "MKL_NUM_THREADS"}
    shown = subprocess.run(
        [sys.executable, "-c", LOADED_SCRIPT, json.dumps(modules), command, source, *options],
        env={name: value for name, value in os.environ.items() if name not in told},
        capture_output=True,
        text=True,
        check=True,
    )
    code, found = json.loads(shown.stderr.splitlines()[-1])
    assert code == 0, shown.stderr
    return list(found)


def test_upscaling_with_nano_loads_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    output = str(tmp_path / "out.mp4")
    assert loaded(tmp_path, UNUSED, "upscale", output, "--model", "nano") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["info"],
        ["plan", "--device", "cpu", "--model", "nano"],
        ["plan", "--device", "cpu", "--model", str(embedded_file("nano")), "--json"],
        ["plan", "--device", "cpu", "--model", "star-light", "--workers", "2"],
        pytest.param(["plan"], marks=pytest.mark.skipif(_may_have_gpu(), reason="on a CPU only")),
    ],
)
@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="torch counts threads here"
)
def test_what_restores_nothing_loads_no_torch(tmp_path: Path, arguments: list[str]) -> None:
    assert loaded(tmp_path, RESTORING, *arguments) == []


def test_python_dash_m_is_the_command() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "starvsr", "--version"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == f"starvsr {starvsr.__version__}\n"
    assert shown.stderr == ""


def test_version(cli: Cli) -> None:
    result = cli("--version")
    assert (result.code, result.out, result.err) == (0, f"starvsr {starvsr.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_names_every_command(cli: Cli, arguments: list[str]) -> None:
    result = cli(*arguments)
    assert result.code == 0
    assert result.err == ""
    assert "Usage: starvsr [OPTIONS] COMMAND" in result.out and "<bool>" not in result.out
    for command in COMMANDS:
        assert command in result.out


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_names_every_option(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    # As wide as it takes, so that no name is cut.
    monkeypatch.setenv("COLUMNS", "240")
    result = cli(command, "--help-all" if command in ("upscale", "plan") else "--help")
    assert result.code == 0
    for parameter in parameters(command):
        if parameter.param_type_name == "option":
            for flag in (*parameter.opts, *parameter.secondary_opts):
                assert flag in result.out


def test_help_shows_what_most_people_need(cli: Cli) -> None:
    for command in ("upscale", "plan"):
        result = cli(command, "--help")
        assert result.code == 0
        # On 80 columns; everything takes some 250 lines.
        assert len(result.out.splitlines()) <= 70
        for flag in ("--scale", "--model", "--codec", "--help-all", "INPUT"):
            assert flag in result.out
        assert "--chunk-overlap" not in result.out
        assert "size, range, model, device, windows, encoding, streams, job" in result.out
    for example in EXAMPLES:
        call = example.partition("#")[0].split()
        assert example in cli("upscale", "-h").out
        assert parameters(call[1])


@pytest.mark.parametrize(
    ("word", "flag"),
    [("size", "--max-resolution"), ("enc", "--pix-fmt"), ("streams", "--no-chapters")],
)
def test_help_of_a_group(cli: Cli, word: str, flag: str) -> None:
    result = cli("upscale", "--help", word)
    assert (result.code, flag in result.out, "--seed" in result.out) == (0, True, False)
    assert cli("upscale", "in.mp4", "out.mp4", "--help", "next.mp4").code == 0


def test_a_shell_completes_models() -> None:
    (model,) = (each for each in parameters("upscale") if each.name == "model")
    offered = model.shell_complete(typer.Context(typer.main.get_command(app)), "st")
    assert [item.value for item in offered] == ["star-light", "star-heavy", "star-cogvideox"]
    for command, name in ("bench", "model"), ("download-weights", "models"):
        (model,) = (each for each in parameters(command) if each.name == name)
        offered = model.shell_complete(typer.Context(typer.main.get_command(app)), "star-c")
        assert [item.value for item in offered] == ["star-cogvideox"]


def test_help_of_no_group(cli: Cli) -> None:
    result = cli("upscale", "--help", "colour")
    assert result.code == 2
    assert "no such group: give one of size, range, model" in result.error


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_has_help(command: str) -> None:
    for parameter in parameters(command):
        assert parameter.help, parameter.name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_with_a_value_says_its_default(command: str) -> None:
    for parameter in parameters(command):
        if parameter.param_type_name == "option" and not (parameter.is_flag or parameter.required):
            shown = parameter.show_default is not False and parameter.default is not None
            assert shown or "(default" in parameter.help, parameter.name


def test_every_command_has_a_summary() -> None:
    group: Any = typer.main.get_command(app)
    assert set(group.commands) == set(COMMANDS)
    for command in group.commands.values():
        assert command.help
        assert command.short_help


def test_plan_takes_every_option_of_the_job() -> None:
    def names(command: str) -> set[str]:
        return {parameter.name for parameter in parameters(command)}

    of_many = {"inputs", "jobs", "name_template", "keep_going", "preview", "at", "stills"}
    others = {"progress", "quiet", "log_file", "container"}
    assert names("upscale") - names("plan") == others | of_many
    assert names("plan") - names("upscale") == {"input"}
