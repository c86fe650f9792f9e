"""Piece `embedded`: nano and toy on the device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch

from gpu_pieces.calls import Inputs, measured_call
from gpu_pieces.network import compiling
from gpu_pieces.pipeline import DRY_STEPS
from gpu_pieces.setting import DTYPES, Case, Peaks, Setting
from starvsr.bench.job import measure_job
from starvsr.bench.network import count_flops
from starvsr.models.recurrent import Memory
from starvsr.options import DeviceOptions, SamplingOptions, UpscaleOptions
from starvsr.restore.restorer import Restorer
from starvsr.specs import EMBEDDED, SPECS
from starvsr.zoo.load import load_model

WINDOW, DRY_WINDOW = (4, 270, 480), (2, 8, 12)


def cases(setting: Setting) -> Iterator[Case]:
    """Calls of nano's network, whole jobs, and the distance to the CPU's float32."""
    for precision in DTYPES:
        yield Case(f"nano's network {precision}", partial(_call, setting, precision, False))
    yield Case("nano's network fp16 compiled", partial(_call, setting, "fp16", True))
    for name in EMBEDDED:
        for precision in DTYPES:
            yield Case(f"job {name} {precision}", partial(_job, setting, name, precision))
    for name in EMBEDDED:
        for precision in DTYPES:
            run = partial(_distance, setting, name, precision)
            yield Case(f"difference to the CPU {name} {precision}", run)


def _call(setting: Setting, precision: str, compile: bool) -> Mapping[str, Any]:
    """After another frame, since a video's first takes less."""
    setting.release()
    with compiling(setting):
        model = load_model(
            "nano",
            device=str(setting.device),
            precision=precision,  # type: ignore[arg-type]
            compile=compile,
        )
    window = setting.pick(WINDOW, DRY_WINDOW)
    with torch.inference_mode():
        inputs = Inputs(model.network, 1, window, setting.device, DTYPES[precision])
        memory = Memory(None)
        inputs.one(memory)

        def call() -> torch.Tensor:
            return inputs.one(Memory(memory.state))

        flops = 0 if compile else count_flops(call)
        result = measured_call(setting, precision, call, flops)
    return {"frames": window[0], **result}


def _sampling(setting: Setting, name: str) -> SamplingOptions:
    """As the model has it, but in a dry run."""
    steps = None if SPECS[name].solver == "one_step" else setting.pick(None, DRY_STEPS)
    return SamplingOptions(steps=steps)


def _job(setting: Setting, name: str, precision: str) -> Mapping[str, Any]:
    setting.release()
    # toy takes 28 calls for each of its small windows.
    full = ((480, 270), 96) if SPECS[name].solver == "one_step" else ((96, 54), 24)
    size, frames = setting.pick(full, ((16, 12), 2))
    device = DeviceOptions(device=str(setting.device), precision=precision)  # type: ignore[arg-type]
    options = UpscaleOptions(model=name, device=device, sampling=_sampling(setting, name))
    with Peaks(setting) as peaks:
        job = measure_job(size, frames, options)
    return {
        "output": "x".join(map(str, job.output_size)),
        "frames": job.frames,
        "seconds": job.wall_s,
        "seconds_a_frame": job.seconds_per_frame,
        "network_share": job.network_share,
        **peaks.described(),
        "parts": {part: round(seconds, 3) for part, seconds in job.seconds.items()},
    }


def _distance(setting: Setting, name: str, precision: str) -> Mapping[str, Any]:
    """Of restored frames of an invented clip, in [0, 1]."""
    setting.release()
    rows, columns = setting.pick((96, 128), (8, 12))
    frames = torch.rand(
        setting.pick(SPECS[name].windows.chunk_frames, 2),
        3,
        rows,
        columns,
        generator=torch.Generator().manual_seed(0),
    )
    there = DeviceOptions(device=str(setting.device), precision=precision)  # type: ignore[arg-type]
    here, sampling = DeviceOptions(device="cpu", precision="fp32"), _sampling(setting, name)
    found, wanted = (
        Restorer.from_name(name, device=device, sampling=sampling)(frames)
        for device in (there, here)
    )
    apart = (found - wanted).double()
    squares = float(apart.square().mean())
    return {
        "largest": float(apart.abs().max()),
        "PSNR": -10 * float(torch.tensor(squares).log10()) if squares else None,
    }
