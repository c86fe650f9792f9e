"""JSON from outside is bounded, whatever it holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from starvsr.media.strict_json import first_words, parse_json, read_bounded, shown

MOST = 1 << 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "Expecting value"),
        ("{", "Expecting property name"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 17 + "]" * 17, "deeper than 16 levels"),
        ('{"a":' * 300 + "1" + "}" * 300, "deeper than 16 levels"),
        ("1" * 5000, "a number has 5000 digits"),
        ("-" + "1" * 26, "a number has 27 digits"),
        ("1e999", "'1e999' is too large"),
        ("-1e999", "'-1e999' is too large"),
        ("0." + "1" * 5000, "too large or too long"),
        ("NaN", "NaN is not a JSON number"),
        ("[Infinity]", "Infinity is not a JSON number"),
        ("-Infinity", "-Infinity is not a JSON number"),
        ('{"a": 1, "b": 2, "a": 1}', "contains 'a' twice"),
        (" " * MOST + "1", "at most 1048576 are allowed"),
    ],
)
def test_what_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_json(text, MOST)


def test_what_is_read() -> None:
    text = '{"a": [1, -2.5, 1e3, null, true], "b": {"a": "x"}}'
    assert parse_json(text, MOST) == {"a": [1, -2.5, 1000.0, None, True], "b": {"a": "x"}}
    assert parse_json("[" * 16 + "]" * 16, MOST) is not None


def test_long_values_are_shown_in_part() -> None:
    assert shown("short") == "'short'"
    assert len(shown("x" * 1000)) < 70
    assert first_words(ValueError("a\n b")) == "a b"
    assert first_words(KeyError()) == "KeyError"
    assert len(first_words(ValueError("x" * 1000))) < 310


def test_files_are_read_up_to_a_size(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    (tmp_path / "link").symlink_to(path)
    assert read_bounded(path, 5) == read_bounded(tmp_path / "link", 5) == b"12345"
    with pytest.raises(ValueError, match="more than the 4 bytes"):
        read_bounded(path, 4)
    with pytest.raises(OSError, match="No such file"):
        read_bounded(tmp_path / "none", 4)


@pytest.mark.timeout(10)
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_bounded(tmp_path / "pipe", 4)
