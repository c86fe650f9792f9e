"""Resident memory of `starvsr upscale` over time, for a short and a long clip of the same size.

    python benchmarks/memory.py [--size 160x90] [--frames 60 600] [--segment-frames 24]

Generates moving test clips, upscales each in its own process and samples its resident memory. Prints the curve, the
level after loading, the peak, and how much more the long clip grew than the short one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SAMPLE_S = 0.05
CURVE_POINTS = 12


@dataclass(frozen=True)
class Curve:
    """Resident memory in MiB over seconds."""

    points: list[tuple[float, float]]
    loaded: float
    """After the model is loaded, before the first frame is restored."""

    @property
    def peak(self) -> float:
        """Of the whole run."""
        return max(level for _, level in self.points)

    @property
    def growth(self) -> float:
        """Peak over the level after loading."""
        return self.peak - self.loaded


def make_clip(path: Path, width: int, height: int, frames: int) -> None:
    """A noisy moving gradient, 25 frames per second."""
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        ramp = np.add.outer(np.arange(height), np.arange(width))
        for number in range(frames):
            gray = (ramp * 2 + number * 3) % 256 + rng.integers(-8, 9, ramp.shape)
            pixels = np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def resident_mib(pid: int) -> float | None:
    """Resident memory of a running process; None if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    lines = [line for line in status.splitlines() if line.startswith("VmRSS")]
    return int(lines[0].split()[1]) / 1024 if lines else None


def run(source: Path, target: Path, options: list[str]) -> Curve:
    """Upscale in its own process and sample its memory."""
    log = target.with_suffix(".log")
    command = [
        sys.executable,
        "-m",
        "starvsr",
        "upscale",
        str(source),
        str(target),
        "--progress",
        "plain",
    ]
    points: list[tuple[float, float]] = []
    loaded = 0.0
    with log.open("w") as errors:
        began = time.monotonic()
        process = subprocess.Popen([*command, *options], stderr=errors)
        while process.poll() is None:
            level = resident_mib(process.pid)
            if level is not None:
                points.append((time.monotonic() - began, level))
                if not loaded and "loading model: done" in log.read_text():
                    loaded = level
            time.sleep(SAMPLE_S)
    if process.returncode:
        raise SystemExit(log.read_text())
    return Curve(points, loaded)


def main() -> None:
    """Print the curve of each clip and compare their growth."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--size", default="160x90")
    parser.add_argument("--frames", type=int, nargs="+", default=[60, 600])
    parser.add_argument("--segment-frames", type=int, default=24)
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    growths = []
    with tempfile.TemporaryDirectory() as folder:
        for frames in arguments.frames:
            source = Path(folder) / f"{frames}.mp4"
            make_clip(source, width, height, frames)
            options = ["--segment-frames", str(arguments.segment_frames)]
            curve = run(source, Path(folder) / f"{frames}-out.mp4", options)
            growths.append(curve.growth)
            print(
                f"{frames} frames: {curve.loaded:.0f} MiB after loading, peak {curve.peak:.0f}, "
                f"growth {curve.growth:.0f} MiB"
            )
            step = max(1, len(curve.points) // CURVE_POINTS)
            print(
                "  " + "  ".join(f"{s:.0f}s {mib:.0f}" for s, mib in curve.points[::step]),
                flush=True,
            )
    print(f"growth, longest over shortest clip: {growths[-1] / growths[0]:.3f}")


if __name__ == "__main__":
    main()
