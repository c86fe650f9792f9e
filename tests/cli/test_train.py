"""`starvsr train`: what it prints, how it fails, and that an interrupt can be gone on from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from starvsr.train.config import FolderConfig, ValidationConfig
from starvsr.train.tables import to_toml
from tests.cli.conftest import Cli
from tests.train.toys import data_config, train_config, write_model, write_sources


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with sources, a model to start from and `run.toml`."""
    write_sources(tmp_path / "sources")
    write_model(tmp_path / "tiny.safetensors")
    config = train_config(
        tmp_path / "tiny.safetensors",
        data=data_config(folders=(FolderConfig("sources", held_out=("still2.png",)),)),
        validation=ValidationConfig(interval=4, degradations=("clean",)),
    )
    (tmp_path / "run.toml").write_text(to_toml(config))
    return tmp_path


def arguments(root: Path) -> list[str | Path]:
    return [
        *("train", "--config", root / "run.toml", "--output", root / "out"),
        *("--device", "cpu", "--workers", "0"),
    ]


def test_a_run_says_what_it_made(cli: Cli, root: Path) -> None:
    result = cli(*arguments(root), "--json")
    assert result.code == 0, result.err
    done = json.loads(result.out)
    assert (done["version"], done["event"], done["steps"]) == (1, "done", 4)
    assert done["model"] == str(root / "out/model.safetensors")
    assert Path(done["model"]).is_file()
    assert done["resumed_from"] == 0
    assert done["loss"] > 0
    assert done["validation"]["psnr_y"] > 0
    assert "checking data: 4/4 files" in result.err
    assert "training: 4/4 steps" in result.err
    assert "model.safetensors: 4 steps in" in result.err
    assert "dB PSNR-Y, plain upsampling" in result.err


def test_the_same_command_goes_on(cli: Cli, root: Path) -> None:
    assert cli(*arguments(root), "--steps", "2", "--quiet").code == 0
    result = cli(*arguments(root), "--json")
    assert result.code == 0
    assert json.loads(result.out)["resumed_from"] == 2
    assert "2 steps in" in result.err
    assert "2 before" in result.err
    again = cli(*arguments(root), "--json", "--quiet")
    assert (again.code, again.err) == (0, "")
    assert json.loads(again.out)["resumed_from"] == 4
    anew = cli(*arguments(root), "--json", "--no-resume")
    assert json.loads(anew.out)["resumed_from"] == 0


def test_the_data_may_be_elsewhere(cli: Cli, root: Path) -> None:
    moved = root / "elsewhere"
    moved.mkdir()
    (root / "sources").rename(moved / "sources")
    missing = cli(*arguments(root))
    assert missing.code == 3
    assert missing.error == f"{root}/sources is not a folder: give the data folder with --data"
    assert cli(*arguments(root), "--data", moved, "--steps", "1").code == 0


@pytest.mark.parametrize(
    ("change", "code", "named"),
    [
        (("steps = 4", "steps = 0"), 2, "steps = 0 is not allowed"),
        (("steps = 4", "stepps = 4"), 2, "no key stepps"),
        (("steps = 4", "steps = "), 2, "not TOML"),
        (("tiny.safetensors", "other.safetensors"), 4, "other.safetensors"),
        (('parts = "all"', 'parts = "control+liem"'), 2, "needs a control branch"),
        (("crop = [16, 16]", "crop = [15, 16]"), 2, "multiples of the scale 2"),
        (("crop = [16, 16]", "crop = [64, 64]"), 3, "nothing usable"),
    ],
)
def test_errors_are_one_line_with_their_code(
    cli: Cli, root: Path, change: tuple[str, str], code: int, named: str
) -> None:
    text = (root / "run.toml").read_text()
    assert change[0] in text
    (root / "run.toml").write_text(text.replace(*change))
    result = cli(*arguments(root))
    assert result.code == code
    assert named in result.error
    assert "--model" not in result.error
    assert result.out == ""
    # Nothing but what was found out about the data.
    assert [path.name for path in (root / "out").glob("*")] in ([], ["files.json"])
    assert (root / "out").exists() == (root / "out/files.json").exists()


def test_a_refused_run_with_new_weights_leaves_nothing(cli: Cli, root: Path) -> None:
    text = (root / "run.toml").read_text()
    assert "pretrained = true" in text
    (root / "run.toml").write_text(text.replace("pretrained = true", "pretrained = false"))
    (root / "sources/gt").mkdir()
    (root / "sources/lq").mkdir()
    (root / "sources/still0.png").rename(root / "sources/gt/still0.png")
    output = root / "new/out"
    result = cli("train", "--config", root / "run.toml", "--output", output, "--device", "cpu")
    assert result.code == 3
    assert "has no pair" in result.error
    assert not output.parent.exists()


@pytest.mark.parametrize(
    ("extra", "named"),
    [
        (["--steps", "0"], "--steps 0 is not allowed: give 1 or more"),
        (["--steps", "x"], "'x' is not an integer"),
        (["--workers", "-1"], "--workers -1 is not allowed"),
        (["--device", "cuda"], "cuda"),
        (["--verbose", "--quiet"], "contradict each other"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    cli: Cli, root: Path, extra: list[str], named: str
) -> None:
    result = cli(*arguments(root), *extra)
    assert result.code == 2
    assert named in result.error
    assert not (root / "out").exists()


def test_a_missing_configuration(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "--config", tmp_path / "none.toml")
    assert result.code == 2
    assert "none.toml is not a file: give a TOML file" in result.error
    assert cli("train").code == 2


def test_an_output_that_cannot_be_a_folder(cli: Cli, root: Path) -> None:
    (root / "out").write_text("a file")
    result = cli(*arguments(root))
    assert result.code == 7
    assert "cannot be written" in result.error


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(root: Path, number: int, code: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "starvsr", *map(str, arguments(root)), "--steps", "100000"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not list((root / "out").glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == code, messages
    assert "the same command resumes from the last checkpoint" in messages
    assert "Traceback" not in messages
