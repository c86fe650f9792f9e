"""The exception tree is what its drawing and `docs/cli.md` say."""

from __future__ import annotations

import re
from pathlib import Path

from starvsr import errors
from starvsr.cli import app, batch, ending, upscale
from starvsr.errors import StarvsrError

DOCS = Path(__file__).parent.parent / "docs" / "cli.md"


def kinds() -> dict[str, type[StarvsrError]]:
    return {kind.__name__: kind for kind in StarvsrError.__subclasses__()}


def test_the_drawing() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+) +(\d+)", errors.__doc__ or ""))
    assert drawn == {name: str(kind.exit_code) for name, kind in kinds().items()}


def test_every_kind_has_a_code_of_its_own() -> None:
    codes = [kind.exit_code for kind in kinds().values()]
    assert len(set(codes)) == len(codes)
    assert StarvsrError.exit_code not in codes


def test_the_documented_codes() -> None:
    table = DOCS.read_text(encoding="utf-8").partition("## Exit codes")[2]
    documented = {
        int(code) for row in re.findall(r"^\| ([\d, ]+) \|", table, re.M) for code in row.split(",")
    }
    ours = {
        0,
        app.EXIT_BUG,
        *(kind.exit_code for kind in ending.Ended.__subclasses__()),
        upscale.EXIT_DAMAGED,
        batch.EXIT_SOME_FAILED,
        *(kind.exit_code for kind in kinds().values()),
    }
    assert documented == ours
