"""Options as the words of a command line: of what is chosen on the page, and of jobs that were begun."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from starvsr.options import UpscaleOptions, flag_of


def shown(arguments: Iterable[str]) -> str:
    """A command as one types it."""
    return shlex.join(["starvsr", *arguments])


def upscale_command(source: Path, target: Path, options: Mapping[str, object]) -> list[str]:
    """The arguments of `starvsr upscale`.

    options: values by flag, as `flags_of` gives them or the journal of a job; those of the defaults are left out.
    """
    words = ["upscale", str(source), str(target)]
    for flag, value in options.items():
        if value != _DEFAULTS[flag]:
            words += _words(flag, value)
    return words


def flags_of(group: Any) -> dict[str, object]:
    """The values of options and of the groups in them, by flag, as plain data."""
    found: dict[str, object] = {}
    for field in fields(group):
        value = getattr(group, field.name)
        if is_dataclass(value):
            found |= flags_of(value)
        else:
            found[flag_of(field.name)] = _plain(value)
    return found


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Fraction | Path) else value


def _words(flag: str, value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield flag if flag.startswith("--no-") or value else f"--no-{flag.removeprefix('--')}"
    elif flag == "-e":
        for key, each in value:  # type: ignore[attr-defined]
            yield from (flag, f"{key}={each}")
    elif isinstance(value, list):
        yield from (flag, ":".join(map(_number, value)))
    else:
        yield from (flag, _number(value) if isinstance(value, float) else str(value))


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


_DEFAULTS = flags_of(UpscaleOptions())
