"""What network calls that differ in their text alone have in common."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Shared:
    """Keeps what the first of several calls computed before it read the text, for the others.

    All of these calls have the same inputs but for the context, and none wants a gradient.
    """

    def __init__(self) -> None:
        self._kept: dict[nn.Module, Tensor] = {}
        self._open = False

    def begin(self) -> None:
        """A stage begins that has not read the text."""
        self._open = True

    def once(self, owner: nn.Module, compute: Callable[[], Tensor]) -> Tensor:
        """What `compute` gives; once for all calls where the text was not read yet. Not to be changed in place then."""
        if not self._open:
            return compute()
        if owner not in self._kept:
            self._kept[owner] = compute()
        return self._kept[owner]

    def until_text(self, owner: nn.Module, compute: Callable[[], Tensor]) -> Tensor:
        """As `once`, as the last of the stage, and the result is taken over."""
        if not self._open:
            return compute()
        tokens = self.once(owner, compute).clone()
        self._open = False
        return tokens
