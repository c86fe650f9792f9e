"""Clips that are built once and used many times: a training clip is a crop of a larger, longer one on disk.

Building a clip (camera motion, two stages of degradation, video codecs) takes longer than a small network needs to
learn from it. Item j is a function of the seed and j alone, so cached items change nothing, and a bank is kept when a
run starts over.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from starvsr.train.clips import Clip, one_thread
from starvsr.train.config import DataConfig
from starvsr.train.teacher import Teacher
from starvsr.zoo.tensorfile import write_tensors

_LEVELS = 255


class Bank:
    """The made clips of a run, as 8-bit files in a folder of their own."""

    def __init__(
        self,
        config: DataConfig,
        folder: Path,
        seed: int,
        data: str,
        make: Callable[[int], Clip],
        teacher: Teacher | None = None,
    ) -> None:
        """folder: parent of the bank's folder. data: the digest from `sources.data_digest`. make: builds item j as
        `config.made` describes it. teacher: restores every item when it is built.
        """
        assert config.bank is not None
        self.config, self.bank, self.seed, self.make = config, config.bank, seed, make
        self.teacher = teacher
        # Clips of another configuration, or of other files, must not be taken for this one's.
        taught = [] if teacher is None else [teacher.digest]
        made = replace(config.made, cache_mb=DataConfig().cache_mb)
        described = json.dumps([asdict(made), seed, data, *taught], sort_keys=True)
        self.folder = folder / f"clips-{hashlib.sha256(described.encode()).hexdigest()[:12]}"

    def cut(self, number: int, rng: np.random.Generator) -> Clip:
        """Clip `number` of the run: every item comes once before any comes again. Raises what `make` raises."""
        round_, place = divmod(number, self.bank.clips)
        return self._cut(int(_order(self.seed, round_, self.bank.clips)[place]), number, rng)

    def _cut(self, item: int, number: int, rng: np.random.Generator) -> Clip:
        path = self.folder / f"{item:06d}.safetensors"
        if not _is_whole(path):
            self._write(path, self.make(item))
        scale, (rows, columns) = self.config.scale, self.config.crop
        step = 2 if rng.random() < self.bank.skips else 1
        span = step * (self.config.frames - 1) + 1
        first = int(rng.integers(self.bank.frames - span + 1))
        top, left = (
            int(rng.integers((made - side) // scale + 1))
            for made, side in zip(self.bank.crop, self.config.crop, strict=True)
        )
        times = slice(first, first + span, step)
        mirrored = self.config.flip and rng.random() < 0.5
        upended, transposed = rng.random(2) < 0.5 if self.bank.turns else (False, False)
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get("text")

            def part(name: str, by: int) -> Tensor:
                cut: Tensor = file.get_slice(name)[
                    times,
                    :,
                    top * by : top * by + rows * by // scale,
                    left * by : left * by + columns * by // scale,
                ]
                cut = cut.float().div_(_LEVELS)
                flipped = [dim for dim, is_so in ((-1, mirrored), (-2, upended)) if is_so]
                cut = cut.flip(flipped) if flipped else cut
                return cut.transpose(-1, -2).contiguous() if transposed else cut

            taught = part("taught", scale) if "taught" in file.keys() else None  # noqa: SIM118
            return Clip(part("truth", scale), part("degraded", 1), (text,), (number,), taught)

    def _write(self, path: Path, clip: Clip) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {"truth": _bytes(clip.truth), "degraded": _bytes(clip.degraded)}
        if self.teacher is not None and self.teacher.teaches(clip.degradation):
            with one_thread():
                # Of what the network will be given.
                taught = self.teacher(tensors["degraded"].float() / _LEVELS)
            tensors["taught"] = _bytes(taught)
        text = clip.texts[0]
        write_tensors(path, tensors, {} if text is None else {"text": text})


def _bytes(samples: Tensor) -> Tensor:
    return (samples * _LEVELS).round_().clamp_(0, _LEVELS).byte().contiguous()


def _is_whole(path: Path) -> bool:
    try:
        with safe_open(path, framework="pt"):
            return True
    except (FileNotFoundError, SafetensorError):
        return False


@lru_cache(maxsize=2)
def _order(seed: int, round_: int, clips: int) -> np.ndarray:
    return np.random.default_rng([seed, round_, clips]).permutation(clips)
