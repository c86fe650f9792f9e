"""Building training and validation clips from a source.

A clip of a video is consecutive frames of one shot, a clip of a still a camera moving over it; sources that are not
pairs are degraded here.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from starvsr.errors import InputError
from starvsr.media.reader import read_frames
from starvsr.train.config import CLEAN, MOST_SIDE_PX, DataConfig, ValidationConfig
from starvsr.train.degrade import resize
from starvsr.train.motion import blob_mask, draw_path, render
from starvsr.train.presets import PRESETS
from starvsr.train.recipes import DegradationConfig, clip_rng, draw
from starvsr.train.scan import Media, open_still
from starvsr.train.sources import Source

Samples = npt.NDArray[np.uint8]

_REDUCED = "bicubic-antialias"
# Keeps validation seeds apart from training seeds, whose second number is small.
_VALIDATION = 2**62


@dataclass(frozen=True)
class Clip:
    """One training example, or several stacked: then tensors have a leading dimension `b`."""

    truth: Tensor
    """`t 3 h w` float32, RGB in [0, 1]."""
    degraded: Tensor
    """The same at 1/scale."""
    texts: tuple[str | None, ...]
    """The prompt of each; empty if dropped, None if there is none."""
    numbers: tuple[int, ...]
    """i of each."""
    taught: Tensor | None = None
    """The teacher's restoration, as `truth`; None without a teacher."""
    is_taught: tuple[bool, ...] = ()
    """Whether each has one; in a stack `taught` is the truth where it has none."""
    degradation: str | None = None
    """The preset that degraded a single clip; None: it was degraded already."""


class ClipMaker:
    """Builds a pair of clips from a source and a random generator."""

    def __init__(self, config: DataConfig) -> None:
        self.config = config
        self.stills = _Stills(config.cache_mb * 10**6)
        self.presets = {name: preset(name, config.scale) for name in config.degradations}
        shares = np.array(list(config.degradations.values()))
        self.shares = shares / shares.sum()

    def __call__(
        self, source: Source, resize_range: tuple[float, float], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, str | None]:
        """Truth, degraded and degradation, as in `Clip`. Raises InputError if a file has changed."""
        name = None
        if source.degraded is not None:
            truth, degraded = self._pair(source.truth, source.degraded, rng)
        else:
            truth, degraded = self._truth(source.truth, resize_range, rng), None
        if self.config.flip and rng.random() < 0.5:
            truth = truth.flip(-1)
            degraded = None if degraded is None else degraded.flip(-1)
        if degraded is None:
            name = list(self.presets)[rng.choice(len(self.presets), p=self.shares)]
            degraded = draw(self.presets[name], rng).apply(truth.contiguous())
        return truth.contiguous(), degraded.contiguous(), name

    def _truth(
        self, media: Media, resize_range: tuple[float, float], rng: np.random.Generator
    ) -> Tensor:
        rows, columns = self.config.crop
        least = max(rows / media.height, columns / media.width)
        factor = max(rng.uniform(*resize_range), least)
        if media.video is None and self.config.frames > 1:
            return self._moving(media, 1 / factor, rng)
        span = _span(media, self.config.frames, rng)
        size = _cut_size(self.config.crop, factor, media)
        top, left = (
            int(rng.integers(side - cut + 1))
            for side, cut in zip((media.height, media.width), size, strict=True)
        )
        frames = self._frames(media, span, (top, left), size)
        return torch.stack([resize(frame, self.config.crop, _REDUCED) for frame in frames])

    def _moving(self, media: Media, zoom: float, rng: np.random.Generator) -> Tensor:
        config, still = self.config, self.stills(media)
        path = draw_path(
            rng, config.frames, config.crop, still.shape[:2], zoom=zoom, strength=config.motion
        )
        clip = render(_tensor(still), path, config.crop)
        if rng.random() < config.foregrounds:
            other = draw_path(
                rng, config.frames, config.crop, still.shape[:2], zoom=zoom, strength=config.motion
            )
            mask = blob_mask(rng, config.frames, config.crop, strength=config.motion)
            clip = torch.lerp(clip, render(_tensor(still), other, config.crop), mask)
        return clip.clamp_(0, 1)

    def _pair(
        self, truth: Media, degraded: Media, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        scale = self.config.scale
        span = _span(truth, self.config.frames, rng)
        rows, columns = (side // scale for side in self.config.crop)
        top = int(rng.integers(degraded.height - rows + 1))
        left = int(rng.integers(degraded.width - columns + 1))
        lq = self._frames(degraded, span, (top, left), (rows, columns))
        return self._frames(truth, span, (top * scale, left * scale), self.config.crop), lq

    def _frames(
        self, media: Media, span: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
    ) -> Tensor:
        """Frames of a cut-out, `t 3 h w` in [0, 1]."""
        rows = slice(corner[0], corner[0] + size[0])
        columns = slice(corner[1], corner[1] + size[1])
        if media.video is None:
            return _tensor(self.stills(media)[rows, columns])[None]
        with closing(read_frames(*media.video, *span)) as frames:
            cut = np.stack([frame[rows, columns] for frame in frames])
        return torch.from_numpy(cut.astype(np.float32)).permute(0, 3, 1, 2).div_(65535)


def preset(name: str, scale: int) -> DegradationConfig:
    """A preset of `recipes`, or `clean`, at a scale."""
    if name == CLEAN:
        return DegradationConfig(scale=scale, final_modes=(_REDUCED,))
    return dataclasses.replace(PRESETS[name], scale=scale)


def validation_clip(
    source: Source, config: DataConfig, validation: ValidationConfig, degradation: str, seed: int
) -> Clip:
    """The measured clip of a held-out source: always its middle, degraded by its own draw.

    Sizes are multiples of the scale. Raises InputError if the file has changed.
    """
    media, scale = source.truth, config.scale
    limits = [side or MOST_SIDE_PX for side in validation.crop]
    sides = (media.height, media.width)
    rows, columns = (
        min(side, limit) // scale * scale for side, limit in zip(sides, limits, strict=True)
    )
    rng = clip_rng(source.name, seed, _VALIDATION)
    start, end = max(media.shots, key=lambda shot: shot[1] - shot[0])
    frames = min(validation.frames, end - start)
    first = start + (end - start - frames) // 2
    whole = dataclasses.replace(config, crop=(rows, columns), frames=validation.frames)
    maker = ClipMaker(whole)
    corner = ((sides[0] - rows) // 2 // scale * scale, (sides[1] - columns) // 2 // scale * scale)
    span = first, first + frames
    with one_thread():
        if media.video is None and source.degraded is None and validation.frames > 1:
            truth = maker._moving(media, 1.0, rng)
        else:
            truth = maker._frames(media, span, corner, (rows, columns))
        if source.degraded is not None:
            small = (corner[0] // scale, corner[1] // scale)
            lq = maker._frames(source.degraded, span, small, (rows // scale, columns // scale))
        else:
            lq = draw(preset(degradation, scale), rng).apply(truth)
    return Clip(truth, lq, (source.text,), (0,))


def _span(media: Media, frames: int, rng: np.random.Generator) -> tuple[int, int]:
    """Consecutive frames within one shot, every position equally likely."""
    places = [max(0, end - start - frames + 1) for start, end in media.shots]
    place = int(rng.integers(sum(places)))
    for (start, _), count in zip(media.shots, places, strict=True):
        if place < count:
            return start + place, start + place + frames
        place -= count
    raise AssertionError("a source has a shot that is long enough")


def _cut_size(crop: tuple[int, int], factor: float, media: Media) -> tuple[int, int]:
    """Rows and columns that become the crop when they are reduced by `factor`."""
    sides = (media.height, media.width)
    rows, columns = (
        min(side, math.ceil(cut / factor - 1e-9)) for cut, side in zip(crop, sides, strict=True)
    )
    return rows, columns


def _tensor(samples: Samples) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(samples)).permute(2, 0, 1).float().div_(255)


class _Stills:
    """An LRU cache of decoded stills, bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self.most_bytes, self.bytes = most_bytes, 0
        self.kept: OrderedDict[Media, Samples] = OrderedDict()

    def __call__(self, media: Media) -> Samples:
        """`h w 3`. Raises InputError."""
        if media in self.kept:
            self.kept.move_to_end(media)
            return self.kept[media]
        with open_still(media.path) as picture:
            samples = np.array(picture)
        if samples.shape != (media.height, media.width, 3):
            raise InputError(f"{media.path} has changed since training began")
        self.kept[media] = samples
        self.bytes += samples.nbytes
        while self.bytes > self.most_bytes and len(self.kept) > 1:
            self.bytes -= self.kept.popitem(last=False)[1].nbytes
        return samples

    def __getstate__(self) -> dict[str, object]:
        # A worker process starts with an empty cache.
        return {"most_bytes": self.most_bytes, "bytes": 0, "kept": OrderedDict()}


@contextmanager
def one_thread() -> Iterator[None]:
    """One thread, so that sums depend neither on the number of cores nor on which process builds the clip."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
