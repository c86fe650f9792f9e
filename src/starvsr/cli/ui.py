"""`starvsr ui`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from starvsr.cli.common import COUNT
from starvsr.cli.messages import say

DEFAULT_PORT = 7860


def ui(
    start: Annotated[
        Path | None,
        typer.Argument(
            metavar="PLACE",
            help="The file or folder that the page begins with (default: the current folder).",
        ),
    ] = None,
    root: Annotated[
        list[Path] | None,
        typer.Option(
            "--root",
            metavar="DIR",
            help="A folder whose files the page may read and write, with all in it; may be repeated (default: home).",
        ),
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            metavar="ADDRESS",
            help="Address of this machine under which others reach the page, with a token, such as 0.0.0.0 for all "
            "(default: this machine only).",
        ),
    ] = None,
    port: Annotated[
        int,
        typer.Option(
            "--port", help=f"Port of the page, 0 for any (default {DEFAULT_PORT}).", **COUNT
        ),
    ] = DEFAULT_PORT,
) -> int:
    """Open a page for the browser: choose a video and a setting, preview, start and watch jobs.

    Ctrl-C ends it; the running job is stopped then, and can be resumed.

    Example: starvsr ui ~/Videos
    """
    from starvsr.ui.server import serve

    roots = root or [Path.home()]
    begin = start or Path.cwd()
    if start is None and not any(begin.is_relative_to(each.resolve()) for each in roots):
        begin = roots[0]
    serve(
        roots,
        begin.absolute(),
        host,
        port,
        lambda url: say(f"the page is at {url} (Ctrl-C ends it)"),
    )
    return 0
