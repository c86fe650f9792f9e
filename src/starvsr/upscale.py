"""One whole job: check, plan, restore segment by segment, crossfade seams, join the parts, move into place."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starvsr.errors import MemoryLimitError, OutputError, UsageError
from starvsr.media.copies import check_streams
from starvsr.media.encoder import EncoderSettings, check_encoder
from starvsr.media.index import build_index
from starvsr.media.join import join
from starvsr.media.pixfmt import choose_pix_fmt, is_subsampled
from starvsr.media.probe import probe
from starvsr.options import UpscaleOptions
from starvsr.parts import PartMaker, SegmentFiles
from starvsr.plan import Plan, Segment, ineffective_options, make_plan, output_size
from starvsr.restore import Restorer
from starvsr.types import DeviceInfo, Progress, ProgressCallback, VideoIndex, VideoInfo
from starvsr.zoo.load import ModelChoice, choose_model, device_info, load_choice

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
    after the other. progress: called often, from this thread. Raises StarvsrError (see `errors`); on any error
    or interrupt neither the target nor a temporary file is left behind.
    """
    job = prepare(source, target, options or UpscaleOptions(), progress=progress)
    return run_job(job, executor=executor, progress=progress)


def prepare(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None,
    options: UpscaleOptions,
    *,
    progress: ProgressCallback | None = None,
) -> Job:
    """Check everything that can be checked before weights are loaded, and plan the job.

    A target of None plans without looking at the place of the output. Raises StarvsrError.
    """
    source_path = Path(source)
    target_path = (
        Path(target)
        if target is not None
        else source_path.with_name(f"{source_path.stem}-upscaled.mkv")
    )
    info = probe(source_path)
    if target is not None:
        _check_target(source_path, target_path, overwrite=options.overwrite)
    device = device_info(options.device.device)
    choice = choose_model(options.model, device)
    _check_effect(choice, options)
    check_streams(info, target_path, options.streams)
    pix_fmt = choose_pix_fmt(options.encode, info)
    even = is_subsampled(pix_fmt)
    width, height = output_size(info.width, info.height, options.size, even=even)
    settings = check_encoder(options.encode, target_path, info, width, height)
    index = build_index(info, scene_detect=options.windows.scene_detect, progress=progress)
    plan = make_plan(info, index, choice.spec, device, options, even=even)
    return Job(source_path, target_path, options, info, index, choice, device, settings, plan)


def run_job(
    job: Job, *, executor: Executor = map, progress: ProgressCallback | None = None
) -> UpscaleResult:
    """Do a prepared job. Raises StarvsrError; leaves nothing behind on any error or interrupt."""
    began = time.perf_counter()
    report = progress or (lambda _: None)
    report(Progress("load", 0, 1))
    restorer = Restorer(
        load_choice(job.choice, job.device, attention=job.options.device.attention),
        sampling=job.options.sampling,
        look=job.options.look,
        windows=job.options.windows,
    )
    report(Progress("load", 1, 1))
    try:
        work_dir = Path(
            tempfile.mkdtemp(
                prefix=f".{job.target.name}.", suffix=".starvsr", dir=job.target.parent
            )
        )
    except OSError as error:
        raise OutputError(f"{job.target.parent} cannot be written to: {error.strerror}") from error
    try:
        maker = PartMaker(job.info, job.index, job.plan, job.settings, restorer, work_dir, report)
        parts = list(maker.in_order(executor(maker.restore, job.plan.segments)))
        report(Progress("join", 0, 1))
        _join(job, parts)
        report(Progress("join", 1, 1))
    except OSError as error:
        raise OutputError(
            f"{job.target} could not be finished: {error.strerror or error}"
        ) from error
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        raise MemoryLimitError(
            f"memory ran out with {job.plan.windows.chunk_frames} frames of {job.plan.width}x{job.plan.height} at "
            f"once: give --chunk-frames 1 or a smaller --scale"
        ) from error
    finally:
        shutil.rmtree(work_dir, ignore_errors=True)
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


def _join(job: Job, parts: Sequence[Path]) -> None:
    join(
        parts,
        job.info,
        job.index,
        job.target,
        job.settings,
        job.options.streams,
        job.plan.first,
        job.plan.last,
    )


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed; torch says so in words only on the CPU."""
    words = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in words or "allocate memory" in words


def _check_target(source: Path, target: Path, *, overwrite: bool) -> None:
    """Everything about the output's place that can be refused at once. Raises OutputError, UsageError."""
    if target.is_dir():
        raise OutputError(f"{target} is a folder: give the name of a file to write")
    if target.exists():
        if target.samefile(source):
            raise UsageError(f"{target} is the input itself: give another output")
        if not overwrite:
            raise OutputError(f"{target} exists already: give --overwrite to replace it")
    folder = target.parent
    if not folder.is_dir():
        raise OutputError(f"the folder {folder} does not exist: make it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"the folder {folder} cannot be written to: choose another one")


def _check_effect(choice: ModelChoice, options: UpscaleOptions) -> None:
    """Refuse options that do nothing for a model that was asked for; warn under `auto`."""
    names = ineffective_options(choice.spec, options.sampling)
    if not names:
        return
    message = f"{' and '.join(names)} would have no effect: the model {choice.spec.name} runs one fixed step"
    if options.model != "auto":
        raise UsageError(f"{message}; leave it out or give another --model")
    logger.warning(message)
