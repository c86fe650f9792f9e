"""Which of several models restores held-out files better, and whether the difference is significant.

    python benchmarks/heldout.py --config configs/nano.toml --data DIR [--seeds 3] [--cache FILE] [--niqe]
                                 MODEL[@SHARPEN] ...

Every held-out file of the configuration is degraded by `light` and by `heavy` with each seed, as validation does it,
and restored by every model (names or files), sharpened as `--sharpen` does. Prints a Markdown table: mean PSNR-Y (dB),
and its difference from the first model's with the standard error over files; `upsampled` is plain upsampling. One
validation while training is few clips and one seed, in which a difference below 0.1 dB drowns. `--cache` stores
findings about the data: a run's `files.json`. `--niqe` measures NIQE of the middle frames instead, lower is better,
on files whose ground truth has one below NATURAL: on flat pictures it says nothing.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor

from starvsr.options import LookOptions
from starvsr.restore.restorer import Restorer
from starvsr.train.clips import validation_clip
from starvsr.train.config import read_config
from starvsr.train.sources import find_sources
from starvsr.train.validation import niqe_of, psnr_y, upsampled

UPSAMPLED = "upsampled"
FLAT_DB = 35.0
"""Above it plain upsampling leaves nothing to gain, and invisible changes move PSNR by whole dB."""

NATURAL = 5.5

Figures = dict[str, dict[str, list[float]]]
"""PSNR-Y by degradation, then by file, one a seed."""


def measure(
    config_path: Path,
    data: Path,
    cache: Path | None,
    names: list[str],
    seeds: int,
    score: Callable[[Tensor, Tensor], float | None],
) -> dict[str, Figures]:
    """Results of every held-out clip by model."""
    config = read_config(config_path)
    restorers = {name: restorer(name) for name in names}
    folders = find_sources(config.data.made, data, cache=cache)
    figures: dict[str, Figures] = {
        name: defaultdict(lambda: defaultdict(list)) for name in (UPSAMPLED, *names)
    }
    for source in (each for folder in folders for each in folder.held_out):
        for degradation in config.validation.degradations:
            for seed in range(seeds):
                clip = validation_clip(
                    source, config.data.made, config.validation, degradation, seed
                )
                plain = upsampled(clip, restorers[names[0]].model)
                if psnr_y(plain, clip.truth) > FLAT_DB or score(plain, clip.truth) is None:
                    continue
                pictures = {UPSAMPLED: plain}
                for name, restore in restorers.items():
                    pictures[name] = restore(clip.degraded, scale=config.data.scale)
                for name, restored in pictures.items():
                    value = score(restored, clip.truth)
                    assert value is not None, "only flat pictures have no NIQE"
                    figures[name][degradation][source.name].append(value)
    return figures


def naturalness(pictures: Tensor, truth: Tensor) -> float | None:
    """NIQE of the middle one, where the truth has one that means something."""
    middle = len(truth) // 2
    own = niqe_of(truth[middle])
    return None if own is None or own > NATURAL else niqe_of(pictures[middle])


def restorer(name: str) -> Restorer:
    """Of `MODEL` or `MODEL@SHARPEN`."""
    model, _, sharpen = name.partition("@")
    return Restorer.from_name(model, look=LookOptions(sharpen=float(sharpen or 0)))


def compared(own: Figures, first: Figures) -> list[str]:
    """For each degradation the mean, and the difference from the first with its standard error over files."""
    cells = []
    for degradation, files in own.items():
        differences = [
            fmean(values) - fmean(first[degradation][file]) for file, values in files.items()
        ]
        error = stdev(differences) / math.sqrt(len(differences))
        mean = fmean(fmean(values) for values in files.values())
        cells.append(f"{mean:.2f} ({fmean(differences):+.3f} ± {error:.3f})")
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--niqe", action="store_true")
    parser.add_argument("models", nargs="+", metavar="MODEL[@SHARPEN]")
    args = parser.parse_args()
    torch.set_num_threads(1)
    score = naturalness if args.niqe else psnr_y
    figures = measure(args.config, args.data, args.cache, args.models, args.seeds, score)
    first = figures[args.models[0]]
    print("| model | " + " | ".join(first) + " |")
    print("|---" * (1 + len(first)) + "|")
    for name, own in figures.items():
        print("| " + " | ".join([name, *compared(own, first)]) + " |")


if __name__ == "__main__":
    main()
