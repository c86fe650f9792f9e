"""A clip of VapourSynth, restored as its frames are asked for (VapourSynth 73 or newer, Python 3.12 or newer).

    from vapoursynth_filter import upscaled
    upscaled(clip, scale=2).set_output()

or, with one of the source plugins BestSource, L-SMASH-Works and FFMS2,

python examples/vapoursynth_filter.py INPUT OUTPUT.y4m [MODEL]
"""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import starvsr

# VapourSynth asks for frames from several threads, and not quite in order.
KEPT_FRAMES = 64


class Frames:
    """The restored frames of a clip by their number; a jump begins another stream there."""

    def __init__(self, clip: Any, restorer: starvsr.Restorer, scale: float) -> None:
        self.clip, self.restorer, self.scale = clip, restorer, scale
        self.lock = threading.Lock()
        self.kept: dict[int, np.ndarray] = {}
        # So far away that the first frame is a jump.
        self.next = -KEPT_FRAMES

    def __getitem__(self, number: int) -> np.ndarray:
        with self.lock:
            if number not in self.kept and not 0 <= number - self.next < KEPT_FRAMES:
                self.next, self.kept = number, {}
                self.restored = self.restorer.stream(self.frames(number), scale=self.scale)
            while number not in self.kept:
                self.kept[self.next] = next(self.restored)
                self.next += 1
                self.kept.pop(self.next - 1 - KEPT_FRAMES, None)
            return self.kept[number]

    def frames(self, first: int) -> Iterator[np.ndarray]:
        for number in range(first, self.clip.num_frames):
            with self.clip.get_frame(number) as frame:
                # Float32, planes of `h w`.
                yield np.stack([np.asarray(plane) for plane in frame], axis=-1)


def upscaled(clip: Any, *, scale: float = 2, model: str = "nano") -> Any:
    """The clip, `scale` times as large. Raises vapoursynth.Error unless it is RGBS of one size."""
    import vapoursynth as vs

    if clip.format is None or clip.format.id != vs.RGBS or not clip.width:
        raise vs.Error(
            "upscaled: only clips of RGBS and one size; use resize.Bicubic(format=vs.RGBS)"
        )
    frames = Frames(clip, starvsr.Restorer.from_name(model), scale)
    width, height = (int(scale * side + 0.5) for side in (clip.width, clip.height))
    blank = clip.std.BlankClip(width=width, height=height, keep=True)

    def fill(n: int, f: list[Any]) -> Any:
        target = f[0].copy()
        # Properties, such as the frame's duration, are the source's.
        target.props.update(f[1].props)
        for plane in range(3):
            np.asarray(target[plane])[:] = frames[n][..., plane]
        return target

    return blank.std.ModifyFrame([blank, clip], fill)


def main(source: str, target: str, model: str = "nano") -> None:
    import vapoursynth as vs

    core = vs.core
    plugins = {"bs": "VideoSource", "lsmas": "LWLibavSource", "ffms2": "Source"}
    name = next((name for name in plugins if hasattr(core, name)), None)
    if name is None:
        sys.exit("error: VapourSynth has no source plugin: install BestSource")
    clip = getattr(getattr(core, name), plugins[name])(source)
    restored = upscaled(clip.resize.Bicubic(format=vs.RGBS, matrix_in_s="709"), model=model)
    result = restored.resize.Bicubic(format=vs.YUV420P10, matrix_s="709")
    with Path(target).open("wb") as file:
        result.output(file, y4m=True)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python examples/vapoursynth_filter.py INPUT OUTPUT [MODEL]")
    main(*sys.argv[1:])
