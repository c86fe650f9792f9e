"""A tiny model that restores in one step, and folders of tiny pictures and videos to train it on."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from starvsr.models.build import build_network
from starvsr.train.config import (
    CheckpointConfig,
    DataConfig,
    FolderConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    ValidationConfig,
)
from starvsr.train.runs import RunOptions
from starvsr.train.trainer import MODEL_NAME
from starvsr.types import ModelSpec
from starvsr.zoo.load import save_model
from tests.conftest import TOY
from tests.golden.seeded_init import fill_module

Frames = npt.NDArray[np.uint8]
SIDE = 32

TINY = dataclasses.replace(
    TOY,
    name="tiny",
    network=dataclasses.replace(TOY.network, multipliers=(1,), attention_scales=(), control=False),
    size_rule=dataclasses.replace(TOY.size_rule, multiple=1),
    start="clean",
    solver="one_step",
    noise_level=101,
    steps=1,
    cfg=1.0,
    cfg_rescale=0.0,
    upsampling="bicubic",
    color_fix="none",
)
"""As nano: one step from the clean latent, no control branch; 12 channels at half the size."""


def texture(seed: int, frames: int = 1, side: int = SIDE) -> Frames:
    """Smooth random pictures, `t h w 3`, that move a pixel a frame."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(-0.9, 0.9, (12, 2)), rng.uniform(0, 6, (12, 3))
    time, rows, columns = np.mgrid[0:frames, 0:side, 0:side]
    levels = np.zeros((frames, side, side, 3))
    for (down, right), phases in zip(*waves, strict=True):
        angle = down * rows + right * (columns + time)
        levels += np.sin(angle[..., None] + phases)
    return np.asarray(np.clip(128 + 22 * levels, 0, 255).round(), dtype=np.uint8)


def write_still(path: Path, picture: Frames) -> Path:
    """A picture `h w 3`, as the ending says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return path


def write_video(path: Path, frames: Frames) -> Path:
    """Frames `t h w 3`, lossless."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="bgr0")))
        container.mux(stream.encode(None))
    return path


def write_damaged_video(path: Path, frames: Frames) -> Path:
    """MPEG-2 of frames `t h w 3`, in the last of which some bytes are wrong: it is decoded, but guessed in part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=Fraction(25), options={"bf": "0"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        packets = [
            packet
            for picture in (*frames, None)
            for packet in stream.encode(
                picture if picture is None else av.VideoFrame.from_ndarray(picture, format="rgb24")
            )
        ]
        last = bytes(packets[-1])
        container.mux(packets)
    content = bytearray(path.read_bytes())
    middle = content.index(last) + len(last) // 2
    content[middle : middle + 8] = bytes(byte ^ 0x5A for byte in content[middle : middle + 8])
    path.write_bytes(content)
    return path


def write_sources(folder: Path, count: int = 4, *, frames: int = 4, side: int = SIDE) -> Path:
    """Half stills, half videos of `frames` frames."""
    for number in range(count):
        if number % 2:
            write_video(folder / f"clip{number}.mkv", texture(number, frames, side))
        else:
            write_still(folder / f"still{number}.png", texture(number, 1, side)[0])
    return folder


def data_config(**changes: Any) -> DataConfig:
    """Of `write_sources(root / "sources")`: crops of 16x16, twice as large as what they are made from."""
    base = DataConfig(
        folders=(FolderConfig("sources"),),
        crop=(16, 16),
        scale=2,
        degradations={"clean": 1.0},
        text_drop=0.0,
    )
    return dataclasses.replace(base, **changes)


def train_config(base: Path, **changes: Any) -> TrainConfig:
    """A run of a few steps that validates never."""
    config = TrainConfig(
        model=ModelConfig(base=str(base)),
        data=data_config(),
        optimizer=OptimizerConfig(lr=1e-3, ema_decay=0.9),
        validation=ValidationConfig(interval=0),
        checkpoints=CheckpointConfig(interval=2),
        steps=4,
        batch=2,
    )
    return dataclasses.replace(config, **changes)


def write_model(path: Path, spec: ModelSpec = TINY) -> Path:
    """A seeded model file."""
    save_model(path, spec, fill_module(build_network(spec.network), 0).state_dict())
    return path


def config_of(root: Path, **changes: Any) -> TrainConfig:
    return train_config(root / "tiny.safetensors", **changes)


def options(root: Path, name: str = "run", **changes: Any) -> RunOptions:
    return dataclasses.replace(
        RunOptions(output=root / name, data=root, device="cpu", workers=0), **changes
    )


def log_of(root: Path, name: str = "run") -> list[dict[str, Any]]:
    """The log without times."""
    lines = (root / name / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights_of(root: Path, name: str = "run") -> dict[str, Tensor]:
    return load_file(root / name / MODEL_NAME)


def assert_same_run(root: Path, first: str, second: str) -> None:
    assert log_of(root, first) == log_of(root, second)
    one, other = weights_of(root, first), weights_of(root, second)
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())
