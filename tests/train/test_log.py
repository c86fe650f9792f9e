"""What a run notes, and that a kill takes nothing of it away."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from starvsr.train.log import TrainLog


class Board:
    """TensorBoard's writer as far as it is used: what is not flushed is lost with its process."""

    def __init__(self, folder: str, purge_step: int) -> None:
        self.folder, self.purge_step = folder, purge_step
        self.held: list[tuple[str, float, int]] = []
        self.on_disk: list[tuple[str, float, int]] = []

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.held.append((name, value, step))

    def flush(self) -> None:
        self.on_disk += self.held
        self.held = []

    def close(self) -> None:
        self.flush()


def test_tensorboard_has_every_figure_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Board  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with TrainLog(tmp_path, 4, tensorboard=True) as log:
        board = log.board
        assert board is not None
        assert (board.folder, board.purge_step) == (str(tmp_path / "tensorboard"), 5)
        log("step", 5, {"loss": 0.5, "lr": 1})
        assert board.on_disk == [("step/loss", 0.5, 5), ("step/lr", 1, 5)]
        log("validation", 5, {"psnr_y": 30.0, "clips": [{"clip": "a"}]})
        assert board.on_disk[2:] == [("validation/psnr_y", 30.0, 5)]
    assert (tmp_path / "log.jsonl").read_text().count("\n") == 2
