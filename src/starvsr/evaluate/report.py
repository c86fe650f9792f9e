"""The scores of several clips as JSON, as a Markdown table, and as a CSV of every frame."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from starvsr import __version__
from starvsr.errors import OutputError
from starvsr.evaluate.measure import ClipResult
from starvsr.media.files import check_writable, write_whole
from starvsr.media.folders import new_folders
from starvsr.metrics.registry import METRICS

REPORT_VERSION = 1
FILES = ("metrics.json", "metrics.md", "frames.csv")
"""What `write_report` writes."""

ARROWS = {"higher": "↑", "lower": "↓"}


def to_json(clips: Sequence[ClipResult], left_out: dict[str, str]) -> dict[str, Any]:
    """Everything as plain data; the same clips give the same data.

    left_out: metrics that this installation cannot compute, and why.
    """
    names = metric_names(clips)
    return {
        "report_version": REPORT_VERSION,
        "starvsr": __version__,
        "metrics": {
            name: {key: getattr(METRICS[name], key) for key in ("title", "unit", "better")}
            for name in names
        },
        "left_out": left_out,
        "clips": [clip_json(clip) for clip in clips],
        "means": [
            {
                "group": group,
                "clips": len(members),
                **{name: group_mean(members, name) for name in names},
            }
            for group, members in groups(clips).items()
        ],
    }


def clip_json(clip: ClipResult) -> dict[str, Any]:
    """One clip as plain data."""
    pair = clip.pair
    return {
        "name": pair.name,
        "group": pair.group,
        "result": str(pair.result),
        "reference": str(pair.reference) if pair.reference is not None else None,
        "width": clip.width,
        "height": clip.height,
        "frames": clip.frames,
        "warnings": list(clip.warnings),
        "not_measured": clip.not_measured,
        "mean": {name: clip.mean(name) for name in clip.curves},
        "per_frame": {name: list(curve) for name, curve in clip.curves.items()},
    }


def metric_names(clips: Sequence[ClipResult]) -> list[str]:
    """Metrics for which any clip has scores, in the order of `METRICS`."""
    return [name for name in METRICS if any(name in clip.curves for clip in clips)]


def groups(clips: Sequence[ClipResult]) -> dict[str, list[ClipResult]]:
    """Clips by their group, in order of appearance."""
    found: dict[str, list[ClipResult]] = {}
    for clip in clips:
        found.setdefault(clip.pair.group, []).append(clip)
    return found


def group_mean(clips: Sequence[ClipResult], name: str) -> float | None:
    """Mean over clips, each counting once; None if one has no score (means over other clips are not comparable)."""
    means = [clip.mean(name) for clip in clips]
    whole = [mean for mean in means if mean is not None]
    return fmean(whole) if whole and len(whole) == len(means) else None


def to_markdown(clips: Sequence[ClipResult], left_out: dict[str, str]) -> str:
    """A table with a row per clip and a mean per group, then warnings and notes, one line each."""
    names = metric_names(clips)
    heads = ["clip", *(heading(name) for name in names)]
    lines = [_row(heads), _row(["---", *("---:" for _ in names)])]
    for group, members in groups(clips).items():
        for clip in members:
            lines.append(_row([_label(clip), *(shown(name, clip.mean(name)) for name in names)]))
        if len(members) > 1:
            means = (f"**{shown(name, group_mean(members, name))}**" for name in names)
            lines.append(_row([f"**{_escaped(f'{group} mean'.strip())}**", *means]))
    notes = [
        *(f"warning: {_label(clip)}: {warning}" for clip in clips for warning in clip.warnings),
        *(
            f"{_label(clip)}: no {METRICS[name].title}: {reason}"
            for clip in clips
            for name, reason in clip.not_measured.items()
        ),
        *(f"no {METRICS[name].title}: {reason}" for name, reason in left_out.items()),
    ]
    return "\n".join([*lines, *(["", *(f"- {note}" for note in notes)] if notes else [])]) + "\n"


def heading(name: str) -> str:
    """A metric's title with its unit and direction, such as `PSNR-Y (dB) ↑`."""
    metric = METRICS[name]
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.title}{unit} {ARROWS[metric.better]}"


def shown(name: str, figure: float | None) -> str:
    """A score as tables show it."""
    return "–" if figure is None else f"{figure:.{METRICS[name].decimals}f}"


def _label(clip: ClipResult) -> str:
    return _escaped(f"{clip.pair.group} {clip.pair.name}".strip())


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def to_csv(clips: Sequence[ClipResult]) -> str:
    """Per-frame scores: a line per frame with group, clip, frame number from 0 and a column per metric."""
    names = metric_names(clips)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["group", "clip", "frame", *names])
    for clip in clips:
        for frame in range(clip.frames):
            curves = (clip.curves.get(name) for name in names)
            figures = (curve[frame] if curve is not None else None for curve in curves)
            cells = ("" if figure is None else repr(figure) for figure in figures)
            writer.writerow([clip.pair.group, clip.pair.name, frame, *cells])
    return text.getvalue()


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise OutputError if a report could not be written to a folder, which need not exist."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: give the name of a folder")
    place = folder if folder.exists() else folder.absolute().parent
    if not place.is_dir():
        raise OutputError(f"{folder} cannot be created: the folder {folder.parent} does not exist")
    check_writable(place)
    for name in FILES:
        if (folder / name).exists() and not overwrite:
            raise OutputError(
                f"{folder / name} exists: give --overwrite to replace it, or another folder"
            )


def write_report(folder: Path, clips: Sequence[ClipResult], left_out: dict[str, str]) -> None:
    """Write `FILES` to a folder, which is created. Raises OutputError if that fails."""
    data = (
        json.dumps(to_json(clips, left_out), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    )
    texts = (data, to_markdown(clips, left_out), to_csv(clips))
    with new_folders([folder]):
        for name, text in zip(FILES, texts, strict=True):
            # Undecodable bytes of names are escaped, as in JSON.
            write_whole(folder / name, text.encode(errors="backslashreplace"))
