"""The guided velocity of a whole run's latent: every call of the network, over all windows and both halves."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from starvsr.errors import StarvsrError, UsageError, WeightsError
from starvsr.models.recurrent import Memory, State
from starvsr.models.shared import Shared
from starvsr.plan.layout import network_grid
from starvsr.plan.pieces import KEPT_HINTS_BYTES
from starvsr.plan.windows import Block, Span
from starvsr.restore.blend import windowed
from starvsr.restore.fallback import Attempts
from starvsr.restore.guidance import guide
from starvsr.zoo.load import LoadedModel

WindowCallback = Callable[[float], None]
"""Called after every network call with the fraction (0..1) of all calls that are done."""

_Call = Callable[[Tensor, Tensor, Block], Tensor]
"""The velocity of one window: its latent, the times, and its position."""


def _not_a_number(model: LoadedModel) -> StarvsrError:
    name = model.spec.name
    if model.dtype == torch.float32:
        return WeightsError(
            f"the network of {name} returns NaN or Inf: its file is damaged; get it again (`starvsr download-weights "
            "--verify` checks installed ones, and one that is deleted is downloaded again)"
        )
    kind = str(model.dtype).removeprefix("torch.")
    return UsageError(
        f"the network of {name} overflows {kind} on this video: give --precision bf16 or fp32"
    )


class Carried:
    """A recurrent network's state after a segment's frames so far, per tile; stays empty for any other."""

    def __init__(self) -> None:
        self._states: dict[tuple[Span, Span], tuple[int, State]] = {}

    def recall(self, where: Block, frame: int) -> Memory:
        """The memory with which a window continues at an absolute frame; empty unless one ended there."""
        ended, state = self._states.get((where.rows, where.columns), (None, None))
        return Memory(state if ended == frame else None)

    def keep(self, where: Block, ended: int, memory: Memory) -> None:
        """Store the memory of a window that ended before an absolute frame."""
        if memory.state is not None:
            self._states[where.rows, where.columns] = ended, memory.state

    def take(self, other: Carried) -> Carried:
        """Take over the other one's states."""
        self._states = dict(other._states)
        return self


class WindowedVelocity:
    """`v(x_t, t)` as samplers want it: `x_t` is `1 c t h w` float32 in main memory, and so is the result.

    Halves of the guidance are blended over all windows before they are combined, so that the rescale's statistics span
    the video; a published layout combines them window by window and cuts hard in time. Both are computed one after the
    other for each window, and may share what they have in common. If memory runs out, the whole evaluation is repeated
    with smaller windows.
    """

    def __init__(
        self,
        model: LoadedModel,
        attempts: Attempts,
        z_lr: Tensor,
        *,
        guidance: tuple[Callable[[int], float], float],
        calls: int,
        timed: Callable[[str], AbstractContextManager[None]],
        on_window: WindowCallback | None,
        first_frame: int = 0,
        carried: Carried | None = None,
    ) -> None:
        """z_lr: the degraded latent, `1 c t h w`; guidance: scale at a time, and rescale; calls: of the network per
        window over the whole sampling; timed: measures a `with` block under a name; first_frame: absolute index of the
        run's first; carried: of the frames before the run, and then of the run's."""
        self.model, self.attempts, self.z_lr = model, attempts, z_lr
        self.guidance, self.calls = guidance, calls
        self.timed, self.on_window = timed, on_window or (lambda _: None)
        self.first_frame, self.carried = first_frame, carried or Carried()
        self.done = self.finished = 0.0
        self.seen: dict[Block, Tensor] = {}
        self.seen_in = attempts.layout
        self.contexts = [
            model.network.embed(self._there(context))
            for context in (model.context, model.negative_context)
        ]

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The velocity at `x_t` and the times `t` (b). Raises MemoryLimitError."""
        v = self.attempts.network(partial(self._attempt, x_t, t))
        self.finished = self.done
        self.carried.take(self.carrying)
        return v

    def leave_out(self, t: int) -> None:
        """Count the calls at an integer time as done, without a call."""
        scale_at, _ = self.guidance
        self.finished += 1 if scale_at(t) == 1 else 2
        self.done = self.finished
        self.on_window(self.done / self.calls)

    def _attempt(self, x_t: Tensor, t: Tensor) -> Tensor:
        self.done = self.finished
        # A failed attempt leaves no state behind.
        self.carrying = Carried().take(self.carried)
        layout = self.attempts.layout
        if layout is not self.seen_in:
            self.seen, self.seen_in = {}, layout
        scale_at, rescale = self.guidance
        scale = scale_at(int(t[0]))
        if scale == 1:
            return self._over_windows(partial(self._call, context=self.contexts[0]), x_t, t)

        def guide_both(both: Tensor) -> Tensor:
            return guide(*both.chunk(2, 1), scale=scale, rescale=rescale)

        if layout.published:
            return self._over_windows(lambda *window: guide_both(self._both(*window)), x_t, t)
        return guide_both(self._over_windows(self._both, x_t, t))

    def _both(self, x: Tensor, t: Tensor, where: Block) -> Tensor:
        """Both halves of the guidance for one window, stacked as channels."""
        shared = Shared() if self.attempts.layout.shared else None
        halves = [self._call(x, t, where, context, shared) for context in self.contexts]
        return torch.cat(halves, 1)

    def _over_windows(self, call: _Call, x_t: Tensor, t: Tensor) -> Tensor:
        layout = self.attempts.layout
        return windowed(
            lambda block, where: call(block, t, where),
            x_t,
            network_grid(self.attempts.spec, layout, x_t.shape[2]),
            weighting="cut" if layout.published else "smooth",
        )

    def _call(
        self, x: Tensor, t: Tensor, where: Block, context: Tensor, shared: Shared | None = None
    ) -> Tensor:
        """One call of the network, where its weights are."""
        model = self.model
        hint = self._hint(where) if model.spec.network.control else None
        first, last = (self.first_frame + frame for frame in where.frames)
        memory = self.carrying.recall(where, first) if model.spec.network.recurrent else None
        extra = tuple(carry for carry in (memory, shared) if carry is not None)
        with self.timed("network"):
            v: Tensor = model.network(self._there(x), t.to(model.device), context, hint, *extra)
            v = v.float().cpu()
        if memory is not None:
            self.carrying.keep(where, last, memory)
        if not math.isfinite(float(v.sum())):
            raise _not_a_number(model)
        self._report()
        return v

    def _hint(self, where: Block) -> Tensor:
        """The network's hint for a window: computed once if there is memory to cache it."""
        if where in self.seen:
            return self.seen[where]
        hint = self._there(where.of(self.z_lr))
        seen = self.model.network.see(hint)
        kept_bytes = sum(kept.nbytes for kept in self.seen.values())
        if seen is not hint and kept_bytes + seen.nbytes <= KEPT_HINTS_BYTES:
            self.seen[where] = seen
        return seen

    def _there(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.model.device, self.model.dtype)

    def _report(self) -> None:
        grid = network_grid(self.attempts.spec, self.attempts.layout, self.z_lr.shape[2])
        self.done += 1 / len(grid)
        self.on_window(self.done / self.calls)
