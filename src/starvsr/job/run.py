"""One whole job: planned, restored segment by segment, seams crossfaded, the parts joined and moved into place."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starvsr.errors import InputError, MemoryLimitError
from starvsr.job.executor import Executor, InTurn, LastModel, Work
from starvsr.job.journal import Journal, journal_folder, open_journal
from starvsr.job.kept import KeptParts, job_facts
from starvsr.job.pace import keep_pace
from starvsr.job.plan_job import Job, plan_video
from starvsr.job.records import JOB_NOTE, WINDOWS_NOTE
from starvsr.job.request import provenance_text, request_of
from starvsr.media.files import errors_of
from starvsr.media.join import join
from starvsr.media.pixfmt import is_subsampled
from starvsr.media.still import STILL
from starvsr.models.device import peak_device_bytes, peak_process_bytes
from starvsr.options import BYTES_PER_ELEMENT, UpscaleOptions
from starvsr.plan.fitting import format_memory, moved_weights
from starvsr.plan.plan import Plan, make_plan
from starvsr.restore.fallback import is_out_of_memory
from starvsr.types import Progress, ProgressCallback

logger = logging.getLogger(__name__)

__all__ = ["Job", "LastModel", "UpscaleResult", "plan_video", "run_job", "upscale_video"]


@dataclass(frozen=True)
class UpscaleResult:
    """The result of a finished job."""

    target: Path
    width: int
    height: int
    frames: int
    lost_frames: int
    """Frames of the source that could not be decoded."""
    model: str
    elapsed_s: float
    seconds: dict[str, float]
    """Wall time of each part of the work."""
    peak_memory_bytes: int | None
    """Peak RAM of the process so far; None if unknown."""
    peak_device_bytes: int | None
    """Peak CUDA memory; None on other devices."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {**dataclasses.asdict(self), "target": str(self.target)}


def upscale_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: UpscaleOptions | None = None,
    *,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
) -> UpscaleResult:
    """Restore a video file at a larger size into another file.

        options = starvsr.UpscaleOptions(size=starvsr.SizeOptions(scale=2), overwrite=True)
        starvsr.upscale_video("in.mp4", "out.mp4", options)

    options: those of the command line, in groups; `help(starvsr.UpscaleOptions)` lists the groups, `help` of a group
    its options. executor: has the segments restored; None is as `options.workers` says. With several workers a script
    needs the guard `if __name__ == "__main__"`, since they import it. progress: called often, from this thread. Raises
    StarvsrError (see `errors`). On any error or interrupt the target is as it was; segments that are finished by then
    are kept in the work directory, and the same call resumes.
    """
    job = plan_video(source, target, options, fetch=lambda _: None, progress=progress)
    return run_job(job, executor=executor, progress=progress)


def run_job(
    job: Job,
    *,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
    on_resume: Callable[[int, Path], None] | None = None,
    models: LastModel | None = None,
) -> UpscaleResult:
    """Do a prepared job, or the rest of it.

    models: what loads the model; several jobs may share one.
    on_resume: called with the number of segments that are there already, if any, and where. Raises StarvsrError; see
    `upscale_video` for what is left then.
    """
    began = time.perf_counter()
    report = progress or _ignored
    with _errors_named(job), _opened_journal(job) as journal, _memory_errors(job.plan):
        job = _as_begun(job, journal)
        seconds: dict[str, float] = {}
        if not journal.made(job.target):
            kept = KeptParts(job.info, job.index, job.plan.segments, job.settings, journal, report)
            resumed = bool(kept.files)
            if resumed and on_resume is not None:
                on_resume(len(kept.files), journal.folder)
            chosen = nullcontext(executor) if executor else open_executor(job.options, models)
            with chosen as running:
                _restore_missing(job, kept, running)
            report(Progress("join", 0, 1))
            _join(job, kept.parts()[0], journal)
            report(Progress("join", 1, 1))
            seconds = kept.seconds
            if not resumed and executor is None:
                keep_pace(job, time.perf_counter() - began - seconds.get("load", 0.0))
    return UpscaleResult(
        target=job.target,
        width=job.plan.width,
        height=job.plan.height,
        frames=job.plan.frames,
        lost_frames=job.index.lost_frames,
        model=job.choice.spec.name,
        elapsed_s=time.perf_counter() - began,
        seconds={name: round(spent, 3) for name, spent in seconds.items()},
        peak_memory_bytes=peak_process_bytes(),
        peak_device_bytes=peak_device_bytes(job.device),
    )


def _ignored(_: Progress) -> None:
    pass


def _errors_named(job: Job) -> AbstractContextManager[None]:
    """File errors beside the target are reported for the target, but not those of a user's work directory."""
    return errors_of(job.target) if job.options.resume.work_dir is None else nullcontext()


@contextmanager
def _opened_journal(job: Job) -> Iterator[Journal]:
    """The journal of a job. Raises InputError if the input can no longer be read, otherwise as `open_journal`."""
    try:
        request = request_of(
            job.source,
            job.target,
            job.choice,
            job.device,
            job.plan.precision,
            job.options,
            job.settings,
        )
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror or error}") from error
    notes = {
        "memory_bytes": job.options.device.memory_limit_bytes or job.device.memory_bytes,
        "offload": job.options.device.offload,
        "threads": job.device.threads,
        JOB_NOTE: job_facts(
            job.source, job.target, job.settings, job.options, job.plan, _provenance(job)
        ),
    }
    folder = journal_folder(job.target, job.options.resume.work_dir)
    with open_journal(
        folder,
        request,
        notes,
        resume=job.options.resume.resume,
        finish=job.settings.container != STILL,
    ) as journal:
        yield journal


def _as_begun(job: Job, journal: Journal) -> Job:
    """The job with the segments and windows that it began with, which follow from the memory that it had then.

    Where its weights are is planned for the memory of now. Warns where the windows take more than is allowed now.
    """
    now = job.options.device
    memory_bytes, offload = journal.notes["memory_bytes"], journal.notes["offload"]
    if (memory_bytes, offload) == (now.memory_limit_bytes or job.device.memory_bytes, now.offload):
        return job
    device = dataclasses.replace(job.device, memory_bytes=memory_bytes)
    options = dataclasses.replace(
        job.options, device=dataclasses.replace(now, memory_limit_bytes=None, offload=offload)
    )
    even = is_subsampled(job.settings.pix_fmt)
    still = job.settings.container == STILL
    begun = make_plan(job.info, job.index, job.choice.spec, device, options, even=even, still=still)
    limit_bytes = job.plan.limit_bytes
    layout = moved_weights(
        job.choice.spec,
        begun.layout,
        job.plan.layout.offload,
        bytes_per_element=BYTES_PER_ELEMENT[begun.precision],
        limit_bytes=limit_bytes,
    )
    if now.memory_limit_bytes and limit_bytes and layout.peak_bytes > limit_bytes:
        logger.warning(
            "the windows stay those that the job began with and may take %s, though %s can be used: --no-resume "
            "starts over with smaller ones",
            format_memory(layout.peak_bytes),
            format_memory(limit_bytes),
        )
    plan = dataclasses.replace(begun, layout=layout, limit_bytes=limit_bytes)
    return dataclasses.replace(job, plan=plan)


def _restore_missing(job: Job, kept: KeptParts, executor: Executor) -> None:
    """Restore missing segments, and record each."""
    journal, missing = kept.journal, kept.missing()
    work = Work(
        job.info,
        job.index,
        job.options,
        job.choice,
        job.device,
        job.settings,
        job.plan,
        journal.folder,
        journal.notes["threads"],
        journal.notes.get(WINDOWS_NOTE),
    )

    began = time.perf_counter()

    def on_load() -> None:
        kept.spent("load", time.perf_counter() - began)
        kept.progress(Progress("load", 1, 1))
        kept.report()

    kept.make_seams()
    if missing:
        kept.progress(Progress("load", 0, 1))
    else:
        kept.report()
    with closing(executor(work, missing, on_load, kept.on_frames)) as results:
        for made in results:
            kept.take(made.files, made.seconds, made.windows)


def open_executor(
    options: UpscaleOptions, models: LastModel | None = None
) -> AbstractContextManager[Executor]:
    """The executor that the options select; its processes end with the context.

    models: what loads the model in this process. Raises UsageError if there is no cluster.
    """
    if options.workers.cluster is not None:
        from starvsr.job.ray_cluster import Cluster

        return Cluster(options.workers.cluster)
    if options.workers.count > 1:
        from starvsr.job.processes import Workers

        return Workers(options.workers.count)
    return nullcontext(InTurn(models))


def _join(job: Job, parts: Sequence[Path], journal: Journal) -> None:
    join(
        parts,
        job.info,
        job.index,
        job.target,
        job.settings,
        job.options.streams,
        job.plan.first,
        job.plan.last,
        work_dir=journal.folder,
        provenance=_provenance(job),
        on_complete=journal.note_made,
        overwrite=job.options.overwrite,
    )


def _provenance(job: Job) -> str:
    return provenance_text(job.choice, job.info, job.plan, job.options)


@contextmanager
def _memory_errors(plan: Plan) -> Iterator[None]:
    """Convert a failed allocation outside network and autoencoder to MemoryLimitError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryLimitError(
            f"memory ran out with {plan.windows.chunk_frames} frames of {plan.width}x{plan.height} at once: "
            "give --chunk-frames 1 or a smaller --scale"
        ) from error
