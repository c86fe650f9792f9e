"""Per-frame metrics as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from starvsr.evaluate.measure import Curve
from starvsr.evaluate.report import heading, shown

WIDTH, HEIGHT = 1000, 120
"""Of the drawing's own coordinates; frame 0 is at the left edge and the last frame at the right."""

# More points than a screen has columns.
_MOST_POINTS = 2000
_MARGIN = 8


def chart(name: str, curves: Sequence[tuple[str, Curve]]) -> str:
    """A chart with a line per video: which (`a` or `b`) and its values, all of one metric and length."""
    figures = [value for _, curve in curves for value in curve if value is not None]
    if not figures:
        return ""
    low, high = min(figures), max(figures)
    lines = "".join(
        f'<polyline class="{which}" points="{points}"/>'
        for which, curve in curves
        for points in _runs(curve, low, high)
    )
    told = "; ".join(
        f"{which.upper()} from {shown(name, min(own))} to {shown(name, max(own))}"
        for which, curve in curves
        if (own := [value for value in curve if value is not None])
    )
    title = f"{heading(name)}: {told}"
    last = max(len(curve) for _, curve in curves)
    # Text inside the drawing would be stretched with it.
    scale = "".join(f"<span>{shown(name, value)}</span>" for value in (high, (low + high) / 2, low))
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<div class="scale" aria-hidden="true">{scale}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(title)}"><line class="half" x1="0" x2="{WIDTH}" y1="{HEIGHT // 2}" y2="{HEIGHT // 2}"/>'
        f'{lines}<line class="cursor" x1="0" x2="0" y1="0" y2="{HEIGHT}"/></svg>'
        f'<div class="frames" aria-hidden="true"><span>frame 1</span><span>{last}</span></div></figure>'
    )


def _runs(curve: Curve, low: float, high: float) -> list[str]:
    """Points of every unbroken run of values; long curves as means of neighbours."""
    span = (high - low) or 1.0
    last = max(1, len(curve) - 1)
    width = -(-len(curve) // _MOST_POINTS)
    runs: list[list[str]] = [[]]
    for start in range(0, len(curve), width):
        bunch = [value for value in curve[start : start + width] if value is not None]
        if not bunch:
            runs.append([])
            continue
        value = sum(bunch) / len(bunch)
        x = WIDTH * (start + (len(curve[start : start + width]) - 1) / 2) / last
        y = HEIGHT - _MARGIN - (HEIGHT - 2 * _MARGIN) * (value - low) / span
        runs[-1].append(f"{x:.1f},{y:.1f}")
    # A single point has no length: it is drawn as a dash.
    dashes = (
        run
        if len(run) > 1
        else [run[0], f"{float(run[0].split(',')[0]) + 2:.1f},{run[0].split(',')[1]}"]
        for run in runs
        if run
    )
    return [" ".join(run) for run in dashes]
