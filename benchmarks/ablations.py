"""What the Dynamic Frequency loss and LIEM are worth: a toy STAR trained equally long with and without them.

    python benchmarks/ablations.py --config configs/nano.toml --data DIR --output DIR [--steps 300] [--seeds 3]

The toy has STAR's UNet and control branch at small size, no prompt, and pixels rearranged for latents, so that the loss
sees the network alone. Data are the configuration's. Every variant is trained once for each seed, on small crops, and
restores held-out clips in a few steps without guidance. Prints a Markdown table: mean over clips, then mean and range
over seeds, of PSNR-Y (dB) and of the error below and above the loss's spatial frequency (mean modulus of the
spectrum's difference, x 1000). The same command resumes an interrupted run.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from statistics import fmean
from typing import Any

from einops import rearrange

from starvsr.options import SamplingOptions
from starvsr.restore.restorer import Restorer
from starvsr.specs import TOY
from starvsr.train.clips import validation_clip
from starvsr.train.config import (
    BankConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    ValidationConfig,
    read_config,
)
from starvsr.train.losses import PAPER, VELOCITY_ONLY, LossConfig, frequency_losses
from starvsr.train.model import new_weights
from starvsr.train.runs import RunOptions
from starvsr.train.sources import find_sources
from starvsr.train.trainer import train
from starvsr.train.validation import psnr_y
from starvsr.types import AutoencoderSpec
from starvsr.zoo.load import load_model, save_model

VARIANTS: dict[str, tuple[str, LossConfig]] = {
    "as the paper: DF loss, LIEM before the norm": ("published", PAPER),
    "without the DF loss": ("published", VELOCITY_ONLY),
    "LIEM behind the norm, where it acts": ("acting", PAPER),
    "without LIEM": ("none", PAPER),
}
KEYS = ("psnr_y", "low", "high")
SAMPLING = SamplingOptions(steps=6, cfg=1.0)


SPEC = dataclasses.replace(
    TOY,
    name="ablated",
    network=dataclasses.replace(TOY.network, latent_channels=48),
    autoencoder=AutoencoderSpec(kind="pixel_unshuffle", factor=4),
    text=None,
    context_tokens=1,
    color_fix="none",
)


def shortened(
    config: TrainConfig, base: Path, seed: int, steps: int, liem: str, loss: LossConfig
) -> TrainConfig:
    """The configuration's run on small crops, for so many steps."""
    bank = BankConfig(clips=240, frames=8, crop=(112, 112))
    return dataclasses.replace(
        config,
        seed=seed,
        steps=steps,
        loss=loss,
        pixel_loss=None,
        precision="fp32",
        batch=4,
        data=dataclasses.replace(config.data, frames=4, crop=(64, 64), bank=bank),
        model=ModelConfig(str(base), pretrained=False, spec={"network": {"liem": liem}}),
        optimizer=OptimizerConfig(
            lr=1e-3, warmup_steps=20, schedule="cosine", clip_norm=0.5, ema_decay=0.98
        ),
        validation=ValidationConfig(interval=0),
    )


def measured(
    path: Path, config: TrainConfig, data: Path, clips: int
) -> dict[str, dict[str, float]]:
    """Metrics of a trained model for each degradation, mean over held-out clips."""
    restorer = Restorer(load_model(str(path), device="cpu"), SAMPLING)
    folders = find_sources(config.data.made, data)
    sources = [source for folder in folders for source in folder.held_out]
    validation = ValidationConfig(clips=clips, frames=4, crop=(128, 128))
    figures: dict[str, dict[str, float]] = {}
    for degradation in validation.degradations:
        rows = []
        for source in sources[:: -(-len(sources) // clips)]:
            # The same clips for every seed of training.
            clip = validation_clip(source, config.data.made, validation, degradation, 0)
            restored = restorer(clip.degraded, scale=config.data.scale)
            low, high = frequency_losses(
                rearrange(2 * restored - 1, "t c h w -> 1 c t h w"),
                rearrange(2 * clip.truth - 1, "t c h w -> 1 c t h w"),
            )
            rows.append((psnr_y(restored, clip.truth), 1000 * low.item(), 1000 * high.item()))
        columns = zip(*rows, strict=True)
        figures[degradation] = dict(zip(KEYS, map(fmean, columns), strict=True))
    return figures


def share_bank(first: Path, run: Path) -> None:
    """Use the first variant's clips: they depend on the seed alone."""
    run.mkdir(parents=True, exist_ok=True)
    for bank in first.glob("clips-*"):
        link = run / bank.name
        if not link.exists():
            link.symlink_to(bank.resolve())


def cell(values: list[float], decimals: int) -> str:
    """Mean and range."""
    low, high = (f"{value:.{decimals}f}" for value in (min(values), max(values)))
    return f"{fmean(values):.{decimals}f} ({low} to {high})"


def table(results: dict[str, list[dict[str, dict[str, float]]]]) -> str:
    """Markdown."""
    lines = [
        "| trained | | PSNR-Y | error, low | error, high |",
        "|---|---|---|---|---|",
    ]
    for name, runs in results.items():
        for degradation in runs[0]:
            values = {key: [run[degradation][key] for run in runs] for key in KEYS}
            cells = [cell(values[key], 2 if key == "psnr_y" else 1) for key in KEYS]
            lines.append(f"| {name} | {degradation} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the options ask for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--clips", type=int, default=6, help="held-out clips that are measured")
    options = parser.parse_args()
    config = read_config(options.config)
    options.output.mkdir(parents=True, exist_ok=True)
    base = options.output / "base.safetensors"
    save_model(base, SPEC, new_weights(SPEC, 0))
    results: dict[str, list[Any]] = {name: [] for name in VARIANTS}
    for seed in range(options.seeds):
        for number, (name, (liem, loss)) in enumerate(VARIANTS.items()):
            run = options.output / f"seed{seed}" / str(number)
            found = run / f"measured-{options.steps}.json"
            if not found.exists():
                share_bank(options.output / f"seed{seed}" / "0", run)
                short = shortened(config, base, seed, options.steps, liem, loss)
                trained = train(short, RunOptions(run, options.data, device="cpu", workers=1))
                figures = measured(trained.model, short, options.data, options.clips)
                found.write_text(json.dumps(figures))
            results[name].append(json.loads(found.read_text()))
            print(seed, name, results[name][-1], flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
