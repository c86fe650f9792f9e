"""Options shared by several commands, as parameter annotations."""

from __future__ import annotations

from typing import Annotated

import typer

from starvsr.cli.console import ProgressMode

Progress = Annotated[ProgressMode, typer.Option("--progress", help="How to show progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to standard output.")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show more messages, and tracebacks of errors.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only errors.")]
