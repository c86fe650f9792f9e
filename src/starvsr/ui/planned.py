"""What is chosen on the page as a planned job, and in words."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starvsr.job.journal import journal_folder
from starvsr.job.pace import expected_s
from starvsr.job.plan_job import Job, output_beside, plan_video
from starvsr.media.index import build_index
from starvsr.media.sequence import STILLS, image_path, is_sequence, numbers_of
from starvsr.options import (
    DEFAULT_CRF,
    EncodeOptions,
    LookOptions,
    SamplingOptions,
    SizeOptions,
    Speed,
    UpscaleOptions,
)
from starvsr.plan.fitting import format_memory
from starvsr.plan.speed import has_speeds
from starvsr.specs import COMPONENTS, SPECS, Component, fetched_components
from starvsr.types import ProgressCallback, VideoIndex, VideoInfo
from starvsr.ui.access import Roots
from starvsr.ui.commands import flags_of, upscale_command
from starvsr.zoo.amounts import format_bytes, format_seconds

MODELS = ("auto", *SPECS)
SIZES = {
    **{f"{scale:g}x": SizeOptions(scale=scale) for scale in (1.0, 1.5, 2.0, 3.0, 4.0)},
    **{f"{side}p": SizeOptions(resolution=side) for side in (720, 1080, 1440, 2160)},
}
"""Sizes of the output by their names on the page."""
CODECS = ("auto", "libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "ffv1")
CONTAINERS = ("mkv", "mp4", "mov", "webm")


@dataclass(frozen=True)
class Chosen:
    """The settings of the page, as its components have them."""

    file: str
    model: str = "auto"
    size: str = "4x"
    detail: float = 1.0
    speed: Speed = "exact"
    codec: str = "auto"
    crf: float = DEFAULT_CRF
    container: str = "mkv"
    folder: str = ""
    """Where the output goes; empty for beside the input."""
    overwrite: bool = False

    def options(self) -> UpscaleOptions:
        """What is not chosen, or does not go with the model, is left to the command's own defaults."""
        spec = SPECS.get(self.model)
        has_look, has_speed = spec and spec.faithful, spec is None or has_speeds(spec)
        return UpscaleOptions(
            model=self.model,
            size=SIZES[self.size],
            look=LookOptions(detail=self.detail if has_look and self.detail != 1 else None),
            sampling=SamplingOptions(speed=self.speed if has_speed else "exact"),
            encode=EncodeOptions(
                codec=self.codec, crf=None if self.crf == DEFAULT_CRF else self.crf
            ),
            overwrite=self.overwrite,
        )

    def places(self, roots: Roots) -> tuple[Path, Path]:
        """Input and output. Raises StarvsrError."""
        source = roots.source(self.file)
        beside = output_beside(source, self.options())
        if beside.suffix.lower() not in STILLS:
            beside = beside.with_suffix(f".{self.container}")
        target = roots.inside(Path(self.folder or source.parent) / beside.name)
        # Where its finished segments go is no link out either.
        roots.inside(journal_folder(target))
        return source, target

    def command(self, roots: Roots) -> list[str]:
        """The arguments of the command that does it. Raises StarvsrError."""
        return upscale_command(*self.places(roots), flags_of(self.options()))

    def name(self) -> str:
        """The settings in a few words, for a preview."""
        options = self.options()
        look = "" if options.look.detail is None else f", detail {self.detail:g}"
        speed = "" if options.sampling.speed == "exact" else f", {self.speed}"
        return f"{self.model} {self.size}{look}{speed}, {self.codec} crf {self.crf:g}"


class Planner:
    """Plans jobs; the frames of a video are read once, whatever is chosen after."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._known: deque[tuple[object, VideoIndex]] = deque(maxlen=8)
        self._lock = threading.Lock()

    def plan(
        self, chosen: Chosen, progress: ProgressCallback | None = None
    ) -> tuple[Job, list[str]]:
        """The job, and the warnings of its planning. Raises StarvsrError."""
        source, target = chosen.places(self._roots)
        with _warnings() as said:
            job = plan_video(
                source, target, chosen.options(), progress=progress, read_index=self._index
            )
        return job, said

    def _index(self, info: VideoInfo, *, progress: Any = None, **how: Any) -> VideoIndex:
        key = info, _stamps(info.path), how
        with self._lock:
            for known, index in self._known:
                if known == key:
                    return index
            index = build_index(info, progress=progress, **how)
            self._known.append((key, index))
            return index


def _stamps(source: Path) -> list[tuple[int, int]]:
    """Times and sizes of a file, or of numbered images, which change with their content. Raises OSError."""
    files = [source]
    if is_sequence(source) and not source.exists():
        files = [image_path(source, number) for number in numbers_of(source)]
    return [(found.st_mtime_ns, found.st_size) for found in (file.stat() for file in files)]


def plan_lines(job: Job, warnings: list[str]) -> list[tuple[str, str]]:
    """The plan in a few lines with names."""
    plan, seconds = job.plan, expected_s(job)
    size = f"{plan.width}x{plan.height}, {job.settings.codec} {job.settings.pix_fmt}"
    time = "not known until this model has run here: a preview measures it"
    if seconds is not None:
        time = f"about {format_seconds(seconds)}, by the last job with this model here"
    memory = f"{format_memory(plan.layout.peak_bytes)} on {job.device.description}"
    lines = [
        ("output", f"{job.target.name}: {size}"),
        ("model", job.choice.reason),
        ("time", time),
        ("memory", memory),
    ]
    if job.choice.missing:
        lines.append(("download", f"first, {weights_text(job.choice.spec.name)}"))
    lines += [("note", note) for note in job.notes]
    return lines + [("warning", warning) for warning in warnings]


def weights_text(model: str) -> str:
    """What a model's files are, how large and under which licence."""
    return "; ".join(_component_text(COMPONENTS[name]) for name in fetched_components(model))


def _component_text(component: Component) -> str:
    size = sum(source.size_bytes for source in component.tensor_sources)
    gate = ", which has to be accepted on the hub" if component.gated else ""
    amount = f", {format_bytes(size)}" if size else ""
    return f"{component.name}{amount}, licence {component.licence}{gate}"


@contextmanager
def _warnings() -> Iterator[list[str]]:
    """What this thread's planning warns of, which the command line prints."""
    said: list[str] = []
    thread, library = threading.get_ident(), logging.getLogger("starvsr")
    handler = logging.Handler(logging.WARNING)
    handler.addFilter(lambda record: record.thread == thread)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    library.addHandler(handler)
    try:
        yield said
    finally:
        library.removeHandler(handler)
