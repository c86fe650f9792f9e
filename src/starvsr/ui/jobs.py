"""Commands that run one after another as processes of their own, and what they tell meanwhile."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from starvsr.errors import StarvsrError, UsageError
from starvsr.job.journal import journal_folder
from starvsr.job.plain import from_plain
from starvsr.media.files import write_whole
from starvsr.media.removal import Right
from starvsr.media.strict_json import parse_json, read_bounded

PROGRAM = (sys.executable, "-m", "starvsr")
TOLD = ("--progress", "json", "--json")
"""Added to every command: how the page hears of its progress and its result."""
_DONE, _ENDED = (0, 8), (129, 130, 143)
_MOST_LINES, _MOST_BYTES = 50, 1 << 20
# A job's last segment may have to be encoded, and a model unloaded.
_PATIENCE_S = 60.0

# Ends a command as Ctrl-C does, but a shell that starts the page in the background has Ctrl-C ignored.
_STOP = getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM)

State = Literal["waiting", "running", "stopping", "done", "stopped", "failed"]


_Entry = tuple[tuple[str, ...], str]
"""Of the file of what is not finished: arguments and target."""


@dataclass(eq=False)
class Task:
    """One command, from its wait to its end."""

    arguments: tuple[str, ...]
    """What follows `starvsr`."""
    target: Path
    """What it writes: no two tasks that wait or run write the same."""
    label: str = ""
    """What is shown of it; empty for a job, which is known by its target and kept for the next start of the page."""
    number: int = 0
    state: State = "waiting"
    progress: dict[str, Any] = field(default_factory=dict)
    """The last `progress` event."""
    result: dict[str, Any] = field(default_factory=dict)
    """The event at its end."""
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_LINES))
    """What it said besides."""
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ("waiting", "running", "stopping")

    @property
    def work_dir(self) -> Path:
        """Where an `upscale` keeps its finished segments."""
        given = [
            place for flag, place in itertools.pairwise(self.arguments) if flag == "--work-dir"
        ]
        return Path(given[-1]) if given else journal_folder(self.target)

    @property
    def error(self) -> str:
        """The error that it ended with, as on the command line; empty for none."""
        # A copy, since the process may say more meanwhile.
        found = [line for line in tuple(self.lines) if line.startswith("error: ")]
        return found[-1].removeprefix("error: ") if found else ""


class Queue:
    """Runs tasks in a thread of its own, one at a time; a `with` block, at whose end the running one is stopped."""

    def __init__(
        self,
        kept: Path,
        program: Sequence[str] = PROGRAM,
        holds: Callable[[str], bool] = lambda path: True,
    ) -> None:
        """kept: a file with the commands that were not finished, which then are there again, stopped.

        holds: whether a path is one that this page may touch; commands with others only stay in the file.
        """
        self.tasks: list[Task] = []
        self._kept, self._program = kept, program
        self._numbers = itertools.count(1)
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._asked: set[Task] = set()
        self._written: list[_Entry] = []
        """What of the file is this page's; all else is another page's, or out of this one's reach."""
        self._idle: list[Task] = []
        """Tasks that the file had at the start and that were not begun here: another page may finish them."""
        for arguments, target in _read(kept):
            task = Task(arguments, Path(target))
            if not all(map(holds, (*arguments[1:3], target, str(task.work_dir)))):
                continue
            self._written.append((arguments, target))
            task.number = next(self._numbers)
            task.state = "stopped"
            self.tasks.append(task)
            self._idle.append(task)
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Queue:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._closed = True
            running = [task for task in self.tasks if task.state == "running"]
            for task in running:
                self.stop(task)
            self._changed.notify_all()
        self._thread.join(_PATIENCE_S)

    def add(self, task: Task, *, first: bool = False) -> Task:
        """Let a task wait, before all others if `first`, in place of an ended one that wrote the same.

        Raises UsageError if another one that waits or runs writes the same.
        """
        with self._changed:
            same = [other for other in self.tasks if other.target == task.target]
            if any(other.is_active for other in same):
                raise UsageError(f"{task.target} is in the queue already: wait for it, or stop it")
            for other in same:
                self.tasks.remove(other)
            task.number = task.number or next(self._numbers)
            task.state, task.progress, task.result = "waiting", {}, {}
            task.lines.clear()
            self._asked.discard(task)
            if task in self._idle:
                self._idle.remove(task)
            waiting = [place for place, other in enumerate(self.tasks) if other.state == "waiting"]
            self.tasks.insert(waiting[0] if first and waiting else len(self.tasks), task)
            self._keep()
            self._changed.notify_all()
        return task

    def stop(self, task: Task) -> None:
        """As Ctrl-C does: finished segments are kept, and the same command resumes."""
        with self._changed:
            if task.state == "waiting":
                task.state = "stopped"
            elif task.state == "running" and task.process is not None:
                task.state = "stopping"
                self._asked.add(task)
                with suppress(OSError):
                    task.process.send_signal(_STOP)

    def remove(self, task: Task) -> None:
        """Forget a task that neither waits nor runs."""
        with self._changed:
            if task in self.tasks and not task.is_active:
                self.tasks.remove(task)
                self._keep()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._next() is not None)
                task = self._next()
                if self._closed or task is None:
                    return
                try:
                    process = _start([*self._program, *task.arguments, *TOLD])
                except (OSError, ValueError) as error:
                    task.state = "failed"
                    task.lines.append(f"error: {self._program[0]} cannot be run: {error}")
                    continue
                task.process, task.state = process, "running"
            code = _listen(task, process)
            with self._changed:
                ended = task in self._asked or code in _ENDED
                task.state = "done" if code in _DONE else "stopped" if ended else "failed"
                task.process = None
                self._keep()

    def _next(self) -> Task | None:
        return next((task for task in self.tasks if task.state == "waiting"), None)

    def _keep(self) -> None:
        """Write what is not finished, for the next start of the page; without a place for it, it is not kept."""
        with suppress(OSError, StarvsrError):
            self._kept.parent.mkdir(parents=True, exist_ok=True)
            there = _read(self._kept)
            unfinished = [task for task in self.tasks if task.state != "done" and not task.label]
            entries = [(task, (task.arguments, str(task.target))) for task in unfinished]
            left = [each for task, each in entries if task not in self._idle or each in there]
            for entry in self._written:
                if entry in there:
                    there.remove(entry)
            others = [entry for entry in there if entry not in left]
            write_whole(self._kept, json.dumps([*others, *left]).encode(), Right.FETCHED)
            self._written = left


def speaking_utf8() -> dict[str, str]:
    """The environment of a command whose pipes are read as UTF-8, whatever the system's encoding is."""
    return {**os.environ, "PYTHONIOENCODING": "utf-8:backslashreplace"}


def _start(command: Sequence[str]) -> subprocess.Popen[bytes]:
    """A process that Ctrl-C on the page's terminal does not reach: the queue stops it."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=speaking_utf8(),
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _listen(task: Task, process: subprocess.Popen[bytes]) -> int:
    """Take in what a process tells until its end; its exit code."""
    assert process.stdout is not None
    assert process.stderr is not None
    beside = threading.Thread(target=_take, args=(task, process.stdout), daemon=True)
    beside.start()
    _take(task, process.stderr)
    beside.join()
    return process.wait()


def _take(task: Task, pipe: IO[bytes]) -> None:
    with pipe:
        for line in pipe:
            event = _event(line)
            if event is None:
                task.lines.append(line.decode(errors="replace").rstrip())
            elif event["event"] == "progress":
                task.progress = event
            else:
                task.result = event


def _event(line: bytes) -> dict[str, Any] | None:
    with suppress(ValueError):
        found = json.loads(line)
        if isinstance(found, dict) and "event" in found:
            return found
    return None


def _read(path: Path) -> list[tuple[tuple[str, ...], str]]:
    """The commands of `_keep`; none where they cannot be read. A file is no place for others than `upscale`."""
    with suppress(OSError, ValueError):
        plain = parse_json(read_bounded(path, _MOST_BYTES).decode(), _MOST_BYTES)
        found = from_plain(tuple[tuple[tuple[str, ...], str], ...], plain)
        return [each for each in found if each[0][:1] == ("upscale",)]
    return []
