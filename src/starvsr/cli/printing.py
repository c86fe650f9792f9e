"""Text for a terminal: whatever somebody put into names and titles, a terminal must not obey it."""

from __future__ import annotations

import re
import sys

# Control characters but for tab and line end, what separates lines or turns their direction, and bytes of names that
# are no text.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print text to standard output or error; what a terminal would obey or cannot show is spelled out as `\\x1b`.

    Within `streams.guarded` it raises OutputError where standard output cannot be written.
    """
    stream = sys.stderr if err else sys.stdout
    stream.write(printable(text, stream.encoding or "utf-8") + ("\n" if nl else ""))
    stream.flush()


def printable(text: str, encoding: str = "utf-8") -> str:
    """The text with escapes for what a terminal would obey and what `encoding` does not have."""
    spelled = _OBEYED.sub(lambda found: ascii(found[0])[1:-1], text)
    return spelled.encode(encoding, "backslashreplace").decode(encoding)
