"""Small text files from users, read within limits: job files, configurations, manifests, prompts, histories.

Any problem is a ValueError, whose text continues after the file's name.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from starvsr.media.strict_json import read_bounded

MOST_BYTES = 1 << 20
# Nested tables; ours have four levels.
_MOST_DEPTH = 16
# As in TOML.
_LEAST_NUMBER, _MOST_NUMBER = -(1 << 63), (1 << 63) - 1
_KEY = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
# Parsing such a key takes quadratic time.
_DEEP_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_KEY}(?:[ \t]*\.[ \t]*{_KEY}){{{_MOST_DEPTH}}}")


def read_text(path: Path, most_bytes: int = MOST_BYTES) -> str:
    """The text of a regular UTF-8 file of at most this many bytes. Raises ValueError."""
    try:
        content = read_bounded(path, most_bytes)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror or error}; check the name") from error
    try:
        return content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError("is not text in UTF-8: save it as such, or give another file") from error


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ValueError."""
    return parse_toml(read_text(path))


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text: at most 16 levels, integers of 64 bits, strings without null characters.

    Raises ValueError.
    """
    if found := _DEEP_KEY.search(text):
        raise ValueError(f"is not allowed: the key {found[0][:40]}... has too many parts")
    try:
        tables = tomllib.loads(text)
        check_data(tables)
    except RecursionError:
        raise ValueError("is not allowed: its values are nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from error
    except ValueError as error:
        # Python's own, for a number of thousands of digits or an invalid date.
        raise ValueError(f"is not allowed: {error}") from error
    return tables


def check_data(value: object) -> None:
    """Raise ValueError for data nested too deeply, integers beyond 64 bits and null characters."""
    level = [value]
    for _ in range(_MOST_DEPTH):
        inside: list[object] = []
        for each in level:
            if isinstance(each, dict):
                inside += [*each, *each.values()]
            elif isinstance(each, list):
                inside += each
            elif isinstance(each, int) and not _LEAST_NUMBER <= each <= _MOST_NUMBER:
                raise ValueError("it contains an integer of more than 64 bits")
            elif isinstance(each, str) and "\0" in each:
                raise ValueError("a string in it contains a null character")
        if not inside:
            return
        level = inside
    raise ValueError("its values are nested too deeply")
