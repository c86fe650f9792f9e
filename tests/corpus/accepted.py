"""Differences that are no fault, each with its reason. Nothing else may be left."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.corpus.compare import Difference


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


ACCEPTED: tuple[Accepted, ...] = ()


def reason_for(file: str, difference: Difference) -> str | None:
    """Why a difference is no fault; None where it is one."""
    return next((each.reason for each in ACCEPTED if each.covers(file, difference)), None)
