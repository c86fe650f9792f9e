"""What the picture gains over bicubic interpolation, measured on files that the command line wrote.

    python benchmarks/quality.py CLIPS [--modes light heavy] [--encoder default|lossless]

CLIPS holds a folder per clip with `gt.mp4` and the inputs `light.mp4`, `heavy.mp4` at a quarter of the size. Prints
PSNR-Y and SSIM-Y (BT.601 luma, no border crop) and VMAF per clip and on average. Needs the extra `metrics`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean

import av
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

Picture = npt.NDArray[np.float64]
LUMA = np.array([65.481, 128.553, 24.966]) / 255
ENCODERS = {
    "lossless": ["--codec", "ffv1", "--color-fix", "none"],
    "default": [],
}


def luma_frames(path: Path, size: tuple[int, int] | None = None) -> Iterator[Picture]:
    """BT.601 luma (16..235) of every frame, resized by bicubic interpolation to (width, height) if asked."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            rgb = frame.to_ndarray(format="rgb24")
            if size is not None:
                small = av.VideoFrame.from_ndarray(rgb, format="rgb24")
                rgb = small.reformat(*size, interpolation="BICUBIC").to_ndarray()
            yield 16 + rgb.astype(np.float64) @ LUMA


def psnr(a: Picture, b: Picture) -> float:
    """Peak 255."""
    return float(10 * np.log10(255**2 / np.mean((a - b) ** 2)))


def ssim(a: Picture, b: Picture) -> float:
    """Wang et al. (2004): 11x11 Gaussian of deviation 1.5, valid region."""

    def mean(x: Picture) -> Picture:
        return np.asarray(gaussian_filter(x, 1.5, radius=5))[5:-5, 5:-5]

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float(np.mean(top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))))


def vmaf(path: Path, truth: Path, scale: str = "") -> float:
    """VMAF v0.6.1 by ffmpeg's libvmaf, mean over frames."""
    graph = f"[0:v]{scale}format=yuv420p[a];[1:v]format=yuv420p[b];[a][b]libvmaf=n_threads=2"
    command = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-i",
        path,
        "-i",
        truth,
        "-lavfi",
        graph,
        "-f",
        "null",
        "-",
    ]
    said = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=True
    )
    found = re.search(r"VMAF score: ([\d.]+)", said.stderr)
    if found is None:
        raise SystemExit("this ffmpeg has no libvmaf")
    return float(found[1])


def measure(path: Path, truth: Path, *, enlarge: bool) -> dict[str, float]:
    """All metrics of a video against the ground truth; `enlarge` interpolates it to that size first."""
    with av.open(str(truth)) as container:
        stream = container.streams.video[0]
        size = (stream.width, stream.height)
    pairs = list(zip(luma_frames(path, size if enlarge else None), luma_frames(truth), strict=True))
    scale = f"scale={size[0]}:{size[1]}:flags=bicubic," if enlarge else ""
    return {
        "psnr_y": fmean(psnr(a, b) for a, b in pairs),
        "ssim_y": fmean(ssim(a, b) for a, b in pairs),
        "vmaf": vmaf(path, truth, scale),
    }


def row(name: str, values: dict[str, float]) -> str:
    """One line of the table."""
    return f"{name:<28} {values['psnr_y']:7.3f} {values['ssim_y']:7.4f} {values['vmaf']:7.2f}"


def main() -> None:
    """Upscale every clip through the command line and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--modes", nargs="+", default=["light", "heavy"])
    parser.add_argument("--encoder", choices=ENCODERS, default="lossless")
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="passed to upscale")
    arguments = parser.parse_args()
    print(f"{'':<28} {'PSNR-Y':>7} {'SSIM-Y':>7} {'VMAF':>7}")
    for mode in arguments.modes:
        totals: dict[str, list[dict[str, float]]] = {"bicubic": [], "starvsr": []}
        for truth in sorted(arguments.clips.glob("*/gt.mp4")):
            source = truth.with_name(f"{mode}.mp4")
            with tempfile.TemporaryDirectory() as folder:
                output = Path(folder) / "out.mkv"
                options = [*ENCODERS[arguments.encoder], *arguments.options]
                command = ["starvsr", "upscale", source, output, "--progress", "none", *options]
                subprocess.run(
                    [str(word) for word in command], check=True, stderr=subprocess.DEVNULL
                )
                results = {
                    "bicubic": measure(source, truth, enlarge=True),
                    "starvsr": measure(output, truth, enlarge=False),
                }
            for name, values in results.items():
                totals[name].append(values)
                print(row(f"{mode} {truth.parent.name} {name}", values), flush=True)
        for name, rows in totals.items():
            means = {key: fmean(values[key] for values in rows) for key in rows[0]}
            print(row(f"{mode} mean {name}", means))
            print(
                json.dumps({"mode": mode, "method": name, "clips": len(rows), **means}), flush=True
            )


if __name__ == "__main__":
    main()
