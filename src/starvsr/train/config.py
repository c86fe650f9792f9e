"""What a training run is: frozen dataclasses, and TOML from and to them. An unknown key is refused by name.

Tables of the TOML are the nested dataclasses (`[model]`, `[data]`, `[[data.folders]]`, `[optimizer]`, ...), keys are
their fields. Messages name the table and the key, since that is what was written.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starvsr.errors import UsageError
from starvsr.media.textfiles import parse_toml, read_text
from starvsr.train.losses import LossConfig
from starvsr.train.recipes import PRESETS
from starvsr.train.tables import from_table, to_toml

PARTS = ("control+liem", "liem", "temporal", "all")
PRECISIONS = ("fp32", "fp16", "bf16")
LOGS = ("jsonl", "tensorboard")
LR_SCHEDULES = ("constant", "cosine")
PIXEL_LOSSES = ("l1", "mse", "charbonnier")

# What is beyond them takes memory or time that nobody has.
_MOST_FRAMES, _MOST_SIDE_PX, _MOST_SCALE = 1000, 1 << 14, 64
_MOST_BATCH, _MOST_STEPS, _MOST_CACHE_MB = 1 << 16, 10**9, 10**6


def _check(ok: bool, key: str, value: object, allowed: str) -> None:
    if not ok:
        raise UsageError(f"{key} = {value!r} is not allowed: give {allowed}")


def _check_one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    _check(value in allowed, key, value, "one of " + ", ".join(allowed))


@dataclass(frozen=True)
class ModelConfig:
    """Which network is trained, and what it starts from."""

    base: str = "nano"
    """A model's name or the path of a model file, relative to the configuration's folder where it has a slash."""
    pretrained: bool = True
    """Start from the base's weights; else from new ones, drawn by the run's seed."""
    name: str = ""
    """Name of the result; empty is the base's."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Fields of the base's `ModelSpec` that are different, tables within tables, such as `network.width`."""


@dataclass(frozen=True)
class FolderConfig:
    """A folder of training data: pairs where it has `gt/` and `lq/`, else sources in it and the folders inside it."""

    path: str = ""
    """Relative to the data folder of the command line, else to the configuration's folder."""
    weight: float = 1.0
    """Share of the clips that come from it, over the sum of all weights."""
    resize: tuple[float, float] = (1.0, 1.0)
    """Range of factors by which sources are reduced before they are cropped, each at most 1; of pairs always 1."""
    held_out: tuple[str, ...] = ()
    """Glob patterns of paths in it (of pairs inside `gt/` and without ending) that are kept for validation."""
    held_out_every: int = 0
    """Every so many-th file in name order (the first, and so on) is kept for validation; 0 is none."""

    def __post_init__(self) -> None:
        _check(bool(self.path), "[[data.folders]] path", self.path, "a folder")
        _check(self.weight > 0, "[[data.folders]] weight", self.weight, "a number above 0")
        low, high = self.resize
        _check(0 < low <= high <= 1, "[[data.folders]] resize", [low, high], "0 < low <= high <= 1")
        every = self.held_out_every
        _check(every == 0 or every > 1, "[[data.folders]] held_out_every", every, "0, or 2 or more")


@dataclass(frozen=True)
class BankConfig:
    """Clips made once and kept on disk, out of which training clips are cut."""

    clips: int = 1000
    """So many; each comes once before any comes again."""
    frames: int = 1
    crop: tuple[int, int] = (256, 256)
    """Rows and columns of the ground truth, pixels."""
    skips: float = 0.0
    """Share of the training clips that take only every second frame: everything moves twice as fast."""
    turns: bool = False
    """Turn half of the training clips upside down, and make rows columns in half."""


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
    """Presets (`light`, `heavy`, `clean`) and their shares, for sources that are not pairs."""
    flip: bool = True
    """Mirror half of the clips left to right."""
    motion: float = 1.0
    """Strength of the camera motion that makes clips of stills."""
    foregrounds: float = 0.0
    """Share of the clips made of stills in which something moves in front."""
    text_drop: float = 0.5
    """Share of the clips whose text is left empty."""
    worse: float = 0.0
    """Share of the clips of which the upsampled input is the truth, under the model's negative prompt: what guidance
    is to lead away from. Of models that start from noise."""
    cache_mb: int = 512
    """Most memory of a worker for decoded stills, megabytes."""
    bank: BankConfig | None = None
    """None makes every clip anew."""

    def __post_init__(self) -> None:
        for key, most in (("frames", _MOST_FRAMES), ("scale", _MOST_SCALE)):
            ok = 1 <= getattr(self, key) <= most
            _check(ok, f"[data] {key}", getattr(self, key), f"1 to {most}")
        multiple = all(0 < side <= _MOST_SIDE_PX and side % self.scale == 0 for side in self.crop)
        allowed = f"multiples of the scale {self.scale}, at most {_MOST_SIDE_PX}"
        _check(multiple, "[data] crop", list(self.crop), allowed)
        for key in ("foregrounds", "text_drop", "worse"):
            _check(0 <= getattr(self, key) <= 1, f"[data] {key}", getattr(self, key), "0 to 1")
        _check(self.motion >= 0, "[data] motion", self.motion, "0 or more")
        ok = 0 <= self.cache_mb <= _MOST_CACHE_MB
        _check(ok, "[data] cache_mb", self.cache_mb, f"0 to {_MOST_CACHE_MB}")
        _check_presets("[data.degradations]", self.degradations)
        if self.bank is not None:
            self._check_bank(self.bank)

    def _check_bank(self, bank: BankConfig) -> None:
        ok = 1 <= bank.clips <= _MOST_STEPS
        _check(ok, "[data.bank] clips", bank.clips, f"1 to {_MOST_STEPS}")
        ok = self.frames <= bank.frames <= _MOST_FRAMES
        allowed = f"at least [data] frames and at most {_MOST_FRAMES}"
        _check(ok, "[data.bank] frames", bank.frames, allowed)
        _check(0 <= bank.skips <= 1, "[data.bank] skips", bank.skips, "0 to 1")
        enough = not bank.skips or bank.frames >= 2 * self.frames - 1
        _check(enough, "[data.bank] frames", bank.frames, "twice [data] frames less one, for skips")
        square = not bank.turns or self.crop[0] == self.crop[1]
        _check(square, "[data] crop", list(self.crop), "as many rows as columns, for turns")
        fits = all(
            s <= b <= _MOST_SIDE_PX and b % self.scale == 0
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
        """How clips are made of sources: this, or what the bank's clips are."""
        if self.bank is None:
            return self
        return dataclasses.replace(
            self, frames=self.bank.frames, crop=self.bank.crop, text_drop=0.0, worse=0.0, bank=None
        )


def _check_presets(table: str, shares: dict[str, float]) -> None:
    known = (*PRESETS, CLEAN)
    for name, share in shares.items():
        _check(name in known, f"{table} key", name, "one of " + ", ".join(known))
        _check(share > 0, f"{table} {name}", share, "a share above 0")
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
    """Behind the warm-up: `constant`, or `cosine` down to `final_lr` at the last step."""
    final_lr: float = 0.0
    """Share of `lr` that `cosine` ends with."""
    clip_norm: float = 1.0
    """Most that the norm of the gradient of all trained parameters may be; 0 is no limit."""
    ema_decay: float = 0.999
    """Of the average of the weights over steps, which is the result; 0 takes the last weights."""

    def __post_init__(self) -> None:
        _check(self.lr > 0, "[optimizer] lr", self.lr, "a number above 0")
        for key in ("weight_decay", "warmup_steps", "clip_norm"):
            _check(getattr(self, key) >= 0, f"[optimizer] {key}", getattr(self, key), "0 or more")
        _check(0 <= self.ema_decay < 1, "[optimizer] ema_decay", self.ema_decay, "0 to below 1")
        betas = self.betas
        _check(all(0 <= b < 1 for b in betas), "[optimizer] betas", list(betas), "0 to below 1")
        _check(
            0 <= self.final_lr <= 1, "[optimizer] final_lr", self.final_lr, "a share from 0 to 1"
        )
        _check_one_of("[optimizer] schedule", self.schedule, LR_SCHEDULES)


@dataclass(frozen=True)
class PixelLossConfig:
    """Loss of models that restore in one step from the clean latent, between their picture and the truth."""

    kind: str = "l1"
    """`l1`, `mse`, or `charbonnier` (a smooth l1)."""
    weight: float = 1.0
    fft: float = 0.05
    """Weight of the l1 of real and imaginary parts of the orthonormal 2-D Fourier transform of every frame."""
    temporal: float = 0.0
    """Weight of the l1 of the change from frame to frame."""
    motion: float = 0.0
    """Of networks that estimate motion: weight of the distance of a reduced frame from the one before it, moved."""
    sharpen: float = 0.0
    """The truth is sharpened this much (see `sharpen.sharpened`), and so is then what the model makes."""

    def __post_init__(self) -> None:
        _check_one_of("[pixel_loss] kind", self.kind, PIXEL_LOSSES)
        for key in ("weight", "fft", "temporal", "motion", "sharpen"):
            _check(getattr(self, key) >= 0, f"[pixel_loss] {key}", getattr(self, key), "0 or more")


@dataclass(frozen=True)
class ValidationConfig:
    """What is measured while training, on what was held out."""

    interval: int = 1000
    """Steps between validations, and one at the end; 0 is never."""
    clips: int = 8
    """At most so many, evenly spread over what was held out."""
    frames: int = 1
    crop: tuple[int, int] = (0, 0)
    """Rows and columns of the ground truth around its centre, at most; 0, 0 is all of it."""
    degradations: tuple[str, ...] = ("light", "heavy")
    """Every clip is measured with each."""
    samples: int = 4
    """Pictures that are written each time: upsampled, restored and true, side by side."""

    def __post_init__(self) -> None:
        for key, least, most in (
            ("interval", 0, _MOST_STEPS),
            ("clips", 1, _MOST_STEPS),
            ("frames", 1, _MOST_FRAMES),
            ("samples", 0, _MOST_STEPS),
        ):
            value = getattr(self, key)
            _check(least <= value <= most, f"[validation] {key}", value, f"{least} to {most}")
        ok = all(0 <= side <= _MOST_SIDE_PX for side in self.crop)
        _check(ok, "[validation] crop", list(self.crop), f"0 to {_MOST_SIDE_PX}")
        _check_presets("[validation] degradations", dict.fromkeys(self.degradations, 1.0))


@dataclass(frozen=True)
class CheckpointConfig:
    """What is kept on the way."""

    interval: int = 500
    """Steps between checkpoints, and one at the end."""
    keep: int = 2
    """The latest so many are kept."""
    dtype: str = "fp32"
    """Type in which the model file's weights are stored; checkpoints are always fp32."""

    def __post_init__(self) -> None:
        _check(self.interval >= 1, "[checkpoints] interval", self.interval, "1 or more")
        _check(self.keep >= 1, "[checkpoints] keep", self.keep, "1 or more")
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
    """Of models that start from noise; None is the paper's."""
    pixel_loss: PixelLossConfig | None = None
    """Of models that start from the clean latent; None is the default."""
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    steps: int = 1000
    batch: int = 8
    """Clips a step, of all processes together."""
    micro_batch: int = 0
    """Clips that a process takes at once, summing gradients; 0 is all of its share."""
    precision: str = "fp32"
    """What the network computes in while it is trained; its weights are fp32."""
    gradient_checkpointing: bool = False
    """Compute each block again for its gradient, instead of keeping what is inside."""
    seed: int = 0
    log: str = "jsonl"
    """`jsonl`, or `tensorboard` besides."""

    def __post_init__(self) -> None:
        for key, least, most in (
            ("steps", 1, _MOST_STEPS),
            ("batch", 1, _MOST_BATCH),
            ("micro_batch", 0, _MOST_BATCH),
        ):
            value = getattr(self, key)
            _check(least <= value <= most, key, value, f"{least} to {most}")
        _check(self.seed >= 0, "seed", self.seed, "0 or more")
        _check_one_of("parts", self.parts, PARTS)
        _check_one_of("precision", self.precision, PRECISIONS)
        _check_one_of("log", self.log, LOGS)


def read_config(path: Path) -> TrainConfig:
    """The configuration in a TOML file. Raises UsageError where it cannot be read or means nothing."""
    try:
        text = read_text(path)
    except ValueError as error:
        raise UsageError(f"--config {path} {error}; give a TOML file") from error
    try:
        return config_from_toml(text)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def config_from_toml(text: str) -> TrainConfig:
    """A configuration from TOML. Raises UsageError."""
    try:
        tables = parse_toml(text)
    except ValueError as error:
        raise UsageError(f"this {error}") from error
    return from_table(TrainConfig, tables)


def config_to_toml(config: TrainConfig) -> str:
    """The TOML that `config_from_toml` makes the same configuration from."""
    return to_toml(config)
