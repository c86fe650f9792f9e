"""The contact sheet: the input, plainly upsampled, beside every setting that was tried."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from starvsr.media.files import complete_or_absent, written_errors
from starvsr.metrics.footage import detail
from starvsr.metrics.frame import Frame
from starvsr.restore.levels import Frame as Pixels
from starvsr.restore.levels import frames_to_tensor, tensor_to_frames
from starvsr.restore.upsample import resized

CROPS = 3
_TILE_PX, _CROP_ROWS, _GAP_PX, _LABEL_PX = 320, 240, 4, 26
# Places for crops to the side of one.
_STEPS = 4
_TEXT_PX = 15
_BACKGROUND, _INK, _MARK = (24, 24, 24), (255, 255, 255), (255, 208, 0)


def write_sheet(target: Path, before: Pixels, tried: Sequence[tuple[str, Pixels]]) -> None:
    """Write a PNG: a row of whole frames, then rows of crops with detail at the output's own pixels.

    before: a frame of the input, (rows, columns, 3), uint16. tried: labels, and the same frame restored, of any size.
    Raises OutputError if it cannot be written.
    """
    rows, columns, _ = tried[0][1].shape
    plain = enlarged(before, (rows, columns))
    boxes = busiest(before, min(1.0, _CROP_ROWS / rows), min(1.0, _TILE_PX / columns), CROPS)
    shown = [("input, plainly upsampled", plain), *tried]
    tiles = [[_whole(picture), *(_crop(picture, box) for box in boxes)] for _, picture in shown]
    _mark(tiles[0][0], boxes)
    heights = [max(tile.height for tile in row) + _GAP_PX for row in zip(*tiles, strict=True)]
    font = ImageFont.load_default(_TEXT_PX)
    texts_px = [math.ceil(font.getlength(label)) + _GAP_PX for label, _ in shown]
    width = max(*texts_px, *(tile.width for column in tiles for tile in column)) + _GAP_PX
    sheet = Image.new("RGB", (width * len(tiles), _LABEL_PX + sum(heights)), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for number, ((label, _), column) in enumerate(zip(shown, tiles, strict=True)):
        pen.text((number * width + _GAP_PX, _GAP_PX), label, _INK, font)
        for row, tile in enumerate(column):
            sheet.paste(tile, (number * width, _LABEL_PX + sum(heights[:row])))
    with complete_or_absent(target) as file, written_errors(target):
        sheet.save(file, "png")


Box = tuple[float, float, float, float]
"""Top, left, bottom and right as fractions of a picture."""


def busiest(picture: Pixels, height: float, width: float, count: int) -> list[Box]:
    """The parts of a picture with the most detail, of a size given by fractions; they do not overlap.

    picture: (rows, columns, 3), uint16. Fewer than `count` if no more fit.
    """
    luma = Frame(picture).luma
    found: list[tuple[float, Box]] = []
    for top in np.linspace(0, 1 - height, 1 + math.ceil(_STEPS * (1 / height - 1))).tolist():
        for left in np.linspace(0, 1 - width, 1 + math.ceil(_STEPS * (1 / width - 1))).tolist():
            box = top, left, top + height, left + width
            y, x, below, right = _pixels(box, luma.shape)
            part = luma[y:below, x:right]
            found.append((detail(part) if min(part.shape) > 1 else 0.0, box))
    chosen: list[Box] = []
    for _, box in sorted(found, reverse=True):
        if len(chosen) < count and all(_are_apart(box, other) for other in chosen):
            chosen.append(box)
    return chosen


def _are_apart(one: Box, other: Box) -> bool:
    return any(one[i] >= other[i + 2] - 1e-9 or other[i] >= one[i + 2] - 1e-9 for i in (0, 1))


def enlarged(picture: Pixels, size: tuple[int, int]) -> Pixels:
    """A frame (rows, columns, 3), uint16, plainly resized to a size (rows, columns), bicubic."""
    (large,) = tensor_to_frames(resized(frames_to_tensor([picture]), size))
    return large


def _pixels(box: Box, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    rows, columns = shape[:2]
    return (
        round(box[0] * rows),
        round(box[1] * columns),
        round(box[2] * rows),
        round(box[3] * columns),
    )


def _image(picture: Pixels) -> Image.Image:
    return Image.fromarray((picture / 257 + 0.5).astype(np.uint8))


def _whole(picture: Pixels) -> Image.Image:
    image = _image(picture)
    image.thumbnail((_TILE_PX, _TILE_PX), Image.Resampling.LANCZOS)
    return image


def _crop(picture: Pixels, box: Box) -> Image.Image:
    top, left, bottom, right = _pixels(box, picture.shape)
    return _image(picture[top:bottom, left:right])


def _mark(image: Image.Image, boxes: Sequence[Box]) -> None:
    pen = ImageDraw.Draw(image)
    for box in boxes:
        top, left, bottom, right = _pixels(box, (image.height, image.width))
        pen.rectangle((left, top, right - 1, bottom - 1), outline=_MARK)
