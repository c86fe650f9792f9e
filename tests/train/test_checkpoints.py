"""Checkpoints: what comes back is bit for bit what went in, and no failure costs the last good one."""

from __future__ import annotations

import dataclasses
import errno
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from starvsr.errors import InputError, OutputError, UsageError, WeightsError
from starvsr.train import checkpoints
from starvsr.train.checkpoints import (
    TrainState,
    clear_partial,
    find_checkpoints,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from starvsr.train.config import OptimizerConfig, TrainConfig, ValidationConfig
from starvsr.train.model import WeightAverage
from starvsr.zoo import tensorfile

CONFIG = TrainConfig()
DATA = "contents-digest"


def fresh(seed: int = 0) -> TrainState:
    """A convolution in channels-last order, a linear layer, and one that never gets a gradient."""
    torch.manual_seed(seed)
    layers = nn.ModuleDict(
        {"conv": nn.Conv2d(3, 4, 3), "linear": nn.Linear(5, 2), "idle": nn.Linear(2, 2)}
    )
    layers.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = dict(layers.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=0.01)
    return TrainState(parameters, WeightAverage(parameters, 0.9), optimizer)


def advance(state: TrainState, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        generator = torch.Generator().manual_seed(state.step)
        loss = torch.zeros(())
        for name, parameter in state.parameters.items():
            if not name.startswith("idle"):
                wanted = torch.randn(parameter.shape, generator=generator)
                loss = loss + (parameter - wanted).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.average.update(state.step)
        state.step += 1
        losses.append(loss.item())
    return losses


def everything(state: TrainState) -> dict[str, Tensor]:
    values = {f"p/{name}": parameter.detach() for name, parameter in state.parameters.items()}
    values |= {f"a/{name}": value for name, value in state.average.values.items()}
    for number, entries in state.optimizer.state_dict()["state"].items():
        values |= {f"o/{number}/{key}": value for key, value in entries.items()}
    return values


def assert_same(first: TrainState, second: TrainState) -> None:
    one, other = everything(first), everything(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
        assert value.stride() == other[name].stride(), name
    assert first.step == second.step


def test_what_was_saved_comes_back_and_goes_on_alike(tmp_path: Path) -> None:
    state = fresh()
    advance(state, 3)
    path = save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=2)
    assert path == tmp_path / "checkpoint-00000003"
    restored = fresh(seed=7)
    load_checkpoint(path, restored, CONFIG, data=DATA)
    assert_same(state, restored)
    assert advance(state, 4) == advance(restored, 4)
    assert_same(state, restored)


def test_only_the_latest_are_kept(tmp_path: Path) -> None:
    state = fresh()
    for _ in range(4):
        advance(state, 1)
        save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=2)
    kept = [path.name for path in find_checkpoints(tmp_path)]
    assert kept == ["checkpoint-00000003", "checkpoint-00000004"]
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
    before = {p.name: p.read_bytes() for p in (tmp_path / kept[1]).iterdir()}
    save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=1)
    assert [path.name for path in find_checkpoints(tmp_path)] == kept[1:]
    assert {p.name: p.read_bytes() for p in (tmp_path / kept[1]).iterdir()} == before
    remove_checkpoints(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["write", "rename", "state"])
def test_a_full_disk_leaves_the_last_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    state = fresh()
    advance(state, 1)
    good = save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=1)
    contents = {p.name: p.read_bytes() for p in good.iterdir()}
    advance(state, 1)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        if failing == "write":
            patched.setattr(tensorfile, "_write", full)
        elif failing == "rename":
            patched.setattr(checkpoints, "put_in_place", full)
        else:
            patched.setattr(json, "dumps", full)
        with pytest.raises(OutputError) as caught:
            save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=1)
    assert str(caught.value) == (
        f"{tmp_path / 'checkpoint-00000002'} cannot be written: no space left in {tmp_path}; free some or choose "
        "another folder; checkpoint-00000001 remains, and the run resumes from it"
    )
    assert [path.name for path in tmp_path.iterdir()] == [good.name]
    assert {p.name: p.read_bytes() for p in good.iterdir()} == contents
    restored = fresh()
    load_checkpoint(good, restored, CONFIG, data=DATA)
    assert restored.step == 1


def test_a_file_of_somebody_in_a_checkpoint_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = fresh()
    advance(state, 1)
    first = save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=1)
    (first / "notes.txt").write_text("mine")
    advance(state, 1)
    second = save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=1)
    assert "it also contains notes.txt" in caplog.text
    with pytest.raises(UsageError, match="contains foreign files"):
        remove_checkpoints(tmp_path)
    assert find_checkpoints(tmp_path) == [first, second]
    assert (first / "notes.txt").read_text() == "mine"


def test_what_only_looks_like_a_partial_file_stays(tmp_path: Path) -> None:
    mine = (".starvsr-mine.partial", ".checkpoint-mine.partial")
    for name in mine:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".starvsr-0123456789abcdef.partial").touch()
    clear_partial(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(mine)


def test_what_a_kill_left_is_not_taken_for_a_checkpoint(tmp_path: Path) -> None:
    assert find_checkpoints(tmp_path / "nowhere") == []
    half = tmp_path / ".checkpoint-0123456789abcdef.partial"
    half.mkdir()
    (half / "parameters.safetensors").write_bytes(b"half")
    (tmp_path / "checkpoint-1").mkdir()
    assert find_checkpoints(tmp_path) == []
    clip = tmp_path / "clips-0123456789ab/.starvsr-0123456789abcdef.partial"
    clip.parent.mkdir()
    clip.write_bytes(b"half")
    clear_partial(tmp_path)
    assert not half.exists()
    assert not clip.exists()
    assert (tmp_path / "checkpoint-1").exists()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (dataclasses.replace(CONFIG, batch=4), "batch = 8"),
        (dataclasses.replace(CONFIG, optimizer=OptimizerConfig(lr=0.5)), "lr = 5e-05"),
        (dataclasses.replace(CONFIG, seed=3), "seed = 0"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    tmp_path: Path, changed: TrainConfig, named: str
) -> None:
    path = save_checkpoint(tmp_path, fresh(), CONFIG, data=DATA, keep=1)
    with pytest.raises(UsageError, match=r"belongs to another run.*--no-resume") as caught:
        load_checkpoint(path, fresh(), changed, data=DATA)
    assert named in str(caught.value)


def test_a_checkpoint_of_other_data_is_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, fresh(), CONFIG, data=DATA, keep=1)
    state = fresh(seed=7)
    with pytest.raises(
        UsageError, match=r"checkpoint-00000000 belongs to a run on other data.*restore"
    ):
        load_checkpoint(path, state, CONFIG, data="contents-another")
    assert_same(state, fresh(seed=7))
    described = json.loads((path / "state.json").read_text())
    described["data"] = "of sizes, as earlier versions wrote it"
    (path / "state.json").write_text(json.dumps(described))
    load_checkpoint(path, state, CONFIG, data=DATA)


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("frozen", r"another \[model\] base: its file has changed since"),
        (
            "guides",
            r"another \[teacher\] or other \[features\]: a file of theirs has changed since",
        ),
    ],
)
def test_a_checkpoint_of_other_files_is_refused(tmp_path: Path, field: str, said: str) -> None:
    """What is not trained, or what is learned from, would come from a file that has changed since."""
    first, same, other = fresh(), fresh(), fresh()
    for state, digest in ((first, "one"), (same, "one"), (other, "other")):
        setattr(state, field, digest)
    path = save_checkpoint(tmp_path, first, CONFIG, data=DATA, keep=1)
    load_checkpoint(path, same, CONFIG, data=DATA)
    with pytest.raises(UsageError, match=said):
        load_checkpoint(path, other, CONFIG, data=DATA)
    described = json.loads((path / "state.json").read_text())
    del described[field]
    (path / "state.json").write_text(json.dumps(described))
    load_checkpoint(path, other, CONFIG, data=DATA)


@pytest.mark.parametrize("name", ["parameters", "average", "optimizer"])
def test_a_damaged_file_of_a_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    first = save_checkpoint(tmp_path, fresh(), CONFIG, data=DATA, keep=2)
    state = fresh()
    state.step = 1
    path = save_checkpoint(tmp_path, state, CONFIG, data=DATA, keep=2)
    for folder, advice in (
        (path, "remove checkpoint-00000001 to use the previous one"),
        (first, "there is no earlier one; start over with --no-resume"),
    ):
        (folder / f"{name}.safetensors").write_bytes(b"0")
        with pytest.raises(WeightsError, match=rf"{name}\.safetensors cannot be read \(.*{advice}"):
            load_checkpoint(folder, fresh(), CONFIG, data=DATA)
        (folder / "state.json").write_text("{")
        with pytest.raises(InputError, match=rf"state\.json cannot be read .*{advice}"):
            load_checkpoint(folder, fresh(), CONFIG, data=DATA)


def test_a_run_may_go_on_for_longer_and_be_looked_at_otherwise(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, fresh(), CONFIG, data=DATA, keep=1)
    changed = dataclasses.replace(
        CONFIG,
        steps=5000,
        validation=ValidationConfig(interval=3),
        data=dataclasses.replace(CONFIG.data, cache_mb=7),
    )
    load_checkpoint(path, fresh(), changed, data=DATA)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, fresh(), CONFIG, data=DATA, keep=1)
    (path / "state.json").write_text('{"step": 3}')
    with pytest.raises(InputError, match=r"state\.json .*entries are missing.*no earlier one"):
        load_checkpoint(path, fresh(), CONFIG, data=DATA)
    (path / "state.json").write_text("{")
    with pytest.raises(InputError, match=r"state\.json"):
        load_checkpoint(path, fresh(), CONFIG, data=DATA)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": "[checkpoints]\nnewkey = 1\n"}, r"has no key newkey.*start over"),
        ({"config": "no toml ="}, r"not one of this version.*start over"),
        ({"config": 3}, "of another kind"),
        ({"step": "three"}, "of another kind"),
    ],
)
def test_what_another_version_or_a_fault_left_in_a_checkpoint_is_named(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    path = save_checkpoint(tmp_path, fresh(), CONFIG, data=DATA, keep=1)
    described = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**described, **changes}))
    with pytest.raises(InputError, match=rf"state\.json.*{said}"):
        load_checkpoint(path, fresh(), CONFIG, data=DATA)


def test_parameters_of_another_network_are_refused(tmp_path: Path) -> None:
    path = save_checkpoint(tmp_path, fresh(), CONFIG, data=DATA, keep=1)
    other = fresh()
    smaller = {name: p for name, p in other.parameters.items() if not name.startswith("idle")}
    with pytest.raises(WeightsError, match=r"does not fit .*idle"):
        load_checkpoint(path, dataclasses.replace(other, parameters=smaller), CONFIG, data=DATA)
