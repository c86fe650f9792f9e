"""The layout in use, and smaller ones when memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from starvsr.errors import MemoryLimitError
from starvsr.plan.fitting import smaller_autoencoder, smaller_network
from starvsr.plan.layout import Layout, largest_picture, largest_window
from starvsr.plan.windows import frames_of
from starvsr.types import ModelSpec

logger = logging.getLogger(__name__)

# Messages of torch's allocators and the libraries below it.
_SIGNS = ("out of memory", "allocate memory", "not enough memory", "alloc_failed")

Result = TypeVar("Result")


class Attempts:
    """Does work with a layout, and retries with a smaller one whenever memory runs out."""

    def __init__(self, spec: ModelSpec, layout: Layout) -> None:
        self.spec, self.layout = spec, layout

    def network(self, work: Callable[[], Result]) -> Result:
        """Returns `work`'s result; between attempts the network's windows are halved. Raises MemoryLimitError."""
        return self._retried(work, self._smaller_network)

    def autoencoder(self, work: Callable[[], Result]) -> Result:
        """Returns `work`'s result; between attempts the autoencoder's tiles are halved. Raises MemoryLimitError."""
        return self._retried(work, self._smaller_autoencoder)

    def _retried(self, work: Callable[[], Result], shrink: Callable[[str], None]) -> Result:
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error) or type(error).__name__
            # Here, because the error above keeps everything in use alive.
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            shrink(reason)

    def _smaller_network(self, reason: str) -> None:
        layout = smaller_network(self.spec, self.layout)
        self._go_on(layout, "windows of the network", reason)
        self._say("the network continues with windows", largest_window(self.spec, self.layout))

    def _smaller_autoencoder(self, reason: str) -> None:
        self._go_on(smaller_autoencoder(self.layout), "tiles of the autoencoder", reason)
        self._say("the autoencoder continues with tiles", largest_picture(self.layout))

    def _say(self, what: str, block: tuple[int, int, int]) -> None:
        frames, rows, columns = block
        ours = self.layout.autoencoder
        logger.warning(
            "memory ran out; %s of %d frames of %dx%d pixels",
            what,
            frames_of(frames, ours.time_factor),
            columns * ours.factor,
            rows * ours.factor,
        )

    def _advice(self) -> str:
        if self.layout.published:
            return "--parity keeps the published windows; without it they can be smaller"
        advice = "give a smaller --scale or fewer --chunk-frames"
        return advice if self.layout.offload == "block" else f"{advice}, or --offload block"

    def _go_on(self, layout: Layout | None, what: str, reason: str) -> None:
        if layout is None:
            raise MemoryLimitError(
                f"memory ran out with the smallest {what} ({reason}): {self._advice()}"
            )
        self.layout = layout


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; on the CPU torch says so only in the message."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or any(sign in words for sign in _SIGNS)
