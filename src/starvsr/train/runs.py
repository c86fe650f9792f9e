"""A run's options, result, devices and exclusively locked folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import torch

from starvsr.errors import UsageError
from starvsr.media.files import written_errors
from starvsr.media.removal import Right, remove_file
from starvsr.options import WeightsOptions
from starvsr.train.config import TrainConfig
from starvsr.train.model import INITIAL_NAME
from starvsr.train.scan import FINDINGS_NAME

if TYPE_CHECKING:
    from accelerate import Accelerator

_LOCK = ".lock"


@dataclass(frozen=True)
class RunOptions:
    """Where a run happens; nothing here changes what it computes."""

    output: Path
    """The run's folder: checkpoints, log, samples and the model."""
    data: Path
    """What the configuration's data folders are relative to."""
    base: Path = field(default_factory=Path)
    """What a model's path in the configuration is relative to."""
    device: str = "auto"
    """`auto` or `cpu`; `auto` leaves the choice to `accelerate`."""
    weights: WeightsOptions = field(default_factory=WeightsOptions)
    """Where the base's components are."""
    workers: int = 2
    """Processes that decode and degrade; 0 does it between steps."""
    resume: bool = True
    """Resume from the latest checkpoint in `output`; otherwise remove the checkpoints there."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise UsageError(f"--workers {self.workers} is not allowed: give 0 or more")


@dataclass(frozen=True)
class TrainResult:
    """The result of a run."""

    model: Path
    steps: int
    resumed_from: int
    """Steps that an earlier run had done."""
    loss: float | None
    """Of the last step; None if no step was left."""
    validation: dict[str, float]
    """Means of the last validation of this run; empty where there was none."""
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {**self.__dict__, "model": str(self.model)}


def open_accelerator(config: TrainConfig, options: RunOptions) -> Accelerator:
    """Raises UsageError if it is not installed or the device does not support the configuration."""
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError as error:
        raise UsageError(
            "training needs the extra train: install it with pip install 'starvsr[train]'"
        ) from error
    try:
        accelerator = Accelerator(
            # Otherwise CPU-only processes would not find each other.
            cpu=options.device == "cpu" or not torch.accelerator.is_available(),
            mixed_precision={"fp32": "no"}.get(config.precision, config.precision),
            # With one context token, attention does not need its queries and keys.
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
        )
    except ValueError as error:
        raise UsageError(
            f"precision = {config.precision!r} does not work on this device: {error}"
        ) from error
    try:
        _check_devices(config, accelerator)
    except UsageError:
        forget(accelerator)
        raise
    return accelerator


def _check_devices(config: TrainConfig, accelerator: Accelerator) -> None:
    """Raise UsageError for what the devices do not support."""
    if config.precision == "fp16" and accelerator.device.type == "cpu":
        raise UsageError("precision = 'fp16' is not supported on the CPU: give fp32 or bf16")
    if config.batch % accelerator.num_processes:
        raise UsageError(
            f"batch = {config.batch} cannot be divided among {accelerator.num_processes} processes: give a multiple"
        )


def forget(accelerator: Accelerator) -> None:
    """accelerate remembers the precision of a process's first run, and refuses another."""
    from accelerate.state import AcceleratorState

    accelerator.free_memory()
    AcceleratorState._reset_state()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock the folder against other runs. Raises UsageError if it is locked, OutputError.

    Files created before a run was refused are removed, except the scan of the data, which took long.
    """
    lock = filelock.FileLock(folder / _LOCK)
    with written_errors(folder / _LOCK):
        before = {path.name for path in folder.iterdir()}
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise UsageError(
                f"another run trains in {folder}: wait for it, or give another --output"
            ) from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            made = {path.name for path in folder.iterdir()}
            if made <= {_LOCK, INITIAL_NAME, FINDINGS_NAME}:
                for name in made - before - {FINDINGS_NAME}:
                    remove_file(folder / name, Right.TEMPORARY)
        lock.release()
