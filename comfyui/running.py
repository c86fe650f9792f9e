"""What ComfyUI shows of a node that works, and how it stops it."""

from __future__ import annotations

import starvsr

_STEPS = 1000
# Fractions of the bar. What may come before the work shares the first one with the index.
_RESTORING, _JOINING = 0.05, 0.98
_SPANS = {"restore": (_RESTORING, _JOINING), "join": (_JOINING, 1.0)}


class Bar:
    """The bar of the running node; every report ends the node if the user has interrupted it."""

    def __init__(self) -> None:
        from comfy.utils import ProgressBar

        self._bar = ProgressBar(_STEPS)
        self._shown = 0

    def show(self, fraction: float) -> None:
        """Show that a fraction (0..1) is done; never goes back. Raises ComfyUI's InterruptProcessingException."""
        from comfy import model_management

        model_management.throw_exception_if_processing_interrupted()
        self._shown = max(self._shown, round(_STEPS * fraction))
        self._bar.update_absolute(self._shown, _STEPS)

    def of_job(self, progress: starvsr.Progress) -> None:
        """Show the progress of a job on a file. Raises as `show`."""
        first, last = _SPANS.get(progress.stage, (0.0, _RESTORING))
        done = progress.done / progress.total if progress.total else 0.0
        self.show(first + (last - first) * min(1.0, done))


def make_room() -> None:
    """Move ComfyUI's models off the GPU: starvsr plans for the memory that is free."""
    from comfy import model_management

    if model_management.get_torch_device().type != "cpu":
        model_management.unload_all_models()
        model_management.soft_empty_cache()
