"""A small part of the matrix of sources and containers; `make matrix` runs all of it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from starvsr.media.others import TimedPacket, other_packets
from tests.media.matrix import FORMATS, VALUES, Case, every_case, pairwise_cases
from tests.media.matrix_check import Runner

CASES = pairwise_cases()


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_everything_is_kept(case: Case, runner: Runner, tmp_path: Path, one_thread: None) -> None:
    assert runner.problems(case, tmp_path) == []


def test_the_part_has_every_format_and_value() -> None:
    assert {case.format for case in CASES} == set(FORMATS)
    for name, values in VALUES.items():
        assert {getattr(case, name) for case in CASES} == set(values)
    assert len(set(every_case())) == len(list(every_case())) > 600


RICH = Case(text="ass", extra="chapters", target=".mkv")


def test_a_loss_is_found(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: streams and tags that are lost are told."""
    monkeypatch.setattr("starvsr.media.join._add_others", lambda *_: {})
    monkeypatch.setattr("starvsr.media.join._add_tags", lambda *_: None)
    told = " ".join(runner.problems(RICH, tmp_path))
    for word in ("audio codecs: [], not ['aac']", "subtitle codecs", "title: None", "chapters: []"):
        assert word in told


def test_a_shift_is_found(runner: Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*arguments: Any) -> Iterator[TimedPacket]:
        for time, order, packet in other_packets(*arguments):
            shift = round(Fraction(3, 1000) / packet.time_base)
            packet.pts, packet.dts = (packet.pts or 0) + shift, (packet.dts or 0) + shift
            yield time, order, packet

    monkeypatch.setattr("starvsr.media.join.other_packets", late)
    told = " ".join(runner.problems(RICH, tmp_path))
    assert "audio 0 is 3.00 ms late" in told and "a subtitle is at 0.0430 s, not 0.0400" in told
