"""Dataclasses from TOML tables and to TOML; errors name the table and key."""

from __future__ import annotations

import dataclasses
import math
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from starvsr.errors import UsageError

Built = TypeVar("Built")


def from_table(kind: type[Built], table: object, where: str = "") -> Built:
    """A dataclass of `kind` from a table, nested ones from the tables in it; `where` names it in messages.

    Raises UsageError for unknown keys, values of other types, and what the dataclass itself refuses.
    """
    if not isinstance(table, dict):
        raise UsageError(f"{where} = {table!r} is not allowed: it must be a table, [{where}]")
    hints = get_type_hints(kind)
    unknown = [key for key in table if key not in hints]
    if unknown:
        place = f"[{where}] has" if where else "the configuration has"
        raise UsageError(
            f"{place} no key {', '.join(unknown)}: allowed are {', '.join(sorted(hints))}"
        )
    values = {
        key: _value(hints[key], value, f"{where}.{key}".lstrip(".")) for key, value in table.items()
    }
    try:
        return kind(**values)
    except ValueError as error:
        raise UsageError(f"[{where}] is not allowed: {error}") from error


def _value(hint: Any, value: object, where: str) -> Any:
    """A field's value from TOML's, of the field's type. Raises UsageError."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _value(next(a for a in arguments if a is not NoneType), value, where)
    if dataclasses.is_dataclass(hint):
        return from_table(cast("type[Any]", hint), value, where)
    if origin is tuple and isinstance(value, list):
        if ... not in arguments and len(value) != len(arguments):
            raise UsageError(f"{where} = {value!r} is not allowed: give {len(arguments)} values")
        return tuple(_value(arguments[0], each, where) for each in value)
    if origin is dict and isinstance(value, dict):
        return {key: _value(arguments[1], each, f"{where}.{key}") for key, each in value.items()}
    if hint is Any:
        return value
    if hint is float and type(value) is int:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where} = {value} is not allowed: give a finite number")
    if type(value) is not hint:
        raise UsageError(f"{where} = {value!r} is not allowed: give {_named(hint)}")
    return value


def _named(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    return names.get(hint, "a list" if get_origin(hint) is tuple else "a table")


def to_toml(config: object) -> str:
    """A dataclass as TOML, which `from_table` reads back."""
    return "\n".join(_lines(_plain(config), "")).strip() + "\n"


def _plain(value: object) -> Any:
    """Dataclasses as tables; None is left out."""
    if dataclasses.is_dataclass(value):
        fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        return {key: _plain(each) for key, each in fields.items() if each is not None}
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(each) for each in value]
    return value


def _lines(table: dict[str, Any], where: str) -> list[str]:
    """Plain keys first, as TOML demands, then the tables inside."""
    lines, later = [], []
    for key, value in table.items():
        place = f"{where}.{_key(key)}".lstrip(".")
        if isinstance(value, dict):
            later += ["", f"[{place}]", *_lines(value, place)]
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for each in value:
                later += ["", f"[[{place}]]", *_lines(each, place)]
        else:
            lines.append(f"{_key(key)} = {_text(value)}")
    return lines + later


def _key(key: str) -> str:
    bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if bare else _text(key)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return '"' + "".join(_escaped(letter) for letter in escaped) + '"'
    if isinstance(value, list):
        return "[" + ", ".join(_text(each) for each in value) + "]"
    return repr(value)


def _escaped(letter: str) -> str:
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
