"""The training run: what it changes, that it learns, and that stopping it anywhere changes nothing."""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from starvsr.errors import OutputError, UsageError
from starvsr.options import WeightsOptions
from starvsr.restore.restorer import Restorer
from starvsr.specs import SPECS
from starvsr.train import checkpoints, trainer
from starvsr.train.adversary import AdversaryConfig
from starvsr.train.config import (
    CheckpointConfig,
    FolderConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    ValidationConfig,
    read_config,
)
from starvsr.train.runs import alone
from starvsr.train.scan import FINDINGS_NAME
from starvsr.train.tables import to_toml
from starvsr.train.trainer import MODEL_NAME, learning_rate, train
from starvsr.train.validation import psnr_y
from starvsr.zoo.load import load_model
from tests.train.ncnn_files import write_enlarger
from tests.train.test_ncnn import classifier
from tests.train.toys import (
    assert_same_run,
    config_of,
    data_config,
    log_of,
    options,
    texture,
    train_config,
    weights_of,
    write_model,
    write_sources,
    write_still,
    write_video,
)
from tests.zoo.published import SMALL_STAR, install_small, small_models
from tests.zoo.test_base import venhancer_of
from tests.zoo.test_base import write as write_base

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def test_a_run_gives_a_model_file_and_a_log(root: Path) -> None:
    result = train(config_of(root), options(root))
    assert (result.steps, result.resumed_from) == (4, 0)
    log = log_of(root)
    assert [(line["event"], line["step"]) for line in log] == [("step", n) for n in range(1, 5)]
    assert log[-1]["loss"] == result.loss
    assert {"pixel", "fft", "grad_norm", "lr"} <= log[0].keys()
    restored = Restorer(load_model(str(result.model), device="cpu"))(
        torch.rand(2, 3, 9, 11), scale=2
    )
    assert restored.shape == (2, 3, 18, 22)


def test_going_on_equals_not_having_stopped(root: Path) -> None:
    config = config_of(root, steps=7, checkpoints=CheckpointConfig(interval=3, keep=1))
    train(config, options(root, "whole"))
    for steps in (2, 3, 3, 7):
        result = train(dataclasses.replace(config, steps=steps), options(root, "parts"))
    assert result.resumed_from == 3
    assert_same_run(root, "whole", "parts")


def test_going_on_with_other_data_is_refused(root: Path) -> None:
    config = config_of(root)
    train(dataclasses.replace(config, steps=2), options(root))
    added = write_still(root / "sources/new.png", texture(9)[0])
    with pytest.raises(UsageError, match="on other data: files in the data folders were added"):
        train(config, options(root))
    added.unlink()
    assert train(config, options(root)).resumed_from == 2


def test_beginning_anew(root: Path) -> None:
    config = config_of(root)
    train(config, options(root))
    first = log_of(root)
    other = dataclasses.replace(config, seed=5)
    with pytest.raises(UsageError, match="belongs to another run"):
        train(other, options(root))
    assert log_of(root) == first
    result = train(other, options(root, resume=False))
    assert result.resumed_from == 0
    assert [line["step"] for line in log_of(root)] == [1, 2, 3, 4]
    assert log_of(root) != first
    with pytest.raises(UsageError, match="4 steps, and steps = 2"):
        train(dataclasses.replace(other, steps=2), options(root))


_KILLED = """
import os
import sys
from pathlib import Path
import accelerate.utils
from starvsr.train.config import read_config
from starvsr.train.runs import RunOptions
from starvsr.train.trainer import train
root = Path(sys.argv[1])
config = read_config(root / "run.toml")
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        train(config, RunOptions(root / "killed", root, device="cpu", workers=0))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Starts a run for every line that it reads, and prints its process and how that ended."""


@pytest.mark.slow
def test_a_kill_at_any_point_loses_no_more_than_an_interval(root: Path) -> None:
    config = config_of(root, steps=20, checkpoints=CheckpointConfig(interval=1, keep=1))
    train(dataclasses.replace(config, checkpoints=CheckpointConfig()), options(root, "whole"))
    (root / "run.toml").write_text(to_toml(config))
    log = root / "killed/log.jsonl"
    # Sums depend on the number of threads, which is one in tests.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(root)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as starter:
        assert starter.stdin is not None
        assert starter.stdout is not None
        for target in (3, 8, 13):
            starter.stdin.write("\n")
            starter.stdin.flush()
            run = int(starter.stdout.readline())
            deadline = time.monotonic() + 120
            while time.monotonic() < deadline:
                lines = log.read_text().count("\n") if log.exists() else 0
                if lines >= target:
                    break
                time.sleep(0.003)
            # Another phase of a step each time.
            time.sleep(0.007 * target % 0.03)
            os.kill(run, signal.SIGKILL)
            ended = int(starter.stdout.readline())
            assert ended == -signal.SIGKILL, "it ended before it was killed"
        starter.stdin.close()
    result = train(config, options(root, "killed"))
    assert 0 < result.resumed_from < 20
    assert_same_run(root, "whole", "killed")
    assert [p.name for p in (root / "killed").iterdir() if p.name.endswith(".partial")] == []


def test_a_full_disk_ends_the_run_and_leaves_the_last_checkpoint(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(root, steps=6)
    train(dataclasses.replace(config, steps=2), options(root))

    def full(path: Path, *_: object) -> None:
        raise OutputError(f"{path} cannot be written: no space left")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "write_tensors", full)
        with pytest.raises(OutputError, match="no space left"):
            train(config, options(root))
    assert train(config, options(root)).resumed_from == 2
    train(config, options(root, "whole"))
    assert_same_run(root, "whole", "run")


def test_the_gradient_of_all_trained_parameters_is_clipped(root: Path) -> None:
    settings = OptimizerConfig(lr=1e-3, clip_norm=1e-3)
    seen: list[float] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> Any:
            norms = [p.grad.norm() for p in self.param_groups[0]["params"] if p.grad is not None]
            seen.append(float(torch.stack(norms).norm()))
            return super().step(closure)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim, "AdamW", Watched)
        train(config_of(root, optimizer=settings, steps=2), options(root))
    assert seen == pytest.approx([1e-3, 1e-3], rel=1e-3)
    # The log says what it was before.
    assert all(line["grad_norm"] > 2e-3 for line in log_of(root))


def test_learning_rates() -> None:
    constant = OptimizerConfig(lr=2.0, warmup_steps=4)
    assert [learning_rate(constant, step, 10) for step in range(6)] == [0.5, 1, 1.5, 2, 2, 2]
    cosine = OptimizerConfig(lr=2.0, schedule="cosine", final_lr=0.1)
    rates = [learning_rate(cosine, step, 11) for step in range(11)]
    assert rates[0] == 2.0
    assert rates[5] == pytest.approx(1.1)
    assert rates[10] == pytest.approx(0.2)
    assert rates == sorted(rates, reverse=True)


def test_micro_batches_sum_to_the_batch(root: Path) -> None:
    for name, micro in (("whole", 0), ("parts", 3)):
        settings = OptimizerConfig(lr=1e-3, clip_norm=0.0)
        config = config_of(root, optimizer=settings, batch=4, micro_batch=micro, steps=1)
        train(config, options(root, name))
    whole, parts = log_of(root, "whole")[0], log_of(root, "parts")[0]
    for name in ("loss", "pixel", "fft", "grad_norm"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-5)


@pytest.mark.slow
def test_four_clips_are_learned_by_heart(tmp_path: Path) -> None:
    for number in range(4):
        write_still(tmp_path / f"sources/{number}.png", texture(number, side=16)[0])
    base = write_model(tmp_path / "tiny.safetensors")
    config = train_config(
        base,
        data=data_config(flip=False),
        optimizer=OptimizerConfig(lr=6e-3, schedule="cosine", ema_decay=0.98),
        checkpoints=CheckpointConfig(interval=1000),
        steps=80,
        batch=4,
    )
    train(config, options(tmp_path))

    def quality(path: Path) -> float:
        restorer = Restorer(load_model(str(path), device="cpu"))
        values = []
        for number in range(4):
            truth = torch.from_numpy(texture(number, side=16)).permute(0, 3, 1, 2) / 255
            small = torch.nn.functional.interpolate(
                truth, scale_factor=0.5, mode="bicubic", antialias=True
            ).clamp(0, 1)
            values.append(psnr_y(restorer(small, scale=2), truth))
        return float(np.mean(values))

    before, after = quality(base), quality(tmp_path / "run" / MODEL_NAME)
    assert after > before + 10
    assert after > 32


def test_validation_goes_through_the_restorer(root: Path) -> None:
    folders = (FolderConfig("sources", held_out=("clip1.mkv", "still2.png")),)
    config = config_of(
        root,
        data=data_config(folders=folders),
        validation=ValidationConfig(interval=2, frames=2, degradations=("clean",), samples=1),
    )
    result = train(config, options(root))
    lines = [line for line in log_of(root) if line["event"] == "validation"]
    assert [line["step"] for line in lines] == [2, 4]
    assert [clip["clip"] for clip in lines[0]["clips"]] == ["clip1.mkv", "still2.png"]
    assert result.validation["psnr_y"] == lines[-1]["psnr_y"]
    assert lines[0]["psnr_y"] != lines[1]["psnr_y"]
    assert lines[0]["upsampled_psnr_y"] == lines[1]["upsampled_psnr_y"]
    samples = sorted((root / "run/samples").rglob("*.png"))
    assert [str(p.relative_to(root / "run/samples")) for p in samples] == [
        "step-00000002/001-clip1.mkv-clean.png",
        "step-00000004/001-clip1.mkv-clean.png",
    ]
    from PIL import Image

    with Image.open(samples[0]) as picture:
        assert picture.size == (3 * 32, 32)
    # A kill between a checkpoint and its validation leaves it to the next start.
    log = root / "run/log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    assert train(config, options(root)).validation == result.validation
    assert [line for line in log_of(root) if line["event"] == "validation"] == lines
    train(config, options(root))
    assert [line for line in log_of(root) if line["event"] == "validation"] == lines
    # Looking does not change the run.
    blind = dataclasses.replace(config, validation=ValidationConfig(interval=0))
    train(blind, options(root, "blind"))
    assert [line for line in log_of(root) if line["event"] == "step"] == log_of(root, "blind")


def test_a_validation_of_nothing_is_told(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for interval, said in ((0, False), (2, True)):
        config = config_of(root, steps=1, validation=ValidationConfig(interval=interval))
        train(config, options(root, f"run{interval}"))
        assert ("nothing is validated, since nothing is held out" in caplog.text) == said


def test_validation_sees_temporal_layers_that_have_learned(tmp_path: Path) -> None:
    """They begin as the identity and are left out then; once trained they must be computed."""
    write_sources(tmp_path / "sources", frames=6)
    folders = (FolderConfig("sources", held_out=("clip1.mkv",)),)
    config = train_config(
        tmp_path / "none.safetensors",
        model=ModelConfig(str(write_model(tmp_path / "tiny.safetensors")), False, "mine"),
        data=data_config(folders=folders, frames=3),
        optimizer=OptimizerConfig(lr=3e-2, ema_decay=0.0),
        validation=ValidationConfig(interval=5, frames=3, degradations=("clean",)),
        steps=5,
    )
    result = train(config, options(tmp_path))
    weights = weights_of(tmp_path)
    temporal = [name for name in weights if "temporal" in name and name.endswith("exit.weight")]
    assert any(bool(weights[name].any()) for name in temporal)
    # A model that is loaded from its file knows which branches do something.
    found = load_model(str(result.model), device="cpu")
    assert found.spec.name == "mine"
    assert result.validation["psnr_y"] == pytest.approx(
        validation_of(config, tmp_path, result.model), abs=1e-4
    )


def validation_of(config: TrainConfig, root: Path, model: Path) -> float:
    """The figure that a run without steps gives for a model file."""
    again = dataclasses.replace(
        config, model=ModelConfig(str(model)), steps=1, optimizer=OptimizerConfig(lr=1e-30)
    )
    again = dataclasses.replace(
        again, validation=dataclasses.replace(config.validation, interval=1)
    )
    return train(again, options(root, "again")).validation["psnr_y"]


def test_mixed_precision_trains_float32_weights(root: Path) -> None:
    train(config_of(root, precision="bf16", steps=2), options(root))
    train(config_of(root, steps=2), options(root, "fp32"))
    assert {value.dtype for value in weights_of(root).values()} == {torch.float32}
    mixed, full = log_of(root), log_of(root, "fp32")
    assert mixed[0]["loss"] != full[0]["loss"]
    assert mixed[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.05)


def test_what_a_processor_cannot_do_is_said(root: Path) -> None:
    with pytest.raises(
        UsageError, match="precision = 'fp16' is not supported on the CPU: give fp32 or bf16"
    ):
        train(config_of(root, precision="fp16"), options(root))


def test_a_loss_that_is_no_number_ends_the_run(root: Path) -> None:
    settings = OptimizerConfig(lr=1e30, clip_norm=0.0)
    with pytest.raises(UsageError, match=r"diverged; give a lower \[optimizer\] lr"):
        train(config_of(root, optimizer=settings, steps=50), options(root))


def test_a_gradient_that_is_no_number_spoils_no_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(root, checkpoints=CheckpointConfig(interval=1))
    gradients = trainer._Run._gradients

    def spoiled(run: trainer._Run, clips: Any) -> dict[str, float]:
        terms = gradients(run, clips)
        if run.state.step == 2:
            next(iter(run.state.parameters.values())).grad.fill_(math.nan)  # type: ignore[union-attr]
        return terms

    with monkeypatch.context() as patched:
        patched.setattr(trainer._Run, "_gradients", spoiled)
        with pytest.raises(
            UsageError, match="the gradient's norm of step 3 is nan: training diverged"
        ):
            train(config, options(root))
    assert all(bool(value.isfinite().all()) for value in weights_of(root).values())
    assert train(config, options(root)).resumed_from == 2


def test_only_one_run_in_a_folder(root: Path) -> None:
    with alone(root), pytest.raises(UsageError, match="another run trains in"):
        train(config_of(root), options(root, "."))


def test_tensorboard_is_asked_for_by_name(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(UsageError, match="pip install tensorboard"):
            train(config_of(root, log="tensorboard"), options(root))
    # Before all files are decoded, which may take hours.
    assert not (root / "run" / FINDINGS_NAME).exists()


def test_the_extra_is_named_where_accelerate_is_missing(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "accelerate", None)
        with pytest.raises(UsageError, match=r"starvsr\[train\]"):
            train(config_of(root), options(root))


@pytest.mark.slow
def test_star_with_autoencoder_and_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The published arrangement at toy size: control branch and gates, a VAE's decoder under the loss, captions."""
    for number in range(2):
        stem = f"clip{number}"
        write_still(tmp_path / f"pairs/gt/{stem}.png", texture(number, side=64)[0])
        write_still(tmp_path / f"pairs/lq/{stem}.png", texture(number, side=16)[0])
    (tmp_path / "pairs/text").mkdir()
    (tmp_path / "pairs/text/clip0.txt").write_text("some blue waves")
    weights = tmp_path / "weights"
    with small_models(), caplog.at_level(logging.ERROR):
        install_small(weights)
        config = train_config(
            tmp_path,
            model=ModelConfig(SMALL_STAR.name),
            parts="control+liem",
            data=data_config(
                folders=(FolderConfig("pairs"),), crop=(32, 32), scale=4, text_drop=0.3
            ),
            gradient_checkpointing=True,
            steps=3,
        )
        run = options(tmp_path, weights=WeightsOptions(folder=weights))
        result = train(config, run)
    log = log_of(tmp_path)
    assert {"velocity", "low", "high"} <= log[0].keys()
    assert all(line["loss"] > line["velocity"] > 0 for line in log)
    before, after = load_file(weights / f"{SMALL_STAR.name}.safetensors"), load_file(result.model)
    changed = {name for name in after if not torch.equal(before[name].float(), after[name])}
    assert changed
    assert all(name.startswith("control.") or ".gate" in name for name in changed)


@pytest.mark.slow
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_train(path: Path, tmp_path: Path) -> None:
    """As they are, but for two steps of small clips, few steps of sampling, and small other networks."""
    shipped = read_config(path)
    for folder in shipped.data.folders:
        root = tmp_path / folder.path
        if shipped.model.base == "star-light":
            for number in range(2):
                write_video(root / f"gt/clip{number}.mkv", texture(number, 2, 64))
                write_video(root / f"lq/clip{number}.mkv", texture(number, 2, 16))
        else:
            write_sources(root, frames=5, side=160)
    features = shipped.features
    if features is not None:
        small = classifier(tmp_path)[0].name
        features = dataclasses.replace(features, path=f"./{small}", layers=("conv",))
    teacher = shipped.teacher
    if teacher is not None and teacher.path.endswith(".param"):
        write_enlarger(tmp_path / teacher.path, shipped.data.scale)
    elif teacher is not None:
        # One of the package's own models.
        teacher = dataclasses.replace(teacher, path=str(path.parent / teacher.path))
    bank = shipped.data.bank and dataclasses.replace(
        shipped.data.bank, clips=4, frames=4, crop=(48, 48)
    )
    weights, model = WeightsOptions(), shipped.model
    frames = shipped.adversary.frames if shipped.adversary else 2
    if model.base == "star-light":
        weights = WeightsOptions(folder=install_small(tmp_path / "weights"))
        model = dataclasses.replace(model, base=SMALL_STAR.name)
        write_base(tmp_path / model.checkpoint, venhancer_of())
    if SPECS[shipped.model.base].steps > 1:
        model = dataclasses.replace(model, spec={**model.spec, "steps": 3})
    with small_models():
        config = dataclasses.replace(
            shipped,
            model=model,
            data=dataclasses.replace(shipped.data, frames=frames, crop=(32, 32), bank=bank),
            validation=dataclasses.replace(shipped.validation, clips=1, frames=2, samples=1),
            features=features,
            teacher=teacher,
            steps=2,
            batch=2,
        )
        result = train(config, options(tmp_path, base=tmp_path, weights=weights))
    assert result.loss is not None
    assert set(result.validation) >= {"psnr_y", "upsampled_psnr_y"}
    assert len(list((tmp_path / "run/samples").rglob("*.png"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("adversary", [None, AdversaryConfig(frames=2, width=4, warmup_steps=0)])
def test_two_processes_make_the_steps_of_one(root: Path, adversary: AdversaryConfig | None) -> None:
    data = data_config(frames=2)
    config = config_of(root, data=data, steps=3, batch=4, adversary=adversary)
    (root / "sources/text.mp4").write_text("not a video")
    train(config, options(root, "whole"))
    (root / "run.toml").write_text(to_toml(config))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", "29617", "-m", "starvsr", "train"),
            *("--config", str(root / "run.toml"), "--data", str(root)),
            *("--workers", "0", "--output", str(root / "shared"), "--json"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    assert json.loads(launched.stdout)["steps"] == 3
    assert launched.stderr.count("1 of 5 training files are left out") == 1
    for one, two in zip(log_of(root, "whole"), log_of(root, "shared"), strict=True):
        for name in ("loss", "pixel", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-4)
