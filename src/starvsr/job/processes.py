"""Several processes on this machine that restore segments in parallel; only the caller writes the journal.

Each process has a pipe to the caller. It is handed one segment at a time, loads the model at its first one, and sends
back how far it is, what the library has to say, and what it made or what went wrong. One that dies is replaced, and its
segment goes to whoever is free.
"""

from __future__ import annotations

import dataclasses
import logging
import multiprocessing
import os
import pickle
import signal
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from starvsr.errors import MemoryLimitError
from starvsr.job.executor import (
    LastModel,
    Made,
    OnLoad,
    Work,
    handing_order,
    load_restorer,
    made_by,
    part_maker,
)
from starvsr.job.heap import share_heap
from starvsr.job.segment import OnFrames
from starvsr.models.device import worker_devices
from starvsr.plan.segments import Segment

logger = logging.getLogger(__name__)
_library = logging.getLogger("starvsr")

MOST_DEATHS = 3
"""Worker deaths at one segment after which the job fails."""

_KILLED = -9
# A worker that does not end in time is killed.
_ENDING_S = 5.0

# Spawned, since neither CUDA nor threads survive a fork.
_processes = multiprocessing.get_context("spawn")


class Workers:
    """The executor of several processes; they end with the context."""

    def __init__(self, count: int) -> None:
        """count: maximum number of processes."""
        self.count = count
        self._team: list[_Worker] = []

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        _end(self._team)

    def __call__(
        self, work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
    ) -> Generator[Made, None, None]:
        """See `Executor`. Raises MemoryLimitError if workers are repeatedly killed at one segment."""
        left = deque(handing_order(segments, self.count))
        deaths: Counter[int] = Counter()
        devices = worker_devices(work.options.device.device, work.device.name, self.count)
        loaded = False
        while left or any(worker.segment for worker in self._team):
            self._hand_out(work, left, devices)
            for worker in self._ready():
                try:
                    kind, content = worker.pipe.recv()
                except (EOFError, OSError):
                    self._replace(worker, left, deaths)
                    continue
                if kind == "frames":
                    if not loaded:
                        loaded = True
                        on_load()
                    on_frames(*content)
                elif kind == "log":
                    _library.handle(content)
                elif kind == "made":
                    worker.segment = None
                    yield content
                else:
                    error, cause = content
                    raise error from cause

    def _hand_out(self, work: Work, left: deque[Segment], devices: Sequence[str]) -> None:
        """Give every idle worker a segment, and start more workers while there are segments for them."""
        free = [worker for worker in self._team if worker.segment is None]
        while left and (free or len(self._team) < self.count):
            if not free:
                taken = Counter(worker.device for worker in self._team)
                self._team.append(_Worker(min(devices, key=taken.__getitem__)))
            worker = free.pop() if free else self._team[-1]
            worker.hand(work, left.popleft())

    def _ready(self) -> Iterable[_Worker]:
        """Wait for workers that have sent a message or died."""
        by_pipe: dict[Any, _Worker] = {worker.pipe: worker for worker in self._team}
        return [by_pipe[pipe] for pipe in wait(list(by_pipe))]

    def _replace(self, worker: _Worker, left: deque[Segment], deaths: Counter[int]) -> None:
        """Requeue the segment of a dead worker; a new one is started if there is work."""
        self._team.remove(worker)
        worker.process.join()
        segment, code = worker.segment, worker.process.exitcode
        if segment is None:
            return
        left.appendleft(segment)
        deaths[segment.index] += 1
        place = f"frames {segment.first} to {segment.last - 1}"
        if deaths[segment.index] < MOST_DEATHS:
            logger.warning("a worker died (exit code %s); %s are restored again", code, place)
        elif code == _KILLED:
            raise MemoryLimitError(
                f"a worker was killed {MOST_DEATHS} times while it restored {place}, most likely because system memory "
                "ran out: give fewer --workers, or a smaller --scale"
            )
        else:
            raise RuntimeError(
                f"{MOST_DEATHS} workers died while they restored {place}, the last with exit code {code}"
            )


class _Worker:
    """The parent's side of a worker process."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.segment: Segment | None = None
        """The current segment; None while idle."""
        self._work: Work | None = None
        self.pipe, other = _processes.Pipe()
        # A daemon always ends with the caller.
        self.process = _processes.Process(
            target=_serve, args=(other, device, _library.getEffectiveLevel()), daemon=True
        )
        self.process.start()
        # Only the worker has its end, so that the pipe closes when it dies.
        other.close()

    def hand(self, work: Work, segment: Segment) -> None:
        """Give it a segment to restore."""
        self.segment = segment
        device = dataclasses.replace(work.device, name=self.device)
        news = None if work is self._work else dataclasses.replace(work, device=device)
        self._work = work
        # A worker that just died is noticed when waiting for its answer.
        with suppress(BrokenPipeError):
            self.pipe.send((news, segment))


def _end(team: list[_Worker]) -> None:
    """End all workers. Idle ones exit by themselves, so that libraries clean up."""
    for worker in team:
        if worker.segment is not None:
            worker.process.terminate()
        else:
            # It may just have died.
            with suppress(OSError):
                worker.pipe.send(None)
    for worker in team:
        worker.process.join(_ENDING_S)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.pipe.close()
    team.clear()


def _serve(pipe: Connection, device: str, level: int) -> None:
    """A worker's main loop: restore segments until it receives None."""
    _leave_endings_to_the_caller()
    share_heap()
    threading.Thread(target=_end_with_caller, daemon=True).start()
    send = _Sender(pipe)
    _library.addHandler(send)
    _library.setLevel(level)
    models = LastModel()
    while (task := pipe.recv()) is not None:
        work, segment = task
        try:
            if work is not None:
                restorer = load_restorer(work, models)
                maker = part_maker(work, restorer, lambda *frames: send("frames", frames))
            maker.on_frames(segment.index, 0.0)
            send("made", made_by(maker, segment))
        except BaseException as error:
            send("failed", _sendable(error))


def _leave_endings_to_the_caller() -> None:
    """Ignore Ctrl-C, Ctrl-Break and a closed terminal, which signal every process: the caller ends the workers."""
    for name in ("SIGINT", "SIGBREAK", "SIGHUP"):
        # No system has all of them.
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_with_caller() -> None:
    """End this process as soon as its parent has ended, for whatever reason."""
    caller = multiprocessing.parent_process()
    if caller is not None:
        caller.join()
        os._exit(1)


def _sendable(error: BaseException) -> tuple[BaseException, BaseException | None]:
    """An error and its cause, or their text if they cannot be pickled."""
    logger.debug("error in a worker", exc_info=error)
    found: Any = error, error.__cause__
    try:
        pickle.loads(pickle.dumps(found))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}"), None
    return error, error.__cause__


class _Sender(logging.Handler):
    """Sends to the caller, from any thread; as a handler, the library's messages."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self.pipe = pipe

    def __call__(self, kind: str, content: object) -> None:
        assert self.lock is not None, "handlers have one"
        with self.lock:
            self.pipe.send((kind, content))

    def emit(self, record: logging.LogRecord) -> None:
        plain = {"msg": self.format(record), "args": None, "exc_info": None, "exc_text": None}
        self("log", logging.makeLogRecord(record.__dict__ | plain))
