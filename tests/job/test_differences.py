"""How a job differs from the one that was begun, in words."""

from __future__ import annotations

import pytest

from starvsr.job.differences import describe_difference

HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("name", "before", "now", "said"),
    [
        ("--no-chapters", True, False, "--no-chapters was not given before and is now"),
        ("--no-chapters", False, True, "--no-chapters was given before and is not now"),
        ("--no-provenance", None, False, "--no-provenance was not given before and is now"),
        ("--scene-detect", True, False, "--no-scene-detect was not given before and is now"),
        ("--scene-detect", False, True, "--no-scene-detect was given before and is not now"),
        ("--parity", False, True, "--parity was not given before and is now"),
        ("--compile", None, True, "--compile was not given before and is now"),
        ("--compile", True, None, "--compile was given before and is not now"),
        ("--scale", 2.0, 3.0, "--scale was 2.0 before and is 3.0 now"),
        ("--frames", None, 9, "--frames was not given before and is 9 now"),
        ("--crf", 20, None, "--crf was 20 before and is not given now"),
        ("-e", [], [["bf", "0"], ["g", "2"]], "-e was not given before and is bf=0, g=2 now"),
        (
            "--guidance-interval",
            [0.2, 0.8],
            None,
            "--guidance-interval was 0.2:0.8 before and is not given now",
        ),
        ("the input", HASH, HASH[::-1], "the input is not the same as before"),
        ("the input", [HASH] * 10_000, [HASH], "the input is not the same as before"),
        ("the component vae", None, HASH, "the component vae is not the same as before"),
        ("the container", ".mp4", ".mkv", "the container was .mp4 before and is .mkv now"),
    ],
)
def test_in_words(name: str, before: object, now: object, said: str) -> None:
    assert describe_difference(name, before, now) == said


def test_long_words_are_cut() -> None:
    assert len(describe_difference("--prompt", "a" * 100_000, "b" * 100_000)) < 500
