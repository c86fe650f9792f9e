"""The training run: what it changes, that it learns, and that stopping it anywhere changes nothing."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
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
from torch import Tensor

from starvsr.errors import OutputError, UsageError, WeightsError
from starvsr.models.unet import StarUNet
from starvsr.options import WeightsOptions
from starvsr.restore import Restorer
from starvsr.train import checkpoints
from starvsr.train.clips import Clip
from starvsr.train.config import (
    CheckpointConfig,
    FolderConfig,
    ModelConfig,
    OptimizerConfig,
    PixelLossConfig,
    TrainConfig,
    ValidationConfig,
    config_to_toml,
)
from starvsr.train.losses import VELOCITY_ONLY
from starvsr.train.model import WeightAverage, checkpoint_blocks, new_weights, trained_parameters
from starvsr.train.objective import Objective, pixel_losses
from starvsr.train.runs import RunOptions, alone
from starvsr.train.trainer import MODEL_NAME, learning_rate, train
from starvsr.train.validation import psnr_y
from starvsr.zoo.load import choose_model, device_info, load_model
from tests.conftest import TOY
from tests.golden.seeded_init import fill_module
from tests.train.toys import (
    TINY,
    data_config,
    texture,
    train_config,
    write_model,
    write_sources,
    write_still,
)
from tests.zoo.published import SMALL_STAR, install_small, small_models


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with sources, and a model to start from."""
    write_sources(tmp_path / "sources")
    write_model(tmp_path / "tiny.safetensors")
    return tmp_path


def config_of(root: Path, **changes: Any) -> TrainConfig:
    return train_config(root / "tiny.safetensors", **changes)


def options(root: Path, name: str = "run", **changes: Any) -> RunOptions:
    return dataclasses.replace(
        RunOptions(output=root / name, data=root, device="cpu", workers=0), **changes
    )


def log_of(root: Path, name: str = "run") -> list[dict[str, Any]]:
    """The log without times."""
    lines = (root / name / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights_of(root: Path, name: str = "run") -> dict[str, Tensor]:
    return load_file(root / name / MODEL_NAME)


def assert_same_run(root: Path, first: str, second: str) -> None:
    assert log_of(root, first) == log_of(root, second)
    one, other = weights_of(root, first), weights_of(root, second)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


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
    with pytest.raises(UsageError, match="4 steps already, and steps = 2"):
        train(dataclasses.replace(other, steps=2), options(root))


_KILLED = """
import sys
from pathlib import Path
from starvsr.train.config import read_config
from starvsr.train.runs import RunOptions, alone
from starvsr.train.trainer import train
root = Path(sys.argv[1])
train(read_config(root / "run.toml"), RunOptions(root / "killed", root, device="cpu", workers=0))
"""


@pytest.mark.slow
def test_a_kill_at_any_point_loses_no_more_than_an_interval(root: Path) -> None:
    config = config_of(root, steps=60, checkpoints=CheckpointConfig(interval=1, keep=1))
    train(config, options(root, "whole"))
    (root / "run.toml").write_text(config_to_toml(config))
    log = root / "killed/log.jsonl"
    for target in (4, 19, 37):
        # Sums depend on the number of threads, which is one in tests.
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, "-c", _KILLED, str(root)], env=environment)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            lines = log.read_text().count("\n") if log.exists() else 0
            if lines >= target:
                break
            time.sleep(0.003)
        # Another phase of a step each time.
        time.sleep(0.007 * target % 0.03)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    result = train(config, options(root, "killed"))
    assert 0 < result.resumed_from < 60
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


@pytest.mark.parametrize("parts", ["control+liem", "liem", "temporal", "all"])
def test_only_the_named_parts_change(tmp_path: Path, parts: str) -> None:
    write_sources(tmp_path / "sources")
    base = write_model(tmp_path / "toy.safetensors", TOY)
    config = train_config(
        base,
        parts=parts,
        data=data_config(frames=2),
        optimizer=OptimizerConfig(lr=1e-2, weight_decay=0.0, ema_decay=0.0),
        steps=2,
    )
    train(config, options(tmp_path))
    before, after = load_file(base), weights_of(tmp_path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    gates = {name for name in before if ".gate" in name}
    temporal = {name for name in before if "temporal" in name}
    control = {name for name in before if name.startswith("control.")}
    assert gates and temporal and control
    if parts == "all":
        # Both branches, encoder and decoder; attention to a single token needs no queries and keys.
        assert len(changed) > 0.9 * len(before)
    else:
        allowed = {"control+liem": control | gates, "liem": gates, "temporal": temporal}[parts]
        assert changed <= allowed
        assert len(changed) > 0.8 * len(allowed)


def test_parts_that_are_not_there_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="needs a control branch"):
        train(config_of(root, parts="control+liem"), options(root))


def test_frozen_parameters_want_no_gradient() -> None:
    network = StarUNet(TOY.network)
    fill_module(network, 0)
    before = {name: p.data_ptr() for name, p in network.named_parameters()}
    trained = trained_parameters(network, "liem")
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (name in trained)
        # A trained one does not share memory with the file that it was mapped from.
        assert (parameter.data_ptr() == before[name]) == (name not in trained)


def test_the_average_is_the_result(root: Path) -> None:
    def run(name: str, decay: float, steps: int) -> dict[str, Tensor]:
        settings = OptimizerConfig(lr=1e-2, ema_decay=decay)
        train(config_of(root, optimizer=settings, steps=steps), options(root, name))
        return weights_of(root, name)

    start = load_file(root / "tiny.safetensors")
    first, second = run("one", 0.0, 1), run("two", 0.0, 2)
    averaged = run("average", 0.999, 2)
    for name, value in averaged.items():
        # Decays of 1/10 and 2/11 in the first two steps.
        after_first = start[name].lerp(first[name], 0.9)
        torch.testing.assert_close(value, after_first.lerp(second[name], 9 / 11))


def test_exchanging_parameters_and_averages_is_exact() -> None:
    network = StarUNet(TINY.network)
    fill_module(network, 0)
    average = WeightAverage(trained_parameters(network, "all"), 0.5)
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    with average.in_place():
        assert all(torch.equal(v, before[n]) for n, v in network.state_dict().items())
    assert all(torch.equal(v, before[n] + 1) for n, v in network.state_dict().items())
    average.update(10**6)
    with average.in_place():
        middle = network.state_dict()
        torch.testing.assert_close(middle, {n: v + 0.5 for n, v in before.items()})


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


def stacked(batch: int, frames: int = 2, side: int = 16) -> Clip:
    rng = torch.Generator().manual_seed(4)
    truth = torch.rand(batch, frames, 3, side, side, generator=rng)
    degraded = torch.rand(batch, frames, 3, side // 2, side // 2, generator=rng)
    return Clip(truth, degraded, (None,) * batch, tuple(range(batch)))


def gradients(path: Path, *, recomputed: bool, clip: Clip) -> dict[str, Tensor]:
    model = load_model(str(path), device="cpu")
    trained = trained_parameters(model.network, "all")
    if recomputed:
        checkpoint_blocks(model.network)
    config = TrainConfig(model=ModelConfig(str(path)))
    objective = Objective(model, config, lambda _: model.context)
    objective(model.network, clip)["loss"].backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in trained.items() if p.grad is not None}


def test_recomputed_blocks_give_the_same_gradients(tmp_path: Path) -> None:
    path = write_model(tmp_path / "toy.safetensors", TOY)
    plain = gradients(path, recomputed=False, clip=stacked(2))
    again = gradients(path, recomputed=True, clip=stacked(2))
    assert plain.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in plain.items())


def test_micro_batches_sum_to_the_batch(root: Path) -> None:
    for name, micro in (("whole", 0), ("parts", 3)):
        settings = OptimizerConfig(lr=1e-3, clip_norm=0.0)
        config = config_of(root, optimizer=settings, batch=4, micro_batch=micro, steps=1)
        train(config, options(root, name))
    whole, parts = log_of(root, "whole")[0], log_of(root, "parts")[0]
    for name in ("loss", "pixel", "fft", "grad_norm"):
        assert parts[name] == pytest.approx(whole[name], rel=1e-5)


def test_the_loss_of_noised_models_is_the_velocitys(tmp_path: Path) -> None:
    path = write_model(tmp_path / "toy.safetensors", TOY)
    model = load_model(str(path), device="cpu")
    config = TrainConfig(model=ModelConfig(str(path)), loss=VELOCITY_ONLY)
    objective = Objective(model, config, lambda _: model.context)
    calls: list[tuple[Tensor, ...]] = []

    def network(x: Tensor, t: Tensor, context: Tensor, hint: Tensor | None) -> Tensor:
        assert hint is not None
        calls.append((x, t, context, hint))
        return torch.zeros_like(x)

    clip = stacked(3)
    terms = objective(network, clip)
    again = objective(network, clip)
    assert torch.equal(terms["loss"], again["loss"])
    (x_t, t, context, hint), second = calls
    assert all(torch.equal(a, b) for a, b in zip(calls[0], second, strict=True))
    assert context.shape == (3, 1, 16)
    assert len(set(t.tolist())) == 3
    x0 = model.autoencoder.encode((clip.truth * 2 - 1).transpose(1, 2))
    schedule = objective.schedule
    alpha, sigma = (a[t].view(-1, 1, 1, 1, 1) for a in (schedule.alphas, schedule.sigmas))
    eps = (x_t - alpha * x0) / sigma
    assert float(eps.std()) == pytest.approx(1, abs=0.1)
    v = schedule.velocity(x0, eps, t)
    torch.testing.assert_close(terms["velocity"], v.square().mean())
    assert hint.shape == x_t.shape
    # A clip's draws are its own, whatever it is stacked with.
    alone = Clip(clip.truth[1:2], clip.degraded[1:2], (None,), (1,))
    objective(network, alone)
    torch.testing.assert_close(calls[-1][0], x_t[1:2])
    assert calls[-1][1].tolist() == t[1:2].tolist()


def test_the_restoration_and_the_trainer_compute_the_same_picture(root: Path) -> None:
    """What is trained on is what `Restorer` gives for the same frames."""
    model = load_model(str(root / "tiny.safetensors"), device="cpu")
    config = config_of(root, pixel_loss=PixelLossConfig(kind="mse", fft=0.0))
    objective = Objective(model, config, lambda _: model.context)
    clip = stacked(1, frames=1)
    restored = Restorer(model)(clip.degraded[0], scale=2)
    with torch.no_grad():
        loss = objective(model.network, dataclasses.replace(clip, truth=restored[None]))["loss"]
    # Only what the restorer clamps differs.
    assert float(loss) < 1e-3
    far = objective(model.network, clip)["loss"]
    assert float(far) > 10 * float(loss)


def test_pixel_losses_by_their_definitions() -> None:
    picture = torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    truth = torch.rand(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    difference = (picture - truth).double()
    spectrum = torch.fft.fft2(difference) / 8
    half = spectrum[..., :5]
    fft = (half.real.abs().mean() + half.imag.abs().mean()) / 2
    temporal = (difference[:, :, 1:] - difference[:, :, :-1]).abs().mean()
    config = PixelLossConfig(weight=2.0, fft=0.5, temporal=0.25)
    terms = pixel_losses(picture, truth, config)
    expected = 2 * difference.abs().mean() + 0.5 * fft + 0.25 * temporal
    assert float(terms["loss"]) == pytest.approx(float(expected), rel=1e-5)
    squared = pixel_losses(picture, truth, PixelLossConfig(kind="mse", fft=0.0))
    assert float(squared["loss"]) == pytest.approx(float(difference.square().mean()), rel=1e-5)
    smooth = pixel_losses(picture, truth, PixelLossConfig(kind="charbonnier", fft=0.0))
    assert float(smooth["loss"]) == pytest.approx(float(difference.abs().mean()), rel=1e-2)


@pytest.mark.slow
def test_four_clips_are_learned_by_heart(tmp_path: Path) -> None:
    for number in range(4):
        write_still(tmp_path / f"sources/{number}.png", texture(number, side=16)[0])
    base = write_model(tmp_path / "tiny.safetensors")
    config = train_config(
        base,
        data=data_config(flip=False),
        optimizer=OptimizerConfig(lr=2e-3, schedule="cosine", ema_decay=0.98),
        checkpoints=CheckpointConfig(interval=1000),
        steps=250,
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
        "step-00000002/clip1.mkv-clean.png",
        "step-00000004/clip1.mkv-clean.png",
    ]
    from PIL import Image

    with Image.open(samples[0]) as picture:
        assert picture.size == (3 * 32, 32)
    # Looking does not change the run.
    blind = dataclasses.replace(config, validation=ValidationConfig(interval=0))
    train(blind, options(root, "blind"))
    assert [line for line in log_of(root) if line["event"] == "step"] == log_of(root, "blind")


def test_validation_sees_temporal_layers_that_have_learned(tmp_path: Path) -> None:
    """They begin as the identity and are left out then; once trained they must be computed."""
    write_sources(tmp_path / "sources", frames=6)
    folders = (FolderConfig("sources", held_out=("clip1.mkv",)),)
    config = train_config(
        tmp_path / "none.safetensors",
        model=ModelConfig(
            "nano",
            pretrained=False,
            name="mine",
            spec={
                "network": {"latent_channels": 12, "multipliers": [1], "attention_scales": []},
                "autoencoder": {"factor": 2},
                "size_rule": {"multiple": 1, "height_remainder": 0},
            },
        ),
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


def test_new_weights_are_the_seeds(root: Path) -> None:
    first, again, other = (new_weights(TINY, seed) for seed in (3, 3, 4))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_a_changed_network_needs_new_weights(root: Path) -> None:
    model = ModelConfig(str(root / "tiny.safetensors"), spec={"network": {"width": 64}})
    with pytest.raises(UsageError, match="pretrained = false"):
        train(config_of(root, model=model), options(root))
    result = train(
        config_of(root, model=dataclasses.replace(model, pretrained=False), steps=1), options(root)
    )
    spec = choose_model(str(result.model), device_info("cpu")).spec
    assert spec.network.width == 64


def test_a_name_and_a_description_of_ones_own(root: Path) -> None:
    model = ModelConfig("./tiny.safetensors", name="mine", spec={"segment_frames": 7})
    config = config_of(
        root, model=model, steps=1, checkpoints=CheckpointConfig(interval=1, dtype="fp16")
    )
    result = train(config, options(root, base=root))
    spec = choose_model(str(result.model), device_info("cpu")).spec
    assert (spec.name, spec.segment_frames) == ("mine", 7)
    assert {value.dtype for value in weights_of(root).values()} == {torch.float16}


def test_a_missing_base_is_named(root: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        train(config_of(root, model=ModelConfig("./nowhere.safetensors")), options(root))


def test_mixed_precision_trains_float32_weights(root: Path) -> None:
    train(config_of(root, precision="bf16", steps=2), options(root))
    train(config_of(root, steps=2), options(root, "fp32"))
    assert {value.dtype for value in weights_of(root).values()} == {torch.float32}
    mixed, full = log_of(root), log_of(root, "fp32")
    assert mixed[0]["loss"] != full[0]["loss"]
    assert mixed[0]["loss"] == pytest.approx(full[0]["loss"], rel=0.05)


def test_what_a_processor_cannot_do_is_said(root: Path) -> None:
    with pytest.raises(
        UsageError, match="precision = 'fp16' is not for processors: give fp32 or bf16"
    ):
        train(config_of(root, precision="fp16"), options(root))


def test_a_loss_that_is_no_number_ends_the_run(root: Path) -> None:
    settings = OptimizerConfig(lr=1e30, clip_norm=0.0)
    with pytest.raises(UsageError, match=r"diverged; give a lower \[optimizer\] lr"):
        train(config_of(root, optimizer=settings, steps=50), options(root))


def test_only_one_run_in_a_folder(root: Path) -> None:
    with alone(root), pytest.raises(UsageError, match="another run trains in"):
        train(config_of(root), options(root, "."))


def test_tensorboard_is_asked_for_by_name(root: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "torch.utils.tensorboard", None)
        with pytest.raises(UsageError, match="pip install tensorboard"):
            train(config_of(root, log="tensorboard"), options(root))


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
def test_two_processes_make_the_steps_of_one(root: Path) -> None:
    config = config_of(root, steps=3, batch=4)
    train(config, options(root, "whole"))
    (root / "run.toml").write_text(config_to_toml(config))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    launched = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--master-port", "29617", "-m", "starvsr", "train"),
            *("--config", str(root / "run.toml"), "--data", str(root), "--device", "cpu"),
            *("--workers", "0", "--output", str(root / "shared"), "--json"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert launched.returncode == 0, launched.stderr
    assert json.loads(launched.stdout)["steps"] == 3
    for one, two in zip(log_of(root, "whole"), log_of(root, "shared"), strict=True):
        for name in ("loss", "pixel", "grad_norm"):
            assert two[name] == pytest.approx(one[name], rel=1e-4)
