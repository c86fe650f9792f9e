"""The parts of the page that Gradio has no component for, as HTML; every name in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

from starvsr.tune.rules import Setting
from starvsr.tune.run import option_text
from starvsr.ui.jobs import Task
from starvsr.zoo.amounts import format_bytes, format_seconds

# Gradio leaves the list of a dropdown open that Tab has left.
CSS = """
.block:not(:focus-within) ul[role=listbox] {display: none}
.gradio-container {max-width: 1500px !important}
.sv-facts {display: grid; grid-template-columns: max-content 1fr; gap: .1rem .8rem; margin: 0}
.sv-facts dt {opacity: .75} .sv-facts dd {margin: 0; overflow-wrap: anywhere}
.sv-strip {display: flex; gap: .3rem; overflow-x: auto; margin: 0}
.sv-strip figure {margin: 0; flex: 1 1 0; min-width: 64px}
.sv-strip img {width: 100%; border-radius: 4px} .sv-strip figcaption {font-size: .75rem; text-align: center}
.sv-error {border-left: 4px solid #c0392b; padding: .4rem .8rem; overflow-wrap: anywhere}
.sv-pair {position: relative; --at: 50%; line-height: 0}
.sv-pair img {width: 100%}
.sv-pair img + img {position: absolute; inset: 0; clip-path: inset(0 calc(100% - var(--at)) 0 0)}
.sv-pair::after {content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); border-left: 2px solid #fff;
  box-shadow: 0 0 3px #000; pointer-events: none}
.sv-pair input {position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize}
.sv-pair:focus-within {outline: 3px solid #f97316; outline-offset: 2px}
.sv-job {border-top: 1px solid var(--border-color-primary); padding: .5rem 0; overflow-wrap: anywhere}
.sv-job progress {width: 100%; height: .6rem; appearance: none; border: 0; background: var(--border-color-primary)}
.sv-job progress::-webkit-progress-bar {background: var(--border-color-primary)}
.sv-job progress::-webkit-progress-value {background: #f97316}
.sv-job progress::-moz-progress-bar {background: #f97316}
.sv-job img {max-width: 320px; width: 100%; border-radius: 4px}
.sv-job a img {max-width: 100%}
.sv-more pre {white-space: pre-wrap; margin: .2rem 0; font-size: .8rem}
.sv-film {width: 100%}
"""

_STATES = {
    "waiting": "waits",
    "stopping": "is being stopped",
    "done": "done",
    "stopped": "stopped: resume continues with what is finished",
    "failed": "failed",
}


def facts(lines: Iterable[tuple[str, str]]) -> str:
    """Names and what is said of them."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in lines)
    return f'<dl class="sv-facts">{rows}</dl>'


def error(text: str) -> str:
    """An error as the command line has it."""
    return f'<p class="sv-error" role="alert">error: {escape(text)}</p>'


def strip(frames: Sequence[tuple[float, str]]) -> str:
    """Pictures by their times and addresses."""
    shown = "".join(
        f'<figure><img src="{address}" alt=""><figcaption>{time_s:.1f} s</figcaption></figure>'
        for time_s, address in frames
    )
    return f'<div class="sv-strip">{shown}</div>'


def details(name: str, text: str) -> str:
    """Plain text that is shown on demand."""
    return f'<details class="sv-more"><summary>{name}</summary><pre>{escape(text)}</pre></details>'


def pair(left: tuple[str, str], right: tuple[str, str], film: str) -> str:
    """Two pictures (name and address) under one slider, and the video of the right one.

    Gradio's own slider of images answers to the mouse alone.
    """
    (left_name, left_at), (right_name, right_at) = left, right
    names = f"{escape(left_name)} (left) and {escape(right_name)} (right)"
    return (
        f'<div class="sv-pair"><img src="{right_at}" alt="{escape(right_name)}">'
        f'<img src="{left_at}" alt="{escape(left_name)}">'
        f'<input type="range" min="0" max="100" value="50" aria-label="{names}" '
        "oninput=\"this.parentElement.style.setProperty('--at', this.value + '%')\"></div>"
        f"<p>{names}; drag, or use the arrow keys</p>"
        f'<video class="sv-film" src="{film}" controls loop muted playsinline></video>'
    )


def job(task: Task, picture: str, film: str) -> str:
    """A task with its progress; picture, film: addresses, empty for none."""
    name = escape(task.label or task.target.name)
    text = progress_text(task.progress) if task.state == "running" else _STATES[task.state]
    parts = [f"<strong>{name}</strong> <span>{escape(text)}</span>"]
    if task.state in ("running", "stopping"):
        share = task.progress.get("done", 0) / max(task.progress.get("total", 1), 1)
        parts.append(f'<progress max="1" value="{share:.3f}" aria-label="{name}"></progress>')
    if task.result.get("event") == "tuned":
        parts.append(facts(_suggested(task.result)))
    elif said := _result_text(task.result):
        parts.append(f"<div>{escape(said)}</div>")
    if task.state == "failed":
        parts.append(error(task.error or "; ".join(tuple(task.lines)) or "it ended without a word"))
    if picture:
        seen = "the settings side by side" if task.label else "the newest finished frame"
        shown = f'<img src="{picture}" alt="{seen}">'
        # In its own size, a sheet shows what its columns differ in.
        parts.append(f'<a href="{picture}" target="_blank">{shown}</a>' if task.label else shown)
    if film:
        parts.append(f'<video class="sv-film" src="{film}" controls preload="metadata"></video>')
    notes = [line for line in tuple(task.lines) if not line.startswith("error: ")]
    if notes and not task.label:
        parts.append(details("messages", "\n".join(notes)))
    return f'<div class="sv-job" data-state="{task.state}">{"".join(parts)}</div>'


def progress_text(progress: dict[str, Any]) -> str:
    """Stage, amount and remaining time of a `progress` event."""
    if not progress:
        return "starting"
    stage, done, total = progress["stage"], progress["done"], progress["total"]
    text = f"{stage}: {progress['detail']}" if progress["detail"] else stage
    if progress["unit"] == "bytes":
        text += f" {format_bytes(done)} of {format_bytes(total)}"
    elif total > 1:
        text += f" {done:.0f} of {total} {progress['unit']}"
    segment, left_s = progress["segment"], progress["left_s"]
    if segment and segment["count"] > 1:
        text += f", segment {segment['number']} of {segment['count']}"
    return text if left_s is None else f"{text}, {format_seconds(left_s)} left"


def _suggested(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What `tune` advises and why, and what each of its trials would take."""
    for setting in result["trials"][0]["settings"]:
        yield option_text(Setting(**setting)), setting["reason"]
    for trial in result["trials"]:
        took = f"about {format_seconds(trial['whole_s'])}, {format_bytes(trial['whole_bytes'])}"
        niqe = "" if trial["niqe"] is None else f", NIQE {trial['niqe']:.2f}"
        yield trial["difference"] or "as advised", f"{took}{niqe}: {trial['command']}"


def _result_text(result: dict[str, Any]) -> str:
    """The end of a command in words."""
    if result.get("event") == "preview":
        return (
            f"the whole video would take about {format_seconds(result['whole_s'])} "
            f"and {format_bytes(result['whole_bytes'])}"
        )
    if result.get("event") == "finished":
        return f"{result['target']}: {result['frames']} of {result['of_frames']} frames"
    if "elapsed_s" in result:
        return f"{result['target']}: {result['frames']} frames in {format_seconds(result['elapsed_s'])}"
    return ""
