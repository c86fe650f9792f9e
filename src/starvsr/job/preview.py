"""A before/after video of a few seconds, to judge the options of a long job before it starts.

The seconds are restored and encoded as the job itself would do it; then the input, plainly enlarged, and that result
stand side by side.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from starvsr.errors import UsageError
from starvsr.job.executor import LastModel
from starvsr.job.run import Job, UpscaleResult, plan_video, run_job
from starvsr.media.encoder import IMAGES, EncoderSettings, check_encoder, container_of
from starvsr.media.files import check_target, complete_or_absent, errors_of
from starvsr.media.index import build_index, expected_frames
from starvsr.media.join import join
from starvsr.media.pixfmt import is_hdr
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.scratch import scratch_folder
from starvsr.media.still import STILL, is_still
from starvsr.media.writer import PartWriter
from starvsr.options import (
    EncodeOptions,
    PreviewOptions,
    RangeOptions,
    UpscaleOptions,
    flag_of,
)
from starvsr.restore.levels import Frame, frames_to_tensor, tensor_to_frames
from starvsr.restore.upsample import upsample
from starvsr.types import Progress, ProgressCallback

if TYPE_CHECKING:
    from starvsr.zoo.planning import InstallPlan

DIVIDER_PX = 4
# Of the halves' names: pixels, and how many times the size fits across.
_LEAST_TEXT, _TEXTS_ACROSS = 12, 40
# Visually lossless, so that only the job's own losses are visible.
_ENCODE = EncodeOptions(crf=14, preset="veryfast")
_ENCODE_WEBM = EncodeOptions(
    codec="libvpx-vp9", crf=16, extra=(("deadline", "realtime"), ("cpu-used", "6"))
)
_ENCODE_HDR_WEBM = EncodeOptions(codec="libsvtav1", crf=16, preset="10")


@dataclass(frozen=True)
class Preview:
    """A checked and planned preview for `run_preview`."""

    job: Job
    """Restores the seconds; its target is the video."""
    picture: Path
    """A PNG of the video's middle frame."""
    encoder: EncoderSettings
    """Of the video."""


@dataclass(frozen=True)
class PreviewResult(UpscaleResult):
    """A preview's files, and its estimates of the whole job; sizes are those of the restored side."""

    picture: Path
    whole_s: float
    """Estimated time of the whole video, seconds."""
    whole_bytes: float
    """Estimated size of the whole output, bytes."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {**super().to_json(), "picture": str(self.picture)}


def plan_preview(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    preview: PreviewOptions,
    options: UpscaleOptions | None = None,
    *,
    fetch: Callable[[InstallPlan], None] | None = None,
    progress: ProgressCallback | None = None,
) -> Preview:
    """Check and plan a preview; writes no video.

    target: the before/after video; the PNG lies beside it under the same name. Other parameters as of `plan_video`.
    Raises StarvsrError.
    """
    options = options or UpscaleOptions()
    check_contradictions(options)
    if container_of(Path(target)) in (IMAGES, STILL):
        if is_still(Path(source)):
            raise UsageError(f"--preview is for videos, and {source} is one picture: leave it out")
        raise UsageError(f"--preview writes a video, but {target} is for images: name a video file")
    span = RangeOptions(start_s=preview.at_s, duration_s=preview.seconds)
    options = dataclasses.replace(options, range=span)
    picture = Path(target).with_suffix(".png")
    check_target(Path(source), picture, overwrite=options.overwrite)
    end_s = (preview.at_s or 0.0) + preview.seconds
    job = plan_video(source, target, options, fetch=fetch, progress=progress, index_until_s=end_s)
    plan = job.plan
    encode = _ENCODE
    if container_of(job.target) == "webm":
        encode = _ENCODE_HDR_WEBM if is_hdr(job.info) else _ENCODE_WEBM
    encoder = check_encoder(
        encode,
        job.target,
        job.info,
        2 * plan.width + DIVIDER_PX,
        plan.height + plan.height % 2,
    )
    return Preview(job, picture, encoder)


def check_contradictions(options: UpscaleOptions) -> None:
    """Raise UsageError for options that contradict a preview's."""
    given = dataclasses.asdict(options.range)
    flags = [flag_of(name) for name, value in given.items() if value is not None]
    if options.resume.work_dir is not None:
        flags.append("--work-dir")
    if flags:
        raise UsageError(
            f"--preview and {' and '.join(flags)} contradict each other: give --at for where it begins"
        )


def run_preview(
    preview: Preview,
    *,
    progress: ProgressCallback | None = None,
    models: LastModel | None = None,
) -> PreviewResult:
    """Write a planned preview: both files, or none. Parameters as of `run_job`. Raises StarvsrError."""
    began = time.perf_counter()
    report = progress or (lambda _: None)
    job = preview.job
    with errors_of(job.target), scratch_folder(job.target.parent) as folder:
        restored = folder / f"restored{job.target.suffix}"
        result = run_job(
            dataclasses.replace(job, target=restored), progress=progress, models=models
        )
        size = restored.stat().st_size
        part, middle = _compose(preview, restored, folder, report)
        overwrite = job.options.overwrite
        with complete_or_absent(preview.picture, folder, replace=overwrite) as picture:
            Image.fromarray((middle / 257 + 0.5).astype(np.uint8)).save(picture, "png")
            join(
                [part],
                job.info,
                job.index,
                job.target,
                preview.encoder,
                job.options.streams,
                job.plan.first,
                job.plan.last,
                work_dir=folder,
                overwrite=overwrite,
            )
    # Without reading the whole video, only the header has its length.
    frames = job.index.frames if job.index.whole else expected_frames(job.info)
    share = frames / result.frames
    facts = {
        **vars(result),
        "target": job.target,
        "elapsed_s": time.perf_counter() - began,
        "picture": preview.picture,
        "whole_s": (result.elapsed_s - once_s(job, result)) * share,
        "whole_bytes": size * share,
    }
    return PreviewResult(**facts)


def once_s(job: Job, result: UpscaleResult) -> float:
    """Time that does not depend on the length: loading and compiling, in parallel over workers."""
    sharing = min(job.options.workers.count, len(job.plan.segments))
    return result.seconds.get("load", 0.0) + result.seconds.get("compile", 0.0) / sharing


def _compose(
    preview: Preview, restored: Path, folder: Path, report: ProgressCallback
) -> tuple[Path, Frame]:
    """Encode input and result side by side; the part's file, and its middle frame."""
    job, settings = preview.job, preview.encoder
    plan, index = job.plan, job.index
    part = folder / f"compared{settings.part_suffix}"
    info = probe(restored)
    found = build_index(info, scene_detect=False)
    middle = (plan.first + plan.last) // 2
    names = _Names(plan.width, "input", job.choice.spec.name)
    with (
        PartWriter(part, settings, job.info, settings.width, settings.height) as writer,
        closing(
            read_frames(
                job.info,
                index,
                plan.first,
                plan.last,
            )
        ) as before,
        closing(read_frames(info, found, 0, plan.frames)) as after,
    ):
        for number, (small, large) in enumerate(zip(before, after, strict=True), plan.first):
            pixels = side_by_side(small, large)
            names.paint(pixels)
            writer.write(pixels, index.pts[number], index.durations[number])
            if number == middle:
                picture = pixels[: plan.height]
            report(Progress("compose", number + 1 - plan.first, plan.frames))
    return part, picture


class _Names:
    """The names of both halves, in their upper corners; none where they would cover more than a corner."""

    def __init__(self, width: int, left: str, right: str) -> None:
        """width: of one half, columns."""
        font = ImageFont.load_default(max(_LEAST_TEXT, width // _TEXTS_ACROSS))
        self._labels: list[tuple[int, Frame]] = []
        for text, is_left in ((left, True), (right, False)):
            across, _, end, down = (int(side) for side in font.getbbox(text))
            size = end - across + 2 * _LEAST_TEXT, down + _LEAST_TEXT
            picture = Image.new("L", size)
            ImageDraw.Draw(picture).text((_LEAST_TEXT, _LEAST_TEXT // 2), text, 255, font)
            begin = 0 if is_left else 2 * width + DIVIDER_PX - size[0]
            if size[0] <= width // 2:
                self._labels.append((begin, np.asarray(picture, np.uint16)[..., None] * 257))

    def paint(self, pixels: Frame) -> None:
        """White on dark, into a frame."""
        for begin, label in self._labels:
            rows, columns = label.shape[:2]
            corner = pixels[:rows, begin : begin + columns]
            np.maximum(corner // 4, label[: len(corner)], out=corner)


def side_by_side(before: Frame, after: Frame) -> Frame:
    """`before` enlarged to the size of `after` by bicubic interpolation, a white line, and `after`.

    The number of rows is even: an odd one's last row is repeated.
    """
    rows, columns = after.shape[:2]
    (large,) = tensor_to_frames(upsample(frames_to_tensor([before]), (rows, columns), "bicubic"))
    line = np.full((rows, DIVIDER_PX, 3), 65535, np.uint16)
    pixels = np.concatenate([large, line, after], axis=1)
    return np.ascontiguousarray(np.pad(pixels, ((0, rows % 2), (0, 0), (0, 0)), "edge"))
