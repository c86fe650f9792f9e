"""Precision and recall of the shot detection, compared with PySceneDetect's if that is installed.

    python benchmarks/shots.py FOLDER      (FOLDER: video clips, each of them one shot)

Films with known cuts are made from the clips: runs of frames from changing clips joined hard, and films without any
cut that are hard to tell from ones with: the clips as they are, and frames of them with flashes, fast pans, fades.
Every film is encoded with H.264 at 320x180, so detectors see compression as in real files. A cut counts as found at
exactly its frame. Needs only PyAV and numpy; `pip install "scenedetect[opencv-headless]"` adds the other rows.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from starvsr.media import shots

Frame = npt.NDArray[np.uint8]
Film = tuple[list[Frame], list[int]]
Detector = Callable[[Path], Sequence[int]]

WIDTH, HEIGHT = 320, 180
SEEDS = (7, 11, 12)


def read_clip(path: Path) -> list[Frame]:
    """All frames of a clip (at most 300) as rgb24, 320x180."""
    frames: list[Frame] = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            small = frame.reformat(WIDTH, HEIGHT, "rgb24", interpolation="AREA")
            frames.append(np.asarray(small.to_ndarray(), np.uint8))
            if len(frames) == 300:
                break
    return frames


def joined(clips: Sequence[list[Frame]], rng: np.random.Generator, runs: int) -> Film:
    """Runs of 8 to 60 frames, never two of the same clip in a row."""
    frames: list[Frame] = []
    cuts: list[int] = []
    last = -1
    for _ in range(runs):
        which = int(rng.choice([i for i in range(len(clips)) if i != last]))
        last, clip = which, clips[which]
        length = min(len(clip), int(rng.integers(8, 61)))
        start = int(rng.integers(0, len(clip) - length + 1))
        if frames:
            cuts.append(len(frames))
        frames += clip[start : start + length]
    return frames, cuts


def flashed(clip: list[Frame], rng: np.random.Generator) -> list[Frame]:
    """Every 20 frames one to three much brighter ones."""
    frames = list(clip)
    for start in range(10, len(frames) - 3, 20):
        gain = int(rng.integers(50, 160))
        for i in range(start, start + int(rng.integers(1, 4))):
            frames[i] = np.minimum(frames[i].astype(np.int16) + gain, 255).astype(np.uint8)
    return frames


def panned(clip: list[Frame], rng: np.random.Generator) -> list[Frame]:
    """A half-frame window that pans fast from side to side (and rests in between), enlarged again."""
    frames: list[Frame] = []
    half = WIDTH // 2
    speed = int(rng.integers(6, 20))
    for i, frame in enumerate(clip):
        rushing = max(0, i % 40 - 20) * speed
        x = abs((rushing + half) % (2 * half) - half)
        window = av.VideoFrame.from_ndarray(
            np.ascontiguousarray(frame[HEIGHT // 4 : -HEIGHT // 4, x : x + half]), "rgb24"
        )
        frames.append(np.asarray(window.reformat(WIDTH, HEIGHT).to_ndarray(), np.uint8))
        if rushing and i % 40 == 39:
            # Back to the start would be a jump: end here.
            break
    return frames


def faded(clip: list[Frame], rng: np.random.Generator) -> list[Frame]:
    """From black and to black, each over 6 to 24 frames."""
    length = int(rng.integers(6, min(25, max(7, len(clip) // 2))))
    count = len(clip)
    gains = [min(1.0, i / length, (count - 1 - i) / length) for i in range(count)]
    return [(frame * gain).astype(np.uint8) for frame, gain in zip(clip, gains, strict=True)]


def encode(frames: Sequence[Frame], path: Path) -> None:
    """Write frames as H.264, 25 a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=WIDTH, height=HEIGHT)
        stream.options = {"preset": "veryfast", "crf": "26"}
        for number, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def ours(path: Path) -> Sequence[int]:
    """The cuts by starvsr."""
    detector = shots.ShotDetector()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            detector.add(frame)
    return detector.cuts()


def pyscenedetect(name: str, **options: Any) -> Detector:
    """The cuts by one of PySceneDetect's detectors."""
    scenedetect = importlib.import_module("scenedetect")

    def detect(path: Path) -> Sequence[int]:
        scenes = scenedetect.detect(str(path), getattr(scenedetect, name)(**options))
        return [start.frame_num for start, _ in scenes[1:]]

    return detect


def detectors() -> dict[str, Detector]:
    """Ours, and PySceneDetect's if it is installed, allowed the same shortest shot."""
    found: dict[str, Detector] = {"starvsr": ours}
    if importlib.util.find_spec("scenedetect") is not None:
        for name in ("ContentDetector", "AdaptiveDetector"):
            found[name] = pyscenedetect(name, min_scene_len=6)
    return found


def films(clips: Sequence[list[Frame]], seed: int) -> Iterator[tuple[str, list[Film]]]:
    """The kinds of film, by name."""
    rng = np.random.default_rng(seed)
    long = [clip for clip in clips if len(clip) >= 40]
    yield "joined", [joined(clips, rng, 60) for _ in range(4)]
    if seed == SEEDS[0]:
        yield "uncut", [(clip, []) for clip in clips]
    yield "flashes", [(flashed(clip, rng), []) for clip in long]
    yield "pans", [(panned(clip, rng), []) for clip in long]
    yield "fades", [(faded(clip, rng), []) for clip in long]


def count(detect: Detector, paths: Sequence[Path], made: Sequence[Film]) -> Counter[str]:
    """Frames, cuts, cuts found and false cuts of a detector over some films."""
    counts: Counter[str] = Counter()
    for path, (frames, cuts) in zip(paths, made, strict=True):
        found = set(detect(path))
        counts.update(
            frames=len(frames),
            cuts=len(cuts),
            found=len(found & set(cuts)),
            false=len(found - set(cuts)),
        )
    return counts


def main() -> None:
    """Print one line for each detector and kind of film, and one for all films."""
    parser = argparse.ArgumentParser(description="Precision and recall of the shot detection.")
    parser.add_argument("folder", type=Path, help="folder of clips, one shot each")
    folder = parser.parse_args().folder
    clips = [read_clip(path) for path in sorted(folder.iterdir()) if path.is_file()]
    totals: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for kind, made in (each for seed in SEEDS for each in films(clips, seed)):
        with tempfile.TemporaryDirectory() as temporary:
            paths = [Path(temporary) / f"{i}.mp4" for i in range(len(made))]
            for path, (frames, _) in zip(paths, made, strict=True):
                encode(frames, path)
            for name, detect in detectors().items():
                counts = count(detect, paths, made)
                totals[name, kind] += counts
                totals[name, "all"] += counts
    print(f"{'detector':17} films    frames   cuts  found  false  recall  precision")
    for (name, kind), counts in sorted(totals.items()):
        print(line(name, kind, counts))


def line(name: str, kind: str, counts: Counter[str]) -> str:
    """One row of the table."""
    cuts, right, wrong = counts["cuts"], counts["found"], counts["false"]
    recall = f"{right / cuts:7.3f}" if cuts else "      –"
    precision = f"{right / (right + wrong):9.3f}" if right else "        –"
    return (
        f"{name:17} {kind:8} {counts['frames']:6} {cuts:6} {right:6} {wrong:6} {recall} {precision}"
    )


if __name__ == "__main__":
    main()
