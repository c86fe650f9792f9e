"""One whole job: check, plan, restore segment by segment, crossfade seams, join the parts, move into place."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from starvsr.errors import InputError, MemoryLimitError, OutputError, UsageError
from starvsr.job.executor import Executor, InTurn, LastModel, Work
from starvsr.job.journal import Journal, is_made, journal_folder, open_journal
from starvsr.job.kept import KeptParts, job_facts
from starvsr.job.records import JOB_NOTE, WINDOWS_NOTE
from starvsr.job.request import provenance_text, request_of
from starvsr.job.workdir import discard_left, is_begun
from starvsr.media.encoder import EncoderSettings, check_encoder, container_of, with_codec
from starvsr.media.files import check_target, errors_of, written_errors
from starvsr.media.hwaccel import usable_device
from starvsr.media.index import build_index, expected_frames
from starvsr.media.join import join
from starvsr.media.notes import picture_notes
from starvsr.media.passage import check_streams
from starvsr.media.pixfmt import choose_pix_fmt, is_subsampled
from starvsr.media.probe import probe
from starvsr.media.provenance import provenance_of
from starvsr.media.sequence import is_sequence
from starvsr.media.timing import check_times
from starvsr.models.compiled import check_compiler
from starvsr.models.device import (
    attention_backend,
    device_info,
    peak_device_bytes,
    peak_process_bytes,
)
from starvsr.options import UpscaleOptions
from starvsr.plan.plan import Plan, make_plan, output_size
from starvsr.plan.settings import resolve
from starvsr.restore.fallback import is_out_of_memory
from starvsr.types import DeviceInfo, Progress, ProgressCallback, VideoIndex, VideoInfo
from starvsr.zoo.choose import ModelChoice, choose_model
from starvsr.zoo.folder import weights_folder

if TYPE_CHECKING:
    from starvsr.zoo.install import InstallPlan

logger = logging.getLogger(__name__)

__all__ = ["Job", "LastModel", "UpscaleResult", "plan_video", "run_job", "upscale_video"]


@dataclass(frozen=True)
class Job:
    """A checked and planned job; `run_job` does it."""

    source: Path
    target: Path
    options: UpscaleOptions
    info: VideoInfo
    index: VideoIndex
    choice: ModelChoice
    device: DeviceInfo
    settings: EncoderSettings
    plan: Plan
    notes: tuple[str, ...] = ()
    """What is done to the picture beside enlarging it, and what of it cannot be carried; a sentence each."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {
            "source": str(self.source),
            "target": str(self.target),
            "model": self.choice.spec.name,
            "model_reason": self.choice.reason,
            "device": dataclasses.asdict(self.device),
            "encoder": dataclasses.asdict(self.settings),
            "lost_frames": self.index.lost_frames,
            "notes": list(self.notes),
            "plan": self.plan.to_json(),
        }


@dataclass(frozen=True)
class UpscaleResult:
    """What a finished job made."""

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
    """The most main memory that the process has held at once so far; None where the platform does not tell."""
    peak_device_bytes: int | None
    """The same of a CUDA device's memory; None on other devices."""

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

    executor: has the segments restored; None is as `options.workers` says. With several workers a script needs the
    guard `if __name__ == "__main__"`, since they import it. progress: called often, from this thread. Raises
    StarvsrError (see `errors`). On any error or interrupt the target is as it was; segments that are finished by then
    are kept in the work directory, and the same call goes on from there.
    """
    job = plan_video(source, target, options, fetch=lambda _: None, progress=progress)
    return run_job(job, executor=executor, progress=progress)


def plan_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    options: UpscaleOptions | None = None,
    *,
    fetch: Callable[[InstallPlan], None] | None = None,
    progress: ProgressCallback | None = None,
    index_until_s: float | None = None,
) -> Job:
    """Check everything that can be checked before weights are loaded, and plan the job; writes no video.

    A target of None plans without looking at the place of the output. fetch: download weights that are missing, before
    the video is read, and call this with what that takes; None needs no weights. index_until_s: what is behind
    this time is not wanted, and is left out of the job's index if the header says how many frames there are.
    Raises StarvsrError.
    """
    options = options or UpscaleOptions()
    source_path = Path(source)
    target_path = (
        Path(target)
        if target is not None
        else source_path.with_name(f"{source_path.stem}-upscaled.mkv")
    )
    info = probe(source_path, options.input.fps)
    if made_by := provenance_of(source_path):
        logger.warning("%s was already upscaled by %s", source_path, made_by)
    if target is not None:
        _check_place(source_path, target_path, options)
    device = _worker_device(options)
    choice = choose_model(options.model, device, options.weights)
    _check_effect(choice, options)
    if options.workers.cluster is None:
        attention_backend(options.device.attention, torch.device(device.name))
    check_streams(info, target_path, options.streams)
    encode = with_codec(options.encode, target_path, info)
    options = dataclasses.replace(options, encode=encode)
    even = is_subsampled(choose_pix_fmt(encode, info, container_of(target_path)))
    width, height = output_size(info.width, info.height, options.size, even=even)
    settings = check_encoder(encode, target_path, info, width, height)
    if options.device.compile and options.workers.cluster is None:
        # It takes far longer than any other check.
        check_compiler(torch.device(device.name))
    if fetch is not None and _lacking(choice, options):
        _fetch(choice, options, fetch, progress or _ignored)
        choice = choose_model(options.model, device, options.weights)
    info = dataclasses.replace(info, hwaccel=usable_device(info, options.device.hwaccel))
    index = build_index(
        info,
        scene_detect=options.windows.scene_detect,
        until_s=index_until_s if expected_frames(info) else None,
        progress=progress,
    )
    notes = picture_notes(info, index, settings, options)
    plan = make_plan(info, index, choice.spec, device, options, even=even)
    check_times(info, index, plan.first, plan.last, target_path)
    # More workers than segments would leave threads idle.
    sharing = min(options.workers.count, len(plan.segments))
    device = dataclasses.replace(device, threads=max(1, device.threads // sharing))
    _warn_of_memory(plan)
    return Job(
        source_path, target_path, options, info, index, choice, device, settings, plan, notes
    )


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
            if kept.files and on_resume is not None:
                on_resume(len(kept.files), journal.folder)
            chosen = nullcontext(executor) if executor else open_executor(job.options, models)
            with chosen as running:
                _restore_missing(job, kept, running)
            report(Progress("join", 0, 1))
            _join(job, kept.parts()[0], journal)
            report(Progress("join", 1, 1))
            seconds = kept.seconds
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
    """Errors of files beside the target are about the target; a work directory that was named is the user's own."""
    return errors_of(job.target) if job.options.resume.work_dir is None else nullcontext()


@contextmanager
def _opened_journal(job: Job) -> Iterator[Journal]:
    """The journal of a job. Raises InputError where the input can no longer be read, else as `open_journal`."""
    try:
        request = request_of(
            job.source, job.target, job.choice, job.device, job.plan.precision, job.options
        )
    except OSError as error:
        raise InputError(f"{error.filename} cannot be read: {error.strerror or error}") from error
    notes = {
        "memory_bytes": job.device.memory_bytes,
        "threads": job.device.threads,
        JOB_NOTE: job_facts(
            job.source, job.target, job.settings, job.options, job.plan, _provenance(job)
        ),
    }
    folder = journal_folder(job.target, job.options.resume.work_dir)
    with open_journal(folder, request, notes, resume=job.options.resume.resume) as journal:
        yield journal


def _as_begun(job: Job, journal: Journal) -> Job:
    """The job planned for the memory that was there when it began, so that it goes on the same."""
    memory_bytes = journal.notes["memory_bytes"]
    if memory_bytes == job.device.memory_bytes:
        return job
    device = dataclasses.replace(job.device, memory_bytes=memory_bytes)
    even = is_subsampled(job.settings.pix_fmt)
    plan = make_plan(job.info, job.index, job.choice.spec, device, job.options, even=even)
    return dataclasses.replace(job, plan=plan)


def _restore_missing(job: Job, kept: KeptParts, executor: Executor) -> None:
    """Have what is missing restored, and record it as it comes."""
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
    """What restores segments as the options say: this process, or several, which end with the context.

    models: what loads the model in this process. Raises UsageError where there is no cluster.
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
    """Turn an allocation that failed outside the network and the autoencoder into MemoryLimitError."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise MemoryLimitError(
            f"memory ran out with {plan.windows.chunk_frames} frames of {plan.width}x{plan.height} at once: "
            "give --chunk-frames 1 or a smaller --scale"
        ) from error


def _check_place(source: Path, target: Path, options: UpscaleOptions) -> None:
    """Refuse an output that cannot be written, or a work directory that it or the input lies in: files there go."""
    folder = journal_folder(target, options.resume.work_dir)
    with written_errors(target):
        # What a job put there before it was broken off is its own.
        own = (
            is_begun(folder)
            if is_sequence(target)
            else options.resume.resume and is_made(folder, target)
        )
    if options.resume.work_dir is None:
        discard_left(folder)
    check_target(source, target, overwrite=options.overwrite or own)
    real = os.path.realpath(folder)
    for name, path in (("input", source), ("output", target)):
        # A link may lie there, or what it names.
        places = [Path(os.path.realpath(place)) for place in (path.parent, path)]
        if any(place.is_relative_to(real) for place in places):
            raise UsageError(
                f"the {name} {path} lies in the work directory {folder}: give another --work-dir"
            )
    with written_errors(folder):
        has_parent = folder.parent.is_dir()
    if not has_parent:
        raise OutputError(f"the folder {folder.parent} of --work-dir does not exist: make it first")


def _fetch(
    choice: ModelChoice,
    options: UpscaleOptions,
    announce: Callable[[InstallPlan], None],
    progress: ProgressCallback,
) -> None:
    """Download what the model lacks. Raises StarvsrError."""
    # It takes time that runs with the embedded model need not spend.
    from starvsr.zoo.install import ensure

    ensure(
        choice.spec,
        weights_folder(options.weights.folder),
        _lacking(choice, options),
        offline=options.weights.offline,
        progress=progress,
        announce=announce,
    )


def _lacking(choice: ModelChoice, options: UpscaleOptions) -> tuple[str, ...]:
    """Components that have to be fetched: not the encoder of words that are all known already."""
    text = choice.spec.text
    if text is None or text.weights not in choice.missing:
        return choice.missing
    from starvsr.zoo.text import contexts_are_known

    sampling = options.sampling
    known = contexts_are_known(
        choice.spec,
        choice.folders,
        prompt=sampling.prompt,
        negative_prompt=sampling.negative_prompt,
    )
    return tuple(name for name in choice.missing if not (known and name == text.weights))


def _worker_device(options: UpscaleOptions) -> DeviceInfo:
    """The device of every worker, with its share of the memory. Raises UsageError where there is none."""
    if options.workers.cluster is not None:
        from starvsr.job.ray_nodes import cluster_device

        return cluster_device(options.workers.cluster, options.device.device)
    device = device_info(options.device.device)
    if options.workers.count == 1:
        return device
    from starvsr.job.processes import shared_device

    return shared_device(options.device.device, device, options.workers.count)


def _warn_of_memory(plan: Plan) -> None:
    peak, limit = plan.layout.peak_bytes, plan.limit_bytes
    if limit and peak > limit:
        logger.warning(
            "the work takes about %.1f GiB and the device has %.1f: it may fail or be slow",
            peak / 2**30,
            limit / 2**30,
        )


def _check_effect(choice: ModelChoice, options: UpscaleOptions) -> None:
    """Refuse options that do nothing for a model that was asked for; warn under `auto`."""
    names = resolve(choice.spec, options.sampling, options.windows).without_effect
    if not names:
        return
    message = f"{' and '.join(names)} would have no effect on the model {choice.spec.name}"
    if options.model != "auto":
        raise UsageError(f"{message}; leave it out or give another --model")
    logger.warning(message)
