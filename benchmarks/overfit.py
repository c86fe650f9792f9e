"""Whether the trainer can memorise four clips: PSNR-Y of nano on them before and after.

    python benchmarks/overfit.py VIDEO [--steps N]

Four positions of the video, four frames each, are cropped, halved and stored lossless; the embedded model is trained on
nothing else, and restores them from a quarter of their size.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.restore.restorer import Restorer
from starvsr.train.clips import preset
from starvsr.train.config import (
    CheckpointConfig,
    DataConfig,
    FolderConfig,
    OptimizerConfig,
    TrainConfig,
    ValidationConfig,
)
from starvsr.train.degrade import resize
from starvsr.train.recipes import draw
from starvsr.train.runs import RunOptions
from starvsr.train.trainer import train
from starvsr.train.validation import psnr_y
from starvsr.zoo.load import load_model

CROP = (104, 96)
FRAMES = 4


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    arguments = parser.parse_args()
    clips = cut(arguments.video)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for number, clip in enumerate(clips):
            write(root / "clips" / f"{number}.mkv", clip)
        config = TrainConfig(
            data=DataConfig(
                folders=(FolderConfig("clips"),),
                frames=FRAMES,
                crop=CROP,
                degradations={"clean": 1.0},
                flip=False,
            ),
            optimizer=OptimizerConfig(lr=1e-3, warmup_steps=10, schedule="cosine", ema_decay=0.98),
            validation=ValidationConfig(interval=0),
            checkpoints=CheckpointConfig(interval=10**6),
            steps=arguments.steps,
            batch=4,
        )
        began = time.perf_counter()
        result = train(config, RunOptions(root / "run", root, device="cpu", workers=1))
        elapsed = time.perf_counter() - began
        before, after = quality("nano", clips), quality(str(result.model), clips)
    print(f"{arguments.steps} steps in {elapsed:.0f} s: {before:.2f} dB -> {after:.2f} dB PSNR-Y")


def cut(path: Path) -> list[torch.Tensor]:
    """Four clips `t 3 h w` in [0, 1], rounded to 8 bits."""
    info = probe(path)
    index = build_index(info, scene_detect=False)
    clips = []
    for place in range(4):
        first = place * (index.frames - FRAMES) // 3
        frames = torch.stack(
            [
                torch.from_numpy(pixels.astype(np.float32) / 65535).permute(2, 0, 1)
                for pixels in read_frames(info, index, first, first + FRAMES)
            ]
        )
        top, left = ((side - 2 * c) // 2 for side, c in zip(frames.shape[2:], CROP, strict=True))
        middle = frames[:, :, top : top + 2 * CROP[0], left : left + 2 * CROP[1]]
        small = torch.stack([resize(frame, CROP, "bicubic-antialias") for frame in middle])
        clips.append((small * 255).round() / 255)
    return clips


def write(path: Path, clip: torch.Tensor) -> None:
    """A clip as lossless video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = *CROP, "bgr0"
        for frame in clip:
            samples = (frame.permute(1, 2, 0) * 255).round().to(torch.uint8).contiguous().numpy()
            picture = av.VideoFrame.from_ndarray(samples, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="bgr0")))
        container.mux(stream.encode(None))


def quality(model: str, clips: list[torch.Tensor]) -> float:
    """Mean PSNR-Y of the restored clips."""
    restorer = Restorer(load_model(model, device="cpu"))
    clean = preset("clean", 4)
    values = []
    for clip in clips:
        degraded = draw(clean, np.random.default_rng(0)).apply(clip)
        values.append(psnr_y(restorer(degraded, scale=4), clip))
    return float(np.mean(values))


if __name__ == "__main__":
    main()
