"""Cues that overlap follow each other in a file whose samples do."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import pytest

from starvsr.media.texts import Cue, OneAtATime

A, B, C = "ABC"


# Start, length and lines of each, without spaces.
@pytest.mark.parametrize(
    ("cues", "passages"),
    [
        ([(0, 2, A), (2, 2, B), (5, 1, C)], "02A 22B 51C"),
        ([(0, 10, A), (2, 2, B), (5, 1, C)], "02A 22AB 41A 51AC 64A"),
        ([(0, 3, A), (2, 3, B)], "02A 21AB 32B"),
        ([(1, 4, A), (1, 2, B)], "12AB 32A"),
        ([(1, 2, A), (1, 2, B), (3, 1, C)], "12AB 31C"),
        # Of an unknown length, and too late.
        ([(0, 0, A), (3, 1, B), (6, 0, C)], "03A 31B 60C"),
        ([(0, 5, A), (1, 0, B), (3, 1, C)], "01A 12AB 31AC 41A"),
        ([(4, 2, A), (2, 3, B)], "42AB 61B"),
        ([], ""),
    ],
)
def test_where_what_is_shown_changes_a_new_one_begins(
    cues: list[tuple[int, int, str]], passages: str
) -> None:
    shown = OneAtATime()
    found: list[Cue] = []
    for start, length, line in cues:
        found += shown.add((Fraction(start), Fraction(length), [line]))
    found += shown.rest()
    texts = [f"{start}{length}{''.join(lines)}" for start, length, lines in found]
    assert texts == passages.split()


def test_what_has_ended_does_not_wait_for_the_next() -> None:
    shown = OneAtATime()

    def said(cues: Iterable[Cue]) -> str:
        return " ".join(f"{start}{length}{''.join(lines)}" for start, length, lines in cues)

    assert said(shown.add((Fraction(1), Fraction(4), [A]))) == ""
    assert said(shown.add((Fraction(2), Fraction(1), [B]))) == "11A"
    assert said(shown.ended(Fraction(2))) == ""
    assert said(shown.ended(Fraction(4))) == "21AB"
    assert said(shown.ended(Fraction(100))) == "32A"
    assert said(shown.rest()) == ""
