"""The training log: JSON lines, and TensorBoard files if requested."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from starvsr.errors import UsageError
from starvsr.media.files import write_whole, written_errors

LOG_NAME, SAMPLES_NAME = "log.jsonl", "samples"
"""In a run's folder."""

SAMPLES_OF_STEP = re.compile(r"step-\d{8}")
"""A folder of the samples."""


class TrainLog:
    """Appends to `log.jsonl` of a run's folder, one object a line, with `event` and `step` in each.

    Lines that a killed run wrote after the step that training resumes from are removed, so that no step appears twice.
    """

    def __init__(self, folder: Path, step: int, *, tensorboard: bool) -> None:
        """step: steps done before. Raises UsageError if TensorBoard is requested and missing, OutputError."""
        self.path = folder / LOG_NAME
        self.board = None
        if tensorboard:
            # TensorBoard purges from this step on.
            self.board = summary_writer()(str(folder / "tensorboard"), purge_step=step + 1)
        kept = [line for line in _lines(self.path) if line["step"] <= step] if step else []
        text = "".join(json.dumps(line) + "\n" for line in kept)
        write_whole(self.path, text.encode())
        with written_errors(self.path):
            self.file = self.path.open("a", encoding="utf-8")

    def __enter__(self) -> TrainLog:
        return self

    def __exit__(self, *_: object) -> None:
        # The disk may be full; that is reported elsewhere.
        self.file.close()
        if self.board is not None:
            self.board.close()

    def __call__(self, event: str, step: int, values: Mapping[str, Any]) -> None:
        """Log an event after `step` steps. Raises OutputError."""
        with written_errors(self.path):
            self.file.write(json.dumps({"event": event, "step": step, **values}) + "\n")
            self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    self.board.add_scalar(f"{event}/{name}", value, step)
            # TensorBoard buffers events for minutes, and a killed run would leave a permanent gap.
            self.board.flush()


def is_noted(folder: Path, event: str, step: int) -> bool:
    """Whether the log of a run's folder contains an event after `step` steps."""
    return any((line["event"], line["step"]) == (event, step) for line in _lines(folder / LOG_NAME))


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a log; a kill may have cut the last."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = []
    for line in text.splitlines():
        try:
            read = json.loads(line)
        except ValueError:
            break
        if not isinstance(read, dict) or not {"event", "step"} <= read.keys():
            break
        lines.append(read)
    return lines


def summary_writer() -> Any:
    """TensorBoard's class. Raises UsageError where the package is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UsageError(
            "log = 'tensorboard' needs the package tensorboard: install it (pip install tensorboard), or give jsonl"
        ) from error
    return SummaryWriter
