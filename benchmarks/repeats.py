"""What `--repeats` finds, saves and changes.

    python benchmarks/repeats.py find FOLDER [FILM]   (FOLDER: live clips, each without repeated frames)
    python benchmarks/repeats.py time                 (nano on a clip in which two of three frames repeat)
    python benchmarks/repeats.py cost                 (every model's plan for such a clip)
    python benchmarks/repeats.py quality FILM         (FILM: a film, of which every second frame is shown twice)

`find` draws animation, shows every drawing two and three times, encodes it at several rates, and counts what `near`
finds of the repeats and what beside them; then what it finds in the live clips, as they are and encoded again. `time`
runs `off` and `exact` in turns and prints medians. `quality` compares the results of `off` and `exact` with the film.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

import av
import numpy as np
import numpy.typing as npt
from av.video.stream import VideoStream
from PIL import Image, ImageDraw

from starvsr.errors import StarvsrError
from starvsr.job.executor import LastModel
from starvsr.job.plan_job import plan_video
from starvsr.job.run import run_job
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import EncodeOptions, LookOptions, Repeats, SizeOptions, UpscaleOptions
from starvsr.plan.plan import make_plan
from starvsr.specs import SPECS
from starvsr.types import DeviceInfo

Frame = npt.NDArray[np.uint8]

WIDTH, HEIGHT, RATE = 640, 360, 24
DRAWINGS = 60
RATES = (18, 28)
CODECS = {"libx264": ".mp4", "libx265": ".mp4", "libvpx-vp9": ".webm"}
# Of live clips.
MOST_FRAMES = 150
TURNS = 3
# Drawings of the clip whose frames repeat.
HELD = 16


def encode(path: Path, frames: Sequence[Frame], codec: str, options: dict[str, str]) -> Path:
    """A file of RGB frames (rows, columns, 3)."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))
    return path


def settings(codec: str, crf: int) -> dict[str, str]:
    """Encoder options of a rate factor."""
    more = {
        "libx265": {"x265-params": "log-level=none"},
        "libvpx-vp9": {"b": "0", "deadline": "realtime", "cpu-used": "6"},
    }
    return {"crf": str(crf), **more.get(codec, {})}


def shown(drawings: Sequence[Frame], times: int) -> list[Frame]:
    """Every drawing so many times."""
    return [drawing for drawing in drawings for _ in range(times)]


def drawn(kind: str, seed: int) -> list[Frame]:
    """Drawings on a painted background: a face that only talks, or that walks from side to side as well."""
    rng = np.random.default_rng(seed)
    colours = rng.uniform(60, 220, (9, 16, 3)).astype(np.uint8)
    back = Image.fromarray(colours).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(back)
    for _ in range(40):
        x, y, r = (int(n) for n in rng.integers((0, 0, 10), (2 * WIDTH, 2 * HEIGHT, 120)))
        fill = tuple(int(level) for level in rng.integers(30, 230, 3))
        pen.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=(20, 20, 20), width=3)
    pictures = []
    for number in range(DRAWINGS):
        canvas = back.copy()
        across = 0.2 + 0.6 * number / DRAWINGS if kind == "walk" else 0.5
        _draw_face(ImageDraw.Draw(canvas), 2 * WIDTH * across, 1.2 * HEIGHT, 0.3 * HEIGHT, number)
        small = canvas.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
        pictures.append(np.asarray(small, np.uint8))
    return pictures


def _draw_face(pen: ImageDraw.ImageDraw, x: float, y: float, r: float, number: int) -> None:
    pen.ellipse([x - r, y - r, x + r, y + r], fill=(240, 200, 160), outline=(10, 10, 10), width=5)
    for side in (-0.4, 0.4):
        eye = [x + side * r - 6, y - 0.3 * r - 10, x + side * r + 6, y - 0.3 * r + 14]
        pen.ellipse(eye, fill=(255, 255, 255), outline=(0, 0, 0), width=3)
    mouth = (0.08 + 0.1 * abs(math.sin(1.1 * number))) * r
    lips = [x - 0.3 * r, y + 0.35 * r - mouth, x + 0.3 * r, y + 0.35 * r + mouth]
    pen.ellipse(lips, fill=(150, 30, 40), outline=(0, 0, 0), width=3)


def near_of(path: Path) -> set[int]:
    """The repeats that `near` finds in a file."""
    return set(build_index(probe(path), repeats="near").repeats)


def read_small(path: Path) -> list[Frame]:
    """The first frames of a clip, of the height that is tested."""
    frames: list[Frame] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            width = 2 * round(frame.width * HEIGHT / frame.height / 2)
            small = frame.reformat(width, HEIGHT, "rgb24", interpolation="AREA")
            frames.append(np.asarray(small.to_ndarray(), np.uint8))
            if len(frames) == MOST_FRAMES:
                break
    return frames


def files_of(
    folder: Path, frames: Sequence[Frame], codecs: Sequence[str]
) -> Iterator[tuple[str, Path]]:
    """The frames encoded by every codec at every rate factor, each with a name."""
    for codec in codecs:
        for crf in RATES:
            path = folder / f"clip{CODECS[codec]}"
            yield f"{codec} --crf {crf}", encode(path, frames, codec, settings(codec, crf))


def find(clips: Path, film: Path | None, folder: Path) -> None:
    """Print the share of repeats found in animation, and the number of false ones there and in live clips."""
    animated = {kind: drawn(kind, seed) for kind, seed in (("talk", 1), ("walk", 2))}
    if film is not None:
        animated["film"] = read_small(film)[::2]
    for kind, pictures in animated.items():
        for times in (2, 3):
            frames = shown(pictures, times)
            repeats = {number for number in range(len(frames)) if number % times}
            for name, path in files_of(folder, frames, tuple(CODECS)):
                found = near_of(path)
                share = len(found & repeats) / len(repeats)
                wrong = len(found - repeats)
                print(f"{kind:<5} on {times}s  {name:<20} {share:7.1%} found, {wrong} false")
    total = seen = 0
    for path in sorted(each for each in clips.iterdir() if each.is_file()):
        small = read_small(path)
        again = [near_of(made) for _, made in files_of(folder, small, ("libx264",))]
        info = probe(path)
        index = build_index(info, repeats="near")
        wrong = len(index.repeats) + sum(map(len, again))
        total, seen = total + wrong, seen + index.frames + len(again) * len(small)
        print(f"live  {path.name:<28} {wrong} false")
    print(f"live  {total} false of {seen} frames")


def held_clip(folder: Path) -> Path:
    """A clip in which two of three frames repeat, bit for bit, small enough that its index is not what takes time."""
    drawings = [drawing[::4, ::4] for drawing in drawn("walk", 2)[:HELD]]
    return encode(folder / "held.mkv", shown(drawings, 3), "ffv1", {})


def options_of(model: str, repeats: Repeats) -> UpscaleOptions:
    """Everything by default, but for these."""
    return UpscaleOptions(model=model, look=LookOptions(repeats=repeats), overwrite=True)


def measure_time(folder: Path) -> None:
    """Print the medians of whole jobs with nano."""
    clip, models = held_clip(folder), LastModel()
    spent: dict[Repeats, list[float]] = {"off": [], "exact": []}
    for turn in range(TURNS + 1):
        for repeats, seconds in spent.items():
            began = time.perf_counter()
            job = plan_video(clip, folder / "out.mkv", options_of("nano", repeats))
            run_job(job, models=models)
            # The first turn loads the model.
            if turn:
                seconds.append(time.perf_counter() - began)
    off, exact = (median(seconds) for seconds in spent.values())
    print(f"{job.plan.frames} frames of 160x90, {job.plan.pictures} pictures, nano, 4x:")
    print(f"off {off:.2f} s, exact {exact:.2f} s: {exact / off:.2f}; medians of {TURNS} turns")


def measure_cost(folder: Path) -> None:
    """Print the network calls of every model's plan, and the latent elements that they cover."""
    clip = held_clip(folder)
    device = DeviceInfo("cuda:0", "a GPU of 80 GiB", 80 << 30, 16)
    job = plan_video(clip, folder / "out.mkv", options_of("nano", "exact"))
    each = dataclasses.replace(job.index, repeats=())
    for spec in SPECS.values():
        try:
            plans = [
                make_plan(job.info, index, spec, device, options_of(spec.name, "exact"), even=True)
                for index in (each, job.index)
            ]
        except StarvsrError as error:
            print(f"{spec.name:<14} {error}")
            continue
        calls = [plan.network_calls for plan in plans]
        work = [
            plan.overlap_cost * plan.pictures * math.prod(plan.latent) * plan.network_calls
            / sum(len(plan.grid(segment.pictures)) for segment in plan.segments)
            for plan in plans
        ]  # fmt: skip
        print(
            f"{spec.name:<14} {calls[0]} calls, with exact {calls[1]}; of the elements they cover "
            f"{work[1] / work[0]:.2f}"
        )


def measure_quality(film: Path, folder: Path) -> None:
    """Print PSNR of `off` and `exact` of nano on a film on twos, and how much held pictures change in both."""
    truth = read_small(film)[::2]
    truth = [frame[: HEIGHT // 4 * 4, : frame.shape[1] // 8 * 8] for frame in truth]
    size = truth[0].shape[1] // 4, truth[0].shape[0] // 4
    small = [
        np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC), np.uint8)
        for frame in truth
    ]
    clip = encode(folder / "small.mkv", shown(small, 2), "ffv1", {})
    target = folder / "large.mkv"
    for repeats in ("off", "exact"):
        options = dataclasses.replace(
            options_of("nano", repeats),
            size=SizeOptions(scale=4),
            encode=EncodeOptions(codec="ffv1"),
        )
        run_job(plan_video(clip, target, options))
        info = probe(target)
        index = build_index(info)
        made = [
            frame.astype(np.float64) / 257 for frame in read_frames(info, index, 0, index.frames)
        ]
        errors = [
            float(((frame - wanted) ** 2).mean())
            for frame, wanted in zip(made, shown(truth, 2), strict=True)
        ]
        psnr = np.mean([10 * math.log10(255**2 / error) for error in errors])
        moved = np.mean([np.abs(b - a).mean() for a, b in zip(made[::2], made[1::2], strict=True)])
        print(f"{repeats:<6} PSNR {psnr:.2f} dB; held pictures change by {moved:.3f} levels")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("find", "time", "cost", "quality"))
    parser.add_argument("path", type=Path, nargs="?", help="FOLDER of find, FILM of quality")
    parser.add_argument("film", type=Path, nargs="?", help="FILM of find")
    given = parser.parse_args()
    if given.what in ("find", "quality") and given.path is None:
        parser.error(f"{given.what} needs a path")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if given.what == "find":
            find(given.path, given.film, folder)
        elif given.what == "quality":
            measure_quality(given.path, folder)
        elif given.what == "time":
            measure_time(folder)
        else:
            measure_cost(folder)


if __name__ == "__main__":
    main()
