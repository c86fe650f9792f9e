"""What `--speed` and its options save, and how far they deviate from the exact result.

    python benchmarks/speed_presets.py [CLIP] [--frames 12] [--rows N...] [--pictures DIR]

The embedded toy restores frames of a clip that were made four times smaller. Its calls are counted, and with them, the
windows that a plan lays over a long shot of 720x1280, and FLOPs counted without computing, the FLOPs that the full-size
network and autoencoder would take for a frame. The full-size network was never run: which steps a cache would skip
there is unknown. `--pictures` saves the middle frame of every row.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from starvsr.bench.network import count_flops
from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.build import build_network
from starvsr.models.shared import Shared
from starvsr.options import SamplingOptions, SizeOptions, UpscaleOptions, WindowOptions
from starvsr.plan.layout import autoencoder_grid
from starvsr.plan.plan import Plan, make_plan
from starvsr.plan.speed import SPEEDS
from starvsr.restore.restorer import Restorer
from starvsr.specs import STAR_LIGHT
from starvsr.types import DeviceInfo
from starvsr.zoo.load import LoadedModel, load_model

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.conftest import video_index, video_info  # noqa: E402

LONG_SHOT = 160
"""Frames, one segment of the full-size model."""
CALL, PICTURES = (32, 90, 160), (6, 90, 160)
"""Latents of which FLOPs are counted, which go with the number of frames."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    sampling: SamplingOptions = field(default_factory=SamplingOptions)
    overlap: Fraction | None = None
    """Fraction of a chunk shared with a neighbour; None: the model's."""

    def windows(self, chunk_frames: int) -> WindowOptions:
        """The overlap in frames, for a model's chunks."""
        shared = None if self.overlap is None else int(chunk_frames * self.overlap)
        return WindowOptions(chunk_overlap=shared)


BALANCED, FAST = SPEEDS["balanced"].sampling, SPEEDS["fast"].sampling
ROWS = [
    Row("exact"),
    Row(
        "guidance interval of balanced and fast",
        SamplingOptions(guidance_interval=BALANCED.guidance_interval),
    ),
    Row("cache of balanced", SamplingOptions(cache=BALANCED.cache)),
    Row("cache of fast", SamplingOptions(cache=FAST.cache)),
    Row("chunk overlap an eighth, not a half", overlap=Fraction(1, 8)),
    Row("half the steps (`--steps 8`)", SamplingOptions(steps=8)),
    Row("`--cfg 1`", SamplingOptions(cfg=1.0)),
    Row("**balanced**", SamplingOptions(speed="balanced")),
    Row("**fast**", SamplingOptions(speed="fast")),
    Row(
        "`--steps 3 --solver-mode normal --cfg 1`",
        SamplingOptions(steps=3, cfg=1.0, solver_mode="normal"),
    ),
    Row("**draft**", SamplingOptions(speed="draft")),
]


@dataclass(frozen=True)
class Restored:
    """The toy's result for the clip."""

    pictures: Tensor
    calls: float
    """Of the network, for each window."""
    second: float
    """Of these, those that share their beginning with the call before."""
    seconds: float
    """CPU time: wall time is meaningless on a busy machine."""


def decoded(path: Path, frames: int) -> Tensor:
    """The first frames, `t 3 h w` in [0, 1], without the columns and rows over a multiple of 8."""
    with av.open(str(path)) as container:
        taken = itertools.islice(container.decode(video=0), frames)
        pictures = np.stack([frame.to_ndarray(format="rgb24") for frame in taken])
    rows, columns = (side // 8 * 8 for side in pictures.shape[1:3])
    return torch.from_numpy(pictures[:, :rows, :columns]).permute(0, 3, 1, 2).float() / 255


def reduced(frames: Tensor) -> Tensor:
    """At a quarter of their size, in 256 levels."""
    small = functional.interpolate(frames, scale_factor=0.25, mode="bicubic", antialias=True)
    return (small.clamp(0, 1) * 255).round() / 255


def restored(toy: LoadedModel, row: Row, frames: Tensor) -> Restored:
    """The clip four times enlarged."""
    second: list[bool] = []
    handle = toy.network.register_forward_pre_hook(
        lambda _, given: second.append(torch.equal(given[2], toy.negative_context))
    )
    windows = row.windows(toy.spec.windows.chunk_frames)
    began = time.process_time()
    pictures = Restorer(toy, row.sampling, windows=windows)(frames)
    seconds = time.process_time() - began
    handle.remove()
    options = UpscaleOptions(sampling=row.sampling, windows=windows)
    size = frames.shape[3], frames.shape[2]
    plan = planned(toy, size, len(frames), options)
    windows_made = len(plan.grid(len(frames)))
    return Restored(pictures, len(second) / windows_made, sum(second) / windows_made, seconds)


def planned(
    model: LoadedModel | None, size: tuple[int, int], frames: int, options: UpscaleOptions
) -> Plan:
    """The plan for one shot of a size (columns, rows) without a limit of memory; None is the full-size model."""
    spec = STAR_LIGHT if model is None else model.spec
    info, index = video_info(*size), video_index(frames)
    return make_plan(info, index, spec, DeviceInfo("cpu", "", 0, 1), options, even=True)


@cache
def call_flops() -> tuple[float, float]:
    """Of the full-size network and control branch, for a latent frame of 90x160; and of the guidance's other half."""
    with torch.device("meta"), torch.inference_mode():
        network = build_network(STAR_LIGHT.network).eval()
        x, shared = torch.zeros(1, 4, *CALL), Shared()
        inputs = x, torch.zeros(1), torch.zeros(1, 77, 1024), x, shared
        first, second = (count_flops(lambda: network(*inputs)) / CALL[0] for _ in range(2))
    return first, second


@cache
def vae_flops() -> tuple[float, float]:
    """Of encoding and of decoding a picture of 720x1280 with the published autoencoder."""
    with torch.device("meta"), torch.inference_mode():
        vae: Any = TemporalVAE.build(
            {
                "block_out_channels": (128, 256, 512, 512),
                "down_block_types": ("DownEncoderBlock2D",) * 4,
                "layers_per_block": 2,
            }
        ).to("meta")
        rows, columns = PICTURES[1:]
        picture = torch.zeros(1, 3, 8 * rows, 8 * columns)
        latents = torch.zeros(PICTURES[0], 4, rows, columns)
        encoding = count_flops(lambda: vae.encode(picture))
        decoding = count_flops(lambda: vae.decode(latents, num_frames=PICTURES[0]))
    return encoding, decoding / PICTURES[0]


def full_size_flops(row: Row, made: Restored) -> float:
    """For an output frame of 720x1280 of a long shot, with as many calls a window."""
    windows = row.windows(STAR_LIGHT.windows.chunk_frames)
    options = UpscaleOptions(size=SizeOptions(scale=4), sampling=row.sampling, windows=windows)
    plan = planned(None, (320, 180), LONG_SHOT, options)
    encoding, decoding = vae_flops()
    decoded = sum(b - a for a, b in autoencoder_grid(plan.layout, LONG_SHOT).frames) / LONG_SHOT
    first, second = call_flops()
    network = (made.calls - made.second) * first + made.second * second
    return network * plan.overlap_cost + encoding + decoded * decoding


def psnr(one: Tensor, other: Tensor) -> float:
    """Of pictures in [0, 1], dB."""
    return float(-10 * (one - other).square().mean().log10())


def luma(pictures: Tensor) -> Tensor:
    """`t 3 h w` RGB to `t h w`, by BT.601."""
    return torch.einsum("tchw,c->thw", pictures, torch.tensor([0.299, 0.587, 0.114]))


def save_picture(path: Path, picture: Tensor) -> None:
    """`3 h w` in [0, 1] as PNG."""
    Image.fromarray((picture.permute(1, 2, 0) * 255).round().byte().numpy()).save(path)


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clip", type=Path, nargs="?", default=ROOT / "examples" / "butterfly.mp4")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--pictures", type=Path, help="folder for the middle frame of every row")
    parser.add_argument(
        "--rows", type=int, nargs="*", help="numbers of the rows to measure, from 1"
    )
    options = parser.parse_args()
    toy, truth = load_model("toy", device="cpu"), decoded(options.clip, options.frames)
    frames = reduced(truth)
    restored(toy, Row("warm"), frames[:1])
    exact = restored(toy, ROWS[0], frames)
    whole = full_size_flops(ROWS[0], exact)
    print(
        "| | calls a window | TFLOP a frame, full size | share | toy's CPU time | PSNR to exact | PSNR-Y to the truth |"
    )
    print("|---|---|---|---|---|---|---|")
    for number, row in enumerate(ROWS):
        if options.rows and number + 1 not in options.rows:
            continue
        made = exact if number == 0 else restored(toy, row, frames)
        flops = full_size_flops(row, made)
        distance = "" if number == 0 else f"{psnr(made.pictures, exact.pictures):.1f} dB"
        cells = (
            row.name,
            f"{made.calls:g}",
            f"{flops / 1e12:.0f}",
            f"{flops / whole:.2f}",
            f"{made.seconds / exact.seconds:.2f}",
            distance,
            f"{psnr(luma(made.pictures), luma(truth)):.2f} dB",
        )
        print(f"| {' | '.join(cells)} |", flush=True)
        if options.pictures is not None:
            options.pictures.mkdir(parents=True, exist_ok=True)
            save_picture(options.pictures / f"{number}.png", made.pictures[len(frames) // 2])


if __name__ == "__main__":
    main()
