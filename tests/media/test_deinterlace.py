"""Interlaced frames become whole pictures, the same from wherever a segment begins."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from starvsr.errors import InputError
from starvsr.media.encoder import check_encoder
from starvsr.media.fields import made_index, plan_fields
from starvsr.media.index import build_index
from starvsr.media.notes import picture_notes
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import Deinterlace, EncodeOptions, LookOptions, UpscaleOptions
from starvsr.types import VideoIndex, VideoInfo
from tests.media.clips import Clip, make

Pixels = npt.NDArray[np.uint16]
FRAMES = 14
X264 = {"x264-params": "bff=1:keyint=5:bframes=2", "crf": "4"}
_MPEG2 = {"flags": "+ildct+ilme+qscale", "g": "5", "bf": "2", "global_quality": "236"}


def moving_bar(frame: av.VideoFrame, number: int) -> None:
    """A white bar on black whose fields, bottom first, are 4 pixels apart."""
    for plane in frame.planes:
        rows = np.full((plane.height, plane.line_size), 128, np.uint8)
        if plane.width == frame.width:
            rows[:] = 16
            for field in (0, 1):
                left = 4 + 8 * (number % 4) + 4 * (1 - field)
                rows[field::2, left : left + 12] = 235
        plane.update(rows.tobytes())


def interlaced(path: Path, codec: str, options: dict[str, str], **changes: object) -> Path:
    changes |= {"frames": FRAMES, "codec": codec, "options": options, "fill": moving_bar}
    return make(path, Clip(time_base=Fraction(1, 25), **changes))  # type: ignore[arg-type]


def made(path: Path, mode: Deinterlace) -> tuple[VideoInfo, VideoIndex]:
    info = probe(path)
    index = build_index(info, scene_detect=False)
    return made_index(info, index, plan_fields(info, index, LookOptions(deinterlace=mode)))


def read(path: Path, first: int, last: int, mode: Deinterlace) -> list[Pixels]:
    return list(read_frames(*made(path, mode), first, last))


def combs(pixels: Pixels) -> float:
    """How far a row is from the mean of the two beside it, 0..1."""
    green = pixels[..., 1].astype(np.float64) / 65535
    return float(np.abs(green[1:-1] - (green[:-2] + green[2:]) / 2).mean())


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [("a.mkv", "libx264", X264), ("a.ts", "mpeg2video", _MPEG2)],
)
def test_the_same_from_every_start(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = interlaced(tmp_path / name, codec, options)
    info = probe(path)
    index = build_index(info, scene_detect=False)
    assert info.interlaced and index.interlaced == tuple(range(FRAMES))
    whole = read(path, 0, FRAMES, "auto")
    assert len(whole) == FRAMES
    assert all(combs(frame) < 0.02 for frame in whole)
    assert all(combs(frame) > 0.1 for frame in read(path, 0, FRAMES, "off"))
    found = made(path, "auto")
    for first in range(FRAMES):
        for last in range(first + 1, min(FRAMES, first + 4) + 1):
            part = read_frames(*found, first, last)
            assert all(map(np.array_equal, part, whole[first:last])), (first, last)


def test_frames_keep_their_places(tmp_path: Path) -> None:
    """The bar of a frame is where its first field has it, and not one frame later."""
    for number, frame in enumerate(
        read(interlaced(tmp_path / "a.mkv", "libx264", X264), 0, 14, "auto")
    ):
        bright = np.flatnonzero(frame[21, :, 1] > 32768)
        assert abs(int(bright[0]) - (4 + 8 * (number % 4))) <= 1


def test_whole_frames_pass_as_they_are(tmp_path: Path) -> None:
    """A file of both kinds: what is not marked is not touched, what is does not see how far away reading began."""
    whole = interlaced(tmp_path / "whole.ts", "mpeg2video", {"g": "5"}).read_bytes()
    fields = interlaced(tmp_path / "fields.ts", "mpeg2video", _MPEG2).read_bytes()
    both = tmp_path / "both.ts"
    both.write_bytes(fields + whole + fields)
    index = build_index(probe(both), scene_detect=False)
    # The decoder drops a frame at every join.
    assert len(index.interlaced) >= 2 * FRAMES - 2
    modes: tuple[Deinterlace, ...] = ("off", "auto", "on")
    asis, auto, forced = (read(both, 0, index.frames, mode) for mode in modes)
    assert not any(map(np.array_equal, asis, forced))
    untouched = list(map(np.array_equal, auto, asis))
    assert sum(untouched) == index.frames - len(index.interlaced) >= FRAMES - 2
    assert list(map(np.array_equal, auto, forced)) == [not same for same in untouched]
    behind = 1 + len(untouched) - untouched[::-1].index(True)
    for first in range(behind - 4, behind + 1):
        assert all(map(np.array_equal, read(both, first, behind + 2, "auto"), auto[first:]))


def test_turned_pictures(tmp_path: Path) -> None:
    path = interlaced(tmp_path / "a.mp4", "libx264", X264, rotation=(90, False, False))
    frame = read(path, 3, 4, "auto")[0]
    assert frame.shape == (64, 48, 3)
    assert combs(np.rot90(frame)) < 0.02


def test_a_picture_too_small_for_the_filter(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", Clip(frames=2, width=16, height=4))
    with pytest.raises(InputError, match="16x4 is too small to be deinterlaced"):
        made(path, "on")
    assert len(read(path, 0, 2, "auto")) == 2


def test_what_is_said(tmp_path: Path) -> None:
    marked = interlaced(tmp_path / "a.mkv", "libx264", X264)
    # FFV1 marks no frame; its container's header says it.
    unmarked = make(tmp_path / "b.mkv", Clip(codec="ffv1", fill=moving_bar, field_order=3))
    plain = make(tmp_path / "c.mkv")

    def said(path: Path, mode: Deinterlace) -> list[str]:
        info = probe(path)
        settings = check_encoder(EncodeOptions(), path, info, 64, 48)
        return list(
            picture_notes(
                info,
                build_index(info),
                settings,
                UpscaleOptions(look=LookOptions(deinterlace=mode)),
            )
        )

    assert said(marked, "auto") == [
        "14 of 14 frames are interlaced and are deinterlaced (--deinterlace off leaves them)"
    ]
    assert said(marked, "off") == ["14 of 14 frames are interlaced and stay so"]
    assert said(plain, "on") == ["every frame is deinterlaced"]
    assert said(plain, "auto") == []
    (note,) = said(unmarked, "auto")
    assert note.startswith("the header says interlaced, but no frame does")
    assert note.endswith("give --deinterlace on")
