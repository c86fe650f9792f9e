"""The restoration of a job's segments by one process: the model loaded as planned, segments in order.

An *executor* is handed the segments that a job still lacks and gives what it made of them, in any order: `InTurn` here,
`processes.Workers` with processes of this machine, `ray_cluster.Cluster` with those of others.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import torch

from starvsr.errors import MemoryLimitError
from starvsr.job.heap import give_back, return_large_blocks
from starvsr.job.seam import SegmentFiles
from starvsr.job.segment import OnFrames, PartMaker
from starvsr.media.encoder import EncoderSettings
from starvsr.options import Precision, UpscaleOptions
from starvsr.plan.fitting import offload_steps
from starvsr.plan.plan import Plan
from starvsr.plan.segments import Segment
from starvsr.restore.fallback import is_out_of_memory
from starvsr.restore.restorer import Restorer
from starvsr.types import DeviceInfo, VideoIndex, VideoInfo
from starvsr.zoo.choose import ModelChoice
from starvsr.zoo.load import LoadedModel, load_choice

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """Everything a process needs to restore segments of a job; picklable."""

    info: VideoInfo
    index: VideoIndex
    options: UpscaleOptions
    choice: ModelChoice
    device: DeviceInfo
    settings: EncoderSettings
    plan: Plan
    folder: Path
    """Folder of the parts; absolute."""
    threads: int
    """CPU threads of the network: its last bits depend on their number, so a job keeps it."""
    windows: dict[str, Any] | None
    """The windows that the job had to shrink to so far."""


@dataclass(frozen=True)
class Made:
    """The result of one segment."""

    files: SegmentFiles
    seconds: dict[str, float] = field(default_factory=dict)
    """Time of each part of the work."""
    windows: dict[str, Any] | None = None
    """The windows that this segment had to shrink to."""


class Executor(Protocol):
    """Restores segments and yields the results in any order."""

    def __call__(
        self, work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
    ) -> Generator[Made, None, None]:
        """on_load: is called once, when a model is loaded. on_frames: see `parts`; both in the caller's thread.

        Raises StarvsrError.
        """
        ...


OnLoad = Callable[[], None]

_LAST_ROUNDS = 4
# Parameters of a network whose calls are so short that clearing new memory is a large part of them.
_SMALL_NETWORK = 10_000_000


def handing_order(segments: Sequence[Segment], workers: int) -> list[Segment]:
    """Segments in the order for several workers: in time, except the last four per worker, longest first.

    In time, an interrupted job has most of its beginning; a long last segment would let all other workers wait
    (`benchmarks/scaling.py film`).
    """
    last = max(0, len(segments) - _LAST_ROUNDS * workers)
    return [
        *segments[:last],
        *sorted(segments[last:], key=lambda segment: segment.pictures, reverse=True),
    ]


class LastModel:
    """Loads models, and keeps the last one for jobs with the same."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._model: LoadedModel | None = None

    def __call__(self, work: Work, offload: str) -> LoadedModel:
        """The model of a job. Raises as `load_choice`."""
        options = dataclasses.replace(
            work.options.device, precision=cast(Precision, work.plan.precision)
        )
        sampling = work.options.sampling
        key = (
            work.choice,
            work.device.name,
            options.precision,
            options.attention,
            options.compile,
            offload,
            work.options.look.detail,
            sampling.prompt,
            sampling.negative_prompt,
        )
        if self._model is None or key != self._key:
            if self._model is not None:
                # Freed before the new one is loaded; compiled parts are reference cycles.
                self._model = None
                gc.collect()
            self._model = load_choice(
                work.choice,
                work.device,
                options,
                offload=offload,
                detail=work.options.look.detail,
                prompt=sampling.prompt,
                negative_prompt=sampling.negative_prompt,
            )
            self._key = key
        return self._model


class InTurn:
    """Restores segments in this process."""

    def __init__(self, models: LastModel | None = None) -> None:
        self.models = models or LastModel()

    def __call__(
        self, work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
    ) -> Generator[Made, None, None]:
        """See `Executor`."""
        if not segments:
            return
        restorer = load_restorer(work, self.models)
        on_load()
        yield from made_of(part_maker(work, restorer, on_frames), segments)


def part_maker(work: Work, restorer: Restorer, on_frames: OnFrames) -> PartMaker:
    """What restores segments of this work."""
    return PartMaker(
        work.info, work.index, work.plan, work.settings, restorer, work.folder, on_frames
    )


def made_by(maker: PartMaker, segment: Segment) -> Made:
    """Restore one segment. Raises as `PartMaker.make_each`."""
    (made,) = made_of(maker, [segment])
    return made


def made_of(maker: PartMaker, segments: Sequence[Segment]) -> Generator[Made, None, None]:
    """Restore segments, in order. Raises as `PartMaker.make_each`."""
    restorer = maker.restorer
    before = restorer.layout.windows_json() if restorer.layout else None
    restorer.seconds = {}
    began = time.monotonic()
    with closing(maker.make_each(segments)) as results:
        for files in results:
            segment, now = files.segment, time.monotonic()
            logger.debug(
                "segment %d of %d, frames %d to %d: restored in %.1f s",
                segment.index + 1,
                len(maker.plan.segments),
                segment.first,
                segment.last - 1,
                now - began,
            )
            # Includes some of the next segment's time.
            seconds, restorer.seconds, began = restorer.seconds, {}, now
            behind = restorer.layout.windows_json() if restorer.layout else None
            yield Made(files, seconds, behind if behind != before else None)
            before = behind
            give_back()


def load_restorer(work: Work, models: LastModel) -> Restorer:
    """The model of a job, loaded as its plan says, or with more of it offloaded if it does not fit.

    Raises WeightsError if files are missing or corrupt, MemoryLimitError if the weights do not fit.
    """
    if work.device.name == "cpu":
        if torch.get_num_threads() != work.threads:
            torch.set_num_threads(work.threads)
        if work.choice.spec.parameters > _SMALL_NETWORK:
            return_large_blocks()
    options, layout = work.options, work.plan.layout
    if work.windows is not None:
        layout = layout.with_windows(work.windows)
    for step in offload_steps(layout.offload, compiled=options.device.compile):
        try:
            model = models(work, step)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            logger.warning("memory ran out while loading with --offload %s", step)
            continue
        return Restorer(
            model,
            sampling=options.sampling,
            look=options.look,
            windows=options.windows,
            layout=dataclasses.replace(layout, offload=step),
        )
    tried, way = ", even block by block", "end other programs that use it"
    if options.device.compile:
        tried, way = "", f"leave out --compile to load them block by block, {way}"
    raise MemoryLimitError(
        f"there is no room for the weights of {work.choice.spec.name} on {work.device.name}{tried}: {way}, or give "
        "another --device"
    )
