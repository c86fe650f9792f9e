"""Which frames show the same picture, and plans that count pictures."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest

from starvsr.options import RangeOptions, UpscaleOptions, WindowOptions
from starvsr.plan.pictures import picture_number, shown_spans
from starvsr.plan.plan import Plan, make_plan
from starvsr.specs import NANO, STAR_LIGHT
from starvsr.types import ModelSpec
from tests.conftest import CPU, video_index, video_info


def test_every_picture_has_the_frames_that_show_it() -> None:
    repeats = (2, 3, 6)
    assert shown_spans(repeats, 0, 8) == ((0, 1), (1, 4), (4, 5), (5, 7), (7, 8))
    assert shown_spans((), 3, 6) == ((3, 4), (4, 5), (5, 6))
    # Within a picture there is nothing before to repeat.
    assert shown_spans(repeats, 3, 6) == ((3, 4), (4, 5), (5, 6))
    assert shown_spans(repeats, 2, 4) == ((2, 4),)
    assert shown_spans(repeats, 4, 4) == ()


def test_pictures_are_numbered_as_if_repeats_were_not_there() -> None:
    repeats = (2, 3, 6)
    assert [picture_number(repeats, frame) for frame in range(8)] == [0, 1, 1, 1, 2, 3, 3, 4]
    assert [picture_number((), frame) for frame in range(3)] == [0, 1, 2]


def plan_of(
    spec: ModelSpec,
    frames: int,
    repeats: tuple[int, ...],
    cuts: tuple[int, ...] = (),
    **groups: RangeOptions | WindowOptions,
) -> Plan:
    index = dataclasses.replace(video_index(frames), repeats=repeats, cuts=cuts)
    options = UpscaleOptions(**groups)  # type: ignore[arg-type]
    return make_plan(video_info(64, 36), index, spec, CPU, options, even=True)


@pytest.mark.parametrize("spec", [NANO, STAR_LIGHT], ids=lambda spec: spec.name)
def test_a_plan_counts_pictures(spec: ModelSpec) -> None:
    """Every picture three times is as much work as every picture once, in as many segments."""
    thrice = tuple(frame for frame in range(240) if frame % 3)
    held, plain = plan_of(spec, 240, thrice), plan_of(spec, 80, ())
    assert (held.frames, held.pictures, held.repeats) == (240, 80, 160)
    assert (plain.frames, plain.pictures, plain.repeats) == (80, 80, 0)
    assert held.network_calls == plain.network_calls
    assert held.overlap_cost == plain.overlap_cost
    assert held.memory_bytes == plain.memory_bytes
    assert [(3 * s.first, 3 * s.last, 3 * s.head, 3 * s.tail) for s in plain.segments] == [
        (s.first, s.last, s.head, s.tail) for s in held.segments
    ]
    assert [plain.runs(s) for s in plain.segments] == [held.runs(s) for s in held.segments]


def test_segments_hold_whole_pictures() -> None:
    """Of uneven lengths too, and neighbours share so many pictures, not frames."""
    repeats = tuple(frame for frame in range(1, 200) if frame % 7 in (2, 3) or 90 < frame < 120)
    plan = plan_of(NANO, 200, repeats, windows=WindowOptions(segment_frames=20))
    starts = set(range(200)) - set(repeats)
    assert len(plan.segments) > 3
    for segment in plan.segments:
        assert {segment.first, *segment.core} <= starts | {200}
        spans = shown_spans(repeats, segment.first, segment.last)
        assert len(spans) == segment.pictures <= 20
        assert segment.picture == picture_number(repeats, segment.first)
    for before, behind in pairwise(plan.segments):
        assert before.last - before.tail == behind.first
        assert before.tail == behind.head
        shared = shown_spans(repeats, behind.first, behind.core[0])
        assert len(shared) == NANO.context_frames


def test_a_range_may_begin_within_a_picture() -> None:
    repeats = (1, 2, 4, 5)
    plan = plan_of(NANO, 8, repeats, range=RangeOptions(start_s=2 / 25))
    (segment,) = plan.segments
    assert (plan.first, plan.frames, plan.pictures) == (2, 6, 4)
    # Noise is drawn by it: the same picture has the same.
    assert (segment.picture, segment.pictures) == (0, 4)


def test_a_shot_begins_a_picture() -> None:
    plan = plan_of(NANO, 20, (5, 6, 11), cuts=(10,))
    assert [(s.first, s.last, s.picture, s.pictures) for s in plan.segments] == [
        (0, 10, 0, 8),
        (10, 20, 8, 9),
    ]
