"""Training clips by number: clip i is a function of the seed and i alone.

So any number of worker processes gives the same data, and training resumes at any step.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from starvsr.errors import StarvsrError
from starvsr.train.bank import Bank
from starvsr.train.clips import Clip, ClipMaker, one_thread
from starvsr.train.config import DataConfig
from starvsr.train.sources import SourceFolder, data_digest
from starvsr.train.teacher import Teacher

# The second number of a bank's seeds: no training clip has it, nor a validation clip.
_BANK = 2**61


class TrainingClips(Dataset[Clip | StarvsrError]):
    """The clips of a run; there is no last one. An error that a file causes is returned, not raised."""

    def __init__(
        self,
        config: DataConfig,
        folders: Sequence[SourceFolder],
        seed: int,
        banks: Path | None = None,
        teacher: Teacher | None = None,
    ) -> None:
        """folders: as `find_sources` gives them, none empty. banks: the folder in which a bank's folder lies. teacher:
        of the bank's clips.
        """
        self.config, self.folders, self.seed = config, tuple(folders), seed
        self.digest = data_digest(folders)
        weights = np.array([folder.config.weight for folder in folders])
        self.shares = weights / weights.sum()
        self.maker = ClipMaker(config.made)
        self.bank = None
        if config.bank is not None:
            assert banks is not None, "a bank needs a folder"
            self.bank = Bank(config, banks, seed, self.digest, self._item, teacher)

    def __getitem__(self, number: int) -> Clip | StarvsrError:
        """Clip `number`, 0 or more."""
        rng = np.random.default_rng([self.seed, number])
        try:
            clip = self._made(rng, number) if self.bank is None else self.bank.cut(number, rng)
        except StarvsrError as error:
            return error
        dropped = rng.random() < self.config.text_drop
        return dataclasses.replace(clip, texts=("",)) if dropped else clip

    def _item(self, item: int) -> Clip:
        return self._made(np.random.default_rng([self.seed, _BANK, item]), item)

    def _made(self, rng: np.random.Generator, number: int) -> Clip:
        folder = self.folders[rng.choice(len(self.folders), p=self.shares)]
        source = folder.training[rng.integers(len(folder.training))]
        with one_thread():
            truth, degraded, name = self.maker(source, folder.config.resize, rng)
        return Clip(truth, degraded, (source.text,), (number,), degradation=name)


class StepSampler(Sampler[list[int]]):
    """Numbers of the clips that one process takes, micro-batch by micro-batch, from a step on.

    Step s has the clips `s * batch` to `(s + 1) * batch - 1`, split into equal runs for the processes.
    """

    def __init__(
        self, steps: range, batch: int, micro_batch: int, process: int = 0, processes: int = 1
    ) -> None:
        self.steps, self.batch, self.micro_batch = steps, batch, micro_batch
        self.share = batch // processes
        self.first = process * self.share

    def __iter__(self) -> Iterator[list[int]]:
        for step in self.steps:
            begin = step * self.batch + self.first
            for at in range(begin, begin + self.share, self.micro_batch):
                yield list(range(at, min(at + self.micro_batch, begin + self.share)))

    def __len__(self) -> int:
        return len(self.steps) * -(-self.share // self.micro_batch)


def load_clips(clips: TrainingClips, sampler: StepSampler, workers: int) -> Iterator[Clip]:
    """The sampler's clips, stacked by micro-batch. Raises errors that a clip's file causes."""
    with warnings.catch_warnings():
        # The number is configured; more than the cores may be right for slow storage.
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        loader: DataLoader[Clip | StarvsrError] = DataLoader(
            clips,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=stack_clips,
            # Forking a process that has threads can deadlock.
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=4 if workers else None,
        )
        all_stacked = iter(loader)
    for stacked in all_stacked:
        if isinstance(stacked, StarvsrError):
            raise stacked
        yield stacked


def stack_clips(clips: Sequence[Clip | StarvsrError]) -> Clip | StarvsrError:
    """One `Clip` of several, or the first error among them."""
    good: list[Clip] = []
    for clip in clips:
        if isinstance(clip, StarvsrError):
            return clip
        good.append(clip)
    is_taught = tuple(clip.taught is not None for clip in good)
    taught = [clip.truth if clip.taught is None else clip.taught for clip in good]
    return Clip(
        torch.stack([clip.truth for clip in good]),
        torch.stack([clip.degraded for clip in good]),
        tuple(text for clip in good for text in clip.texts),
        tuple(number for clip in good for number in clip.numbers),
        torch.stack(taught) if any(is_taught) else None,
        is_taught,
    )
