"""JSON from outside, checked against limits.

`json` alone fails on deep nesting with an error of its own kind, reads numbers that no field supports,
keeps the last of two values with the same name, and accepts NaN, which is not JSON.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NoReturn

from starvsr.media.files import open_regular

_MOST_DEPTH = 16
# Text with many brackets takes far more memory than disk.
_MOST_BRACKETS = 1 << 20
_MOST_DIGITS = 25
_SHOWN = 60
_MOST_SAID = 300


def parse_json(text: str, most_characters: int) -> object:
    """Parse JSON.

    Raises ValueError if it is invalid, longer, nested deeper or of larger numbers than anything of ours, or contains
    one name twice.
    """
    if len(text) > most_characters:
        raise ValueError(
            f"it has {len(text)} characters, and at most {most_characters} are allowed"
        )
    if text.count("[") + text.count("{") > _MOST_BRACKETS:
        raise ValueError("it has too many lists and objects")
    try:
        found: object = json.loads(
            text,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not _is_flat(found):
        raise ValueError(f"it is nested deeper than {_MOST_DEPTH} levels")
    return found


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"a number has {len(digits)} digits")
    return int(digits)


def _number(text: str) -> float:
    number = float(text) if len(text) <= 10 * _MOST_DIGITS else math.inf
    if not math.isfinite(number):
        raise ValueError(f"the number {shown(text)} is too large or too long")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it contains {shown(double)} twice")
    return found


def _is_flat(value: object) -> bool:
    level = [value]
    for _ in range(_MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return True
    return False


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def shown(value: object) -> str:
    """A value for a message: as Python writes it, truncated if it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def first_words(error: Exception) -> str:
    """A library's error for a message: its type if it has no text, its beginning if it is long."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= _MOST_SAID else f"{text[:_MOST_SAID]}..."


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The content of a regular file, or of one that a link names. Never blocks, as opening a pipe would.

    Raises OSError, also if it is not a regular file, and ValueError if it is larger.
    """
    with open_regular(path, follow=True) as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"has more than the {most_bytes:,} bytes that are allowed")
    return content
