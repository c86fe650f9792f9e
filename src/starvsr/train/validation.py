"""Measuring while training, through the `Restorer` that users get, on clips that were held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from starvsr.errors import UsageError
from starvsr.media.files import complete_or_absent, written_errors
from starvsr.metrics.fidelity import psnr
from starvsr.metrics.frame import Frame
from starvsr.metrics.niqe import niqe
from starvsr.restore.restorer import Restorer
from starvsr.restore.upsample import upsample
from starvsr.train.clips import Clip, validation_clip
from starvsr.train.config import DataConfig, ValidationConfig
from starvsr.train.model import WeightAverage
from starvsr.train.sources import Source, SourceFolder
from starvsr.zoo.load import LoadedModel

_LUMA = (65.481, 128.553, 24.966)
_MOST_NAME_BYTES = 200


@dataclass(frozen=True)
class Measured:
    """One clip's metrics."""

    clip: str
    degradation: str
    psnr_y: float
    """dB of luma."""
    upsampled_psnr_y: float
    """PSNR of plain upsampling, the baseline."""
    niqe: float | None
    """Of the middle frame; None if it is too small or flat."""


@dataclass(frozen=True)
class _Task:
    source: Source
    degradation: str


class Validation:
    """The held-out clips of a run, and how they are measured."""

    def __init__(
        self,
        config: ValidationConfig,
        data: DataConfig,
        folders: Sequence[SourceFolder],
        samples: Path,
        seed: int,
    ) -> None:
        """samples: the folder for images. Raises UsageError for a crop that is smaller than the scale."""
        if any(0 < side < data.scale for side in config.crop):
            raise UsageError(
                f"[validation] crop = {list(config.crop)} is not allowed: give the scale, {data.scale}, or more, or 0"
            )
        self.config, self.data, self.samples, self.seed = config, data, samples, seed
        sources = _spread([s for folder in folders for s in folder.held_out], config.clips)
        self.tasks = [
            _Task(source, degradation)
            for source in sources
            # A pair is degraded already.
            for degradation in (("pair",) if source.degraded else config.degradations)
        ]

    def __call__(
        self,
        model: LoadedModel,
        average: WeightAverage,
        step: int,
        *,
        process: int = 0,
        processes: int = 1,
    ) -> list[Measured]:
        """Restore this process's part of the clips with the averaged weights.

        Writes the first `samples` of all as PNG: upsampled, restored, true, side by side. Raises InputError where a
        file changed, OutputError, MemoryLimitError.
        """
        network = model.network
        measured = []
        with average.in_place():
            network.eval()
            # The set of zero branches has changed with the weights.
            network.skip_identity_branches()
            restorer = Restorer(model)
            for number in range(process, len(self.tasks), processes):
                task = self.tasks[number]
                clip = validation_clip(
                    task.source, self.data, self.config, task.degradation, self.seed
                )
                restored = restorer(clip.degraded, scale=self.data.scale)
                plain = upsampled(clip, model)
                middle = len(restored) // 2
                measured.append(
                    Measured(
                        task.source.name,
                        task.degradation,
                        psnr_y(restored, clip.truth),
                        psnr_y(plain, clip.truth),
                        niqe_of(restored[middle]),
                    )
                )
                if number < self.config.samples:
                    pictures = [each[middle] for each in (plain, restored, clip.truth)]
                    _write_png(self._sample_path(number, task, step), torch.cat(pictures, dim=2))
            network.train()
        return measured

    def _sample_path(self, number: int, task: _Task, step: int) -> Path:
        """Numbered, since sources of two folders may have one name, and short enough for any file system."""
        name = Path(task.source.name).name.encode()[:_MOST_NAME_BYTES].decode(errors="ignore")
        return self.samples / f"step-{step:08d}" / f"{number + 1:03d}-{name}-{task.degradation}.png"


def means(measured: Sequence[Measured]) -> dict[str, float]:
    """Mean metrics over all clips, and over those of each degradation, as far as they were measured."""
    kinds = {"": list(measured)}
    for each in measured:
        kinds.setdefault(f"_{each.degradation}", []).append(each)
    figures = {}
    for name in ("psnr_y", "upsampled_psnr_y", "niqe"):
        for kind, some in kinds.items():
            values = [v for each in some if (v := getattr(each, name)) is not None]
            if values:
                figures[name + kind] = math.fsum(values) / len(values)
    return figures


def niqe_of(picture: Tensor) -> float | None:
    """NIQE of a picture `3 h w` in [0, 1]; None if it is too small or flat."""
    samples = (picture.clamp(0, 1) * 65535).round().permute(1, 2, 0)
    return niqe(Frame(samples.numpy().astype(np.uint16)))


def psnr_y(pictures: Tensor, truth: Tensor) -> float:
    """Mean over frames of the PSNR of BT.601 luma (16..235, peak 255), dB, at most 100. Both `t 3 h w` in [0, 1]."""
    weights = torch.tensor(_LUMA, dtype=torch.float64)[:, None, None]
    difference = ((pictures.double() - truth.double()) * weights).sum(1)
    errors = difference.square().flatten(1).mean(1).tolist()
    return math.fsum(map(psnr, errors)) / len(errors)


def _spread(sources: Sequence[Source], most: int) -> list[Source]:
    """At most so many, evenly over all."""
    count = min(most, len(sources))
    return [sources[i * len(sources) // count] for i in range(count)]


def upsampled(clip: Clip, model: LoadedModel) -> Tensor:
    """A clip's degraded frames plainly upsampled, as the model's input: `t 3 H W` in [0, 1]."""
    size = (clip.truth.shape[-2], clip.truth.shape[-1])
    return (upsample(clip.degraded * 2 - 1, size, model.spec.upsampling) + 1) / 2


def _write_png(path: Path, picture: Tensor) -> None:
    """`3 h w` in [0, 1]. Raises OutputError."""
    with written_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    samples = (picture.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    with complete_or_absent(path) as partial, written_errors(path):
        Image.fromarray(samples.contiguous().numpy()).save(partial, format="PNG")
