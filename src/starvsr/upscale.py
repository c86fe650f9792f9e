"""One whole job: check, plan, restore segment by segment, crossfade seams, join the parts, move into place."""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from starvsr.attempts import is_out_of_memory
from starvsr.errors import InputError, MemoryLimitError, OutputError, UsageError
from starvsr.journal import Journal, journal_folder, open_journal
from starvsr.layout import OFFLOAD_STEPS
from starvsr.media.copies import check_streams
from starvsr.media.encoder import EncoderSettings, check_encoder
from starvsr.media.files import check_target, errors_of
from starvsr.media.index import build_index
from starvsr.media.join import join
from starvsr.media.pixfmt import choose_pix_fmt, is_subsampled
from starvsr.media.probe import probe
from starvsr.media.timing import check_times
from starvsr.options import UpscaleOptions
from starvsr.parts import WINDOWS_NOTE, PartMaker, SegmentFiles
from starvsr.plan import Plan, Segment, ineffective_options, make_plan, output_size
from starvsr.request import request_of
from starvsr.restore import Restorer
from starvsr.types import DeviceInfo, Progress, ProgressCallback, VideoIndex, VideoInfo
from starvsr.zoo.folder import weights_folder
from starvsr.zoo.load import (
    LoadedModel,
    ModelChoice,
    attention_backend,
    choose_model,
    device_info,
    load_choice,
)

if TYPE_CHECKING:
    from starvsr.zoo.install import InstallPlan

logger = logging.getLogger(__name__)

Executor = Callable[[Callable[[Segment], SegmentFiles], Sequence[Segment]], Iterable[SegmentFiles]]


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

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {**dataclasses.asdict(self), "target": str(self.target)}


def upscale_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: UpscaleOptions | None = None,
    *,
    executor: Executor = map,
    progress: ProgressCallback | None = None,
) -> UpscaleResult:
    """Restore a video file at a larger size into another file.

    executor: maps the restoration over the segments, in any order of work, results in order; `map` does one
    after the other. progress: called often, from this thread. Raises StarvsrError (see `errors`). On any error or
    interrupt the target is as it was; segments that are finished by then are kept in the work directory, and the same
    call goes on from there.
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
) -> Job:
    """Check everything that can be checked before weights are loaded, and plan the job; writes no video.

    A target of None plans without looking at the place of the output. fetch: download weights that are missing, before
    the video is read, and call this with what that takes; None needs no weights. Raises StarvsrError.
    """
    options = options or UpscaleOptions()
    source_path = Path(source)
    target_path = (
        Path(target)
        if target is not None
        else source_path.with_name(f"{source_path.stem}-upscaled.mkv")
    )
    info = probe(source_path)
    if target is not None:
        check_target(source_path, target_path, overwrite=options.overwrite)
        _check_work_dir(source_path, target_path, options)
    device = device_info(options.device.device)
    choice = choose_model(options.model, device, options.weights)
    _check_effect(choice, options)
    attention_backend(options.device.attention, torch.device(device.name))
    check_streams(info, target_path, options.streams)
    pix_fmt = choose_pix_fmt(options.encode, info)
    even = is_subsampled(pix_fmt)
    width, height = output_size(info.width, info.height, options.size, even=even)
    settings = check_encoder(options.encode, target_path, info, width, height)
    if fetch is not None and _lacking(choice, options):
        # It takes time that runs with the embedded model need not spend.
        from starvsr.zoo.install import ensure

        folder = weights_folder(options.weights.folder)
        ensure(
            choice.spec,
            folder,
            _lacking(choice, options),
            offline=options.weights.offline,
            progress=progress or (lambda _: None),
            announce=fetch,
        )
        choice = choose_model(options.model, device, options.weights)
    index = build_index(info, scene_detect=options.windows.scene_detect, progress=progress)
    plan = make_plan(info, index, choice.spec, device, options, even=even)
    check_times(info, index, plan.first, plan.last, target_path)
    _warn_of_memory(plan)
    return Job(source_path, target_path, options, info, index, choice, device, settings, plan)


def run_job(
    job: Job,
    *,
    executor: Executor = map,
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
    report = progress or (lambda _: None)
    with _errors_named(job), _opened_journal(job) as journal, _memory_errors(job.plan):
        job = _as_begun(job, journal)
        report(Progress("load", 0, 1))
        restorer = _restorer(job, journal.notes.get(WINDOWS_NOTE), models or LastModel())
        report(Progress("load", 1, 1))
        maker = PartMaker(job.info, job.index, job.plan, job.settings, restorer, journal, report)
        there = maker.count_kept()
        if there and on_resume is not None:
            on_resume(there, journal.folder)
        parts = list(maker.in_order(executor(maker.restore, job.plan.segments)))
        report(Progress("join", 0, 1))
        _join(job, parts, journal.folder)
        report(Progress("join", 1, 1))
    return UpscaleResult(
        target=job.target,
        width=job.plan.width,
        height=job.plan.height,
        frames=job.plan.frames,
        lost_frames=job.index.lost_frames,
        model=job.choice.spec.name,
        elapsed_s=time.perf_counter() - began,
        seconds={name: round(spent, 3) for name, spent in maker.seconds.items()},
    )


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
    notes = {"memory_bytes": job.device.memory_bytes, "threads": job.device.threads}
    folder = journal_folder(job.target, job.options.resume.work_dir)
    with open_journal(folder, request, notes, resume=job.options.resume.resume) as journal:
        yield journal


def _as_begun(job: Job, journal: Journal) -> Job:
    """The job planned for the memory and the threads that were there when it began, so that it goes on the same."""
    memory_bytes, threads = (journal.notes[name] for name in ("memory_bytes", "threads"))
    if job.device.name == "cpu" and torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if memory_bytes == job.device.memory_bytes:
        return job
    device = dataclasses.replace(job.device, memory_bytes=memory_bytes)
    even = is_subsampled(job.settings.pix_fmt)
    plan = make_plan(job.info, job.index, job.choice.spec, device, job.options, even=even)
    return dataclasses.replace(job, plan=plan)


class LastModel:
    """Loads models, and keeps the last one for jobs that want the same."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._model: LoadedModel | None = None

    def __call__(self, job: Job, offload: str) -> LoadedModel:
        """The model of a job. Raises as `load_choice`."""
        options = dataclasses.replace(job.options.device, precision=job.plan.precision)
        sampling = job.options.sampling
        key = (
            job.choice,
            job.device.name,
            options.precision,
            options.attention,
            offload,
            sampling.prompt,
            sampling.negative_prompt,
        )
        if self._model is None or key != self._key:
            # The old one goes before there is a new one.
            self._model = None
            self._model = load_choice(
                job.choice,
                job.device,
                options,
                offload=offload,
                prompt=sampling.prompt,
                negative_prompt=sampling.negative_prompt,
            )
            self._key = key
        return self._model


def _restorer(job: Job, windows: dict[str, Any] | None, models: LastModel) -> Restorer:
    """The model of a job, loaded as its plan says, or with more of it waiting in main memory where it does not fit.

    windows: what the job had to shrink its windows to before it was broken off.
    Raises WeightsError where files are missing or corrupt, MemoryLimitError where there is no room for the weights.
    """
    options, layout = job.options, job.plan.layout
    if windows is not None:
        layout = layout.with_windows(windows)
    planned = layout.offload
    for step in OFFLOAD_STEPS[OFFLOAD_STEPS.index(planned) :]:
        try:
            model = models(job, step)
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
    raise MemoryLimitError(
        f"there is no room for the weights of {job.choice.spec.name} on {job.device.name}, even block by block: "
        "end what else uses it, or give another --device"
    )


def _join(job: Job, parts: Sequence[Path], folder: Path) -> None:
    join(
        parts,
        job.info,
        job.index,
        job.target,
        job.settings,
        job.options.streams,
        job.plan.first,
        job.plan.last,
        work_dir=folder,
    )


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


def _check_work_dir(source: Path, target: Path, options: UpscaleOptions) -> None:
    """Refuse a work directory that input or output lie in: its files come and go. Raises UsageError, OutputError."""
    folder = journal_folder(target, options.resume.work_dir)
    real = os.path.realpath(folder)
    for name, path in (("input", source), ("output", target)):
        # A link may lie there, or what it names.
        places = [Path(os.path.realpath(place)) for place in (path.parent, path)]
        if any(place.is_relative_to(real) for place in places):
            raise UsageError(
                f"the {name} {path} lies in the work directory {folder}: give another --work-dir"
            )
    if not folder.parent.is_dir():
        raise OutputError(f"the folder {folder.parent} of --work-dir does not exist: make it first")


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
    names = ineffective_options(choice.spec, options)
    if not names:
        return
    message = f"{' and '.join(names)} would have no effect on the model {choice.spec.name}"
    if options.model != "auto":
        raise UsageError(f"{message}; leave it out or give another --model")
    logger.warning(message)
