"""What grows with frames, pixels and workers, and how a film would spread over many workers.

    python benchmarks/scaling.py frames     jobs of more and more frames, fitted by a line
    python benchmarks/scaling.py pixels     jobs of larger and larger pictures, fitted by a line
    python benchmarks/scaling.py workers    the same job by one and by two processes, one thread each
    python benchmarks/scaling.py film       a simulation: nothing of it was measured on a GPU

Frames and pixels are measured with nano on one thread, as medians of CPU time. The film is two hours of 24 frames
a second, 480x270 to 1920x1080 by star-light, in shots of log-normal length. Its plan is the program's own, and its work
the calls of the network in that plan, counted in FLOPs on the meta device as if the halves of the guidance shared
nothing. Workers take segments one at a time, as `--workers` and `--cluster` hand them out, and each first loads the
model.
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import itertools
import json
import random
import statistics
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch

from starvsr.bench.job import measure_job
from starvsr.bench.machine import describe_machine
from starvsr.bench.network import count_flops
from starvsr.job.executor import handing_order
from starvsr.models.build import build_network
from starvsr.options import UpscaleOptions, WindowOptions, WorkerOptions
from starvsr.plan.plan import Plan, make_plan
from starvsr.plan.segments import Segment
from starvsr.plan.settings import resolve
from starvsr.plan.windows import Span
from starvsr.specs import STAR_LIGHT
from starvsr.types import DeviceInfo

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.conftest import video_index, video_info

FRAMES = (24, 48, 96, 192)
SIZES = ((96, 54), (192, 108), (288, 162), (384, 216))
WORKERS = (1, 8, 64, 512)
FILM_FRAMES, FILM_RATE, FILM_SIZE = 2 * 3600 * 24, 24, (480, 270)

COUNTED_LENGTHS = (1, 4, 16, 32)

LOADING_S, RATE = 60.0, 100e12
"""Assumed of a worker: seconds to load the model, FLOPs a second. Only their product counts, and it is varied."""


def show_fit(
    unit: str, amounts: list[int], sizes: list[tuple[int, int]], frames: list[int]
) -> None:
    """CPU time against an amount, and the line with the least relative errors."""
    measure_job(sizes[0], frames[0], UpscaleOptions())
    seconds = [
        statistics.median(measure_job(size, count, UpscaleOptions()).processor_s for _ in range(3))
        for size, count in zip(sizes, frames, strict=True)
    ]
    slope, constant = np.polyfit(amounts, seconds, 1, w=1 / np.array(seconds))
    for amount, spent in zip(amounts, seconds, strict=True):
        line = constant + slope * amount
        print(f"{amount:>9} {unit}: {spent:7.2f} s, line {line:7.2f} s, {spent / line - 1:+.1%}")
    print(f"line: {constant:.2f} s + {1e6 * slope:.2f} s for a million {unit}")


def measure_frames() -> None:
    """Jobs of 192x108."""
    show_fit("frames", list(FRAMES), [(192, 108)] * len(FRAMES), list(FRAMES))


def measure_pixels() -> None:
    """Jobs of 24 frames."""
    amounts = [24 * width * height for width, height in SIZES]
    show_fit("pixels", amounts, list(SIZES), [24] * len(SIZES))


def measure_workers() -> None:
    """96 frames of 288x162 in segments of 12, one thread a process."""
    base = UpscaleOptions(windows=WindowOptions(segment_frames=12))
    walls = []
    for count in (1, 2):
        options = dataclasses.replace(base, workers=WorkerOptions(count=count))
        job = measure_job((288, 162), 96, options)
        walls.append(job.wall_s)
        print(f"{count} workers: {job.wall_s:.2f} s")
    print(f"efficiency of two: {walls[0] / walls[1] / 2:.0%}")


def window_flops(frames: int, rows: int, columns: int) -> float:
    """Of one call of star-light's network on a window; close to linear in frames, so counted at a few lengths only."""
    at = [counted_flops(length, rows, columns) for length in COUNTED_LENGTHS]
    return float(np.interp(frames, COUNTED_LENGTHS, at))


@cache
def counted_flops(frames: int, rows: int, columns: int) -> int:
    """As torch counts them on the meta device."""
    config = STAR_LIGHT.network
    with torch.device("meta"), torch.inference_mode():
        network = build_network(config).eval()
        x = torch.empty(1, config.latent_channels, frames, rows, columns)
        context = torch.empty(1, 77, config.context_width)
        time = torch.zeros(1)
        return count_flops(lambda: network(x, time, context, x))


def segment_flops(plan: Plan, segment: Segment) -> float:
    """Of all calls of the network for a segment."""

    def lengths(spans: tuple[Span, ...]) -> list[int]:
        return [stop - start for start, stop in spans]

    total = 0.0
    for first, last in plan.runs(segment):
        grid = plan.grid(last - first)
        windows = itertools.product(*map(lengths, (grid.frames, grid.rows, grid.columns)))
        total += sum(window_flops(*window) for window in windows)
    return total * resolve(STAR_LIGHT).calls_per_window


def film_plan(shot_s: float, segment_frames: int | None) -> Plan:
    """The plan of the film in shots of a mean length; no shots for 0."""
    draw = random.Random(0)
    cuts: list[int] = []
    # Log-normal with sigma 1: its mean is exp(1/2) times its median.
    while shot_s and (not cuts or cuts[-1] < FILM_FRAMES):
        length = draw.lognormvariate(np.log(shot_s) - 0.5, 1.0)
        cuts.append((cuts[-1] if cuts else 0) + max(1, round(FILM_RATE * length)))
    info = video_info(*FILM_SIZE)
    index = video_index(FILM_FRAMES, cuts=tuple(cut for cut in cuts if cut < FILM_FRAMES))
    device = DeviceInfo("cuda:0", "80 GB", 80 << 30, 1)
    options = UpscaleOptions(windows=WindowOptions(segment_frames=segment_frames))
    return make_plan(info, index, STAR_LIGHT, device, options, even=True)


def makespan(costs_s: list[float], workers: int, loading_s: float) -> float:
    """Seconds until the last worker is done, each taking the next segment when it is free."""
    free_at = [loading_s] * workers
    for cost in costs_s:
        heapq.heappush(free_at, heapq.heappop(free_at) + cost)
    return max(free_at)


def simulate_film(shot_s: float, segment_frames: int | None) -> None:
    """Efficiency: the work of all segments over what the workers' time could have done until the end."""
    plan = film_plan(shot_s, segment_frames)
    seconds = {segment: segment_flops(plan, segment) / RATE for segment in plan.segments}
    work_s = sum(seconds.values())
    print(
        f"shots of {shot_s:g} s, at most {segment_frames or STAR_LIGHT.segment_frames} frames: "
        f"{len(seconds)} segments, the longest {max(seconds.values()) / work_s:.3%} of the work, "
        f"{work_s * RATE / FILM_FRAMES / 1e12:.0f} TFLOP a frame, overlaps cost {plan.overlap_cost - 1:.0%}"
    )
    for workers in WORKERS:
        orders = plan.segments, handing_order(plan.segments, workers)
        row = [
            work_s / workers / makespan([seconds[one] for one in order], workers, loading_s)
            for loading_s in (0.0, LOADING_S, 10 * LOADING_S)
            for order in orders
        ]
        print(f"{workers:>4} workers: " + "  ".join(f"{share:6.1%}" for share in row))


def main() -> None:
    """Run one part."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=("frames", "pixels", "workers", "film"))
    part = parser.parse_args().part
    if part == "film":
        print(
            f"columns: loading 0, {LOADING_S:g} and {10 * LOADING_S:g} s at {RATE / 1e12:g} TFLOP/s (assumed), each in "
            "order, and as workers are handed segments"
        )
        for shot_s, segment_frames in itertools.product((0.0, 4.0), (None, 64)):
            simulate_film(shot_s, segment_frames)
        return
    torch.set_num_threads(1)
    {"frames": measure_frames, "pixels": measure_pixels, "workers": measure_workers}[part]()
    print(json.dumps(describe_machine()))


if __name__ == "__main__":
    main()
