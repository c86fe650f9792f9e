"""`--jobs FILE`: a TOML file of videos with their own options; values are parsed as on the command line.

    [defaults]
    model = "star-light"

    [[job]]
    input = "a.mp4"
    output = "large/a.mkv"
    crf = 20
    start = "00:01:00"

Keys are the flags without dashes. A job's own options take precedence over the command line's, and those
over `[defaults]`. Paths are relative to the file's folder.
"""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import typer

from starvsr.cli.batch import Item
from starvsr.cli.upscale_options import collect_options, option_command
from starvsr.errors import UsageError
from starvsr.media.textfiles import read_toml
from starvsr.specs import SPECS

MOST_JOBS = 2000

_PLACES = ("input", "output")
# Alternatives: an option replaces the inherited values of its whole group.
_ALTERNATIVES = (
    {"scale", "resolution", "width", "height"},
    {"end", "duration"},
    {"prompt", "prompt_file"},
)

Table = Mapping[str, Any]


def read_jobs(path: Path, given: Mapping[str, Any]) -> list[Item]:
    """The videos of a jobs file.

    given: options of the command line, by their names in `PARAMETERS`. Raises UsageError that names file, job
    and key.
    """
    content = _content(path)
    folder = path.absolute().parent
    unknown = [key for key in content if key not in ("defaults", "job")]
    if unknown:
        raise UsageError(f"{path}: {unknown[0]} is unknown: give [[job]] tables and [defaults]")
    defaults, tables = content.get("defaults", {}), content.get("job", [])
    if not isinstance(defaults, dict):
        raise UsageError(f"{path}: defaults is not a table: write [defaults]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: job is not a list of tables: write [[job]]")
    if not tables:
        raise UsageError(f"{path} contains no jobs: write a [[job]] table for each video")
    if len(tables) > MOST_JOBS:
        raise UsageError(f"{path} contains {len(tables)} jobs: give at most {MOST_JOBS} per file")
    inherited = _over(_values(f"{path}, [defaults]", defaults, folder), given)
    return [
        _item(f"{path}, job {number}", table, inherited, folder)
        for number, table in enumerate(tables, start=1)
    ]


def _content(path: Path) -> dict[str, Any]:
    try:
        return read_toml(path)
    except ValueError as error:
        raise UsageError(f"--jobs {path} {error}") from error


def _item(where: str, table: Table, inherited: Mapping[str, Any], folder: Path) -> Item:
    source, target = (_place(where, table, key, folder) for key in _PLACES)
    where = f"{where} ({source.name})"
    own = {key: value for key, value in table.items() if key not in _PLACES}
    values = _over(inherited, _values(where, own, folder))
    try:
        return Item(source, target, collect_options(**values), where)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _place(where: str, table: Table, key: str, folder: Path) -> Path:
    value = table.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        said = f"{key} = {value!r} is not allowed" if key in table else f"{key} is missing"
        raise UsageError(f'{where}: {said}: give a file, such as {key} = "video.mp4"')
    return _at(folder, Path(value))


def _at(folder: Path, path: Path) -> Path:
    # A name may begin with ~ and not be a user's home.
    with suppress(RuntimeError):
        path = path.expanduser()
    return folder / path


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`upper` on top of `lower`."""
    hidden = set().union(*(group for group in _ALTERNATIVES if group & upper.keys()))
    return {**{name: value for name, value in lower.items() if name not in hidden}, **upper}


def _values(where: str, table: Table, folder: Path) -> dict[str, Any]:
    """The options of a table by their names in `PARAMETERS`."""
    flags: dict[str, bool] = {}
    typed: dict[str, tuple[str, list[str]]] = {}
    for key, value in table.items():
        option, flag = _option(where, key)
        if option.name in flags or option.name in typed:
            raise UsageError(f"{where}, {key}: this option is given twice: leave one out")
        if option.is_flag:
            if not isinstance(value, bool):
                raise UsageError(f"{where}, {key}: {value!r} is not allowed: give true or false")
            flags[option.name] = value != (flag in option.secondary_opts)
        else:
            typed[option.name] = key, _arguments(where, key, option, value)
    values = {**flags, **_read(where, typed)}
    return {name: _placed(name, value, folder) for name, value in values.items()}


def _read(where: str, typed: Mapping[str, tuple[str, list[str]]]) -> dict[str, Any]:
    """A table's options, each a key and its arguments, parsed as a command line. Raises UsageError."""
    command = option_command()
    try:
        together = [text for _, arguments in typed.values() for text in arguments]
        return dict(command.main(together, standalone_mode=False))
    except typer.BadParameter:
        # One by one, to find the invalid one.
        for key, arguments in typed.values():
            try:
                command.main(arguments, standalone_mode=False)
            except typer.BadParameter as error:
                raise UsageError(f"{where}, {key}: {error.message.rstrip('.')}") from error
        raise


@cache
def _options() -> dict[str, tuple[Any, str]]:
    """Options and their flags, keyed by flag without dashes."""
    return {
        flag.lstrip("-"): (option, flag)
        for option in option_command().params
        for flag in (*option.opts, *option.secondary_opts)
        if flag != "--help"
    }


def _option(where: str, key: str) -> tuple[Any, str]:
    """The option that a key means, and its flag. Raises UsageError."""
    options = _options()
    if key in _PLACES:
        raise UsageError(f"{where}: the key {key} belongs to a [[job]] table")
    if key not in options:
        near = difflib.get_close_matches(key, [*options, *_PLACES], 1)
        advice = (
            f"did you mean {near[0]}?" if near else "see starvsr upscale --help-all for the names"
        )
        raise UsageError(f"{where}: the key {key} is unknown: {advice}")
    return options[key]


def _arguments(where: str, key: str, option: Any, value: object) -> list[str]:
    """A value as command-line arguments. Raises UsageError."""
    texts = value if isinstance(value, list) and option.multiple else [value]
    arguments = []
    for each in texts:
        # TOML reads an unquoted time as one.
        if isinstance(each, bool) or not isinstance(each, str | int | float | datetime.time):
            raise UsageError(f"{where}, {key}: {each!r} is neither text nor a number")
        text = each.isoformat() if isinstance(each, datetime.time) else str(each)
        arguments += [option.opts[0], text]
    return arguments


def _placed(name: str, value: Any, folder: Path) -> Any:
    """Resolve paths relative to the file's folder; `--model` may be a path."""
    if isinstance(value, Path):
        return _at(folder, value)
    if name == "model" and value not in ("auto", *SPECS):
        return str(_at(folder, Path(value)))
    return value
