"""Geometry is exact: every expectation here is an integer."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from starvsr.plan.windows import (
    cuts_at_half_overlap,
    even_spans,
    frames_of,
    latent_frames,
    legal_latent,
    legal_size,
    legal_spans,
    published_chunks,
    published_padding,
)
from starvsr.specs import STAR_LIGHT
from starvsr.types import SizeRule

GEOMETRY = json.loads((Path(__file__).parents[1] / "golden" / "geometry.json").read_text())


@pytest.mark.parametrize("row", GEOMETRY["pad_to_fit"], ids=lambda r: f"{r['h']}x{r['w']}")
def test_published_padding_equals_the_original(row: dict[str, Any]) -> None:
    padding = published_padding((row["h"], row["w"]), STAR_LIGHT.size_rule, STAR_LIGHT.min_size, 8)
    assert list(padding) == row["pad_left_right_top_bottom"]


def test_published_chunks_and_their_cuts_equal_the_original() -> None:
    for row in GEOMETRY["make_chunks"]:
        chunks = published_chunks(row["frames"], row["max_chunk_len"])
        assert [list(chunk) for chunk in chunks] == row["chunks"], row
        if "kept" in row:
            bounds = [0, *cuts_at_half_overlap(chunks), row["frames"]]
            assert [list(pair) for pair in itertools.pairwise(bounds)] == row["kept"], row


def test_legal_sizes_equal_the_original() -> None:
    heights = {legal_size(n, 8, 2) for n in range(1, 195)}
    widths = {legal_size(n, 8, 0) for n in range(1, 193)}
    assert sorted(heights) == GEOMETRY["legal_latent_height_below_200"]
    assert sorted(widths) == GEOMETRY["legal_latent_width_below_200"]


def test_legal_latent_keeps_the_minimum() -> None:
    rule = SizeRule(multiple=8, height_remainder=2)
    assert legal_latent(90, 160, rule, (2, 8)) == (90, 160)
    assert legal_latent(91, 161, rule, (2, 8)) == (98, 168)
    assert legal_latent(45, 80, rule, (90, 160)) == (90, 160)


@pytest.mark.parametrize("length", [*range(1, 80), 600])
@pytest.mark.parametrize(("longest", "overlap"), [(1, 0), (4, 0), (4, 2), (5, 2), (32, 16), (8, 1)])
def test_even_spans_cover_with_the_exact_overlap(length: int, longest: int, overlap: int) -> None:
    spans = even_spans(length, longest, overlap)
    assert spans[0][0] == 0
    assert spans[-1][1] == length
    lengths = [stop - start for start, stop in spans]
    assert max(lengths) <= longest
    assert max(lengths) - min(lengths) <= 1
    assert all(a[1] - b[0] == overlap for a, b in itertools.pairwise(spans))


def test_even_spans_refuse_an_overlap_over_half() -> None:
    assert even_spans(4, 4, 3) == ((0, 4),)
    with pytest.raises(ValueError, match="more than half"):
        even_spans(9, 4, 3)
    with pytest.raises(ValueError, match="more than half"):
        even_spans(9, 1, 1)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("multiple", [1, 4, 8])
@pytest.mark.parametrize("remainder", [0, 2])
@pytest.mark.parametrize(("longest", "overlap"), [(40, 0), (40, 5), (41, 12), (64, 16)])
def test_legal_spans_are_legal_and_cover(
    multiple: int, remainder: int, longest: int, overlap: int, whole: bool
) -> None:
    largest = max(s for s in range(longest + 1) if s % multiple == remainder % multiple)
    for length in range(remainder or multiple, 400, multiple):
        spans = legal_spans(
            length, longest, overlap, multiple=multiple, remainder=remainder, whole=whole
        )
        sizes = {stop - start for start, stop in spans}
        assert len(sizes) == 1
        size = sizes.pop()
        assert size <= longest
        assert not whole or size == min(length, largest)
        assert size % multiple == remainder % multiple
        assert spans[0][0] == 0
        assert spans[-1][1] == length
        assert all(a[1] - b[0] >= overlap for a, b in itertools.pairwise(spans))


def test_legal_spans_refuse_what_cannot_be_laid() -> None:
    with pytest.raises(ValueError, match="modulo"):
        legal_spans(13, 40, 4, multiple=4, remainder=2)
    with pytest.raises(ValueError, match="leaves no room"):
        legal_spans(82, 10, 5, multiple=8, remainder=2)


@pytest.mark.parametrize(
    ("factor", "lengths"),
    [(1, [1, 2, 3, 4, 5, 6]), (4, [1, 2, 2, 2, 2, 3]), (2, [1, 2, 2, 3, 3, 4])],
)
def test_latent_frames_of_runs(factor: int, lengths: list[int]) -> None:
    assert [latent_frames(frames, factor) for frames in range(1, 7)] == lengths
    for frames, length in enumerate(lengths, 1):
        assert frames <= frames_of(length, factor) < frames + factor
