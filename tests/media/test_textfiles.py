"""Small files that somebody wrote: what they hold, or why they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.media.textfiles import check_data, parse_toml, read_text


def test_text_as_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("naïve\r\n☃".encode())
    assert read_text(path) == "naïve\n☃"
    assert read_text(path, 11) == "naïve\n☃"
    with pytest.raises(ValueError, match="has more than the 10 bytes"):
        read_text(path, 10)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "is not TOML: "),
        ("x = " + "9" * 5000, "is not allowed: "),
        ("x = 0x" + "f" * 5000, "more than 64 bits"),
        ("x = 9223372036854775808", "more than 64 bits"),
        ("x = " + "[" * 100_000, "nested too deeply"),
        ("x = " + "[" * 17 + "]" * 17, "nested too deeply"),
        ("x" + ".x" * 16 + " = 1", "has too many parts"),
        ("[x" + ' . "x"' * 16 + "]", "has too many parts"),
        ('x = "\\u0000"', "contains a null character"),
        ('"\\u0000" = 1', "contains a null character"),
        ("x = 2026-02-31", "is not TOML: "),
    ],
)
def test_toml_that_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_toml(text)


def test_toml_within_the_bounds() -> None:
    assert parse_toml("x = 9223372036854775807") == {"x": 2**63 - 1}
    assert parse_toml("a.b.c.d = [[1]]") == {"a": {"b": {"c": {"d": [[1]]}}}}
    prompt = "a bee. a flower, e.g. a rose. " * 1000
    assert parse_toml(f'prompt = "{prompt}"') == {"prompt": prompt}


def test_data_that_holds_itself_ends() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested too deeply"):
        check_data(endless)
