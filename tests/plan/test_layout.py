"""How work is cut up: the ladder of ever smaller windows, and which of them a memory limit chooses."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from starvsr.errors import MemoryLimitError, UsageError
from starvsr.options import DeviceOptions, Offload, SamplingOptions, WindowOptions
from starvsr.plan.fitting import fitted_layout, offload_steps, smaller_autoencoder, smaller_network
from starvsr.plan.layout import (
    Layout,
    autoencoder_grid,
    chunks,
    largest_picture,
    largest_window,
    network_grid,
    plain_layout,
)
from starvsr.plan.memory import autoencoder_stage_bytes, network_stage_bytes
from starvsr.plan.settings import resolve
from starvsr.plan.windows import Grid
from starvsr.specs import NANO, STAR_COGVIDEOX, STAR_LIGHT
from starvsr.types import ModelSpec
from tests.conftest import TOY
from tests.zoo.published import SMALL_STAR

GIB = 1 << 30
SPECS = [NANO, STAR_LIGHT, TOY]


def fit(
    spec: ModelSpec = STAR_LIGHT,
    limit_gib: float | None = None,
    size: tuple[int, int] = (720, 1280),
    frames: int = 64,
    options: WindowOptions | None = None,
    offload: Offload = "auto",
    compiled: bool = False,
) -> Layout:
    limit_bytes = None if limit_gib is None else int(limit_gib * GIB)
    return fitted_layout(
        spec,
        resolve(spec, SamplingOptions(cfg=1), options),
        size,
        frames,
        DeviceOptions(offload=offload, compile=compiled, memory_limit_bytes=limit_bytes),
        bytes_per_element=2,
        limit_bytes=limit_bytes,
    )


def ladder(spec: ModelSpec, layout: Layout) -> list[Layout]:
    layouts: list[Layout] = []
    step: Layout | None = layout
    while step is not None:
        layouts.append(step)
        step = smaller_network(spec, step)
    return layouts


def covered(grid: Grid) -> bool:
    return all(
        axis[0][0] == 0 and all(a[1] >= b[0] for a, b in itertools.pairwise(axis))
        for axis in (grid.frames, grid.rows, grid.columns)
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (96, 64), (2160, 3840)])
def test_every_step_down_is_smaller_and_legal(spec: ModelSpec, size: tuple[int, int]) -> None:
    layouts = ladder(spec, plain_layout(spec, resolve(spec), size, 64))
    volumes = []
    for layout in layouts:
        frames, rows, columns = largest_window(spec, layout)
        volumes.append(frames * rows * columns)
        rule = spec.size_rule
        assert rows % rule.multiple == rule.height_remainder % rule.multiple
        assert columns % rule.multiple == 0
        grid = network_grid(spec, layout, 64)
        assert covered(grid)
        assert grid.size == (64, *layout.latent)
    assert all(less < more for more, less in itertools.pairwise(volumes)), volumes
    assert largest_window(spec, layouts[-1])[0] == 1


def test_a_step_down_is_about_a_half() -> None:
    layouts = ladder(STAR_LIGHT, plain_layout(STAR_LIGHT, resolve(STAR_LIGHT), (720, 1280), 64))
    volumes = [f * r * c for f, r, c in (largest_window(STAR_LIGHT, step) for step in layouts)]
    assert all(0.4 < less / more < 0.75 for more, less in itertools.pairwise(volumes)), volumes
    windows = [largest_window(STAR_LIGHT, step) for step in layouts]
    assert windows[0] == (32, 90, 160)
    # Space goes first, then time, and what the prior needs to see anything last.
    assert windows[:4] == [(32, 90, 160), (32, 90, 72), (32, 42, 64), (16, 42, 64)]
    assert windows[-1] == (1, 42, 32)


@pytest.mark.parametrize("size", [(720, 1280), (100, 60), (2160, 3840)])
def test_the_autoencoders_pieces_get_smaller(size: tuple[int, int]) -> None:
    step: Layout | None = plain_layout(STAR_LIGHT, resolve(STAR_LIGHT), size, 9)
    volumes: list[int] = []
    while step is not None:
        frames, rows, columns = largest_picture(step)
        volumes.append(frames * rows * columns)
        grid = autoencoder_grid(step, 9)
        assert covered(grid)
        assert grid.size == (9, *step.latent)
        assert max(b - a for a, b in grid.rows) <= rows
        assert max(b - a for a, b in grid.columns) <= columns
        assert max(b - a for a, b in grid.frames) <= frames
        step = smaller_autoencoder(step)
    assert len(volumes) > 3
    assert all(less < more for more, less in itertools.pairwise(volumes)), volumes


def test_a_lossless_autoencoder_has_nothing_to_shrink() -> None:
    assert smaller_autoencoder(plain_layout(NANO, resolve(NANO), (720, 1280), 8)) is None


def test_without_a_limit_windows_are_the_models() -> None:
    layout = fit()
    plain = plain_layout(STAR_LIGHT, resolve(STAR_LIGHT), (720, 1280), 64)
    assert dataclasses.replace(layout, peak_bytes=0) == plain
    assert layout.offload == "none"
    assert layout.peak_bytes > 0


def test_a_limit_is_kept_and_used() -> None:
    needed = fit().peak_bytes / GIB
    before = None
    for limit in (needed + 0.1, needed - 0.1, 0.75 * needed, 0.5 * needed, 0.3 * needed):
        layout = fit(limit_gib=limit)
        assert layout.peak_bytes <= limit * GIB
        window, picture = largest_window(STAR_LIGHT, layout), largest_picture(layout)
        predicted = max(
            network_stage_bytes(STAR_LIGHT, window, 2, layout.offload),
            autoencoder_stage_bytes(STAR_LIGHT, picture, 2, layout.offload),
        )
        assert layout.peak_bytes == predicted
        volume = window[0] * window[1] * window[2]
        assert before is None or volume <= before
        before = volume


def test_weights_leave_the_device_before_windows_shrink() -> None:
    whole = fit()
    needed = network_stage_bytes(STAR_LIGHT, (32, 90, 160), 2, "none")
    limit = (needed - 1) / GIB
    layout, stays = fit(limit_gib=limit), fit(limit_gib=limit, offload="none")
    assert layout.offload != "none"
    assert layout.windows == whole.windows
    assert stays.offload == "none"
    assert stays.windows != whole.windows


def test_short_clips_need_no_smaller_windows() -> None:
    assert fit(frames=1).peak_bytes < fit(frames=64).peak_bytes
    limit = fit(frames=4).peak_bytes / GIB
    assert (
        fit(frames=4, limit_gib=limit).windows
        == plain_layout(STAR_LIGHT, resolve(STAR_LIGHT), (720, 1280), 4).windows
    )


def test_what_cannot_fit_is_refused_with_figures() -> None:
    with pytest.raises(MemoryLimitError, match=r"star-light needs .* MiB .* 102 MiB can be used"):
        fit(limit_gib=0.1)


def test_what_is_given_is_kept_and_the_rest_shrinks() -> None:
    for given in (WindowOptions(chunk_frames=32), WindowOptions(tile_px=720)):
        plain = plain_layout(STAR_LIGHT, resolve(STAR_LIGHT, windows=given), (720, 1280), 64)
        layout = fit(options=given, limit_gib=2)
        kept = plain.windows
        if given.tile_px is None:
            assert layout.windows.chunk_frames == 32
            assert largest_window(STAR_LIGHT, layout)[1:] < largest_window(STAR_LIGHT, plain)[1:]
        else:
            assert (layout.windows.tile_height, layout.windows.tile_width) == (90, 90)
            assert layout.windows.chunk_frames < kept.chunk_frames
        assert layout.peak_bytes <= 2 * GIB


def test_what_is_given_and_cannot_fit_is_refused_by_name() -> None:
    given = WindowOptions(chunk_frames=32, tile_px=1280)
    with pytest.raises(MemoryLimitError, match="leave out --tile or leave out --chunk-frames"):
        fit(options=given, limit_gib=1)
    with pytest.raises(MemoryLimitError, match="--offload block"):
        fit(limit_gib=3, offload="none")


def test_compiled_parts_keep_their_weights() -> None:
    plain, compiled = fit(limit_gib=4), fit(limit_gib=4, compiled=True)
    assert (plain.offload, compiled.offload) == ("block", "model")
    assert largest_window(STAR_LIGHT, compiled) < largest_window(STAR_LIGHT, plain)
    with pytest.raises(MemoryLimitError, match="leave out --compile"):
        fit(limit_gib=3, compiled=True)
    assert offload_steps("model") == ("model", "block")
    assert offload_steps("model", compiled=True) == ("model",)


def test_without_a_memory_limit_the_smallest_is_taken() -> None:
    layout = fitted_layout(
        STAR_LIGHT,
        resolve(STAR_LIGHT),
        (720, 1280),
        64,
        DeviceOptions(),
        bytes_per_element=2,
        limit_bytes=1 << 20,
    )
    assert largest_window(STAR_LIGHT, layout)[0] == 1
    assert max(largest_window(STAR_LIGHT, layout)) <= 42
    assert layout.offload == "block"


def test_tiles_as_small_as_the_ladder_goes_can_be_asked_for() -> None:
    windows = resolve(STAR_LIGHT, windows=WindowOptions(tile_px=416)).windows
    assert (windows.tile_height, windows.tile_overlap) == (52, 13)
    with pytest.raises(UsageError, match="--tile 128 is too small: at least 256 pixels"):
        resolve(STAR_LIGHT, windows=WindowOptions(tile_px=128))


@pytest.mark.parametrize("tile_px", range(256, 1000, 8))
def test_every_tile_that_is_allowed_covers(tile_px: int) -> None:
    layout = plain_layout(
        STAR_LIGHT, resolve(STAR_LIGHT, windows=WindowOptions(tile_px=tile_px)), (1080, 1920), 8
    )
    assert covered(network_grid(STAR_LIGHT, layout, 8))


COMPRESSED = dataclasses.replace(
    SMALL_STAR,
    autoencoder=dataclasses.replace(
        SMALL_STAR.autoencoder, kind="causal_vae", time_factor=4, chunk_frames=None
    ),
    windows=dataclasses.replace(SMALL_STAR.windows, chunk_frames=7, chunk_overlap=3),
)


def test_windows_in_time_are_of_latent_frames() -> None:
    layout = plain_layout(COMPRESSED, resolve(COMPRESSED), (96, 96), 41)
    assert layout.frames == 11
    assert chunks(layout, layout.frames) == ((0, 7), (4, 11))
    given = WindowOptions(chunk_frames=17, chunk_overlap=4)
    layout = plain_layout(COMPRESSED, resolve(COMPRESSED, windows=given), (96, 96), 41)
    assert (layout.windows.chunk_frames, layout.windows.chunk_overlap) == (5, 1)
    with pytest.raises(
        UsageError, match="--chunk-overlap 12 is more than half of --chunk-frames 17"
    ):
        resolve(COMPRESSED, windows=WindowOptions(chunk_frames=17, chunk_overlap=12))
    with pytest.raises(
        UsageError, match="--chunk-overlap 16 is more than half of --chunk-frames 25"
    ):
        resolve(COMPRESSED, windows=WindowOptions(chunk_overlap=16))


def test_an_autoencoder_of_whole_runs_is_only_cut_up_in_space() -> None:
    large = dataclasses.replace(COMPRESSED.autoencoder, tile=100)
    spec = dataclasses.replace(COMPRESSED, autoencoder=large)
    layout = plain_layout(spec, resolve(spec), (1024, 1024), 41)
    assert autoencoder_grid(layout, 11).frames == ((0, 11),)
    sizes = [largest_picture(layout)]
    while (smaller := smaller_autoencoder(layout)) is not None:
        layout = smaller
        sizes.append(largest_picture(layout))
    assert (sizes[0], sizes[-1]) == ((11, 100, 100), (11, 25, 25))
    assert {frames for frames, _, _ in sizes} == {11}


def test_the_published_way_is_not_for_a_start_of_noise() -> None:
    spec = dataclasses.replace(COMPRESSED, start="noise", schedule="scaled_linear_zero_snr")
    with pytest.raises(UsageError, match="--parity is not supported by the model small-star"):
        plain_layout(spec, resolve(spec, windows=WindowOptions(parity=True)), (96, 96), 41)


@pytest.mark.parametrize("size", [(480, 720), (488, 728), (720, 1280), (1080, 1920), (2160, 3840)])
def test_a_network_that_knows_one_size_sees_no_other(size: tuple[int, int]) -> None:
    layout = plain_layout(STAR_COGVIDEOX, resolve(STAR_COGVIDEOX), size, 41)
    assert largest_window(STAR_COGVIDEOX, layout) == (7, 60, 90)
    grid = network_grid(STAR_COGVIDEOX, layout, 11)
    assert {last - first for first, last in grid.rows} == {60}
    assert {last - first for first, last in grid.columns} == {90}


def test_guidance_halves_share_where_there_is_room_for_it() -> None:
    def fitted(limit_bytes: int | None, *, halves: bool) -> Layout:
        return fitted_layout(
            STAR_LIGHT,
            resolve(STAR_LIGHT, SamplingOptions(cfg=7.5 if halves else 1)),
            (720, 1280),
            160,
            DeviceOptions(offload="none"),
            bytes_per_element=2,
            limit_bytes=limit_bytes,
        )

    for limit_bytes, shared in ((None, True), (12 << 30, True), (10 << 30, False), (6 << 30, True)):
        apart, together = (fitted(limit_bytes, halves=halves) for halves in (False, True))
        assert (apart.shared, together.shared) == (False, shared)
        assert together.windows == apart.windows, "windows come first"
        assert limit_bytes is None or apart.peak_bytes <= together.peak_bytes <= limit_bytes
    smaller = smaller_network(STAR_LIGHT, together)
    assert smaller == dataclasses.replace(together, shared=False)
