"""The benchmark as a whole: ceilings, calls of a network, a job, ceilings again."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

import torch

from starvsr.bench.job import measure_job
from starvsr.bench.machine import Ceilings, measure_ceilings
from starvsr.bench.network import measure_call, measure_layers
from starvsr.bench.report import Result
from starvsr.errors import UsageError
from starvsr.models.device import device_info
from starvsr.options import DeviceOptions, UpscaleOptions
from starvsr.plan.windows import legal_latent
from starvsr.types import ModelSpec, Progress, ProgressCallback
from starvsr.zoo.load import load_model


def run_benchmark(
    model: str = "nano",
    *,
    latents: Sequence[tuple[int, int, int]] = (),
    size: tuple[int, int] = (480, 270),
    frames: int = 24,
    layers: bool = False,
    repeats: int = 3,
    threads: int | None = None,
    progress: ProgressCallback | None = None,
) -> Result:
    """Measure a model on this machine's CPU, in float32.

    latents: frames, rows and columns of the network's calls, by default `usual_latent`; size: columns and rows of the
    clip that is upscaled, both even; layers: also time every layer of the last call; repeats: of every call, the median
    counts; threads: None: as a job uses. Raises StarvsrError: WeightsError, UsageError for other sizes, and those that
    the network does not accept.
    """
    if any(side % 2 for side in size):
        raise UsageError(f"--size {size[0]}x{size[1]} is not allowed: both must be even")
    loaded = load_model(model, device="cpu", precision="fp32")
    network, latents = loaded.network, latents or (usual_latent(loaded.spec),)
    report = progress or (lambda _: None)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or device_info("cpu").threads)
    try:
        report(Progress("ceilings", 0, 1))
        first = measure_ceilings(repeats)
        report(Progress("ceilings", 1, 1))
        calls = []
        for number, latent in enumerate(latents):
            report(Progress("network", number, len(latents)))
            try:
                calls.append(measure_call(network, latent, repeats=repeats))
            except ValueError as error:
                raise UsageError(f"--latent {'x'.join(map(str, latent))}: {error}") from error
        report(Progress("network", len(latents), len(latents)))
        found = measure_layers(network, latents[-1], repeats=repeats) if layers else []
        device = DeviceOptions(device="cpu", precision="fp32")
        options = UpscaleOptions(model=model, device=device)
        job = measure_job(size, frames, options, progress=progress)
        return Result(
            model, _mean(first, measure_ceilings(repeats)), tuple(calls), tuple(found), job
        )
    finally:
        torch.set_num_threads(before)


def usual_latent(spec: ModelSpec) -> tuple[int, int, int]:
    """Frames, rows and columns of the latent of four frames of 768x432."""
    factor = spec.autoencoder.factor
    return 4, *legal_latent(-(-432 // factor), -(-768 // factor), spec.size_rule, (1, 1))


def _mean(*measured: Ceilings) -> Ceilings:
    return Ceilings(
        *(
            statistics.mean(getattr(each, field.name) for each in measured)
            for field in dataclasses.fields(Ceilings)
        )
    )
