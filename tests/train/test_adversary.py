"""The adversary: what it sees, whom its losses teach, and that a run with one learns and resumes as any other."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from starvsr.errors import UsageError
from starvsr.specs import SPECS
from starvsr.train.adversary import Adversary, AdversaryConfig
from starvsr.train.config import CheckpointConfig, PixelLossConfig, TrainConfig, config_from_toml
from starvsr.train.objective import check_losses
from starvsr.train.tables import to_toml
from starvsr.train.trainer import train
from tests.train.toys import assert_same_run, config_of, data_config, log_of, options, weights_of

SMALL = AdversaryConfig(weight=0.1, features=0.1, warmup_steps=0, frames=2, width=4, lr=1e-3)


def adversary(**changes: Any) -> Adversary:
    config = dataclasses.replace(SMALL, **changes)
    return Adversary(config, torch.device("cpu"), 0, dtype=torch.float32)


def pictures(seed: int, frames: int = 2) -> Tensor:
    return torch.rand(2, 3, frames, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def adversarial(root: Path, **changes: Any) -> TrainConfig:
    return config_of(root, adversary=SMALL, data=data_config(frames=2), **changes)


def test_every_position_of_every_frame_gets_a_verdict_with_both_frames_in_sight() -> None:
    network = adversary().network.eval()
    runs = pictures(0).requires_grad_()
    verdicts = network(runs).verdicts
    assert verdicts.shape == (2, 2, 8, 8)
    verdicts[0, 0].sum().backward()
    assert runs.grad is not None
    assert bool(runs.grad[0, :, 1].abs().amax(0).gt(0).all())
    assert float(runs.grad[1].abs().max()) == 0


def test_longer_clips_are_judged_run_by_run() -> None:
    judge = adversary()
    judge.network.eval()
    clip = pictures(1, frames=4)
    whole = judge._judge(clip).verdicts
    parts = [judge._judge(part).verdicts for part in (clip[:, :, :2], clip[:, :, 2:])]
    torch.testing.assert_close(whole[0::2], parts[0])
    torch.testing.assert_close(whole[1::2], parts[1])


def test_each_side_learns_from_its_own_loss_alone() -> None:
    def gradients(rival: Adversary) -> tuple[Tensor, list[Tensor]]:
        picture = pictures(2).requires_grad_()
        rival.losses(picture, pictures(3), 0)["loss"].backward()  # type: ignore[no-untyped-call]
        assert picture.grad is not None
        return picture.grad, [p.grad for p in rival.network.parameters() if p.grad is not None]

    restoring, own = gradients(adversary())
    heavier, same = gradients(adversary(weight=1.0))
    none, without = gradients(adversary(weight=0.0, features=0.0))
    assert float(none.abs().max()) == 0
    assert float(restoring.abs().max()) > 0
    assert not torch.equal(restoring, heavier)
    assert len(own) == len(list(adversary().network.parameters()))
    for each, like, alone in zip(own, same, without, strict=True):
        assert torch.equal(each, like)
        assert torch.equal(each, alone)


def test_the_weights_rise_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps would differ by where they look.
    monkeypatch.setattr("starvsr.train.adversary.cut_alike", lambda pictures, *_: pictures)

    def slope(step: int) -> Tensor:
        picture = pictures(2).requires_grad_()
        adversary(warmup_steps=10).losses(picture, pictures(3), step)["loss"].backward()  # type: ignore[no-untyped-call]
        assert picture.grad is not None
        return picture.grad

    assert float(slope(0).abs().max()) == 0
    torch.testing.assert_close(slope(5), slope(10) / 2)
    assert torch.equal(slope(10), slope(1000))


def test_it_learns_to_tell_flicker_from_a_still_picture() -> None:
    judge = adversary(width=8)
    generator = torch.Generator().manual_seed(5)
    for _ in range(60):
        still = (torch.rand(4, 3, 1, 16, 16, generator=generator) - 0.5).expand(-1, -1, 2, -1, -1)
        flicker = torch.tensor([0.1, -0.1])[:, None, None]
        swapped = torch.randint(0, 2, (4, 1, 1, 1, 1), generator=generator) * 2 - 1
        terms = judge.losses(still + flicker * swapped, still, 0)
        terms["loss"].backward()  # type: ignore[no-untyped-call]
        judge.step()
    assert float(terms["adversary"]) < 0.3


def test_gradients_are_averaged_over_processes() -> None:
    judge = adversary()
    judge.losses(pictures(2), pictures(3), 0)["loss"].backward()  # type: ignore[no-untyped-call]
    alone = judge.share_gradients(lambda gradient: gradient)
    assert judge.share_gradients(lambda gradient: gradient / 2) == pytest.approx(alone / 2)


def test_a_gradient_that_is_no_number_spoils_no_weights(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = adversarial(root, checkpoints=CheckpointConfig(interval=1))
    shared = Adversary.share_gradients

    def spoiled(self: Adversary, reduce: Callable[[Tensor], Tensor]) -> float:
        return shared(self, lambda gradient: reduce(gradient) * math.nan)

    with monkeypatch.context() as patched:
        patched.setattr(Adversary, "share_gradients", spoiled)
        with pytest.raises(UsageError, match="norm of the adversary's gradient of step 1 is nan"):
            train(config, options(root))
    assert train(config, options(root)).resumed_from == 0


def test_spectral_norms_are_one() -> None:
    judge = adversary()
    for _ in range(50):
        judge.losses(pictures(2), pictures(3), 0)
    middle = judge.network.middle
    assert isinstance(middle, nn.Conv2d)
    assert float(
        torch.linalg.matrix_norm(middle.weight.detach().flatten(1), ord=2)
    ) == pytest.approx(1, rel=0.02)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_resumes_bit_for_bit(root: Path, precision: str) -> None:
    checkpoints = CheckpointConfig(interval=3, keep=1)
    config = adversarial(root, steps=7, checkpoints=checkpoints, precision=precision)
    train(config, options(root, "whole"))
    for steps in (2, 3, 7):
        result = train(dataclasses.replace(config, steps=steps), options(root, "parts"))
    assert result.resumed_from == 3
    assert_same_run(root, "whole", "parts")
    names = {path.name for path in (root / "parts/checkpoint-00000007").iterdir()}
    assert {"adversary.safetensors", "adversary-optimizer.safetensors"} <= names


def test_micro_batches_teach_it_the_same(root: Path) -> None:
    for name, micro in (("whole", 0), ("parts", 2)):
        train(adversarial(root, batch=4, micro_batch=micro, steps=2), options(root, name))
    for whole, parts in zip(log_of(root, "whole"), log_of(root, "parts"), strict=True):
        for term in ("loss", "fooled", "matched", "adversary", "grad_norm"):
            # Its normalisation converges from pass to pass.
            assert parts[term] == pytest.approx(whole[term], rel=0.05)


def test_it_changes_what_is_learned(root: Path) -> None:
    config = adversarial(root)
    train(config, options(root, "with"))
    train(dataclasses.replace(config, adversary=None), options(root, "without"))
    assert {"fooled", "matched", "adversary"} <= log_of(root, "with")[0].keys()
    assert not {"fooled", "matched", "adversary"} & log_of(root, "without")[0].keys()
    first, second = weights_of(root, "with"), weights_of(root, "without")
    assert any(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("weight = -1", ["weight", "0 or more"]),
        ("frames = 0", ["frames 0", "1 or more"]),
        ("frames = 4", ["[adversary] frames = 4", "divisor of [data] frames, 6"]),
        ("lr = 0", ["lr", "above 0"]),
        ("betas = [0.5, 1.0]", ["betas", "below 1"]),
        ("sees = 3", ["[adversary] has no key sees"]),
    ],
)
def test_impossible_adversaries_are_refused(text: str, named: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        config_from_toml(f"[data]\nframes = 6\n[adversary]\n{text}")
    assert all(each in str(caught.value) for each in named)


def test_what_it_cannot_see_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"\[data\] crop = .* multiples of 8 from 16 on, for \[adversary\]"
    ):
        config_from_toml("[data]\ncrop = [20, 16]\nframes = 3\n[adversary]")
    with pytest.raises(UsageError, match="fp32 or bf16"):
        config_from_toml("precision = 'fp16'\n[data]\nframes = 3\n[adversary]")
    config = TrainConfig(data=data_config(frames=2), adversary=SMALL)
    with pytest.raises(UsageError, match=r"\[adversary\] has no effect"):
        check_losses(SPECS["star-light"], config)


def test_there_and_back() -> None:
    config = TrainConfig(
        data=data_config(frames=2), adversary=SMALL, pixel_loss=PixelLossConfig(sharpen=0.5)
    )
    assert config_from_toml(to_toml(config)) == config
