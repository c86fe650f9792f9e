"""Plans are pure integers: segments cover every frame, seams are shared exactly, nothing crosses a cut."""

from __future__ import annotations

import dataclasses
import itertools
import json

import pytest

from starvsr.errors import UsageError
from starvsr.options import (
    LookOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.plan.memory import RESERVE_BYTES
from starvsr.plan.plan import (
    RUN_BYTES,
    Plan,
    make_plan,
    output_size,
    size_advice,
)
from starvsr.plan.settings import resolve
from starvsr.specs import STAR_LIGHT
from tests.conftest import CPU, NANO, TOY, video_index, video_info
from tests.plan.test_layout import COMPRESSED


def plan_of(spec=NANO, frames=100, cuts=(), **options) -> Plan:  # type: ignore[no-untyped-def]
    index = video_index(frames, cuts=cuts)
    return make_plan(video_info(), index, spec, CPU, UpscaleOptions(**options), even=True)


@pytest.mark.parametrize("spec", [NANO, TOY], ids=lambda s: s.name)
@pytest.mark.parametrize("frames", [1, 2, 5, 31, 32, 33, 64, 100, 601])
@pytest.mark.parametrize("cuts", [(), (1,), (3, 40), (10, 11, 12)])
def test_segments_cover_every_frame_once(spec, frames, cuts) -> None:  # type: ignore[no-untyped-def]
    cuts = tuple(cut for cut in cuts if cut < frames)
    plan = plan_of(spec, frames, cuts)
    covered: list[int] = []
    for segment in plan.segments:
        assert segment.frames <= spec.segment_frames
        assert segment.core[0] < segment.core[1], "a segment must have a core"
        covered += range(segment.first + segment.head, segment.last)
    assert covered == list(range(frames))
    for before, behind in itertools.pairwise(plan.segments):
        if behind.first in cuts:
            assert before.tail == behind.head == 0
            assert before.last == behind.first
        else:
            assert before.tail == behind.head == spec.context_frames
            assert before.last - before.tail == behind.first
    assert not any(segment.first < cut < segment.last for segment in plan.segments for cut in cuts)


def test_no_scene_detect_ignores_cuts() -> None:
    plan = plan_of(cuts=(10,), windows=WindowOptions(scene_detect=False, segment_frames=100))
    assert [(s.first, s.last) for s in plan.segments] == [(0, 100)]


def test_large_pictures_get_shorter_segments_where_a_segment_is_one_run() -> None:
    info, index = video_info(480, 270), video_index(100)
    plan = make_plan(info, index, TOY, CPU, UpscaleOptions(), even=True)
    longest = max(s.frames for s in plan.segments)
    assert 2 * TOY.context_frames < longest < TOY.segment_frames
    assert plan.memory_bytes <= RUN_BYTES
    assert all(plan.runs(s) == ((s.first, s.last),) for s in plan.segments)


def test_chunks_that_share_no_frames_are_runs_of_their_own() -> None:
    info, index = video_info(480, 270), video_index(100)
    plan = make_plan(info, index, NANO, CPU, UpscaleOptions(), even=True)
    for segment in plan.segments:
        runs = plan.runs(segment)
        assert [frame for a, b in runs for frame in range(a, b)] == list(
            range(segment.first, segment.last)
        )
        assert all(len(plan.grid(b - a)) == 1 for a, b in runs)
        elements = max(b - a for a, b in runs) * plan.latent[0] * plan.latent[1]
        assert elements <= NANO.windows.call_elements
    assert max(s.frames for s in plan.segments) <= NANO.segment_frames


def test_whole_pictures_compute_nothing_twice() -> None:
    for width, height in [(480, 270), (320, 180), (960, 540), (1920, 1080), (720, 576)]:
        plan = make_plan(
            video_info(width, height), video_index(8), NANO, CPU, UpscaleOptions(), even=True
        )
        assert plan.overlap_cost == 1


def test_overlap_costs_what_it_says() -> None:
    options = UpscaleOptions(windows=WindowOptions(tile_px=64, tile_overlap_px=8))
    plan = make_plan(video_info(48, 32), video_index(16), TOY, CPU, options, even=True)
    assert plan.latent == (64, 96)
    assert plan.rows == ((0, 22), (21, 43), (42, 64)) or len(plan.rows) == 3
    grid = plan.grid(16)
    computed = sum(
        (t[1] - t[0]) * (r[1] - r[0]) * (c[1] - c[0])
        for t in grid.frames
        for r in grid.rows
        for c in grid.columns
    )
    assert plan.overlap_cost == computed / (16 * 64 * 96)
    assert plan.network_calls == len(grid) * 14 * 2


@pytest.mark.parametrize("context", [1, 2, 4])
def test_every_segment_has_frames_of_its_own(context: int) -> None:
    spec = dataclasses.replace(TOY, context_frames=context)
    for longest in range(2 * context + 1, 6 * context + 3):
        for frames in range(1, 60):
            plan = plan_of(spec, frames, windows=WindowOptions(segment_frames=longest))
            assert all(s.core[0] < s.core[1] and s.frames <= longest for s in plan.segments)
            assert plan.segments[-1].last == frames
            assert all(a.last - context == b.first for a, b in itertools.pairwise(plan.segments))


def test_a_segment_shorter_than_its_context_is_refused() -> None:
    with pytest.raises(UsageError, match="--segment-frames 4 is too short"):
        plan_of(TOY, windows=WindowOptions(segment_frames=4))


def test_some_memory_is_left_for_others() -> None:
    clip = video_info(640, 360), video_index(40)
    for name, left in (("cpu", 0.25 * (8 << 30)), ("cuda:0", RESERVE_BYTES)):
        device = dataclasses.replace(CPU, name=name, memory_bytes=8 << 30)
        plan = make_plan(*clip, STAR_LIGHT, device, UpscaleOptions(), even=True)
        assert plan.limit_bytes == (8 << 30) - left
        assert plan.layout.peak_bytes <= plan.limit_bytes
    unknown = dataclasses.replace(CPU, memory_bytes=0)
    assert make_plan(*clip, NANO, unknown, UpscaleOptions(), even=True).limit_bytes is None


def test_plan_is_json() -> None:
    data = json.loads(str(plan_of(size=SizeOptions(scale=2))))
    assert (data["width"], data["height"], data["frames"]) == (350, 198, 100)
    assert (data["pictures"], data["repeats"]) == (100, 0)
    spans = {"index": 0, "first": 0, "last": 51, "head": 0, "tail": 3}
    assert data["segments"][0] == {**spans, "picture": 0, "pictures": 51}


@pytest.mark.parametrize(
    ("given", "even", "expected"),
    [
        (SizeOptions(), True, (700, 396)),
        (SizeOptions(scale=1.5), True, (262, 148)),  # 262.5 -> 263 -> 262; 148.5 -> 149 -> 148
        (SizeOptions(scale=1.5), False, (263, 149)),
        (SizeOptions(scale=0.001), True, (2, 2)),
        (SizeOptions(scale=0.001), False, (1, 1)),
        (SizeOptions(resolution=198), True, (350, 198)),
        (SizeOptions(width=350), True, (350, 198)),
        (SizeOptions(height=198), True, (350, 198)),
        (SizeOptions(width=100, height=100), True, (100, 100)),
        (SizeOptions(scale=4, max_resolution=350), True, (350, 198)),
    ],
)
def test_output_size(given: SizeOptions, even: bool, expected: tuple[int, int]) -> None:
    assert output_size(175, 99, given, even=even) == expected


def test_output_size_refuses_giants() -> None:
    with pytest.raises(UsageError, match="too large"):
        output_size(1920, 1080, SizeOptions(scale=100), even=True)


def test_a_segment_is_one_run_where_latent_frames_are_of_several() -> None:
    spec = dataclasses.replace(COMPRESSED, segment_frames=41, context_frames=4)
    windows = WindowOptions(chunk_overlap=0)
    plan = plan_of(spec, 78, windows=windows, sampling=SamplingOptions(steps=2, cfg=1))
    assert [(s.first, s.last) for s in plan.segments] == [(0, 41), (37, 78)]
    assert [plan.runs(segment) for segment in plan.segments] == [((0, 41),), ((37, 78),)]
    assert len(plan.grid(41).frames) == 2
    tiles = len(plan.rows) * len(plan.columns)
    assert (
        plan.network_calls
        == len(plan.segments)
        * 2
        * tiles
        * resolve(spec, SamplingOptions(steps=2, cfg=1)).calls_per_window
    )
    one = plan_of(spec, 1)
    assert one.grid(1).frames == ((0, 1),)
    assert plan.memory_bytes > 41 * 3 * 4 * plan.width * plan.height


def test_a_model_scale_plans_for_the_size_at_which_the_model_restores() -> None:
    size = SizeOptions(scale=2, model_scale=4)
    both, large, small = plan_of(size=size), plan_of(), plan_of(size=SizeOptions(scale=2))
    assert (both.width, both.height) == (small.width, small.height)
    assert both.restored_size == (4 * 175, 4 * 99) and small.restored_size == (350, 198)
    assert both.layout == large.layout and both.network_calls == large.network_calls
    assert both.memory_bytes == large.memory_bytes > small.memory_bytes
    with pytest.raises(UsageError, match="--model-scale 0 is not allowed"):
        SizeOptions(model_scale=0)
    with pytest.raises(UsageError, match="too large"):
        plan_of(size=SizeOptions(scale=2, model_scale=1000))


@pytest.mark.parametrize(
    ("source", "scale", "words"),
    [
        ((320, 180), 4, ""),
        ((180, 320), 4, ""),
        ((1920, 1080), 2, ""),
        (
            (320, 180),
            2,
            "star-light was trained on frames of 1280x720 and restores ones of 640x360 here, which may come out too "
            "sharp: --model-scale 4 restores larger ones and reduces the result, and --blend 0.5 mixes the input back, "
            "as a start",
        ),
        ((500, 375), 2, "--model-scale 3 restores"),
        ((160, 120), 4, "sharp: --blend 0.5 mixes"),
    ],
)
def test_frames_smaller_than_in_training(source: tuple[int, int], scale: float, words: str) -> None:
    info, index = video_info(*source), video_index(1)

    def said(**more: float) -> str:
        options = UpscaleOptions(
            size=SizeOptions(scale=scale, model_scale=more.get("model_scale")),
            look=LookOptions(blend=more.get("blend", 0.0)),
        )
        plan = make_plan(info, index, STAR_LIGHT, CPU, options, even=True)
        return "".join(size_advice(STAR_LIGHT, info, plan, options))

    assert words in said() and bool(words) == bool(said())
    if "--model-scale 4" in words:
        assert said(model_scale=4) == ""
        assert "--blend" not in said(blend=0.2)
    plan = plan_of(NANO)
    assert size_advice(NANO, video_info(), plan, UpscaleOptions()) == []
