"""Numbers of bytes, for people."""

from __future__ import annotations

import pytest

from starvsr.zoo.amounts import format_bytes


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (609, "609 bytes"),
        (2_222_000, "2.22 MB"),
        (196e6, "196 MB"),
        (8.2e9, "8.20 GB"),
        (12_345_678_901, "12.3 GB"),
    ],
)
def test_three_digits_and_a_unit(count: float, text: str) -> None:
    assert format_bytes(count) == text
