"""Piece `pipeline`: whole jobs of star-light on a clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from gpu_pieces.network import backends, compiling
from gpu_pieces.setting import Case, Peaks, Setting
from gpu_pieces.weights import star, star_file
from starvsr.bench.job import write_clip
from starvsr.job.plan_job import Job, plan_video
from starvsr.job.run import run_job
from starvsr.options import (
    DeviceOptions,
    SamplingOptions,
    UpscaleOptions,
    WeightsOptions,
    WindowOptions,
)
from starvsr.plan.speed import with_speed

DRY_STEPS = 2


def cases(setting: Setting) -> Iterator[Case]:
    """As it is, and with each option that is said to save time or memory."""
    balanced, _ = with_speed(star(setting), SamplingOptions(speed="balanced"), WindowOptions())
    devices: dict[str, dict[str, Any]] = {"exact": {}, "bf16": {"precision": "bf16"}}
    devices |= {f"attention {each}": {"attention": each} for each in backends(setting)[1:]}
    samplings = {
        "guidance interval": SamplingOptions(guidance_interval=balanced.guidance_interval),
        "cache": SamplingOptions(cache=balanced.cache),
        "balanced": SamplingOptions(speed="balanced"),
        "fast": SamplingOptions(speed="fast"),
        "draft": SamplingOptions(speed="draft"),
    }
    for title, changes in devices.items():
        yield _case(setting, title, **changes)
    for title, sampling in samplings.items():
        yield _case(setting, title, sampling)
    for offload in ("model", "block"):
        yield _case(setting, f"offload {offload}", offload=offload)


def compiled_cases(setting: Setting) -> Iterator[Case]:
    """With compiled parts."""
    yield _case(setting, "job compiled", compile=True)


def _case(
    setting: Setting, title: str, sampling: SamplingOptions | None = None, **changes: Any
) -> Case:
    """changes: of the device's options, which are those of the fastest plain run."""
    # A CPU without units for halves takes several times as long for them.
    precision = setting.pick("fp16", "fp32")
    given = {"precision": precision, "attention": "sdpa", "offload": "none", **changes}
    options = UpscaleOptions(
        device=DeviceOptions(device=str(setting.device), **given),
        sampling=dataclasses.replace(
            sampling or SamplingOptions(), steps=setting.pick(None, DRY_STEPS)
        ),
        weights=WeightsOptions(setting.folder, offline=True),
    )
    return Case(title, partial(_job, setting, title, options))


def _job(setting: Setting, title: str, options: UpscaleOptions) -> Mapping[str, Any]:
    clip = _clip(setting)
    model = str(star_file(setting))
    # What other pieces keep would be in the peaks.
    setting.release()
    target = setting.folder / f"{title.replace(' ', '-')}.mp4"
    with compiling(setting), Peaks(setting) as peaks:
        job = plan_video(
            clip,
            target,
            UpscaleOptions(
                model=model,
                device=options.device,
                sampling=options.sampling,
                weights=options.weights,
                overwrite=True,
            ),
            fetch=lambda _: None,
        )
        result = run_job(job)
    seconds = dict(sorted(result.seconds.items(), key=lambda item: -item[1]))
    return {
        "output": f"{result.width}x{result.height}",
        "frames": result.frames,
        "seconds": result.elapsed_s,
        "seconds_a_frame": result.elapsed_s / result.frames,
        "network_share": seconds.get("network", 0.0) / result.elapsed_s,
        **_planned(job),
        **peaks.described(),
        "parts": {name: round(value, 3) for name, value in seconds.items()},
    }


def _planned(job: Job) -> dict[str, Any]:
    layout = job.plan.layout
    return {"offload": layout.offload, "planned_bytes": layout.peak_bytes}


def _clip(setting: Setting) -> Path:
    """Of one window in time, for an output of one tile."""
    path = setting.folder / "clip.mp4"
    if not path.exists():
        size, frames = setting.pick(((320, 180), 32), ((16, 16), 5))
        write_clip(path, size, frames)
    return path
