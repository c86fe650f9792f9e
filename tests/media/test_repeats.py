"""Frames that show the picture before them again, in real files."""

from __future__ import annotations

import math
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from starvsr.media.fields import made_index, plan_fields
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import LookOptions
from starvsr.types import VideoIndex
from tests.media.clips import Clip, Picture, make, picture, showing

NUMBERS = (0, 0, 1, 2, 2, 2, 3, 4, 4, 5)
REPEATS = (1, 4, 5, 8)


def index_of(path: Path, repeats: str = "exact", *, scene_detect: bool = True) -> VideoIndex:
    return build_index(probe(path), repeats=repeats, scene_detect=scene_detect)


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("ffv1", "yuv420p"),
        ("ffv1", "yuv422p10le"),
        ("ffv1", "gbrp16le"),
        ("ffv1", "yuva444p"),
        ("ffv1", "gray"),
        ("libx264", "yuv420p"),
        ("libx264rgb", "rgb24"),
        ("rawvideo", "yuyv422"),
        ("gif", "rgb8"),
        ("qtrle", "argb"),
        ("prores_ks", "yuv422p10le"),
    ],
)
def test_equal_frames_repeat(tmp_path: Path, codec: str, pix_fmt: str) -> None:
    """Of odd sizes, whose rows are padded."""
    options = {"qp": "0"} if "264" in codec else {}
    clip = Clip(10, 50, 38, codec, pix_fmt, options=options, fill=showing(*NUMBERS))
    suffix = {"rawvideo": ".avi", "gif": ".gif", "qtrle": ".mov"}.get(codec, ".mkv")
    path = make(tmp_path / f"a{suffix}", clip)
    assert index_of(path).repeats == REPEATS
    assert index_of(path, "off").repeats == ()


def test_one_sample_is_a_difference(tmp_path: Path) -> None:
    """In any plane, and wherever it is."""
    places = {3: (0, 47, 63), 5: (1, 0, 0), 7: (2, 23, 31)}

    def fill(frame: av.VideoFrame, number: int) -> None:
        for place, plane in enumerate(frame.planes):
            rows = np.full((plane.height, plane.line_size), 100, np.uint8)
            where = places.get(number)
            if where and where[0] == place:
                rows[where[1], where[2]] += 1
            plane.update(rows.tobytes())

    path = make(tmp_path / "a.mkv", Clip(frames=10, codec="ffv1", fill=fill))
    assert index_of(path).repeats == (1, 2, 9)


def test_palettes_count(tmp_path: Path) -> None:
    """Numbered images with the same indices, and other colours behind them."""
    indices = np.tile(np.arange(32, dtype=np.uint8), (24, 1))
    for number, level in enumerate((90, 90, 91, 91, 92), 1):
        image = Image.fromarray(indices, "P")
        image.putpalette([n * level % 256 for n in range(96)])
        image.save(tmp_path / f"a{number}.png")
    assert index_of(tmp_path / "a%d.png").repeats == (1, 3)


def test_sizes_that_change_are_no_repeats(tmp_path: Path) -> None:
    for name, size in (("a1.png", (32, 24)), ("a2.png", (32, 24)), ("a3.png", (36, 24))):
        Image.new("RGB", size, (10, 20, 30)).save(tmp_path / name)
    for how in ("exact", "near"):
        assert index_of(tmp_path / "a%d.png", how).repeats == (1,)


def test_the_reader_leaves_repeats_out(tmp_path: Path) -> None:
    clip = Clip(frames=10, codec="ffv1", fill=showing(*NUMBERS))
    path = make(tmp_path / "a.mkv", clip)
    info, index = probe(path), index_of(path)
    every = list(read_frames(info, index, 0, 10))
    once = list(read_frames(info, index, 0, 10, repeats=False))
    assert len(every) == 10
    assert [frame.tobytes() for frame in once] == [every[n].tobytes() for n in (0, 2, 3, 6, 7, 9)]
    # The first one is there whatever it repeats.
    later = list(read_frames(info, index, 5, 9, repeats=False))
    assert [frame.tobytes() for frame in later] == [every[n].tobytes() for n in (5, 6, 7)]


def test_frames_made_of_the_same_fields_repeat(tmp_path: Path) -> None:
    """Interpolated ones depend on their neighbours, so none of these does."""
    clip = Clip(frames=10, codec="ffv1", fill=showing(*NUMBERS))
    path = make(tmp_path / "a.mkv", clip)
    info, index = probe(path), index_of(path)
    kept = plan_fields(info, index, LookOptions(deinterlace="off"))
    assert made_index(info, index, kept)[1].repeats == REPEATS
    lines = plan_fields(info, index, LookOptions(deinterlace="on"))
    assert made_index(info, index, lines)[1].repeats == ()


def drawing(number: int, width: int = 320, height: int = 180) -> Picture:
    """A ball with a thick outline before a painted background."""
    rng = np.random.default_rng(5)
    small = Image.fromarray(rng.integers(60, 220, (6, 9, 3), dtype=np.uint8))
    canvas = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).copy()
    rows, columns = np.mgrid[0:height, 0:width]
    x = width * (0.2 + 0.02 * number)
    apart = np.hypot(columns - x, rows - height * (0.6 + 0.1 * math.sin(number)))
    canvas[apart < 34] = (10, 10, 10)
    canvas[apart < 30] = (240, 200, 160)
    return np.asarray(canvas, np.uint8)


def encoded(path: Path, frames: list[Picture], crf: int) -> Path:
    def fill(frame: av.VideoFrame, number: int) -> None:
        made = av.VideoFrame.from_ndarray(frames[number], "rgb24").reformat(format="yuv420p")
        for plane, source in zip(frame.planes, made.planes, strict=True):
            plane.update(bytes(source))

    height, width = frames[0].shape[:2]
    options = {"crf": str(crf)}
    return make(path, Clip(len(frames), width, height, options=options, fill=fill))


@pytest.mark.parametrize("crf", [18, 28])
@pytest.mark.parametrize("times", [2, 3])
def test_what_compression_makes_of_a_drawing_repeats(tmp_path: Path, crf: int, times: int) -> None:
    frames = [drawing(number) for number in range(20) for _ in range(times)]
    path = encoded(tmp_path / "a.mp4", frames, crf)
    repeats = {number for number in range(len(frames)) if number % times}
    found = set(index_of(path, "near").repeats)
    assert found <= repeats
    assert len(found) >= 0.9 * len(repeats)
    assert len(index_of(path).repeats) < 0.5 * len(repeats)


@pytest.mark.parametrize("crf", [18, 28, 38])
def test_what_moves_does_not_repeat(tmp_path: Path, crf: int) -> None:
    """A swing, which rests for a moment at both ends."""
    frames = [drawing(0)]
    for number in range(60):
        frames.append(drawing(round(8 + 8 * math.sin(number / 6), 2)))  # type: ignore[arg-type]
    path = encoded(tmp_path / "a.mp4", frames, crf)
    assert index_of(path, "near").repeats == ()


def test_no_repeat_begins_a_shot(tmp_path: Path) -> None:
    """Whatever is found there."""
    frames = [drawing(number // 2) for number in range(24)]
    frames += [255 - drawing(number // 2) for number in range(24)]
    path = encoded(tmp_path / "a.mp4", frames, 23)
    index = index_of(path, "near")
    assert index.cuts == (24,)
    assert set(index.repeats) <= {number for number in range(48) if number % 2}
    assert len(index.repeats) >= 22


def test_pictures_that_fade_slowly_are_not_held(tmp_path: Path) -> None:
    """Every step is as small as noise; together they are not."""
    still = picture(3, 320, 180).astype(float)
    frames = [(still * (1 - 0.012 * number)).astype(np.uint8) for number in range(48)]
    frames = [drawing(n // 2) for n in range(24)] + frames + [drawing(n // 2) for n in range(24)]
    path = encoded(tmp_path / "a.mp4", frames, 18)
    found = set(index_of(path, "near", scene_detect=False).repeats)
    assert not found & set(range(24, 72))
