"""The training run: from a configuration and a folder of data to a model file, on however many devices there are.

A step is a function of the weights, the configuration and the step's number, so a run that was killed and resumed makes
the same steps as one that was not (bit for bit on the CPU with the same number of threads).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from starvsr.errors import UsageError
from starvsr.media.folders import new_folders
from starvsr.models.network import VideoNetwork
from starvsr.models.unet import StarUNet
from starvsr.train.adversary import Adversary
from starvsr.train.checkpoints import (
    TrainState,
    check_nothing_lost,
    clear_partial,
    find_checkpoints,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from starvsr.train.clips import Clip
from starvsr.train.config import OptimizerConfig, TrainConfig
from starvsr.train.data import StepSampler, TrainingClips, load_clips
from starvsr.train.features import Features
from starvsr.train.log import SAMPLES_NAME, TrainLog, is_noted, summary_writer
from starvsr.train.model import (
    WeightAverage,
    check_crop,
    checkpoint_blocks,
    frozen_digest,
    start_model,
    trained_parameters,
)
from starvsr.train.objective import Objective, check_losses
from starvsr.train.runs import RunOptions, TrainResult, alone, forget, open_accelerator
from starvsr.train.scan import FINDINGS_NAME
from starvsr.train.sources import SourceFolder, check_folders, find_sources
from starvsr.train.teacher import Teacher
from starvsr.train.validation import Validation, means
from starvsr.train.words import Contexts
from starvsr.types import Progress, ProgressCallback
from starvsr.zoo.components import TYPES
from starvsr.zoo.metadata import METADATA_KEY
from starvsr.zoo.spec_json import spec_to_json
from starvsr.zoo.tensorfile import write_tensors

if TYPE_CHECKING:
    from accelerate import Accelerator

logger = logging.getLogger(__name__)

MODEL_NAME = "model.safetensors"


class _Trained(nn.Module):
    """Keeps what accelerate does to a model's `forward` away from the network itself, which validation calls too."""

    def __init__(self, network: VideoNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *rest: Any, **more: Any) -> Tensor:
        network = self.network
        if isinstance(network, StarUNet) and not network.encoder.stem.weight.requires_grad:
            # On the CPU, torch 2.13's channels-last group norm crashes in its backward if its weights require a
            # gradient and its input does not: a norm right after the frozen stem.
            x = x.detach().requires_grad_()
        out: Tensor = network(x, *rest, **more)
        return out


def train(
    config: TrainConfig, options: RunOptions, progress: ProgressCallback | None = None
) -> TrainResult:
    """Train, and write the averaged weights as a model file, from the latest checkpoint if there is one.

    Raises UsageError for an invalid configuration, InputError for data that cannot be used, WeightsError, OutputError
    if there is no space (the last checkpoint remains).
    """
    accelerator = open_accelerator(config, options)
    try:
        folder = options.output
        main = accelerator.is_main_process
        with (
            new_folders([folder]),
            alone(folder) if main else contextlib.nullcontext(),
        ):
            return _Run(config, options, accelerator, progress or (lambda _: None))()
    finally:
        forget(accelerator)


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        config: TrainConfig,
        options: RunOptions,
        accelerator: Accelerator,
        report: ProgressCallback,
    ) -> None:
        self.config, self.options, self.accelerator = config, options, accelerator
        self.main = accelerator.is_main_process
        self.report = report if self.main else lambda _: None
        self.began = time.perf_counter()
        self.figures: dict[str, float] = {}
        self.loss: float | None = None
        check_folders(config.data, options.data)
        if self.main and options.resume:
            check_nothing_lost(options.output / MODEL_NAME)
        if config.log == "tensorboard":
            summary_writer()
        device = accelerator.device
        self.model, folders = start_model(
            config.model,
            options.output,
            # With several processes, accelerate numbers CPU devices too.
            "cpu" if device.type == "cpu" else str(device),
            seed=config.seed,
            folder=options.base,
            weights=options.weights,
        )
        check_losses(self.model.spec, config)
        check_crop(self.model.spec, config.data)
        parameters = trained_parameters(self.model.network, config.parts)
        sources = self._sources()
        teacher, features = self._teacher(sources), self._features()
        self.clips = TrainingClips(config.data, sources, config.seed, options.output, teacher)
        self.validation = Validation(
            config.validation, config.data.made, sources, options.output / SAMPLES_NAME, config.seed
        )
        if config.validation.interval and not self.validation.tasks and self.main:
            logger.warning(
                "nothing is validated, since nothing is held out: give held_out or held_out_every of [[data.folders]], "
                "or [validation] interval = 0"
            )
        guides = "".join(each.digest for each in (teacher, features) if each is not None)
        self.state = self._state(parameters, guides)
        contexts = Contexts(self.model, folders)
        self.objective = Objective(self.model, config, contexts, self.state.adversary, features)

    def _sources(self) -> tuple[SourceFolder, ...]:
        """Every process decodes all files, or reads what an earlier start found."""
        with self.accelerator.main_process_first():
            return find_sources(
                self.config.data.made,
                self.options.data,
                cache=self.options.output / FINDINGS_NAME,
                workers=max(1, self.options.workers),
                progress=lambda done, files: self.report(Progress("check", done, files)),
            )

    def _state(self, parameters: dict[str, nn.Parameter], guides: str) -> TrainState:
        network = self.model.network
        network.train()
        if self.config.gradient_checkpointing:
            checkpoint_blocks(network)
        settings = self.config.optimizer
        optimizer = torch.optim.AdamW(
            parameters.values(),
            lr=settings.lr,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        self.network, prepared = self.accelerator.prepare(_Trained(network), optimizer)
        average = WeightAverage(parameters, settings.ema_decay)
        state = TrainState(
            parameters,
            average,
            prepared,
            self.accelerator.scaler,
            adversary=self._adversary(),
            frozen=frozen_digest(network, parameters),
            guides=guides,
        )
        folder = self.options.output
        if self.main:
            clear_partial(folder)
        self.accelerator.wait_for_everyone()
        there = find_checkpoints(folder) if self.options.resume else []
        if there:
            load_checkpoint(there[-1], state, self.config, data=self.clips.digest)
        return state

    def _teacher(self, sources: Sequence[SourceFolder]) -> Teacher | None:
        if self.config.teacher is None:
            return None
        made = any(each.degraded is None for folder in sources for each in folder.training)
        if self.config.teacher.degradations and not made:
            raise UsageError(
                "[teacher] degradations has no effect: all clips of [[data.folders]] came degraded; leave it out"
            )
        teacher = Teacher(self.config.teacher, self.options.base, self.config.data.scale)
        teacher.check()
        return teacher

    def _features(self) -> Features | None:
        if self.config.features is None:
            return None
        dtype = TYPES[self.config.precision]
        base, device = self.options.base, self.accelerator.device
        return Features(self.config.features, base, device, self.config.seed, dtype=dtype)

    def _adversary(self) -> Adversary | None:
        if self.config.adversary is None:
            return None
        dtype = TYPES[self.config.precision]
        device = self.accelerator.device
        return Adversary(self.config.adversary, device, self.config.seed, dtype=dtype)

    def __call__(self) -> TrainResult:
        first, last = self.state.step, self.config.steps
        if first > last:
            raise UsageError(
                f"{self.options.output} already contains a run of {first} steps, and steps = {last}: give more, or "
                "start over with --no-resume"
            )
        with contextlib.ExitStack() as stack:
            self.log: TrainLog | None = None
            if self.main:
                # Everything that may refuse a run has been tried.
                if not self.options.resume:
                    remove_checkpoints(self.options.output)
                board = self.config.log == "tensorboard"
                self.log = stack.enter_context(
                    TrainLog(self.options.output, first, tensorboard=board)
                )
            clips = self._clips(range(first, last))
            # Before the log is closed, so that no worker is left.
            stack.callback(clips.close)
            # The run may have been killed between a checkpoint and its validation.
            if first and not is_noted(self.options.output, "validation", first):
                self._validate_if_due(first)
            for step in range(first, last):
                self._step(step, clips)
                self._keep_if_due(step + 1)
                self._validate_if_due(step + 1)
        if first == last:
            self._keep()
        return TrainResult(
            model=self.options.output / MODEL_NAME,
            steps=last,
            resumed_from=first,
            loss=self.loss,
            validation=self.figures,
            elapsed_s=time.perf_counter() - self.began,
        )

    def _clips(self, steps: range) -> Any:
        share = self.config.batch // self.accelerator.num_processes
        sampler = StepSampler(
            steps,
            self.config.batch,
            min(self.config.micro_batch or share, share),
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        self.micro_batches = len(sampler) // max(1, len(steps))
        return load_clips(self.clips, sampler, self.options.workers if steps else 0)

    def _step(self, step: int, clips: Iterator[Clip]) -> None:
        began = time.perf_counter()
        rate = learning_rate(self.config.optimizer, step, self.config.steps)
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate
        terms = self._gradients(clips)
        norm = self.accelerator.clip_grad_norm_(
            list(self.state.parameters.values()), self.config.optimizer.clip_norm or math.inf
        )
        self.loss = terms["loss"]
        _check_finite(step, "loss", self.loss)
        # With fp16, the scaler skips steps whose gradient overflows.
        if self.state.scaler is None:
            _check_finite(step, "gradient's norm", float(norm or 0))
        adversary = self.state.adversary
        if adversary is not None:
            other = adversary.share_gradients(lambda g: self.accelerator.reduce(g, "mean"))
            _check_finite(step, "norm of the adversary's gradient", other)
        self.state.optimizer.step()
        self.state.optimizer.zero_grad()
        if adversary is not None:
            adversary.step()
        self.state.average.update(step)
        self.state.step = step + 1
        if self.log is not None:
            seconds = time.perf_counter() - began
            self.log(
                "step",
                step + 1,
                {**terms, "grad_norm": float(norm or 0), "lr": rate, "seconds": seconds},
            )
        self.report(Progress("train", step + 1, self.config.steps, detail=f"loss {self.loss:.4f}"))

    def _gradients(self, clips: Iterator[Clip]) -> dict[str, float]:
        """Gradients of a step, micro-batch by micro-batch, and the means of its losses over all processes."""
        share = self.config.batch // self.accelerator.num_processes
        sums: dict[str, Tensor] = {}
        for number in range(self.micro_batches):
            clip = next(clips)
            last = number == self.micro_batches - 1
            # Gradients are exchanged once per step.
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.network):
                terms = self.objective(self.network, clip, self.state.step)
                weight = len(clip.numbers) / share
                self.accelerator.backward(terms["loss"] * weight)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.detach() * weight
        means_ = {n: self.accelerator.reduce(value, "mean") for n, value in sums.items()}
        return {name: float(value) for name, value in means_.items()}

    def _keep_if_due(self, step: int) -> None:
        if step == self.config.steps or step % self.config.checkpoints.interval == 0:
            self._keep()

    def _keep(self) -> None:
        """The checkpoint, then the model file. Raises OutputError."""
        if self.main:
            settings = self.config.checkpoints
            save_checkpoint(
                self.options.output,
                self.state,
                self.config,
                data=self.clips.digest,
                keep=settings.keep,
            )
            with self.state.average.in_place():
                weights = self.model.network.state_dict()
                dtype = TYPES[settings.dtype]
                stored = {name: value.to("cpu", dtype) for name, value in weights.items()}
                metadata = {METADATA_KEY: spec_to_json(self.model.spec)}
                write_tensors(self.options.output / MODEL_NAME, stored, metadata)
        self.accelerator.wait_for_everyone()

    def _validate_if_due(self, step: int) -> None:
        interval = self.config.validation.interval
        due = interval and (step == self.config.steps or step % interval == 0)
        if due and self.validation.tasks:
            self._validate(step)

    def _validate(self, step: int) -> None:
        from accelerate.utils import gather_object

        began = time.perf_counter()
        measured = gather_object(
            self.validation(
                self.model,
                self.state.average,
                step,
                process=self.accelerator.process_index,
                processes=self.accelerator.num_processes,
            )
        )
        self.figures = means(measured)
        if self.log is not None:
            seconds = time.perf_counter() - began
            clips = [dataclasses.asdict(each) for each in measured]
            values = {**self.figures, "clips": clips, "seconds": seconds}
            self.log("validation", step, values)


def _check_finite(step: int, what: str, value: float) -> None:
    """Raise UsageError before a step that would spoil all weights, and then the checkpoints."""
    if not math.isfinite(value):
        raise UsageError(
            f"the {what} of step {step + 1} is {value}: training diverged; give a lower [optimizer] lr, and start over "
            "with --no-resume"
        )


def learning_rate(config: OptimizerConfig, step: int, steps: int) -> float:
    """The learning rate of step `step` (from 0) of `steps`."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    done = (step - config.warmup_steps) / max(1, steps - 1 - config.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
    return config.lr * (config.final_lr + (1 - config.final_lr) * share)
