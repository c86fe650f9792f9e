"""Options shared by several commands, as parameter annotations."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from starvsr.cli.console import ProgressMode
from starvsr.cli.upscale_options import parse_count, parse_number

COUNT: dict[str, Any] = {"metavar": "N", "parser": parse_count}
NUMBER: dict[str, Any] = {"metavar": "NUMBER", "parser": parse_number}
"""Settings of options with a number."""

Progress = Annotated[ProgressMode, typer.Option("--progress", help="How to show progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show more messages, and tracebacks of errors.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only errors.")]
