"""A whole job on a synthetic clip: seconds per stage, frames per second, peak memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from starvsr.bench.machine import forget_peak, peak_bytes
from starvsr.job.run import upscale_video
from starvsr.media.scratch import scratch_folder
from starvsr.options import UpscaleOptions
from starvsr.types import ProgressCallback

_FRAME_RATE, _SAMPLE_RATE = 25, 48_000
_AUDIO_FRAME = 1024


@dataclass(frozen=True)
class JobTime:
    """What upscaling the clip took."""

    model: str
    input_size: tuple[int, int]
    output_size: tuple[int, int]
    frames: int
    wall_s: float
    processor_s: float
    seconds: dict[str, float]
    """Wall time by stage; the rest is probing, indexing, loading, flushing and joining."""
    peak_bytes: int
    """Peak resident memory of the whole process."""

    @property
    def seconds_per_frame(self) -> float:
        """Wall seconds."""
        return self.wall_s / self.frames

    @property
    def network_share(self) -> float:
        """Of the wall time, 0..1."""
        return self.seconds.get("network", 0.0) / self.wall_s


def measure_job(
    size: tuple[int, int],
    frames: int,
    options: UpscaleOptions,
    *,
    progress: ProgressCallback | None = None,
) -> JobTime:
    """Upscale a clip with audio, of `frames` frames of `size` (columns, rows). Raises as `upscale_video`."""
    with scratch_folder() as folder:
        source, target = folder / "in.mp4", folder / "out.mp4"
        write_clip(source, size, frames)
        forget_peak()
        wall, processor = time.perf_counter(), time.process_time()
        result = upscale_video(source, target, options, progress=progress)
        return JobTime(
            model=result.model,
            input_size=size,
            output_size=(result.width, result.height),
            frames=result.frames,
            wall_s=time.perf_counter() - wall,
            processor_s=time.process_time() - processor,
            seconds=result.seconds,
            peak_bytes=peak_bytes(),
        )


def write_clip(path: Path, size: tuple[int, int], frames: int) -> None:
    """A seeded H.264 clip with a tone: moving, rotating textures of several scales, so that codecs have work."""
    width, height = size
    rng = np.random.default_rng(0)
    waves = rng.uniform(0.02, 0.9, (16, 2)) * rng.choice([-1, 1], (16, 2))
    phases, speeds = rng.uniform(0, 6.3, (16, 3)), rng.uniform(-0.3, 0.3, 16)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=_FRAME_RATE, options={"crf": "20"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=_SAMPLE_RATE)
        for number in range(frames):
            angles = waves[:, :1, None] * rows + waves[:, 1:, None] * columns
            angles = angles + (speeds * number)[:, None, None]
            levels = np.stack(
                [np.sin(angles + phases[:, c, None, None]).sum(0) for c in range(3)], axis=-1
            )
            picture = np.clip(128 + 16 * levels, 0, 255).astype(np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode())
        total = _SAMPLE_RATE * frames // _FRAME_RATE
        for start in range(0, total, _AUDIO_FRAME):
            samples = np.sin(0.05 * np.arange(start, min(start + _AUDIO_FRAME, total)))
            block = av.AudioFrame.from_ndarray(
                samples.astype(np.float32)[None], format="fltp", layout="mono"
            )
            block.sample_rate, block.pts = _SAMPLE_RATE, start
            block.time_base = Fraction(1, _SAMPLE_RATE)
            container.mux(sound.encode(block))
        container.mux(sound.encode())
