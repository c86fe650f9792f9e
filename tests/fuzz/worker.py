"""Command lines run one after the other in a process that may die or hang: then there is a new one."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

LONGEST_S = 60.0
# So that a file that asks for everything does not take the machine down; what is allowed is checked by `peak_bytes`.
_ADDRESS_BYTES = 12 << 30


@dataclass(frozen=True)
class Outcome:
    """What one command line gave."""

    code: int
    """Of the command; negative is the signal that the process died of."""
    out: str
    err: str
    seconds: float
    peak_bytes: int
    """Most memory that the process held meanwhile; 0 where the system does not tell."""
    hung: bool = False

    @property
    def kept(self) -> bool:
        """Whether the output could not be written in the end, and finished parts are kept and told of."""
        return self.code == 7 and "finished parts are kept in " in self.err


class Worker:
    """A process that runs `starvsr` command lines. End it with `stop`."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        """longest_s: of one command line, seconds."""
        self._longest_s = longest_s
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._ours, theirs = self._context.Pipe()
        self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def run(self, arguments: Sequence[str]) -> Outcome:
        """Run one command line; one that takes too long, or the process with it, is killed."""
        with suppress(EOFError, ConnectionResetError, BrokenPipeError):
            self._ours.send(list(arguments))
            # Loading the program is no part of it.
            if self._ours.poll(self._longest_s + 30):
                answer = self._ours.recv()
                assert isinstance(answer, Outcome)
                return answer
        hung = self._process.is_alive()
        self.stop()
        code = self._process.exitcode or 0
        self._start()
        return Outcome(code, "", "", self._longest_s if hung else 0.0, 0, hung)

    def stop(self) -> None:
        """End the process."""
        self._ours.close()
        self._process.join(1)
        self._process.kill()
        self._process.join()


def _serve(connection: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_BYTES, _ADDRESS_BYTES))
    # As on a terminal that takes no broken text.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    sys.stdout.reconfigure(errors="strict")  # type: ignore[union-attr]
    from starvsr.cli.app import run

    with suppress(EOFError):
        while True:
            connection.send(_outcome(run, connection.recv()))


def _outcome(run: Callable[[list[str]], int], arguments: list[str]) -> Outcome:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        # What C libraries write is seen too.
        kept = os.dup(1), os.dup(2)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        _forget_peak()
        began = time.monotonic()
        try:
            code = run(arguments)
        finally:
            seconds = time.monotonic() - began
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(kept, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "surrogateescape"))
    return Outcome(code, texts[0], texts[1], seconds, _peak_bytes())


def _forget_peak() -> None:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    return 0
