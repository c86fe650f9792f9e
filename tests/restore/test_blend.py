"""Windowed equals whole for functions whose reach is known, for every window size, overlap and odd size."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from starvsr.plan.windows import Block, Grid, even_spans, legal_spans
from starvsr.restore.blend import Scale, Weighting, WindowFunction, windowed, windowed_stream

ONE = Fraction(1)


def grid_over(x: Tensor, frames: int, tile: int, overlap: int, multiple: int = 1) -> Grid:
    time_overlap = min(overlap, frames // 2)
    rows, columns = (
        legal_spans(size, tile, overlap, multiple=multiple, remainder=0) for size in x.shape[-2:]
    )
    return Grid(even_spans(x.shape[2], frames, time_overlap), rows, columns)


def whole(fn: WindowFunction, x: Tensor) -> Tensor:
    return fn(x, Block((0, x.shape[2]), (0, x.shape[3]), (0, x.shape[4])))


def volume(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weighting", ["smooth", "cut"])
@pytest.mark.parametrize("size", [(1, 1, 1), (1, 9, 31), (7, 16, 23), (12, 37, 41)])
@pytest.mark.parametrize(
    ("frames", "tile", "overlap"), [(1, 8, 0), (3, 9, 1), (4, 12, 4), (5, 16, 7)]
)
def test_pointwise_is_exact(
    weighting: Weighting, size: tuple[int, int, int], frames: int, tile: int, overlap: int
) -> None:
    x = volume(2, 3, *size)
    result = windowed(
        lambda block, _: block.sin(), x, grid_over(x, frames, tile, overlap), weighting=weighting
    )
    torch.testing.assert_close(result, x.sin(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighting", ["smooth", "cut"])
@pytest.mark.parametrize("factor", [4, 8])
def test_strided_is_exact(weighting: Weighting, factor: int) -> None:
    x = volume(1, 3, 5, 7 * factor, 9 * factor)

    def pool(block: Tensor, _: Block) -> Tensor:
        return functional.avg_pool3d(block, (1, factor, factor))

    scale: Scale = (ONE, Fraction(1, factor), Fraction(1, factor))
    aligned = tuple(
        tuple((factor * a, factor * b) for a, b in even_spans(count, 4, 1)) for count in (7, 9)
    )
    grid = Grid(even_spans(5, 2, 1), *aligned)
    result = windowed(pool, x, grid, scale=scale, weighting=weighting)
    torch.testing.assert_close(result, whole(pool, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("weighting", ["smooth", "cut"])
@pytest.mark.parametrize("factor", [2, 4])
def test_upsampling_is_exact(weighting: Weighting, factor: int) -> None:
    x = volume(1, 2, 6, 13, 17)

    def grow(block: Tensor, _: Block) -> Tensor:
        return functional.interpolate(block, scale_factor=(1, factor, factor), mode="nearest")

    scale: Scale = (ONE, Fraction(factor), Fraction(factor))
    result = windowed(grow, x, grid_over(x, 4, 7, 3), scale=scale, weighting=weighting)
    torch.testing.assert_close(result, whole(grow, x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("radius", [1, 2])
@pytest.mark.parametrize(("weighting", "share"), [("smooth", 4), ("cut", 2)])
@pytest.mark.parametrize("size", [(9, 30, 41), (10, 33, 50)])
def test_convolution_is_exact_once_the_overlap_covers_its_reach(
    radius: int, weighting: Weighting, share: int, size: tuple[int, int, int]
) -> None:
    """`smooth` gives no weight to the outer quarter of an overlap, `cut` to the outer half."""
    x = volume(1, 2, *size).double()
    kernel = volume(2, 2, *(2 * radius + 1,) * 3).double()
    overlap = share * radius

    def convolve(block: Tensor, _: Block) -> Tensor:
        return functional.conv3d(block, kernel, padding=radius)

    grid = Grid(
        even_spans(size[0], 2 * overlap, overlap) if size[0] > overlap else ((0, size[0]),),
        *(legal_spans(n, 2 * overlap + 5, overlap, multiple=1, remainder=0) for n in size[1:]),
    )
    result = windowed(convolve, x, grid, weighting=weighting)

    def inner(y: Tensor) -> Tensor:
        return y[..., radius:-radius, radius:-radius, radius:-radius]

    torch.testing.assert_close(inner(result), inner(whole(convolve, x)), rtol=0, atol=1e-9)


def test_too_small_an_overlap_shows() -> None:
    """The test above can fail: with no overlap a convolution's window borders are visible."""
    x = volume(1, 1, 1, 32, 32)
    kernel = torch.ones(1, 1, 1, 3, 3)

    def convolve(block: Tensor, _: Block) -> Tensor:
        return functional.conv3d(block, kernel, padding=(0, 1, 1))

    result = windowed(convolve, x, grid_over(x, 1, 16, 0))
    assert (result - whole(convolve, x)).abs().max() > 0.1


@pytest.mark.parametrize("overlap", [0, 1, 2, 4])
def test_stream_yields_every_frame_once_and_early(overlap: int) -> None:
    x = volume(1, 2, 23, 6, 6)
    grid = Grid(even_spans(23, 8, overlap), ((0, 6),), ((0, 6),))
    seen: list[int] = []

    def count(block: Tensor, where: Block) -> Tensor:
        seen.append(where.frames[1])
        return block * 2

    parts = []
    for slab in windowed_stream(count, x, grid):
        parts.append(slab)
        yielded = sum(part.shape[2] for part in parts)
        assert yielded >= seen[-1] - overlap, "frames that no later window covers were held back"
    torch.testing.assert_close(torch.cat(parts, 2), 2 * x, rtol=0, atol=1e-6)


def test_input_is_not_changed_by_a_function_that_returns_views() -> None:
    x = volume(1, 2, 9, 20, 20)
    before = x.clone()
    windowed(lambda block, _: block, x, grid_over(x, 4, 9, 2))
    assert torch.equal(x, before)


def test_a_block_takes_the_same_window_of_another_tensor() -> None:
    x, hint = volume(1, 2, 6, 20, 24), volume(1, 5, 6, 20, 24)
    result = windowed(lambda block, where: block + where.of(hint)[:, :2], x, grid_over(x, 3, 9, 2))
    torch.testing.assert_close(result, x + hint[:, :2], rtol=0, atol=1e-6)


def test_wrong_sizes_are_refused() -> None:
    x = volume(1, 1, 4, 8, 8)
    with pytest.raises(ValueError, match="the grid covers"):
        windowed(lambda block, _: block, x, Grid(((0, 4),), ((0, 8),), ((0, 9),)))
    with pytest.raises(ValueError, match="a window gave"):
        windowed(lambda block, _: block[..., 1:], x, Grid(((0, 4),), ((0, 8),), ((0, 8),)))
    with pytest.raises(ValueError, match="not whole at scale"):
        odd = Grid(((0, 4),), ((0, 5), (3, 8)), ((0, 8),))
        windowed(lambda block, _: block, x, odd, scale=(ONE, Fraction(1, 4), ONE))


def test_a_gap_between_windows_is_an_error() -> None:
    x = volume(1, 1, 1, 8, 8)
    with pytest.raises(AssertionError, match="gap"):
        windowed(lambda block, _: block, x, Grid(((0, 1),), ((0, 3), (4, 8)), ((0, 8),)))


def test_half_precision_keeps_its_dtype() -> None:
    x = volume(1, 1, 6, 16, 16).bfloat16()
    result = windowed(lambda block, _: block, x, grid_over(x, 4, 9, 2))
    assert result.dtype == torch.bfloat16
    torch.testing.assert_close(result, x, rtol=2e-2, atol=2e-2)


def test_peak_memory_is_one_window_and_one_accumulator() -> None:
    """Counted in live result tensors: no window's result outlives the next call."""
    import weakref

    x = volume(1, 1, 8, 24, 24)
    alive: list[weakref.ref[Tensor]] = []

    def fn(block: Tensor, _: Block) -> Tensor:
        assert sum(ref() is not None for ref in alive) <= 1
        result = block * 1.0
        alive.append(weakref.ref(result))
        return result

    grid = grid_over(x, 4, 9, 2)
    windowed(fn, x, grid)
    assert (
        len(alive)
        == len(grid)
        == len(list(itertools.product(grid.frames, grid.rows, grid.columns)))
    )
