"""Piece `pipeline`: whole jobs of star-light on a clip."""

from __future__ import annotations

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


def cases(setting: Setting) -> Iterator[Case]:
    """As it is, and with each option that is said to save time or memory."""
    name = str(setting.device)
    balanced, _ = with_speed(star(setting), SamplingOptions(speed="balanced"), WindowOptions())
    plain = DeviceOptions(device=name, precision="fp16", attention="sdpa", offload="none")
    exact = SamplingOptions()

    def case(title: str, device: DeviceOptions = plain, sampling: SamplingOptions = exact) -> Case:
        options = UpscaleOptions(
            device=device, sampling=sampling, weights=WeightsOptions(setting.folder, offline=True)
        )
        return Case(title, partial(_job, setting, title, options))

    def on(**changes: Any) -> DeviceOptions:
        given = {"precision": "fp16", "attention": "sdpa", "offload": "none", **changes}
        return DeviceOptions(device=name, **given)

    yield case("exact")
    yield case("bf16", on(precision="bf16"))
    for attention in backends(setting)[1:]:
        yield case(f"attention {attention}", on(attention=attention))
    yield case(
        "guidance interval",
        sampling=SamplingOptions(guidance_interval=balanced.guidance_interval),
    )
    yield case("cache", sampling=SamplingOptions(cache=balanced.cache))
    yield case("balanced", sampling=SamplingOptions(speed="balanced"))
    yield case("fast", sampling=SamplingOptions(speed="fast"))
    yield case("offload model", on(offload="model"))
    yield case("offload block", on(offload="block"))
    yield case("compiled", on(compile=True))


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
        size, frames = setting.pick(((320, 180), 32), ((24, 16), 5))
        write_clip(path, size, frames)
    return path
