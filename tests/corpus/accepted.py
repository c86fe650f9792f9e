"""Differences that are no fault, each with its reason. Nothing else may be left."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.corpus.difference import Difference


@dataclass(frozen=True)
class Accepted:
    """Differences that match all patterns (searched, not matched whole)."""

    reason: str
    field: str
    source: str = ""
    output: str = ""
    file: str = ""

    def covers(self, file: str, difference: Difference) -> bool:
        """Whether a difference of a file is one of these."""
        pairs = (
            (self.field, difference.field),
            (self.source, difference.source),
            (self.output, difference.output),
            (self.file, file),
        )
        return all(re.search(pattern, text) for pattern, text in pairs)


ACCEPTED = (
    Accepted(
        "the matrix that players assume at the source's size is written: at the output's they would assume another",
        field="^color_space$",
        source="^unknown$",
        output="^(bt709|smpte170m|bt470bg)$",
    ),
)


def reason_for(file: str, difference: Difference) -> str | None:
    """Why a difference is no fault; None where it is one."""
    return next((each.reason for each in ACCEPTED if each.covers(file, difference)), None)
