"""Work shared by network calls that differ only in their text."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn


class Shared:
    """Caches what the first of several calls computed before it read the text.

    All of these calls have the same inputs but for the context, and none requires a gradient.
    """

    def __init__(self) -> None:
        self._kept: dict[nn.Module, Tensor] = {}
        self._open = False

    def begin(self) -> None:
        """Begin a stage that has not read the text."""
        self._open = True

    def once(self, owner: nn.Module, compute: Callable[[], Tensor]) -> Tensor:
        """The result of `compute`, once for all calls if the text was not read yet; do not change it in place then."""
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
