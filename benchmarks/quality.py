"""Quality gain over interpolation, measured on files that the command line wrote.

    python benchmarks/quality.py CLIPS [--modes light heavy] [--encoder default|lossless] [--clip NAME ...]
                                 [--methods starvsr ...] [--write FOLDER] [--options ...]

CLIPS contains a folder per clip with `gt.mp4`, and `light.mp4`, `heavy.mp4` at a quarter of the size. Prints what
`starvsr evaluate` would: a row per clip and means for every method and mode. VMAF, E*warp and tOF need the extra
`metrics`. `--write` saves the report with its curves, `--options` go to `starvsr upscale`, such as `--model FILE`.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import av

from starvsr.evaluate.measure import measure_all
from starvsr.evaluate.pairs import ClipPair
from starvsr.evaluate.report import to_markdown, write_report
from starvsr.metrics.registry import choose_metrics

INTERPOLATIONS = {"bicubic": "BICUBIC", "lanczos": "LANCZOS"}
ENCODERS = {
    "lossless": ["--codec", "ffv1", "--color-fix", "none"],
    "default": [],
}


def interpolate(source: Path, target: Path, size: tuple[int, int], kind: str) -> None:
    """The video at another size (width, height) by swscale, lossless."""
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        stream = writer.add_stream("ffv1", rate=video.average_rate or Fraction(25))
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.color_range, context.colorspace = (
            video.codec_context.color_range,
            video.codec_context.colorspace,
        )
        for frame in reader.decode(video):
            writer.mux(stream.encode(frame.reformat(*size, interpolation=kind)))
        writer.mux(stream.encode(None))


def upscale(source: Path, target: Path, options: list[str]) -> None:
    """Through the command line."""
    command = ["starvsr", "upscale", str(source), str(target), "--quiet", *options]
    subprocess.run(command, check=True)


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of a video."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return video.width, video.height


def make_all(arguments: argparse.Namespace, folder: Path) -> list[ClipPair]:
    """Every method's file for every clip and mode."""
    pairs = []
    for truth in sorted(arguments.clips.glob("*/gt.mp4")):
        clip = truth.parent.name
        if arguments.clip and clip not in arguments.clip:
            continue
        for mode in arguments.modes:
            source = truth.with_name(f"{mode}.mp4")
            for method in arguments.methods:
                target = folder / f"{clip}-{mode}-{method}.mkv"
                if method == "starvsr":
                    upscale(source, target, [*ENCODERS[arguments.encoder], *arguments.options])
                else:
                    interpolate(source, target, size_of(truth), INTERPOLATIONS[method])
                pairs.append(ClipPair(clip, target, truth, group=f"{mode} {method}"))
    return sorted(pairs, key=lambda pair: pair.group)


def main() -> None:
    """Upscale, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("--modes", nargs="+", default=["light", "heavy"])
    parser.add_argument("--encoder", choices=ENCODERS, default="lossless")
    parser.add_argument("--clip", nargs="+", help="only these clips")
    methods = (*INTERPOLATIONS, "starvsr")
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--metrics", nargs="+", help="only these (default: all there are)")
    parser.add_argument("--write", type=Path)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[])
    arguments = parser.parse_args()
    metrics, left_out = choose_metrics(arguments.metrics)
    with tempfile.TemporaryDirectory() as folder:
        clips = measure_all(make_all(arguments, Path(folder)), metrics)
    print(to_markdown(clips, left_out))
    if arguments.write is not None:
        write_report(arguments.write, clips, left_out)


if __name__ == "__main__":
    main()
