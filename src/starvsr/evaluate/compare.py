"""Two videos side by side: their metrics, and one HTML file that plays them with a divider."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from starvsr.evaluate.charts import chart
from starvsr.evaluate.measure import ClipResult, Curve, measure, open_pair
from starvsr.evaluate.movie import StackedMovie
from starvsr.evaluate.pairs import ClipPair
from starvsr.evaluate.report import clip_json, heading, shown
from starvsr.media.files import check_target, complete_or_absent, errors_of
from starvsr.media.probe import probe
from starvsr.media.scratch import scratch_folder
from starvsr.metrics.frame import Frame
from starvsr.metrics.registry import METRICS, Meter, open_meters, too_small
from starvsr.options import Deinterlace
from starvsr.types import ProgressCallback

PAGE_FRAMES = 600
"""Frames that a page shows by default; it keeps them all in memory."""

# Sides rounded to even numbers do not change the aspect ratio.
_SAME_SHAPE = 1.02

# A multiple of three bytes, so that pieces of base64 can be joined.
_PIECE_BYTES = 3 << 20


@dataclass(frozen=True)
class Comparison:
    """The comparison of two videos."""

    b: ClipResult
    """B measured against A."""
    a_curves: dict[str, Curve]
    """A's own scores by the metrics that need no reference."""
    page: Path
    page_frames: int

    def a_mean(self, metric: str) -> float | None:
        """Mean of A's own scores; None if there are none."""
        return replace(self.b, curves=self.a_curves).mean(metric)

    def rows(self) -> list[tuple[str, str, str]]:
        """Heading of each metric, A's mean (empty if it has none) and B's, as tables show them."""
        means = {name: shown(name, self.a_mean(name)) for name in self.a_curves}
        return [
            (heading(name), means.get(name, ""), shown(name, self.b.mean(name)))
            for name in self.b.curves
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything but the per-frame scores as plain data."""
        measured = clip_json(self.b)
        del measured["per_frame"], measured["name"], measured["group"]
        a, b = measured.pop("reference"), measured.pop("result")
        means = {name: self.a_mean(name) for name in self.a_curves}
        return {"a": a, "b": b, "page": str(self.page), **measured, "mean_of_a": means}


def compare(
    a: Path,
    b: Path,
    page: Path,
    metrics: Sequence[str],
    *,
    resize: bool = False,
    start_s: float | None = None,
    frames: int | None = None,
    deinterlace: Deinterlace = "auto",
    page_frames: int = PAGE_FRAMES,
    overwrite: bool = False,
    device: str = "cpu",
    progress: ProgressCallback | None = None,
) -> Comparison:
    """Measure B against A, and write the page.

    metrics: names of `METRICS`. resize, start_s, frames, deinterlace: as for `open_pair`. page_frames: maximum number
    of frames on the page; metrics cover all. Raises InputError if a video cannot be read or they do not match,
    OutputError if the page cannot be written or exists without `overwrite`, UsageError if it would replace a video.
    """
    for video in (a, b):
        check_target(video, page, overwrite=overwrite)
    pair = ClipPair(b.stem, b, a)
    videos = open_pair(
        pair,
        resize=resize,
        start_s=start_s,
        frames=frames,
        deinterlace=deinterlace,
        progress=progress,
    )
    video_b, video_a = videos
    assert video_a is not None
    with ExitStack() as stack:
        # The movie is a temporary file, not the user's.
        stack.enter_context(errors_of(page))
        folder = stack.enter_context(scratch_folder(page.parent))
        temporary = stack.enter_context(complete_or_absent(page, folder, replace=overwrite))
        movie_path = folder / "movie.mp4"
        movie = StackedMovie(movie_path, *video_b.size, video_b.info.frame_rate)
        alone = [
            name
            for name in metrics
            if not METRICS[name].full_reference and not too_small(name, video_a.size)
        ]
        with movie, open_meters(alone, video_a.size, device=device) as meters:
            each = partial(_take, meters, movie, page_frames)
            result = measure(pair, videos, metrics, device=device, each=each, progress=progress)
            own_curves = {k: tuple(v) for meter in meters for k, v in meter.finish().items()}
        before = probe(a)
        size_a = before.width, before.height
        result = replace(result, warnings=(*_stretched(size_a, video_b.size), *result.warnings))
        comparison = Comparison(result, own_curves, page, movie.frames)
        times = [round(time, 3) for time in video_b.times()[: movie.frames]]
        _write(temporary, _texts(comparison, movie, size_a, times), movie_path)
    return comparison


def _take(
    meters: list[Meter], movie: StackedMovie, most: int, own: Frame, other: Frame | None
) -> None:
    """Pass on the next frame of B and of A, to the movie up to `most`."""
    assert other is not None
    for meter in meters:
        meter.add(other, None)
    if movie.frames < most:
        movie.add(other, own)


def _stretched(before: tuple[int, int], size: tuple[int, int]) -> tuple[str, ...]:
    """A warning if A's aspect ratio changes."""
    across, down = (new / old for old, new in zip(before, size, strict=True))
    if max(across, down) <= _SAME_SHAPE * min(across, down):
        return ()
    return ("A is {}x{} and has another aspect ratio than B: it is stretched".format(*before),)


def _texts(
    comparison: Comparison, movie: StackedMovie, size_a: tuple[int, int], times: list[float]
) -> dict[str, str]:
    """What goes where in the template, all but the movie, as HTML.

    size_a: A's own width and height. times: of the page's frames in B, seconds from its first.
    """
    b = comparison.b
    assert b.pair.reference is not None
    name_a, name_b = b.pair.reference.name, b.pair.result.name
    notes = (f'<p class="note">{escape(note)}</p>' for note in _notes(comparison, size_a))
    facts = {
        "width": b.width,
        "height": b.height,
        "stride": movie.stride,
        "frames": comparison.page_frames,
        "total": b.frames,
        "rate": float(movie.rate),
        "times": times,
    }
    of_a = {name: [("a", curve)] for name, curve in comparison.a_curves.items()}
    charts = (chart(name, [*of_a.get(name, ()), ("b", curve)]) for name, curve in b.curves.items())
    return {
        "title": escape(f"{name_a} and {name_b}"),
        "notes": "\n".join(notes),
        "name_a": escape(name_a),
        "name_b": escape(name_b),
        "picture_label": escape(
            f"The two videos: {name_a} left of the divider, {name_b} right of it"
        ),
        "width": str(b.width),
        "height": str(b.height),
        "last_frame": str(comparison.page_frames - 1),
        "shown_frames": str(comparison.page_frames),
        "table": _table(comparison),
        "charts": "\n".join(charts),
        "facts": json.dumps(facts),
    }


def _notes(comparison: Comparison, size_a: tuple[int, int]) -> list[str]:
    b = comparison.b
    notes = [f"{b.width}x{b.height} pixels, {b.frames} frames."]
    if size_a != (b.width, b.height):
        notes.append("A is scaled from {}x{} by bicubic interpolation.".format(*size_a))
    if comparison.page_frames < b.frames:
        notes.append(
            f"The page shows the first {comparison.page_frames} frames; the metrics cover all."
        )
    notes += [f"Warning: {warning}." for warning in b.warnings]
    return notes + [f"No {METRICS[n].title}: {reason}." for n, reason in b.not_measured.items()]


def _table(comparison: Comparison) -> str:
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td>{of_a}</td><td>{of_b}</td></tr>'
        for name, of_a, of_b in comparison.rows()
    ]
    return (
        "<table><caption>Means over all frames</caption>"
        '<thead><tr><th scope="col">Metric</th><th scope="col">A</th><th scope="col">B</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _write(target: Path, texts: dict[str, str], movie: Path) -> None:
    template = (files(__package__) / "page.html").read_text(encoding="utf-8")
    head, tail = template.split("{{movie}}")
    # Undecodable bytes of names are escaped.
    with target.open("x", encoding="utf-8", errors="backslashreplace", newline="\n") as page:
        page.write(_filled(head, texts))
        with movie.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                page.write(base64.b64encode(piece).decode("ascii"))
        page.write(_filled(tail, texts))


def _filled(template: str, texts: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)}}", lambda place: texts[place[1]], template)
