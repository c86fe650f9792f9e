"""Checkpoints of a training run: folders that appear under their name only when everything in them is on disk.

A checkpoint is three safetensors files (the trained parameters, their average, the optimizer's state), two more of an
adversary, and one of JSON.
No generator state is stored: every draw depends only on the seed and a number.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from starvsr.errors import InputError, OutputError, StarvsrError, UsageError, WeightsError
from starvsr.media.files import errors_of, sync
from starvsr.media.removal import Right, put_in_place, remove_file, remove_tree
from starvsr.train.adversary import Adversary
from starvsr.train.config import TrainConfig, config_from_toml
from starvsr.train.model import WeightAverage, restore_values
from starvsr.train.sources import CONTENTS
from starvsr.train.tables import to_toml
from starvsr.zoo.checkpoint import listed, misfits, read_safetensors
from starvsr.zoo.tensorfile import write_tensors

logger = logging.getLogger(__name__)

_FOLDER = re.compile(r"checkpoint-(\d{8})")
_PARTIAL = ".checkpoint-"
_PARTIAL_FOLDER = re.compile(r"\.checkpoint-[0-9a-f]{16}\.partial")
_PARTIAL_FILE = re.compile(r"\.starvsr-[0-9a-f]{16}\.partial")
_STATE = "state.json"
_TENSORS = ("parameters", "average", "optimizer", "adversary", "adversary-optimizer")
_FILES = {_STATE, *(f"{name}.safetensors" for name in _TENSORS)}


@dataclass
class TrainState:
    """Everything that changes while training."""

    parameters: Mapping[str, nn.Parameter]
    """The trained parameters, by name."""
    average: WeightAverage
    optimizer: torch.optim.Optimizer
    """Of these parameters, in this order, in one group."""
    scaler: torch.amp.GradScaler | None = None
    """Of fp16."""
    step: int = 0
    """Steps done."""
    adversary: Adversary | None = None
    frozen: str = ""
    """A digest of the network's other parameters."""
    guides: str = ""
    """A digest of the files of `[teacher]` and `[features]`."""


def save_checkpoint(
    folder: Path, state: TrainState, config: TrainConfig, *, data: str, keep: int
) -> Path:
    """Write `checkpoint-STEP` into `folder`, then remove all but the latest `keep`.

    data: the training data's digest, from `sources.data_digest`.

    The previous checkpoint stays complete until the new one is. Raises OutputError if there is no space; nothing has
    changed then.
    """
    target = folder / f"checkpoint-{state.step:08d}"
    # It exists if the run resumed from it and no step was left.
    if not target.exists():
        try:
            _write(target, state, config, data)
        except OutputError as error:
            if there := find_checkpoints(folder):
                error.args = (f"{error}; {there[-1].name} remains, and the run resumes from it",)
            raise
    for old in find_checkpoints(folder)[:-keep]:
        _remove(old)
    return target


def _write(target: Path, state: TrainState, config: TrainConfig, data: str) -> None:
    partial = target.with_name(f"{_PARTIAL}{secrets.token_hex(8)}.partial")
    described: dict[str, Any] = {
        "step": state.step,
        "config": to_toml(config),
        "data": data,
        "frozen": state.frozen,
        "guides": state.guides,
        "scaler": state.scaler.state_dict() if state.scaler else None,
    }
    try:
        with errors_of(target):
            partial.mkdir()
            for name, tensors in _tensors(state).items():
                cpu = {key: tensor.detach().cpu() for key, tensor in tensors.items()}
                write_tensors(partial / f"{name}.safetensors", cpu, {})
            _write_synced(partial / _STATE, json.dumps(described))
            _sync(partial)
            put_in_place(partial, target, Right.FORM)
            _sync(target.parent)
    except BaseException:
        remove_tree(partial, Right.TEMPORARY)
        raise


def find_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, earliest first."""
    with suppress(FileNotFoundError):
        return sorted(p for p in folder.iterdir() if _FOLDER.fullmatch(p.name) and p.is_dir())
    return []


def check_nothing_lost(model: Path) -> None:
    """Raise OutputError for a model that no checkpoint belongs to: a run's steps are kept before its model is."""
    with errors_of(model):
        if model.exists() and not find_checkpoints(model.parent):
            raise OutputError(
                f"{model} exists already, and {model.parent} has no checkpoint to resume from: give another --output, "
                "or --no-resume to replace it"
            )


def clear_partial(folder: Path) -> None:
    """Remove what a killed run left behind: partial checkpoints and replacement files."""
    for left in folder.glob(f"{_PARTIAL}*.partial"):
        if _PARTIAL_FOLDER.fullmatch(left.name):
            remove_tree(left, Right.FORM)
    # Also of samples and cached clips.
    for left in folder.rglob(".starvsr-*.partial"):
        if _PARTIAL_FILE.fullmatch(left.name):
            with suppress(OSError):
                remove_file(left, Right.FORM)


def remove_checkpoints(folder: Path) -> None:
    """Remove all of them. Raises UsageError if one contains other files; then none is removed."""
    for checkpoint in (checkpoints := find_checkpoints(folder)):
        if strange := _strange(checkpoint):
            raise UsageError(
                f"{checkpoint} contains foreign files ({', '.join(strange)}): move them elsewhere, or "
                "give another --output"
            )
    for checkpoint in checkpoints:
        _remove(checkpoint)


def load_checkpoint(path: Path, state: TrainState, config: TrainConfig, *, data: str) -> None:
    """Restore `state` bit for bit from the checkpoint.

    Raises UsageError where the checkpoint belongs to a run with another configuration or other data, WeightsError and
    InputError where it cannot be read.
    """
    described = _read_state(path)
    check_same_run(path, described["config"], config)
    # Checkpoints of earlier versions have another digest.
    if described["data"] != data and described["data"].startswith(CONTENTS):
        raise UsageError(
            f"{path} belongs to a run on other data: files in the data folders were added, removed or changed since; "
            "restore them, give another --output, or start over with --no-resume"
        )
    # Checkpoints of earlier versions do not say it.
    if described.get("frozen", state.frozen) != state.frozen:
        raise UsageError(
            f"{path} belongs to a run from another [model] base: its file has changed since, and "
            f"parts = {config.parts!r} takes all else from it; restore it, give another --output, or start over with "
            "--no-resume"
        )
    if described.get("guides", state.guides) != state.guides:
        raise UsageError(
            f"{path} belongs to a run with another [teacher] or other [features]: a file of theirs has changed since; "
            "restore it, give another --output, or start over with --no-resume"
        )
    _load_tensors(path, "parameters", {n: p.data for n, p in state.parameters.items()})
    _load_tensors(path, "average", state.average.values)
    _load_optimizer(path, "optimizer", state.parameters, state.optimizer)
    if state.adversary is not None:
        network = state.adversary.network
        _load_tensors(path, "adversary", network.state_dict())
        parameters = dict(network.named_parameters())
        _load_optimizer(path, "adversary-optimizer", parameters, state.adversary.optimizer)
    if state.scaler is not None and described["scaler"] is not None:
        state.scaler.load_state_dict(described["scaler"])
    state.step = int(described["step"])


def check_same_run(path: Path, before: str, config: TrainConfig) -> None:
    """Raise UsageError if the checkpoint's configuration (TOML) would have computed other steps."""
    now = to_toml(_decisive(config, config))
    try:
        then = to_toml(_decisive(config_from_toml(before), config))
    except StarvsrError as error:
        raise InputError(
            f"{path / _STATE}: its configuration is not one of this version ({error}); {_without(path)}"
        ) from error
    if then != now:
        pairs = zip(then.splitlines(), now.splitlines(), strict=False)
        was, is_now = next((pair for pair in pairs if pair[0] != pair[1]), (then, now))
        raise UsageError(
            f"{path} belongs to another run: it has {was!r}, and the configuration {is_now!r}; give another --output, "
            "or start over with --no-resume"
        )


def _decisive(config: TrainConfig, now: TrainConfig) -> TrainConfig:
    """Without what may change on resuming: the number of steps, and what is measured on the way."""
    data = dataclasses.replace(config.data, cache_mb=now.data.cache_mb)
    return dataclasses.replace(
        config,
        data=data,
        steps=now.steps,
        log=now.log,
        validation=now.validation,
        checkpoints=now.checkpoints,
    )


def _read_state(path: Path) -> dict[str, Any]:
    try:
        described = json.loads((path / _STATE).read_text(encoding="utf-8"))
        kinds = {"step": int, "config": str, "data": str}
        if "scaler" in described and all(
            isinstance(described.get(name), kind) for name, kind in kinds.items()
        ):
            return dict(described)
        reason = "entries are missing or of another kind"
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error)
    raise InputError(f"{path / _STATE} cannot be read ({reason}): {_without(path)}")


def _tensors(state: TrainState) -> dict[str, dict[str, Tensor]]:
    tensors: dict[str, dict[str, Tensor]] = {
        "parameters": dict(state.parameters),
        "average": state.average.values,
        "optimizer": _optimizer_tensors(list(state.parameters), state.optimizer),
    }
    if state.adversary is not None:
        network = state.adversary.network
        names = [name for name, _ in network.named_parameters()]
        tensors["adversary"] = network.state_dict()
        tensors["adversary-optimizer"] = _optimizer_tensors(names, state.adversary.optimizer)
    return tensors


def _optimizer_tensors(names: list[str], optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    # A parameter that never had a gradient has no state.
    return {
        f"{names[number]}/{key}": value
        for number, values in optimizer.state_dict()["state"].items()
        for key, value in values.items()
    }


def _load_tensors(path: Path, name: str, targets: Mapping[str, Tensor]) -> None:
    file = path / f"{name}.safetensors"
    values = _read_tensors(file)
    problems = misfits(targets, values)
    if problems:
        raise WeightsError(f"{file} does not fit the network: {listed(problems)}")
    restore_values(targets, values)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return read_safetensors(file)[0]
    except WeightsError as error:
        reason = error.__cause__ or error
        raise WeightsError(f"{file} cannot be read ({reason}): {_without(file.parent)}") from error


def _without(checkpoint: Path) -> str:
    """What to do where a checkpoint is damaged."""
    if any(each.name < checkpoint.name for each in find_checkpoints(checkpoint.parent)):
        return f"remove {checkpoint.name} to use the previous one"
    return "there is no earlier one; start over with --no-resume"


def _load_optimizer(
    path: Path, file: str, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    values = _read_tensors(path / f"{file}.safetensors")
    restored: dict[int, dict[str, Tensor]] = {}
    for number, (name, parameter) in enumerate(parameters.items()):
        for key in ("step", "exp_avg", "exp_avg_sq"):
            value = values.get(f"{name}/{key}")
            if value is not None:
                # In the parameter's memory format, for the same sums.
                like = torch.empty_like(parameter) if value.ndim else torch.empty(())
                restored.setdefault(number, {})[key] = like.detach().copy_(value)
    described = optimizer.state_dict()
    optimizer.load_state_dict({**described, "state": restored})


def _write_synced(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    # Not every system can sync a folder.
    with suppress(OSError):
        sync(folder)


def _remove(checkpoint: Path) -> None:
    """Written under another name first, so that a killed run leaves no partial file."""
    doomed = checkpoint.with_name(f"{_PARTIAL}{secrets.token_hex(8)}.partial")
    if strange := _strange(checkpoint):
        logger.warning("%s is not removed: it also contains %s", checkpoint, ", ".join(strange))
        return
    with suppress(OSError):
        put_in_place(checkpoint, doomed, Right.FORM)
    remove_tree(doomed, Right.FORM)


def _strange(checkpoint: Path) -> list[str]:
    """Names of files that are not part of a checkpoint."""
    with suppress(OSError):
        return sorted({path.name for path in checkpoint.iterdir()} - _FILES)
    return []
