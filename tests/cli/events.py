"""JSON that the command line prints, against `docs/events.schema.json`."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

SCHEMA: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "docs" / "events.schema.json").read_text()
)


@cache
def validator() -> Draft202012Validator:
    """As the schema says, and no key that it does not describe."""
    strict = copy.deepcopy(SCHEMA)
    for definition in strict["$defs"].values():
        definition.setdefault("additionalProperties", False)
    Draft202012Validator.check_schema(strict)
    return Draft202012Validator(strict)


def check_events(text: str) -> None:
    """Every line that is JSON is one of the events; lines for people are passed over."""
    for line in text.splitlines():
        if line.startswith("{"):
            validator().validate(json.loads(line))
