"""The one place where overlapping results are blended: run a function on windows, get the weighted mean.

Along each axis window k takes over from window k-1 by a ramp `u_k` that rises from 0 to 1 inside their
overlap, and its weight is `u_k - u_{k+1}`: the weights sum to 1 everywhere by construction, so nothing is
divided and nothing can be left out.

        u_0  ________________________________
        u_1  _______/-----------------------     w_0 = u_0 - u_1,  w_1 = u_1 - u_2,  ...
        u_2  ___________________/-----------
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from starvsr.plan.windows import Block, Grid, Span, cuts_at_half_overlap

Weighting = Literal["smooth", "cut"]
WindowFunction = Callable[[Tensor, Block], Tensor]
Scale = tuple[Fraction, Fraction, Fraction]

UNIT_SCALE: Scale = (Fraction(1), Fraction(1), Fraction(1))


def windowed(
    fn: WindowFunction,
    x: Tensor,
    grid: Grid,
    *,
    scale: Scale = UNIT_SCALE,
    weighting: Weighting = "smooth",
) -> Tensor:
    """Run `fn` on every window of `x` and return the weighted mean of the results.

    x: `b c t h w` of the grid's size. fn(block, where) gets a view of `x` and its position, and returns
    `b c' t' h' w'` with `t' h' w'` = the window's size times `scale` (frames, rows, columns). The result is
    `b c' T H W` with the dtype and device of what `fn` returns.

    `smooth` fades over the middle half of each overlap, so whatever depends on elements within a quarter of
    the overlap is exact; `cut` switches in the middle of the overlap (as STAR's released code does in time).
    Raises ValueError if a window's bound is not on a whole output element or `fn` returns another
    size than promised. Peak memory beside `x`: the result, one accumulator of a chunk's frames, one window.
    """
    if len(grid.frames) == 1:
        return next(windowed_stream(fn, x, grid, scale=scale, weighting=weighting))
    result: Tensor | None = None
    done = 0
    for slab in windowed_stream(fn, x, grid, scale=scale, weighting=weighting):
        if result is None:
            frames = _scaled_span(grid.frames[-1], scale[0])[1]
            result = slab.new_empty((*slab.shape[:2], frames, *slab.shape[3:]))
        result[:, :, done : done + slab.shape[2]] = slab
        done += slab.shape[2]
    assert result is not None and done == result.shape[2], "some frames were not covered"
    return result


def windowed_stream(
    fn: WindowFunction,
    x: Tensor,
    grid: Grid,
    *,
    scale: Scale = UNIT_SCALE,
    weighting: Weighting = "smooth",
) -> Iterator[Tensor]:
    """As `windowed`, but yield runs of frames in order, each as soon as no later window covers it.

    Peak memory beside `x`: one accumulator of a chunk's frames and one window.
    """
    if x.shape[-3:] != grid.size:
        raise ValueError(f"the grid covers {grid.size}, the tensor has {tuple(x.shape[-3:])}")
    weights_t, weights_y, weights_x = (
        _axis_weights(spans, axis_scale, weighting)
        for spans, axis_scale in zip((grid.frames, grid.rows, grid.columns), scale, strict=True)
    )
    carried: Tensor | None = None
    for index, frames in enumerate(grid.frames):
        out_frames = _scaled_span(frames, scale[0])
        slab = _run_tiles(fn, x, grid, frames, scale, (weights_t[index], weights_y, weights_x))
        if carried is not None and carried.shape[2]:
            slab[:, :, : carried.shape[2]] += carried
        if index + 1 == len(grid.frames):
            yield slab
            return
        ready = _scaled_span(grid.frames[index + 1], scale[0])[0] - out_frames[0]
        yield slab[:, :, :ready]
        # A copy, so that the yielded frames' memory is not kept alive by a view of the rest.
        carried = slab[:, :, ready:].clone()
        del slab


def _run_tiles(
    fn: WindowFunction,
    x: Tensor,
    grid: Grid,
    frames: Span,
    scale: Scale,
    weights: tuple[Tensor | None, list[Tensor | None], list[Tensor | None]],
) -> Tensor:
    """The weighted sum of all tiles of one chunk, `b c t h w` in output elements."""
    height, width = (
        _scaled_span(spans[-1], axis_scale)[1]
        for spans, axis_scale in zip((grid.rows, grid.columns), scale[1:], strict=True)
    )
    slab: Tensor | None = None
    for (row, rows), (column, columns) in itertools.product(
        enumerate(grid.rows), enumerate(grid.columns)
    ):
        where = Block(frames, rows, columns)
        result = fn(where.of(x), where)
        out = Block(
            *(_scaled_span(s, k) for s, k in zip((frames, rows, columns), scale, strict=True))
        )
        expected = tuple(stop - start for start, stop in (out.frames, out.rows, out.columns))
        if tuple(result.shape[-3:]) != expected:
            raise ValueError(f"a window gave {tuple(result.shape[-3:])}, expected {expected}")
        weight = _block_weight(weights[0], weights[1][row], weights[2][column], result)
        if expected[1:] == (height, width) and weight is None:
            return result
        if slab is None:
            slab = result.new_zeros((*result.shape[:2], expected[0], height, width))
        region = slab[..., slice(*out.rows), slice(*out.columns)]
        if weight is None:
            region += result
        else:
            region.addcmul_(result, weight)
    assert slab is not None
    return slab


def _block_weight(
    t: Tensor | None, y: Tensor | None, x: Tensor | None, like: Tensor
) -> Tensor | None:
    """The product of three axis weights, broadcastable to `t h w`; None where all are 1."""
    parts = [
        weight.to(like).view([-1 if axis == place else 1 for axis in range(3)])
        for place, weight in enumerate((t, y, x))
        if weight is not None
    ]
    return math.prod(parts[1:], start=parts[0]) if parts else None


def _scaled_span(span: Span, scale: Fraction) -> Span:
    start, stop = span[0] * scale, span[1] * scale
    if start.denominator != 1 or stop.denominator != 1:
        raise ValueError(f"a window from {span[0]} to {span[1]} is not whole at scale {scale}")
    return int(start), int(stop)


def _axis_weights(
    spans: Sequence[Span], scale: Fraction, weighting: Weighting
) -> list[Tensor | None]:
    """Each span's weights in output elements (float64, summing to 1 over the spans); None = all ones."""
    scaled = [_scaled_span(span, scale) for span in spans]
    if len(scaled) == 1:
        return [None]
    _check_cover(scaled)
    length = scaled[-1][1]
    position = torch.arange(length, dtype=torch.float64) + 0.5
    ramps = [torch.ones(length, dtype=torch.float64)]
    if weighting == "cut":
        ramps += [(position > cut).double() for cut in cuts_at_half_overlap(scaled)]
    else:
        ramps += [_ramp(position, b[0], a[1]) for a, b in itertools.pairwise(scaled)]
    ramps.append(torch.zeros(length, dtype=torch.float64))
    weights: list[Tensor | None] = []
    for (start, stop), (rising, falling) in zip(scaled, itertools.pairwise(ramps), strict=True):
        weight = (rising - falling)[start:stop]
        weights.append(None if bool((weight == 1).all()) else weight)
    return weights


def _ramp(position: Tensor, start: int, stop: int) -> Tensor:
    """A raised cosine from 0 to 1 over the middle half of the overlap `start`..`stop`."""
    quarter = (stop - start) / 4
    phase = (position - start - quarter) / max(2 * quarter, 1e-9)
    return 0.5 - 0.5 * torch.cos(torch.pi * phase.clamp(0.0, 1.0))


def _check_cover(spans: Sequence[Span]) -> None:
    assert spans[0][0] == 0, "the first window does not begin at 0"
    for (start, stop), (next_start, next_stop) in itertools.pairwise(spans):
        assert start < next_start <= stop < next_stop, f"windows leave a gap at {stop}"
