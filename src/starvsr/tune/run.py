"""Measuring a video, advising settings, and trying them on a moment of it as `starvsr upscale` would."""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starvsr.errors import UsageError
from starvsr.job.executor import LastModel
from starvsr.job.journal import as_argument
from starvsr.job.pace import work_of
from starvsr.job.plan_job import Job, plan_video
from starvsr.job.preview import once_s
from starvsr.job.run import run_job
from starvsr.media.files import check_target
from starvsr.media.index import build_index
from starvsr.media.pixfmt import is_subsampled
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.scratch import scratch_folder
from starvsr.media.still import STILL
from starvsr.metrics.frame import Frame
from starvsr.metrics.niqe import niqe
from starvsr.models.device import device_info
from starvsr.options import (
    PreviewOptions,
    RangeOptions,
    StreamOptions,
    UpscaleOptions,
    flag_of,
)
from starvsr.plan.plan import make_plan
from starvsr.plan.ranges import cut_to_range
from starvsr.restore.levels import Frame as Pixels
from starvsr.tune.measure import Footage, excerpt_around, measure
from starvsr.tune.rules import MODELS, Machine, Setting, advise, alternatives
from starvsr.tune.sheet import enlarged, write_sheet
from starvsr.types import ProgressCallback, VideoIndex, VideoInfo
from starvsr.zoo.choose import choose_model

MOST_TRIALS = 3
# Of a frame, the middle of this size is what NIQE measures.
_NIQE_SIDE = 960

Settings = tuple[Setting, ...]


@dataclass(frozen=True)
class Trial:
    """Settings that were tried on the excerpt."""

    settings: Settings
    difference: str
    """From the advice, as options; empty for the advice itself."""
    reason: str
    command: str
    """For the whole video."""
    width: int
    height: int
    elapsed_s: float
    """Of the excerpt."""
    whole_s: float
    """Estimated for the whole video, seconds, without loading the model."""
    whole_bytes: float
    """Estimated size of the whole output."""
    device_bytes: int
    """Planned for the network's device."""
    peak_memory_bytes: int | None
    """Of the process so far."""
    niqe: float | None
    """Of the excerpt's middle frame, lower is better; None for small or flat pictures."""


@dataclass(frozen=True)
class Advice:
    """What was measured, and what was tried: first what is advised."""

    source: Path
    footage: Footage
    machine: Machine
    start_s: float
    """Of the excerpt, as `duration_s` and `frames`."""
    duration_s: float
    frames: int
    trials: tuple[Trial, ...]
    niqe_of_input: float | None
    """Of the same frame, plainly upsampled."""
    sheet: Path | None

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        sheet = None if self.sheet is None else str(self.sheet)
        return {**dataclasses.asdict(self), "source": str(self.source), "sheet": sheet}


def tune(
    source: str | os.PathLike[str],
    fixed: Mapping[str, Any] | None = None,
    *,
    preview: PreviewOptions | None = None,
    sheet: Path | None = None,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Advice:
    """Measure a video, and try what its measurements advise; only `sheet` is written, a PNG.

    fixed: options that are taken as they are, by their names in the groups of `UpscaleOptions`. preview: how much to
    try and where; None is a second where there is as much detail as usual. Raises StarvsrError; UsageError for a
    single picture.
    """
    source, fixed, report = Path(source), dict(fixed or {}), progress or (lambda _: None)
    options = with_fields(UpscaleOptions(), fixed)
    info = probe(source)
    if info.container == STILL:
        raise UsageError(f"tune is for videos, and {source} is one picture: upscale it, or --help")
    if sheet is not None:
        _check_sheet(source, sheet, overwrite=overwrite)
    index = build_index(info, detelecine="auto", repeats="near", progress=progress)
    footage, usual = measure(info, index, report)
    machine = _machine(options)
    settings = advise(footage, machine, fixed)
    if ("repeats", "near") not in [(each.field, each.value) for each in settings]:
        index = dataclasses.replace(index, repeats=index.equal)
    span = _excerpt(info, index, usual, preview or PreviewOptions(1.0))
    others = alternatives(footage, machine, settings, MOST_TRIALS - 1)
    trials, pictures, models = [], [], LastModel()
    with scratch_folder() as folder, _said_once():
        for number, change in enumerate([None, *others]):
            taken = _changed(settings, change)
            values = {each.field: each.value for each in taken}
            # What the container has no place for is no matter here.
            bare = StreamOptions(subtitles="none", attachments=False)
            taken_as = with_fields(UpscaleOptions(streams=bare), values)
            whole = plan_video(source, None, taken_as, read_index=lambda *_, **__: index)
            job = _of_excerpt(whole, span, folder / f"{number}.mkv")
            trial, picture = _tried(whole, job, (change, taken), models, report)
            trials.append(trial)
            pictures.append((trial.difference or "advised", picture))
    before = _middle(job.info, job.index, job.plan.first, job.plan.last)
    if sheet is not None:
        write_sheet(sheet, before, pictures)
    plain = enlarged(before, (trials[0].height, trials[0].width))
    return Advice(
        source,
        footage,
        machine,
        span.start_s or 0.0,
        span.duration_s or 0.0,
        job.plan.frames,
        tuple(trials),
        _niqe(plain),
        sheet,
    )


def _check_sheet(source: Path, sheet: Path, *, overwrite: bool) -> None:
    if sheet.suffix.lower() != ".png":
        raise UsageError(f"--sheet {sheet} is not a PNG: give a name that ends in .png")
    check_target(source, sheet, overwrite=overwrite)


@contextmanager
def _said_once() -> Iterator[None]:
    """Planning says the same of every setting: the first is enough."""
    said: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        return not (text in said or said.add(text))  # type: ignore[func-returns-value]

    logger = logging.getLogger(plan_video.__module__)
    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)


def with_fields(options: UpscaleOptions, values: Mapping[str, Any]) -> UpscaleOptions:
    """Options with fields of any of their groups, or their own, set by name. Raises UsageError for values."""
    for name, value in values.items():
        groups = [each.name for each in dataclasses.fields(options)]
        group = next((each for each in groups if hasattr(getattr(options, each), name)), None)
        if group is not None:
            changed = dataclasses.replace(getattr(options, group), **{name: value})
        options = dataclasses.replace(options, **{group or name: changed if group else value})
    return options


def _machine(options: UpscaleOptions) -> Machine:
    device = device_info(options.device.device)
    names = (rule.name for rule in MODELS)
    whole = (name for name in names if not choose_model(name, device, options.weights).missing)
    return Machine(device, tuple(whole))


def _excerpt(
    info: VideoInfo, index: VideoIndex, usual: int, preview: PreviewOptions
) -> RangeOptions:
    """What to try of a video, around the frame `usual` if nothing is said."""
    base, start_s = float(info.time_base), preview.at_s
    length_s = (index.pts[-1] + index.durations[-1] - index.pts[0]) * base
    if start_s is None:
        frames = max(1, round(preview.seconds / length_s * index.frames))
        first = excerpt_around(index, usual, frames)
        start_s = round((index.pts[first] - index.pts[0]) * base, 3)
    elif start_s >= length_s:
        raise UsageError(f"--at {start_s:g} is after the end: the video is {length_s:.3f} s long")
    duration_s = round(min(preview.seconds, length_s - start_s), 3)
    return RangeOptions(start_s=start_s, duration_s=max(0.001, duration_s))


def _changed(settings: Settings, change: Setting | None) -> Settings:
    if change is None:
        return settings
    kept = tuple(each for each in settings if each.field != change.field)
    return (change, *kept) if change.field == "model" else (*kept, change)


def _of_excerpt(whole: Job, span: RangeOptions, target: Path) -> Job:
    """The same job on an excerpt alone."""
    options = dataclasses.replace(whole.options, range=span)
    even, spec = is_subsampled(whole.settings.pix_fmt), whole.choice.spec
    plan = make_plan(whole.info, whole.index, spec, whole.device, options, even=even)
    index = cut_to_range(whole.info, whole.index, span)
    return dataclasses.replace(whole, options=options, index=index, plan=plan, target=target)


def _tried(
    whole: Job,
    job: Job,
    what: tuple[Setting | None, Settings],
    models: LastModel,
    report: ProgressCallback,
) -> tuple[Trial, Pixels]:
    """Do the excerpt's job; its middle frame."""
    change, settings = what
    result = run_job(job, progress=report, models=models)
    made = probe(job.target)
    index = build_index(made, scene_detect=False)
    picture = _middle(made, index, 0, index.frames)
    texts = [option_text(each) for each in settings]
    trial = Trial(
        settings=settings,
        difference="" if change is None else option_text(change),
        reason="" if change is None else change.reason,
        command=" ".join(["starvsr upscale", as_argument(whole.source), *texts]),
        width=whole.plan.width,
        height=whole.plan.height,
        elapsed_s=result.elapsed_s,
        whole_s=(result.elapsed_s - once_s(job, result)) * work_of(whole.plan) / work_of(job.plan),
        whole_bytes=job.target.stat().st_size * whole.plan.frames / result.frames,
        device_bytes=whole.plan.layout.peak_bytes,
        peak_memory_bytes=result.peak_memory_bytes,
        niqe=_niqe(picture),
    )
    return trial, picture


def _middle(info: VideoInfo, index: VideoIndex, first: int, last: int) -> Pixels:
    """The frame in the middle of `first` to `last`, exclusive."""
    number = (first + last) // 2
    with closing(read_frames(info, index, number, number + 1)) as frames:
        return next(frames)


def _niqe(picture: Pixels) -> float | None:
    top, left = (max(0, side - _NIQE_SIDE) // 2 for side in picture.shape[:2])
    return niqe(Frame(picture[top : top + _NIQE_SIDE, left : left + _NIQE_SIDE]))


def option_text(setting: Setting) -> str:
    """As it is typed: `--scale 2`."""
    value = setting.value
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    return f"{flag_of(setting.field)} {shlex.quote(shown)}"
