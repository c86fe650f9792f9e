"""How far blended windows deviate from the published code's hard cuts, on the same noise.

    python benchmarks/hard_cuts.py

A small seeded STAR whose windows agree: what its layers add in time is damped, in the autoencoder too, so that a window
hardly depends on which frames it contains. The clip needs no padding, which `--parity` does in another way. Prints PSNR
of the default's pictures against those of `--parity`, by the fraction of the temporal layers' contribution that is
left.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.golden.seeded_init import seeded_input
from tests.job.test_pipeline_golden import SPEC
from tests.zoo.published import VAE_CONFIG, published_network, vae_state

from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.unet import StarUNet, UNetConfig
from starvsr.options import LookOptions, WindowOptions
from starvsr.restore.restorer import Restorer
from starvsr.zoo.convert import from_published
from starvsr.zoo.load import LoadedModel

# Four times as large it is the smallest legal size of the model, so that nothing is padded.
ROWS, COLUMNS = 20, 16


def damped_network(left: float) -> StarUNet:
    """The seeded network with `left` (0..1) of what its temporal layers add."""
    assert isinstance(SPEC.network, UNetConfig)
    network = StarUNet(SPEC.network)
    state = from_published(published_network(SPEC))
    for name, value in state.items():
        if "temporal.exit." in name or ".temporal_conv.stages.3.conv." in name:
            value.mul_(left)
    network.load_state_dict(state)
    return network.eval()


def damped_vae(left: float) -> TemporalVAE:
    state = {name: value.float() for name, value in vae_state().items()}
    for name, value in state.items():
        if ".temporal_res_block.conv2." in name:
            value.mul_(left)
        if name == "decoder.time_conv_out.weight":
            value[:, :, [0, 2]] *= left
    config = {name: value for name, value in VAE_CONFIG.items() if not name.startswith("_")}
    scaling = SPEC.autoencoder.scaling_factor
    return TemporalVAE.from_state(config, state, scaling, torch.device("cpu"), torch.float32)


def moving_clip(frames: int) -> Tensor:
    """A smooth moving picture, `t 3 h w` in [0, 1]."""
    t, y, x = torch.meshgrid(
        *(torch.arange(n, dtype=torch.float32) for n in (frames, ROWS, COLUMNS)), indexing="ij"
    )
    planes = [
        torch.sin(0.5 * x + 0.2 * t + c) * torch.cos(0.4 * y - 0.1 * t + 2 * c) for c in range(3)
    ]
    return 0.5 + 0.45 * torch.stack(planes, 1)


def psnr(one: Tensor, other: Tensor) -> float:
    return float(-10 * (one - other).square().mean().log10())


def main() -> None:
    """One row for each share."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--frames", type=int, default=41, help="of the clip (default 41: two windows)"
    )
    parser.add_argument("--left", type=float, nargs="+", default=[0.0, 0.001, 0.01, 0.1, 1.0])
    options = parser.parse_args()
    torch.set_num_threads(1)
    positive, negative = (
        seeded_input(f"pipeline.context.{which}", (1, 77, 1024), 0)
        for which in ("positive", "negative")
    )
    frames = moving_clip(options.frames)
    print(f"{'left':>6}  adain, dB  no colour fix, dB")
    for left in options.left:
        model = LoadedModel(
            dataclasses.replace(SPEC, name="damped-star"),
            damped_network(left),
            damped_vae(left),
            positive,
            negative,
            torch.device("cpu"),
        )
        found = [
            psnr(
                *(
                    Restorer(model, look=LookOptions(color_fix=fix), windows=windows)(frames)
                    for windows in (WindowOptions(), WindowOptions(parity=True))
                )
            )
            for fix in ("adain", "none")
        ]
        print(f"{left:>6}  {found[0]:>9.2f}  {found[1]:>17.2f}", flush=True)


if __name__ == "__main__":
    main()
