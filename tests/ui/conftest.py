"""A page that is served by a process of its own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(folder: Path, *, attacked: bool = False) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The page's address and process; attacked: whether requests are made that the page itself never makes."""
    place = os.fspath(folder)
    command = [sys.executable, "-m", "starvsr", "ui", place, "--root", place, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline()
            found = re.search(r"http://\S+", first)
            assert found, first + process.stderr.read()
            yield found[0], process
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 143
            last = process.stderr.read().splitlines()
            end = "terminated; the page is closed; stopped jobs can be resumed"
            # Nothing but the end: no traceback of what a page asked for.
            assert (last[-1] if attacked else last) == (end if attacked else [end])
        finally:
            process.kill()
