"""Plain data from outside (what JSON holds) into dataclasses: nothing unknown or missing, and all within bounds."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")

_MOST_INTEGER = 1 << 63
_MOST_TEXT = 1 << 16


def from_plain(kind: type[T], value: object, name: str = "it") -> T:
    """`value` as what a type says: a dataclass (of an object with exactly its fields), `tuple`, `dict`, a union of one
    of these and None, `str`, `int` (64 bits), `float`, `bool`, a `Literal`, or `Any`.

    name: what the value is called in errors. Raises ValueError for what is of another kind.
    """
    made: T = _made(kind, value, name)
    return made


def _made(kind: Any, value: object, name: str) -> Any:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _object(kind, value, name)
    if origin in (types.UnionType, typing.Union):
        (other,) = (part for part in typing.get_args(kind) if part is not type(None))
        return None if value is None else _made(other, value, name)
    if origin is tuple:
        return _tuple(typing.get_args(kind), value, name)
    if origin is dict and isinstance(value, dict):
        (_, of_values) = typing.get_args(kind)
        return {
            key: _made(of_values, content, f"{name}.{key[:40]}") for key, content in value.items()
        }
    if origin is typing.Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{name} is not one of the values that it may have")
        return value
    if kind is Any:
        return value
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name} has the wrong type")
    if isinstance(value, int) and not -_MOST_INTEGER <= value < _MOST_INTEGER:
        raise ValueError(f"{name} is too large a number")
    if isinstance(value, str) and (len(value) > _MOST_TEXT or "\0" in value):
        raise ValueError(f"{name} is not valid text")
    return value


def _object(kind: Any, value: object, name: str) -> Any:
    hints = _hints(kind)
    if not isinstance(value, dict) or value.keys() != hints.keys():
        raise ValueError(f"{name} does not have the required entries")
    return kind(**{key: _made(hints[key], value[key], f"{name}.{key}") for key in hints})


def _tuple(kinds: tuple[Any, ...], value: object, name: str) -> Any:
    if not isinstance(value, list):
        raise ValueError(f"{name} is not a list")
    if kinds[1:] == (Ellipsis,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        raise ValueError(f"{name} is a list of {len(value)}, not {len(kinds)}")
    return tuple(
        _made(part, content, f"{name}[]") for part, content in zip(kinds, value, strict=True)
    )


@functools.lru_cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
