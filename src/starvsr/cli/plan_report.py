"""The text of `starvsr plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starvsr.errors import StarvsrError
from starvsr.job.journal import as_argument
from starvsr.job.pace import expected_s
from starvsr.media.still import STILL
from starvsr.options import shares_text
from starvsr.plan.fitting import format_memory
from starvsr.plan.layout import largest_picture, largest_window
from starvsr.plan.plan import Plan, make_plan
from starvsr.plan.windows import frames_of
from starvsr.specs import SPECS
from starvsr.types import ModelSpec
from starvsr.zoo.amounts import format_seconds

if TYPE_CHECKING:
    from starvsr.job.run import Job


def plan_text(job: Job) -> str:
    """Sizes, segments, windows, memory and cost of a planned job, one per line; then the cost of other models."""
    plan, info = job.plan, job.info
    longest = max(segment.pictures for segment in plan.segments)
    source = f"{info.width}x{info.height}, {plan.frames} of {_count(job.index.frames, 'frame')}"
    lines = [
        ("input", f"{job.source}: {source}"),
        (
            "output",
            f"{job.target}: {plan.width}x{plan.height}, {job.settings.codec} {job.settings.pix_fmt}",
        ),
        (
            "model",
            f"{job.choice.reason}, on {job.device.description} with {_count(job.device.threads, 'thread')}",
        ),
        ("shots", f"{1 + sum(plan.first < cut < plan.last for cut in job.index.cuts)}"),
        ("segments", f"{len(plan.segments)}, the longest of {_count(longest, 'frame')}"),
        ("latent", f"{plan.latent[1]}x{plan.latent[0]} elements with padding"),
        ("chunks", _chunks_text(plan)),
        ("tiles", _tiles_text(plan)),
        ("network", f"{_calls_text(plan)}, overlaps cost {plan.overlap_cost - 1:.0%}"),
        ("memory", _memory_text(plan)),
        ("latents", f"about {format_memory(plan.memory_bytes)} of RAM"),
        ("time", _time_text(job)),
    ]
    if plan.restored_size != (plan.width, plan.height):
        columns, rows = plan.restored_size
        lines.insert(2, ("restored", f"at {columns}x{rows}, then resized to the output"))
    if plan.speed != "exact":
        lines.append(("speed", _speed_text(plan)))
    lines += [("note", note) for note in job.notes]
    if job.choice.missing:
        folder = job.options.weights.folder
        into = f" --dir {as_argument(folder)}" if folder is not None else ""
        fetch = f"starvsr download-weights {job.choice.to_download}{into}"
        lines.append(("missing", f"{', '.join(job.choice.missing)}: `{fetch}` downloads them"))
    if job.choice.conversion:
        lines.append(("convert", job.choice.conversion.text))
    if job.index.lost_frames:
        lines.append(("damaged", f"{job.index.lost_frames} frames cannot be decoded"))
    others = [
        (spec.name, _model_text(job, spec))
        for spec in SPECS.values()
        if spec.name != job.choice.spec.name
    ]
    return "\n".join(
        [
            *(f"{name:<9} {text}" for name, text in lines),
            "with other models:",
            *(f"  {name}: {text}" for name, text in others),
        ]
    )


def _time_text(job: Job) -> str:
    seconds = expected_s(job)
    if seconds is None:
        how = (
            "" if job.settings.container == STILL else ": `starvsr upscale --preview 5` measures it"
        )
        return f"unknown until this model has run here{how}"
    return f"about {format_seconds(seconds)}, by the last job with this model here"


def _chunks_text(plan: Plan) -> str:
    frames, shared = plan.windows.chunk_frames, plan.windows.chunk_overlap
    time_factor = plan.layout.autoencoder.time_factor
    if time_factor == 1:
        return f"up to {_count(frames, 'frame')}, {shared} shared"
    return f"up to {frames_of(frames, time_factor)} frames as {frames} latent ones, {shared} of these shared"


def _calls_text(plan: Plan) -> str:
    return f"{'at most ' if plan.cache else ''}{_count(plan.network_calls, 'call')}"


def _speed_text(plan: Plan) -> str:
    """The options that `--speed` sets, as in effect."""
    parts = [f"--steps {plan.steps}", f"--cfg {plan.cfg:g}"]
    if plan.guidance_interval is not None and plan.cfg != 1:
        parts.append(f"--guidance-interval {shares_text(plan.guidance_interval)}")
    parts += [f"--cache {plan.cache:g}", f"--chunk-overlap {plan.windows.chunk_overlap}"]
    return f"{plan.speed}: {' '.join(parts)}"


def _memory_text(plan: Plan) -> str:
    layout = plan.layout
    allowed = f" of {format_memory(plan.limit_bytes)}" if plan.limit_bytes else ""
    text = f"{format_memory(layout.peak_bytes)}{allowed} on the device, {plan.precision}"
    if layout.offload != "none":
        text += f", offload {layout.offload}"
    if layout.autoencoder.weights:
        frames, rows, columns = largest_picture(layout)
        frames = frames_of(frames, layout.autoencoder.time_factor)
        factor = layout.autoencoder.factor
        text += (
            f", decoding {_count(frames, 'frame')} of {columns * factor}x{rows * factor} at once"
        )
    return text


def _model_text(job: Job, spec: ModelSpec) -> str:
    """The cost of the same job with another model, in one line."""
    even = (job.plan.width % 2, job.plan.height % 2) == (0, 0)
    still = job.settings.container == STILL
    try:
        plan = make_plan(job.info, job.index, spec, job.device, job.options, even=even, still=still)
    except StarvsrError as error:
        return str(error)
    frames, rows, columns = largest_window(spec, plan.layout)
    frames, factor = frames_of(frames, spec.autoencoder.time_factor), spec.autoencoder.factor
    call = f"{_count(frames, 'frame')} of {columns * factor}x{rows * factor}"
    return f"{_calls_text(plan)} on {call}, {_memory_text(plan)}"


def _tiles_text(plan: Plan) -> str:
    count = len(plan.rows) * len(plan.columns)
    return f"{count} of {plan.columns[0][1]}x{plan.rows[0][1]} elements"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
