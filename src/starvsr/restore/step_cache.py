"""Reuse of estimates of x_0: a cache over the steps of a sampler, with bounded error.

A stochastic step `x <- r^2 x + (1 - r^2) x_0 + ...` with r = sigma_next / sigma takes in `1 - r^2` of an error of its
estimate, and every later one leaves r^2 of that, so of an error at step i the last level gets `(1 - r_i^2) (sigma_last
/ sigma_(i+1))^2`: thousandths for the first steps, more than half for the last but one. How far an estimate has moved
by step i is predicted from how fast it moved between the last two computed ones, per unit of log sigma. An estimate is
reused while the sum of these products stays within the bound.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from starvsr.restore.sampling import Denoise


class ReusingDenoiser:
    """`denoise(x, sigma)` that skips steps that hardly change the result of one sampling; with a bound of 0, none.

    The last estimate is always computed, since it is the result. The cache is one estimate of the whole run: it does
    not depend on windows, nor on other runs.
    """

    def __init__(
        self,
        denoise: Denoise,
        sigmas: Tensor,
        *,
        bound: float,
        on_reuse: Callable[[float], None],
    ) -> None:
        """sigmas: as the sampler's; bound: of the last estimate's expected error, relative to its root mean square;
        on_reuse: is called with the sigma of each step that is left out."""
        self._denoise, self._bound, self._on_reuse = denoise, bound, on_reuse
        levels: list[float] = sigmas.tolist()
        self._weights = {s: _weight(s, after, levels[-2]) for s, after in pairwise(levels)}
        self._estimate: Tensor | None = None
        self._sigma = math.inf
        """Of the estimate."""
        self._speed: float | None = None
        """Of the estimate's relative change per unit of log sigma."""
        self._spent = 0.0

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """The estimate of x_0, of the shape of `x`."""
        if self._bound and self._estimate is not None and self._speed is not None:
            error = self._speed * math.log(self._sigma / sigma) * self._weights[sigma]
            if self._spent + error <= self._bound:
                self._spent += error
                self._on_reuse(sigma)
                return self._estimate
        estimate = self._denoise(x, sigma)
        if self._bound:
            self._keep(estimate, sigma)
        return estimate

    def _keep(self, estimate: Tensor, sigma: float) -> None:
        if self._estimate is not None and math.isfinite(self._sigma):
            size, moved = _size(estimate), _size(estimate - self._estimate)
            if size:
                self._speed = moved / size / math.log(self._sigma / sigma)
        self._estimate, self._sigma = estimate, sigma


def _size(x: Tensor) -> float:
    # In double precision, so that a decision does not depend on the order of a sum.
    return float(torch.linalg.vector_norm(x, dtype=torch.float64))


def _weight(sigma: float, sigma_next: float, last: float) -> float:
    """The fraction of an estimate's error at `sigma` that is left in the sampler's x at the last level."""
    if sigma_next == 0:
        return math.inf
    return (1 - (sigma_next / sigma) ** 2) * (last / sigma_next) ** 2
