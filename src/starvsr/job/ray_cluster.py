"""Segments restored by the machines of a Ray cluster; the caller needs no GPU and loads no model.

Every segment is a Ray task, which Ray gives to another worker when one is lost. A machine that sees the work directory
puts the parts there, any other sends them back. It reads the input at the same path, or is sent it where it is small,
and takes the model's files from its own weights folder; both are compared with the caller's.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import socket
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from starvsr.errors import InputError, MemoryLimitError, UsageError, WeightsError
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
from starvsr.job.journal import fingerprint
from starvsr.job.ray_nodes import able_nodes, answers_of, at_node, connected, own_node, task_of
from starvsr.job.request import weights_of
from starvsr.job.seam import SegmentFiles
from starvsr.job.segment import OnFrames
from starvsr.media.files import write_whole, written_errors
from starvsr.media.removal import Right, remove_file
from starvsr.models.device import device_info
from starvsr.plan.segments import Segment
from starvsr.zoo.choose import choose_model
from starvsr.zoo.converted import convert

logger = logging.getLogger(__name__)
_library = logging.getLogger("starvsr")

MOST_SENT_BYTES = 1 << 29
"""A larger input is not sent to machines that cannot read it."""

_RETRIES = 2
_INTERVAL_S = 0.5

# Per worker process, in which Ray runs tasks in succession.
_models = LastModel()


class Cluster:
    """The executor of a Ray cluster."""

    def __init__(self, address: str) -> None:
        """address: the cluster head's, or `auto`."""
        self.address = address
        self._connection = connected(address)

    def __enter__(self) -> Cluster:
        self._connection.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        # Ray ends the tasks of a caller that leaves.
        self._connection.__exit__(*error)

    def __call__(
        self, work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
    ) -> Generator[Made, None, None]:
        """See `Executor`. Raises InputError if a machine cannot read an input that is too large to send."""
        if not segments:
            return

        work = dataclasses.replace(
            work, info=dataclasses.replace(work.info, path=work.info.path.absolute())
        )
        on_gpu = work.device.name != "cpu"
        needed: dict[str, Any] = {"max_retries": _RETRIES, "num_cpus": work.threads}
        if on_gpu:
            needed |= {"num_gpus": 1, "num_cpus": 0}
        order = _Order(
            work,
            secrets.token_hex(8),
            fingerprint(work.info.path),
            weights_of(work.choice, fingerprint),
            _sent_input(work, _able_for(work)),
        )
        board = task_of(_Board, num_cpus=0).options(**at_node(own_node())).remote()
        restore = task_of(_restore_segment, **needed)
        with _marked(work.folder, order.token):
            handed = _Handed(order, restore, board)
            for segment in handing_order(segments, _at_once(work)):
                handed.out(segment)
            yield from self._results(handed, board, work.folder, on_load, on_frames)

    def _results(
        self,
        handed: _Handed,
        board: Any,
        folder: Path,
        on_load: OnLoad,
        on_frames: OnFrames,
    ) -> Iterator[Made]:
        """Results of tasks as they finish."""
        import ray

        loaded = False
        while handed.pending:
            done, _ = ray.wait(list(handed.pending), num_returns=1, timeout=_INTERVAL_S)
            running = {segment.index for segment in handed.pending.values()}
            for kind, content in ray.get(board.take.remote()):
                if kind == "log":
                    _library.log(*content)
                elif kind == "place":
                    handed.places.update([content])
                elif content[0] in running:
                    if not loaded:
                        loaded = True
                        on_load()
                    on_frames(*content)
            for task in done:
                made, contents = _result(task, handed.pending.pop(task))
                yield _brought(made, contents, folder)
            handed.out_again()


class _Handed:
    """Segments that are assigned to machines, or queued."""

    def __init__(self, order: _Order, restore: Any, board: Any) -> None:
        """restore: the task of one segment."""
        import ray

        self.order, self.restore, self.board = order, restore, board
        self._put = ray.put(order)
        self.pending: dict[Any, Segment] = {}
        """By their tasks."""
        self.places: dict[int, str] = {}
        """The node that last started each segment, by segment index."""
        self._nodes = _names(order.work)

    def out(self, segment: Segment) -> None:
        """Have a segment restored."""
        self.places.pop(segment.index, None)
        self.pending[self.restore.remote(self._put, segment, self.board)] = segment

    def out_again(self) -> None:
        """Reassign the segments of lost nodes: Ray itself would wait minutes for their answer."""
        import ray

        before, self._nodes = self._nodes, _names(self.order.work)
        lost = before.keys() - self._nodes
        for node in lost:
            logger.warning("%s is lost: others restore its segments", before[node])
        if before and not self._nodes:
            logger.warning("no machine is left: the job waits for others (`ray start`)")
        if not lost:
            return
        # Tasks of the same objects would still wait for the answer of a lost machine that Ray asked to begin one.
        self._put = ray.put(self.order)
        for task, segment in list(self.pending.items()):
            # Also if not reported as started: it may be on its way to a lost node.
            if self.places.get(segment.index) not in self._nodes:
                del self.pending[task]
                ray.cancel(task, force=True)
                self.out(segment)


@dataclasses.dataclass(frozen=True)
class _Order:
    """Data that every task of a job receives."""

    work: Work
    token: str
    """Part of the name of a file by which a machine recognizes the work directory."""
    input: str
    """The input's fingerprint: each task compares it, and would read all of the file for a digest."""
    weights: Mapping[str, str]
    """Fingerprints of the model's files."""
    sent: tuple[Any, ...]
    """The input's content in Ray's object store, or nothing."""


class _Board:
    """An actor that collects the tasks' progress."""

    def __init__(self) -> None:
        self.news: list[tuple[str, Any]] = []

    def put(self, kind: str, content: Any) -> None:
        self.news.append((kind, content))

    def take(self) -> list[tuple[str, Any]]:
        news, self.news = self.news, []
        return news


def _able_for(work: Work) -> list[dict[str, Any]]:
    """Machines that can do this job. Raises UsageError if there is none."""
    able = able_nodes(*_least(work))
    if not able and work.device.name == "cpu":
        raise UsageError(
            f"the job was begun with {work.threads} threads, but no machine of the cluster has as many: start one "
            "with `ray start --num-cpus`, or give --no-resume to start over"
        )
    return able


def _least(work: Work) -> tuple[str, int]:
    """The Ray resource and amount that a task needs."""
    return ("CPU", work.threads) if work.device.name == "cpu" else ("GPU", 1)


def _at_once(work: Work) -> int:
    """Number of segments that the cluster can restore in parallel."""
    resource, least = _least(work)
    return sum(int(node["Resources"][resource] // least) for node in able_nodes(resource, least))


def _names(work: Work) -> dict[str, str]:
    """IDs and names of the machines that can currently do this job."""
    return {node["NodeID"]: node["NodeManagerHostname"] for node in able_nodes(*_least(work))}


def _sent_input(work: Work, able: Sequence[dict[str, Any]]) -> tuple[Any, ...]:
    """The input in the object store, if one of these machines cannot read it. Raises InputError."""
    import ray

    path = work.info.path
    answers = answers_of(able, _name_without_input, path, fingerprint(path))
    without = [name for _, name in answers if name is not None]
    if not without:
        return ()
    size = path.stat().st_size
    if size > MOST_SENT_BYTES:
        raise InputError(
            f"{path} cannot be read by {', '.join(without)}, and is too large to send: put it into a folder "
            "that all machines share, at the same path"
        )
    logger.debug("the input is sent to %s", ", ".join(without))
    return (ray.put(path.read_bytes()),)


def _name_without_input(path: Path, wanted: str) -> str | None:
    """This machine's name if it does not have the input at this path."""
    return None if _is(path, wanted) else socket.gethostname()


def _is(path: Path, wanted: str) -> bool:
    try:
        return fingerprint(path) == wanted
    except OSError:
        return False


@contextmanager
def _marked(folder: Path, token: str) -> Iterator[None]:
    """Mark the folder with a file within the context."""
    mark = _mark(folder, token)
    with written_errors(mark):
        mark.open("x").close()
    try:
        yield
    finally:
        with suppress(OSError):
            remove_file(mark, Right.TEMPORARY)


def _mark(folder: Path, token: str) -> Path:
    return folder / f".starvsr-{token}.partial"


def _result(task: Any, segment: Segment) -> tuple[Made, dict[str, bytes]]:
    """A task's result. Raises what it raised, MemoryLimitError if its workers were repeatedly lost."""
    import ray

    try:
        result: tuple[Made, dict[str, bytes]] = ray.get(task)
        return result
    except ray.exceptions.RayTaskError as error:
        raise (error.cause if isinstance(error.cause, Exception) else error) from error
    except ray.exceptions.RayError as error:
        logger.debug("Ray gives up", exc_info=error)
        raise MemoryLimitError(
            f"workers were lost {_RETRIES + 1} times while they restored frames {segment.first} to "
            f"{segment.last - 1}, most likely because system memory ran out: give a smaller --scale, or larger machines"
        ) from error


def _brought(made: Made, contents: Mapping[str, bytes], folder: Path) -> Made:
    """The result with its files in this machine's work directory."""
    for name, content in contents.items():
        write_whole(folder / name, content, Right.FORM)

    def here(paths: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(folder / path.name for path in paths)

    files = made.files
    (part,) = here((files.part,))
    moved = SegmentFiles(files.segment, part, here(files.head), here(files.tail))
    return dataclasses.replace(made, files=moved)


def _restore_segment(order: _Order, segment: Segment, board: Any) -> tuple[Made, dict[str, bytes]]:
    """A task: see `_restore_here`."""
    board.put.remote("place", (segment.index, own_node()))
    return _restore_here(order, segment, board)


def _restore_here(order: _Order, segment: Segment, board: Any) -> tuple[Made, dict[str, bytes]]:
    """Restore one segment on this machine; returns the files' contents if the caller cannot see them."""
    with _messages_to(board), TemporaryDirectory(prefix="starvsr-") as scratch:
        work = _at_home(order, Path(scratch))
        restorer = load_restorer(work, _models)
        said = 0.0

        def on_frames(index: int, frames: float) -> None:
            nonlocal said
            if time.monotonic() - said >= _INTERVAL_S:
                said = time.monotonic()
                board.put.remote("frames", (index, frames))

        on_frames(segment.index, 0.0)
        made = made_by(part_maker(work, restorer, on_frames), segment)
        files = made.files
        contents = {}
        if work.folder == Path(scratch):
            paths = (files.part, *files.head, *files.tail)
            contents = {path.name: path.read_bytes() for path in paths}
        return made, contents


def _at_home(order: _Order, scratch: Path) -> Work:
    """The work with this machine's paths and device. Raises InputError, WeightsError, UsageError."""
    work, machine = order.work, socket.gethostname()
    model = work.options.model if work.options.model != "auto" else work.choice.spec.name
    device = device_info(work.device.name.partition(":")[0])
    choice = choose_model(model, device, work.options.weights)
    if choice.conversion is not None:
        convert(choice.conversion, lambda _: None)
        choice = choose_model(model, device, work.options.weights)
    if weights_of(choice, fingerprint) != order.weights:
        raise WeightsError(
            f"{machine} has other files of the model {work.choice.spec.name}, or lacks some: fetch them there with "
            f"`starvsr download-weights`, or install starvsr {version('starvsr')} on both"
        )
    path = work.info.path
    if not _is(path, order.input):
        if not order.sent:
            raise InputError(
                f"{path} cannot be read by {machine}: put it there, or share its folder"
            )
        import ray

        path = scratch / f"input{path.suffix}"
        with path.open("xb") as file:
            file.write(ray.get(order.sent[0]))
    shared = _mark(work.folder, order.token).exists()
    return dataclasses.replace(
        work,
        info=dataclasses.replace(work.info, path=path),
        choice=choice,
        device=dataclasses.replace(work.device, name=device.name),
        folder=work.folder if shared else scratch,
    )


@contextmanager
def _messages_to(board: Any) -> Iterator[None]:
    """What the library says is left on the board."""
    handler = _Poster(board)
    _library.addHandler(handler)
    try:
        yield
    finally:
        _library.removeHandler(handler)


class _Poster(logging.Handler):
    def __init__(self, board: Any) -> None:
        super().__init__(logging.WARNING)
        self.board = board

    def emit(self, record: logging.LogRecord) -> None:
        self.board.put.remote("log", (record.levelno, self.format(record)))
