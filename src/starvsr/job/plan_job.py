"""Checking and planning a job, without the slow import of torch if the device is known without it."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from starvsr.errors import OutputError, UsageError
from starvsr.job.journal import begun_precision, is_made, journal_folder
from starvsr.job.workdir import check_outside, discard_left, is_begun
from starvsr.media.clock import with_true_rate
from starvsr.media.dry_run import check_muxer
from starvsr.media.encoder import (
    WITH_FRONT,
    EncoderSettings,
    check_encoder,
    container_of,
    with_codec,
)
from starvsr.media.fields import made_index, plan_fields
from starvsr.media.files import check_target, written_errors
from starvsr.media.hwaccel import usable_device
from starvsr.media.index import build_index, expected_frames
from starvsr.media.notes import picture_notes
from starvsr.media.passage import check_streams
from starvsr.media.pixfmt import choose_pix_fmt, encode_notes, is_subsampled, size_notes
from starvsr.media.probe import probe
from starvsr.media.provenance import provenance_of
from starvsr.media.sequence import STILLS, is_sequence, name_of
from starvsr.media.still import STILL
from starvsr.media.still_writer import still_settings
from starvsr.media.timing import check_times
from starvsr.models.device import attention_backend, device_info, shared_device
from starvsr.options import BYTES_PER_ELEMENT, Precision, UpscaleOptions, flag_of
from starvsr.plan.plan import Plan, make_plan, output_size, repeats_said, size_advice
from starvsr.plan.ranges import cut_to_range
from starvsr.plan.settings import listed_flags, resolve
from starvsr.types import DeviceInfo, ProgressCallback, VideoIndex, VideoInfo
from starvsr.zoo.choose import ModelChoice, choose_model
from starvsr.zoo.folder import weights_folder

if TYPE_CHECKING:
    from starvsr.zoo.planning import InstallPlan

logger = logging.getLogger(__name__)


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
    """Changes to the frames besides upscaling, and what cannot be preserved; one sentence each."""

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


def plan_video(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    options: UpscaleOptions | None = None,
    *,
    fetch: Callable[[InstallPlan], None] | None = None,
    progress: ProgressCallback | None = None,
    index_until_s: float | None = None,
    read_index: Callable[..., VideoIndex] = build_index,
) -> Job:
    """Check everything that can be checked before weights are loaded, and plan the job; writes no video.

    A target of None is `output_beside`, whether it exists or not. fetch: download weights that are missing,
    before the video is read, and call this with what that takes; None needs no weights. index_until_s: what is behind
    this time is not wanted, and is left out of the job's index if the header says how many frames there are.
    read_index: `media.index.build_index`, or what remembers its results, so that planning again is quick.
    Raises StarvsrError.
    """
    options = options or UpscaleOptions()
    source_path = Path(source)
    info = probe(source_path, options.input.fps, options.input.video_stream)
    target_path = _beside(source_path, info, options) if target is None else Path(target)
    if made_by := provenance_of(source_path):
        logger.warning("%s was already upscaled by %s", source_path, made_by)
    if target is not None:
        _check_place(source_path, target_path, options)
    options = _as_begun(target_path, options)
    options, choice, device = _chosen(options)
    check_streams(info, target_path, options.streams)
    options, settings, said = _encoding(options, info, target_path)
    stated, is_still = (info.time_base, info.frame_rate), settings.container == STILL
    if options.device.compile and options.workers.cluster is None:
        # Takes far longer than the other checks.
        _check_compiler(device)
    if fetch is not None and (choice.conversion is not None or _lacking(choice, options)):
        _fetch(choice, options, fetch, progress or (lambda _: None))
        choice = choose_model(options.model, device, options.weights)
    until_s = index_until_s if expected_frames(info) else None
    info, index, found = _indexed(info, options, settings, until_s, progress, read_index)
    if (info.time_base, info.frame_rate) != stated and not is_still:
        settings = check_encoder(options.encode, target_path, info, settings.width, settings.height)
    even = is_subsampled(settings.pix_fmt)
    plan = make_plan(info, index, choice.spec, device, options, even=even, still=is_still)
    index = cut_to_range(info, index, options.range)
    _check_frames(info, index, plan, settings, target_path)
    # More workers than segments would leave threads idle.
    sharing = min(options.workers.count, len(plan.segments))
    device = dataclasses.replace(device, threads=max(1, device.threads // sharing))
    _warn(plan, options, settings)
    said += [*found, *repeats_said(plan, options), *size_advice(choice.spec, info, plan, options)]
    return Job(
        source_path, target_path, options, info, index, choice, device, settings, plan, tuple(said)
    )


def output_beside(source: str | os.PathLike[str], options: UpscaleOptions | None = None) -> Path:
    """Where an output goes that nobody has named: beside the source, under its name and the output's size.

    A video becomes a Matroska file, a picture one of its own kind. Raises StarvsrError as `plan_video`.
    """
    options, path = options or UpscaleOptions(), Path(source)
    return _beside(path, probe(path, options.input.fps, options.input.video_stream), options)


def _beside(source: Path, info: VideoInfo, options: UpscaleOptions) -> Path:
    suffix, stem = ".mkv", source.stem
    if info.container == STILL:
        suffix = source.suffix if source.suffix.lower() in STILLS else ".png"
    elif is_sequence(source):
        stem = name_of(source)
    plain = source.with_name(stem + suffix)
    encode, container = with_codec(options.encode, plain, info), container_of(plain)
    even = container != STILL and is_subsampled(choose_pix_fmt(encode, info, container))
    width, height = output_size(info.width, info.height, options.size, even=even)
    return source.with_name(f"{stem}-{width}x{height}{suffix}")


def _check_frames(
    info: VideoInfo, index: VideoIndex, plan: Plan, settings: EncoderSettings, target: Path
) -> None:
    """Raise OutputError for more frames than a picture has, or times that a container has no place for."""
    check_times(info, index, plan.first, plan.last, target)
    if settings.container == STILL and plan.frames > 1:
        raise OutputError(
            f"{target.name} is one picture, and the input has {plan.frames} frames: give --frames 1 (and --start), or "
            f"{target.stem}-%06d.png for numbered images"
        )


def _as_begun(target: Path, options: UpscaleOptions) -> UpscaleOptions:
    """Options with the precision of the job that was begun for an output: `auto` may be another on another machine."""
    if options.device.precision != "auto" or not options.resume.resume:
        return options
    precision = begun_precision(journal_folder(target, options.resume.work_dir))
    if precision not in BYTES_PER_ELEMENT:
        return options
    device = dataclasses.replace(options.device, precision=cast(Precision, precision))
    return dataclasses.replace(options, device=device)


def _chosen(options: UpscaleOptions) -> tuple[UpscaleOptions, ModelChoice, DeviceInfo]:
    """The options that have an effect, the model, and the device of every worker."""
    device = _worker_device(options)
    choice = choose_model(options.model, device, options.weights)
    options = _effective(choice, options)
    if options.workers.cluster is None:
        _check_attention(options, device)
    return options, choice, device


def _indexed(
    info: VideoInfo,
    options: UpscaleOptions,
    settings: EncoderSettings,
    until_s: float | None,
    progress: ProgressCallback | None,
    read_index: Callable[..., VideoIndex],
) -> tuple[VideoInfo, VideoIndex, tuple[str, ...]]:
    """The facts and the index of the frames to restore, made of those that are decoded, and what is said of both."""
    info = dataclasses.replace(info, hwaccel=usable_device(info, options.device.hwaccel))
    index = read_index(
        info,
        scene_detect=options.windows.scene_detect,
        gaps=options.input.gaps,
        until_s=until_s,
        detelecine=options.look.detelecine,
        repeats="off" if options.windows.parity else options.look.repeats,
        progress=progress,
    )
    info = with_true_rate(info, index)
    notes = picture_notes(info, index, settings, options)
    return *made_index(info, index, plan_fields(info, index, options.look)), notes


def _encoding(
    options: UpscaleOptions, info: VideoInfo, target: Path
) -> tuple[UpscaleOptions, EncoderSettings, list[str]]:
    """The options with a concrete encoder, its settings, and what is said of them; encoder and muxer are tried."""
    encode = with_codec(options.encode, target, info)
    if container_of(target) == STILL:
        size = output_size(info.width, info.height, options.size, even=False)
        return options, still_settings(encode, target, info, *size), []
    even = is_subsampled(choose_pix_fmt(encode, info, container_of(target)))
    size, wanted = (
        output_size(info.width, info.height, options.size, even=each) for each in (even, False)
    )
    settings = check_encoder(encode, target, info, *size)
    check_muxer(info, target, settings, options.streams)
    codec, pix_fmt = settings.codec, settings.pix_fmt
    said = [
        *size_notes(wanted, size, codec, pix_fmt),
        *encode_notes(options.encode, info, codec, pix_fmt, settings.container),
    ]
    return dataclasses.replace(options, encode=encode), settings, said


def _check_place(source: Path, target: Path, options: UpscaleOptions) -> None:
    """Reject an output that cannot be written, or a work directory that contains it or the input."""
    folder = journal_folder(target, options.resume.work_dir)
    with written_errors(target):
        # An interrupted job's own files may be there.
        own = (
            is_begun(folder)
            if is_sequence(target)
            else options.resume.resume and is_made(folder, target)
        )
    if options.resume.work_dir is None:
        discard_left(folder)
    check_target(source, target, overwrite=options.overwrite or own)
    for name, path in (("input", source), ("output", target)):
        check_outside(folder, name, path, "give another --work-dir")
    with written_errors(folder):
        has_parent = folder.parent.is_dir()
    if not has_parent:
        raise OutputError(
            f"the folder {folder.parent} of --work-dir does not exist: create it first"
        )


def _fetch(
    choice: ModelChoice,
    options: UpscaleOptions,
    announce: Callable[[InstallPlan], None],
    progress: ProgressCallback,
) -> None:
    """Download what the model lacks, and convert the file that was given. Raises StarvsrError."""
    # Slow imports that the embedded model does not need.
    from starvsr.zoo.converted import convert
    from starvsr.zoo.install import ensure

    if lacking := _lacking(choice, options):
        ensure(
            choice.spec,
            weights_folder(options.weights.folder),
            lacking,
            offline=options.weights.offline,
            progress=progress,
            announce=announce,
        )
    if choice.conversion is not None:
        convert(choice.conversion, progress)


def _lacking(choice: ModelChoice, options: UpscaleOptions) -> tuple[str, ...]:
    """Components to download; no text encoder if all prompts are cached."""
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
    """The device of every worker, with its share of the memory. Raises UsageError if there is none."""
    if options.workers.cluster is not None:
        from starvsr.job.ray_nodes import cluster_device

        return cluster_device(options.workers.cluster, options.device.device)
    device = device_info(options.device.device)
    if options.workers.count == 1:
        return device
    return shared_device(options.device.device, device, options.workers.count)


def _check_attention(options: UpscaleOptions, device: DeviceInfo) -> None:
    """Raise UsageError for an attention backend that does not run on the device; only this one may not."""
    if options.device.attention == "xformers":
        import torch

        attention_backend(options.device.attention, torch.device(device.name))


def _check_compiler(device: DeviceInfo) -> None:
    """Raise UsageError if the device does not support compilation."""
    import torch

    from starvsr.models.compiled import check_compiler

    check_compiler(torch.device(device.name))


def _warn(plan: Plan, options: UpscaleOptions, settings: EncoderSettings) -> None:
    """Of a flag without effect, and of memory that may not suffice."""
    if not options.streams.faststart and settings.container not in WITH_FRONT:
        logger.warning(
            "--no-faststart would have no effect: only .mp4 and .mov have an index that can be in front"
        )
    peak, limit = plan.layout.peak_bytes, plan.limit_bytes
    if limit and peak > limit:
        logger.warning(
            "the job needs about %.1f GiB and the device has %.1f: it may fail or be slow",
            peak / 2**30,
            limit / 2**30,
        )


def _effective(choice: ModelChoice, options: UpscaleOptions) -> UpscaleOptions:
    """The options without those that have no effect on the model, which `auto` warns of.

    Raises UsageError for them with a model that was named.
    """
    settings = resolve(choice.spec, options.sampling, options.windows, options.look)
    flags = (*settings.without_effect, *settings.idle)
    if not flags:
        return options
    if settings.without_effect:
        named = listed_flags(settings.without_effect)
        message = f"{named} would have no effect on the model {choice.spec.name}"
        if options.model != "auto":
            raise UsageError(f"{message}; leave it out or give another --model")
        logger.warning(message)
    if settings.idle:
        logger.warning(settings.idle_text)
    groups: dict[str, Any] = {}
    for name in ("sampling", "windows"):
        group = getattr(options, name)
        defaults = {each.name: each.default for each in dataclasses.fields(group)}
        changes = {field: value for field, value in defaults.items() if flag_of(field) in flags}
        groups[name] = dataclasses.replace(group, **changes)
    return dataclasses.replace(options, **groups)
