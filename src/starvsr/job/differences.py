"""How two requests differ, in terms of the command line (see `request` and `journal`)."""

from __future__ import annotations

import re

# Options that are on unless `--no-...` is given.
_ON_BY_DEFAULT = ("--scene-detect",)
_FINGERPRINT = re.compile("[0-9a-f]{64}")
_LONGEST = 200


def describe_difference(name: str, before: object, now: object) -> str:
    """The message for a changed value of a request: `--scale was 2 before and is 3 now`.

    name: as in a request, a flag or words such as `the input`; of a `--no-...` flag the value False is given. before,
    now: plain data as JSON has it, None where there is none.
    """
    if name.startswith("--no-"):
        return _flag_text(name, before is False, now is False)
    if name in _ON_BY_DEFAULT:
        return _flag_text(f"--no-{name.removeprefix('--')}", before is False, now is False)
    if all(value is None or isinstance(value, bool) for value in (before, now)):
        return _flag_text(name, before is True, now is True)
    if any(_is_fingerprint(value) for value in (before, now)):
        return f"{name} is not the same as before"
    return f"{name} was {_text(before)} before and is {_text(now)} now"


def _flag_text(flag: str, before: bool, now: bool) -> str:
    words = {True: "given", False: "not given"}
    return f"{flag} was {words[before]} before and is {'' if now else 'not '}now"


def _is_fingerprint(value: object) -> bool:
    """Whether it is the hash of a file, or of every image of a sequence."""
    if isinstance(value, list):
        return bool(value) and all(_is_fingerprint(each) for each in value)
    return isinstance(value, str) and _FINGERPRINT.fullmatch(value) is not None


def _text(value: object) -> str:
    if value is None or value == []:
        return "not given"
    if isinstance(value, list) and all(isinstance(each, int | float) for each in value):
        # An interval, as it is typed.
        text = ":".join(f"{each:g}" for each in value)
    elif isinstance(value, list):
        text = ", ".join("=".join(map(str, e)) if isinstance(e, list) else str(e) for e in value)
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
