"""The text of `starvsr plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starvsr.plan import Plan, attention_pieces

if TYPE_CHECKING:
    from starvsr.upscale import Job


def plan_text(job: Job) -> str:
    """Sizes, segments, windows and cost of a planned job, a line each."""
    plan, info = job.plan, job.info
    longest = max(segment.frames for segment in plan.segments)
    lines = [
        (
            "input",
            f"{job.source}: {info.width}x{info.height}, {plan.frames} of {job.index.frames} frames",
        ),
        (
            "output",
            f"{job.target}: {plan.width}x{plan.height}, {job.settings.codec} {job.settings.pix_fmt}",
        ),
        (
            "model",
            f"{job.choice.reason}, on {job.device.description} with {job.device.threads} threads",
        ),
        ("shots", f"{1 + sum(plan.first < cut < plan.last for cut in job.index.cuts)}"),
        ("segments", f"{len(plan.segments)}, the longest of {longest} frames"),
        ("latent", f"{plan.latent[1]}x{plan.latent[0]} elements with padding"),
        (
            "chunks",
            f"up to {plan.windows.chunk_frames} frames, {plan.windows.chunk_overlap} shared",
        ),
        ("tiles", _tiles_text(plan)),
        ("network", f"{plan.network_calls} calls, overlaps cost {plan.overlap_cost - 1:.0%}"),
        (
            "memory",
            f"about {plan.memory_bytes / 2**20:.0f} MiB for latents, and what the network needs",
        ),
    ]
    if job.index.lost_frames:
        lines.append(("damaged", f"{job.index.lost_frames} frames cannot be decoded"))
    return "\n".join(f"{name:<9} {text}" for name, text in lines)


def _tiles_text(plan: Plan) -> str:
    rows, columns = attention_pieces(plan.windows, plan.latent)
    if rows * columns > 1:
        return f"whole pictures, attention within {columns}x{rows} pieces"
    count = len(plan.rows) * len(plan.columns)
    return f"{count} of {plan.columns[0][1]}x{plan.rows[0][1]} elements"
