"""Text for a terminal, with the control characters of names and titles escaped."""

from __future__ import annotations

import re
import sys

# Control characters except tab and newline, line separators, text direction controls, and undecodable bytes of names.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text to standard output or error; control characters and unsupported ones are escaped, as in `\\x1b`.

    Within `streams.guarded` it raises OutputError if standard output cannot be written.
    """
    stream = sys.stderr if err else sys.stdout
    stream.write(printable(text, stream.encoding or "utf-8") + ("\n" if nl else ""))
    stream.flush()


def printable(text: str, encoding: str = "utf-8") -> str:
    """The text with escapes for control characters and those not in `encoding`."""
    spelled = _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)
    return spelled.encode(encoding, "backslashreplace").decode(encoding)
