"""What a training run is: frozen dataclasses, and TOML from and to them. An unknown key is refused by name.

Tables of the TOML are the nested dataclasses (`[model]`, `[data]`, `[[data.folders]]`, `[optimizer]`, ...), keys are
their fields. Messages name the table and the key.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starvsr.errors import UsageError
from starvsr.media.textfiles import parse_toml, read_text
from starvsr.train.adversary import SIDE_MULTIPLE, AdversaryConfig
from starvsr.train.features import PLACES, FeaturesConfig
from starvsr.train.losses import LossConfig
from starvsr.train.presets import PRESETS
from starvsr.train.tables import from_table
from starvsr.train.teacher import TeacherConfig

PARTS = ("control+liem", "liem", "temporal", "all")
PRECISIONS = ("fp32", "fp16", "bf16")
LOGS = ("jsonl", "tensorboard")
LR_SCHEDULES = ("constant", "cosine")
PIXEL_LOSSES = ("l1", "mse", "charbonnier")

# Larger values take impractical memory or time.
_MOST_FRAMES, MOST_SIDE_PX, _MOST_SCALE = 1000, 1 << 14, 64
_MOST_BATCH, _MOST_STEPS, _MOST_CACHE_MB = 1 << 16, 10**9, 10**6
_UNLIMITED = math.inf


def _check(ok: bool, key: str, value: object, allowed: str) -> None:
    if not ok:
        raise UsageError(f"{key} = {value!r} is not allowed: give {allowed}")


def _check_ranges(config: object, table: str, **ranges: tuple[float, float]) -> None:
    """Check fields against their least and most values, both allowed; a most of infinity is no limit."""
    for key, (least, most) in ranges.items():
        value = getattr(config, key)
        allowed = f"{least} or more" if most == _UNLIMITED else f"{least} to {most}"
        _check(least <= value <= most, f"{table} {key}".lstrip(), value, allowed)


def _check_one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(value in allowed, key, value, "one of " + ", ".join(allowed))


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained, and from which weights."""

    base: str = "nano"
    """A model's name or the path of a model file, relative to the configuration's folder where it has a slash."""
    pretrained: bool = True
    """Start from the base's weights; otherwise from new ones, drawn from the run's seed."""
    name: str = ""
    """Name of the result; empty: the base's."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Changed fields of the base's `ModelSpec`, nested, such as `network.width`."""
    checkpoint: str = ""
    """A file with published names, of VEnhancer or of STAR, whose weights are taken instead of the base's."""


@dataclass(frozen=True)
class FolderConfig:
    """A folder of training data: pairs if it has `gt/` and `lq/`, otherwise sources, recursively."""

    path: str = ""
    """Relative to the data folder of the command line, else to the configuration's folder."""
    weight: float = 1.0
    """Fraction of the clips that come from it, relative to the sum of all weights."""
    resize: tuple[float, float] = (1.0, 1.0)
    """Range of factors by which sources are reduced before they are cropped, each at most 1; of pairs always 1."""
    held_out: tuple[str, ...] = ()
    """Glob patterns of paths in it (of pairs inside `gt/` and without ending) that are held out for validation."""
    held_out_every: int = 0
    """Every n-th file in name order, starting with the first, is held out for validation; 0: none."""

    def __post_init__(self) -> None:
        _check(bool(self.path), "[[data.folders]] path", self.path, "a folder")
        _check(self.weight > 0, "[[data.folders]] weight", self.weight, "a number above 0")
        low, high = self.resize
        _check(0 < low <= high <= 1, "[[data.folders]] resize", [low, high], "0 < low <= high <= 1")
        every = self.held_out_every
        _check(every == 0 or every > 1, "[[data.folders]] held_out_every", every, "0, or 2 or more")


@dataclass(frozen=True)
class BankConfig:
    """Clips built once and cached on disk, from which training clips are cropped."""

    clips: int = 1000
    """Number of clips; each is used once before any is used again."""
    frames: int = 1
    crop: tuple[int, int] = (256, 256)
    """Rows and columns of the ground truth, pixels."""
    skips: float = 0.0
    """Fraction of the training clips that take only every second frame, which doubles motion."""
    turns: bool = False
    """Flip half of the training clips vertically, and transpose half."""


@dataclass(frozen=True)
class DataConfig:
    """What a training clip is."""

    folders: tuple[FolderConfig, ...] = ()
    frames: int = 1
    crop: tuple[int, int] = (200, 192)
    """Rows and columns of the ground truth, pixels."""
    scale: int = 4
    """Ground truth over degraded, each way."""
    degradations: dict[str, float] = field(default_factory=lambda: {"light": 0.5, "heavy": 0.5})
    """Presets (`light`, `heavy`, `clean`) and their weights, for sources that are not pairs."""
    flip: bool = True
    """Flip half of the clips horizontally."""
    motion: float = 1.0
    """Strength of the camera motion in clips built from stills."""
    foregrounds: float = 0.0
    """Fraction of the clips built from stills with a moving foreground."""
    text_drop: float = 0.5
    """Fraction of the clips whose prompt is dropped."""
    worse: float = 0.0
    """Fraction of the clips whose ground truth is the upsampled input, under the model's negative prompt, for guidance
    to lead away from. For models that start from noise."""
    cache_mb: int = 512
    """Memory limit per worker for decoded stills, megabytes."""
    bank: BankConfig | None = None
    """None builds every clip anew."""

    def __post_init__(self) -> None:
        _check_ranges(
            self,
            "[data]",
            frames=(1, _MOST_FRAMES),
            scale=(1, _MOST_SCALE),
            foregrounds=(0, 1),
            text_drop=(0, 1),
            worse=(0, 1),
            motion=(0, _UNLIMITED),
            cache_mb=(0, _MOST_CACHE_MB),
        )
        multiple = all(0 < side <= MOST_SIDE_PX and side % self.scale == 0 for side in self.crop)
        allowed = f"multiples of the scale {self.scale}, at most {MOST_SIDE_PX}"
        _check(multiple, "[data] crop", list(self.crop), allowed)
        _check_presets("[data.degradations]", self.degradations)
        if self.bank is not None:
            self._check_bank(self.bank)

    def _check_bank(self, bank: BankConfig) -> None:
        _check_ranges(bank, "[data.bank]", clips=(1, _MOST_STEPS), skips=(0, 1))
        ok = self.frames <= bank.frames <= _MOST_FRAMES
        allowed = f"at least [data] frames and at most {_MOST_FRAMES}"
        _check(ok, "[data.bank] frames", bank.frames, allowed)
        enough = not bank.skips or bank.frames >= 2 * self.frames - 1
        _check(
            enough, "[data.bank] frames", bank.frames, "twice [data] frames minus one, for skips"
        )
        square = not bank.turns or self.crop[0] == self.crop[1]
        _check(square, "[data] crop", list(self.crop), "as many rows as columns, for turns")
        fits = all(
            s <= b <= MOST_SIDE_PX and b % self.scale == 0
            for b, s in zip(bank.crop, self.crop, strict=True)
        )
        _check(
            fits,
            "[data.bank] crop",
            list(bank.crop),
            f"multiples of the scale {self.scale}, at least [data] crop",
        )

    @property
    def made(self) -> DataConfig:
        """How clips are built from sources: this, or as the bank says."""
        if self.bank is None:
            return self
        return dataclasses.replace(
            self, frames=self.bank.frames, crop=self.bank.crop, text_drop=0.0, worse=0.0, bank=None
        )


def _check_presets(table: str, shares: dict[str, float]) -> None:
    known = (*PRESETS, CLEAN)
    for name, share in shares.items():
        _check(name in known, f"{table} key", name, "one of " + ", ".join(known))
        _check(share > 0, f"{table} {name}", share, "a number above 0")
    _check(bool(shares), table, shares, "at least one of " + ", ".join(known))


CLEAN = "clean"
"""The preset that only reduces, with antialiasing."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW, its learning rate over time, and the average of the weights."""

    lr: float = 5e-5
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    schedule: str = "constant"
    """After the warm-up: `constant`, or `cosine` down to `final_lr` at the last step."""
    final_lr: float = 0.0
    """Fraction of `lr` at the end of `cosine`."""
    clip_norm: float = 1.0
    """Gradient clipping: the maximum norm over all trained parameters; 0: no limit."""
    ema_decay: float = 0.999
    """EMA decay of the weights, whose average is the result; 0 takes the last weights."""

    def __post_init__(self) -> None:
        _check(self.lr > 0, "[optimizer] lr", self.lr, "a number above 0")
        unlimited = dict.fromkeys(("weight_decay", "warmup_steps", "clip_norm"), (0, _UNLIMITED))
        _check_ranges(self, "[optimizer]", **unlimited)
        _check(0 <= self.ema_decay < 1, "[optimizer] ema_decay", self.ema_decay, "0 to below 1")
        betas = self.betas
        _check(all(0 <= b < 1 for b in betas), "[optimizer] betas", list(betas), "0 to below 1")
        _check(
            0 <= self.final_lr <= 1, "[optimizer] final_lr", self.final_lr, "a fraction from 0 to 1"
        )
        _check_one_of("[optimizer] schedule", self.schedule, LR_SCHEDULES)
        falls = self.schedule != "constant" or not self.final_lr
        _check(falls, "[optimizer] final_lr", self.final_lr, "it with schedule = 'cosine'")


@dataclass(frozen=True)
class PixelLossConfig:
    """Loss of models that restore in one step from the clean latent, between output and ground truth."""

    kind: str = "l1"
    """`l1`, `mse`, or `charbonnier` (a smooth l1)."""
    weight: float = 1.0
    fft: float = 0.05
    """Weight of the l1 of real and imaginary parts of the orthonormal 2-D Fourier transform of every frame."""
    temporal: float = 0.0
    """Weight of the l1 of the change from frame to frame."""
    motion: float = 0.0
    """Of networks that estimate motion: weight of the distance of a reduced frame from the one before it, moved."""
    lattice: float = 0.0
    """Weight of `pixel_losses.lattice_loss`, for training against an adversary."""
    sharpen: float = 0.0
    """The ground truth is sharpened this much (see `sharpen.sharpened`), and so are the model's results."""

    def __post_init__(self) -> None:
        _check_one_of("[pixel_loss] kind", self.kind, PIXEL_LOSSES)
        weights = ("weight", "fft", "temporal", "motion", "lattice", "sharpen")
        _check_ranges(self, "[pixel_loss]", **dict.fromkeys(weights, (0, _UNLIMITED)))


@dataclass(frozen=True)
class ValidationConfig:
    """Validation on held-out files."""

    interval: int = 1000
    """Steps between validations, plus one at the end; 0: never."""
    clips: int = 8
    """Maximum number of clips, evenly spread over the held-out files."""
    frames: int = 1
    crop: tuple[int, int] = (0, 0)
    """Rows and columns of the ground truth around its centre, at most; 0, 0: all of it."""
    degradations: tuple[str, ...] = ("light", "heavy")
    """Degradations with each of which every clip is measured."""
    samples: int = 4
    """Number of sample images per validation: upsampled, restored and ground truth, side by side."""

    def __post_init__(self) -> None:
        _check_ranges(
            self,
            "[validation]",
            interval=(0, _MOST_STEPS),
            clips=(1, _MOST_STEPS),
            frames=(1, _MOST_FRAMES),
            samples=(0, _MOST_STEPS),
        )
        ok = all(0 <= side <= MOST_SIDE_PX for side in self.crop)
        _check(ok, "[validation] crop", list(self.crop), f"0 to {MOST_SIDE_PX}")
        _check_presets("[validation] degradations", dict.fromkeys(self.degradations, 1.0))


@dataclass(frozen=True)
class CheckpointConfig:
    """What is saved during training."""

    interval: int = 500
    """Steps between checkpoints, plus one at the end."""
    keep: int = 2
    """Number of latest checkpoints to keep."""
    dtype: str = "fp32"
    """Type in which the model file's weights are stored; checkpoints are always fp32."""

    def __post_init__(self) -> None:
        _check_ranges(self, "[checkpoints]", interval=(1, _UNLIMITED), keep=(1, _UNLIMITED))
        _check_one_of("[checkpoints] dtype", self.dtype, PRECISIONS)


@dataclass(frozen=True)
class TrainConfig:
    """All of a training run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    parts: str = "all"
    """What is trained: `control+liem` as STAR does, `liem` (the gates), `temporal` (layers over frames), `all`."""
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    loss: LossConfig | None = None
    """For models that start from noise; None: the paper's."""
    pixel_loss: PixelLossConfig | None = None
    """For models that start from the clean latent; None: the default."""
    adversary: AdversaryConfig | None = None
    """For models that start from the clean latent; None: there is none."""
    features: FeaturesConfig | None = None
    """For models that start from the clean latent; None: none are compared."""
    teacher: TeacherConfig | None = None
    """Needs a bank; None: there is no teacher."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    steps: int = 1000
    batch: int = 8
    """Clips per step, over all processes."""
    micro_batch: int = 0
    """Clips per process and micro-batch, with gradient accumulation; 0: its whole part of the batch."""
    precision: str = "fp32"
    """Compute precision in training; weights are fp32."""
    gradient_checkpointing: bool = False
    """Gradient checkpointing: recompute each block's activations in the backward pass."""
    seed: int = 0
    log: str = "jsonl"
    """`jsonl`, or `tensorboard` for both."""

    def __post_init__(self) -> None:
        _check_ranges(
            self,
            "",
            steps=(1, _MOST_STEPS),
            batch=(1, _MOST_BATCH),
            micro_batch=(0, _MOST_BATCH),
            seed=(0, _UNLIMITED),
        )
        _check_one_of("parts", self.parts, PARTS)
        _check_one_of("precision", self.precision, PRECISIONS)
        _check_one_of("log", self.log, LOGS)
        if self.adversary is not None:
            self._check_adversary(self.adversary)
        if self.features is not None:
            large = min(self.data.crop) >= 2 * PLACES
            _check(
                large, "[data] crop", list(self.data.crop), f"{2 * PLACES} or more, for [features]"
            )
        if self.teacher is not None:
            bank = self.data.bank is not None
            _check(
                bank,
                "[data.bank]",
                None,
                "one, for [teacher]: it restores clips when they are built",
            )
            seen = self.adversary is not None or not self.teacher.real
            _check(seen, "[teacher] real", True, "an [adversary], or false")
            for name in self.teacher.degradations:
                _check_one_of("[teacher] degradations", name, tuple(self.data.degradations))

    def _check_adversary(self, adversary: AdversaryConfig) -> None:
        frames, crop = self.data.frames, self.data.crop
        allowed = f"a divisor of [data] frames, {frames}"
        _check(frames % adversary.frames == 0, "[adversary] frames", adversary.frames, allowed)
        fits = all(side % SIDE_MULTIPLE == 0 and side > SIDE_MULTIPLE for side in crop)
        allowed = f"multiples of {SIDE_MULTIPLE} from {2 * SIDE_MULTIPLE} on, for [adversary]"
        _check(fits, "[data] crop", list(crop), allowed)
        known = self.precision != "fp16"
        _check(known, "precision", self.precision, "fp32 or bf16, for [adversary]")


def read_config(path: Path) -> TrainConfig:
    """The configuration in a TOML file. Raises UsageError if it cannot be read or is invalid."""
    try:
        text = read_text(path)
    except ValueError as error:
        raise UsageError(f"--config {path} {error}") from error
    try:
        return config_from_toml(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def config_from_toml(text: str) -> TrainConfig:
    """The inverse of `tables.to_toml`. Raises UsageError."""
    try:
        tables = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"this {error}") from error
    return from_table(TrainConfig, tables)
