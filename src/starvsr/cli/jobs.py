"""`--jobs FILE`: videos with options of their own, as TOML, whose values are read as the command line's are.

    [defaults]
    model = "star-light"

    [[job]]
    input = "a.mp4"
    output = "large/a.mkv"
    crf = 20
    start = "00:01:00"

Keys are the flags without dashes. A job's own options come before those of the command line, and those before
`[defaults]`. Paths are relative to the file's folder.
"""

from __future__ import annotations

import datetime
import difflib
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import typer

from starvsr.cli.batch import Item
from starvsr.cli.upscale_options import collect_options, option_command
from starvsr.errors import UsageError
from starvsr.specs import SPECS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PLACES = ("input", "output")
# Options that say the same thing: one of them replaces the others of what it overrides.
_ALTERNATIVES = (
    {"scale", "resolution", "width", "height"},
    {"end", "duration"},
    {"prompt", "prompt_file"},
)

Table = Mapping[str, Any]


def read_jobs(path: Path, given: Mapping[str, Any]) -> list[Item]:
    """The videos of a jobs file.

    given: options of the command line, by their names in `collect_options`. Raises UsageError, which names the file,
    the job and the key.
    """
    content = _content(path)
    folder = path.absolute().parent
    unknown = [key for key in content if key not in ("defaults", "job")]
    if unknown:
        raise UsageError(f"{path}: {unknown[0]} is not known: give [[job]] tables and [defaults]")
    defaults, tables = content.get("defaults", {}), content.get("job", [])
    if not isinstance(defaults, dict):
        raise UsageError(f"{path}: defaults is no table: write [defaults]")
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise UsageError(f"{path}: job is no list of tables: write [[job]]")
    if not tables:
        raise UsageError(f"{path} holds no job: write a [[job]] table for each video")
    inherited = _over(_values(f"{path}, [defaults]", defaults, folder), given)
    return [
        _item(f"{path}, job {number}", table, inherited, folder)
        for number, table in enumerate(tables, start=1)
    ]


def _content(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"--jobs {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"--jobs {path} is not text in UTF-8: save it as such") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"--jobs {path} is not TOML: {error}") from error


def _item(where: str, table: Table, inherited: Mapping[str, Any], folder: Path) -> Item:
    source, target = (_place(where, table, key, folder) for key in _PLACES)
    where = f"{where} ({source.name})"
    own = {key: value for key, value in table.items() if key not in _PLACES}
    values = _over(inherited, _values(where, own, folder))
    try:
        return Item(source, target, collect_options(**values))
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _place(where: str, table: Table, key: str, folder: Path) -> Path:
    value = table.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        said = f"{key} = {value!r} is not allowed" if key in table else f"{key} is missing"
        raise UsageError(f'{where}: {said}: give a file, such as {key} = "video.mp4"')
    return _at(folder, Path(value))


def _at(folder: Path, path: Path) -> Path:
    # A name may begin with ~ and yet be nobody's home.
    with suppress(RuntimeError):
        path = path.expanduser()
    return folder / path


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """`upper` on top of `lower`."""
    hidden = set().union(*(group for group in _ALTERNATIVES if group & upper.keys()))
    return {**{name: value for name, value in lower.items() if name not in hidden}, **upper}


def _values(where: str, table: Table, folder: Path) -> dict[str, Any]:
    """The options of a table by their names in `collect_options`."""
    values: dict[str, Any] = {}
    for key, value in table.items():
        read = _value(where, key, value)
        if read.keys() & values.keys():
            raise UsageError(f"{where}, {key}: this option is given twice: leave one out")
        values |= read
    return {name: _placed(name, value, folder) for name, value in values.items()}


def _value(where: str, key: str, value: object) -> dict[str, Any]:
    """One option by its name in `collect_options`. Raises UsageError."""
    options = {
        flag.lstrip("-"): (option, flag)
        for option in option_command().params
        for flag in (*option.opts, *option.secondary_opts)
    }
    options.pop("help", None)
    if key in _PLACES:
        raise UsageError(f"{where}: the key {key} belongs to a [[job]] table")
    if key not in options:
        near = difflib.get_close_matches(key, [*options, *_PLACES], 1)
        advice = f"did you mean {near[0]}?" if near else "see starvsr upscale --help for the names"
        raise UsageError(f"{where}: the key {key} is not known: {advice}")
    option, flag = options[key]
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(f"{where}, {key}: {value!r} is not allowed: give true or false")
        return {option.name: value != (flag in option.secondary_opts)}
    try:
        read = option_command().main(_arguments(option, value), standalone_mode=False)
    except typer.BadParameter as error:
        raise UsageError(f"{where}, {key}: {error.message.rstrip('.')}") from error
    return dict(read)


def _arguments(option: Any, value: object) -> list[str]:
    """What one would have typed. Raises typer.BadParameter."""
    texts = value if isinstance(value, list) and option.multiple else [value]
    return [text for each in texts for text in (option.opts[0], _text(each))]


def _text(value: object) -> str:
    if isinstance(value, datetime.time):
        # A time without quotes.
        return value.isoformat()
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise typer.BadParameter(f"{value!r} is neither text nor a number")
    return str(value)


def _placed(name: str, value: Any, folder: Path) -> Any:
    """Paths of the file are relative to its folder; `--model` may be one."""
    if isinstance(value, Path):
        return _at(folder, value)
    if name == "model" and value not in ("auto", *SPECS):
        return str(_at(folder, Path(value)))
    return value
