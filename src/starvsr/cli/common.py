"""The options that commands have in common, as annotations of their parameters."""

from __future__ import annotations

from typing import Annotated

import typer

from starvsr.cli.console import ProgressMode

Progress = Annotated[ProgressMode, typer.Option("--progress", help="How progress is shown.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="More messages, and tracebacks of errors.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only errors.")]
