"""Film is found in telecined video, whatever its pattern, and in nothing else; what is read of it is the film."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from av.error import BlockingIOError, EOFError

from starvsr.media.encoder import check_encoder
from starvsr.media.fields import MadeIndex, made_index, plan_fields
from starvsr.media.graph import linked
from starvsr.media.index import build_index
from starvsr.media.notes import picture_notes
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.telecine import FieldMeter, Film, soft_film
from starvsr.media.timing import timeline
from starvsr.options import Deinterlace, Detelecine, EncodeOptions, LookOptions, UpscaleOptions
from starvsr.types import VideoIndex, VideoInfo
from tests.media.clips import Clip, make

Luma = npt.NDArray[np.uint8]
WIDTH, HEIGHT = 64, 48
_TEXTURE = np.kron(np.random.default_rng(0).integers(16, 200, (24, 32)), np.ones((4, 4))).astype(
    int
)
# The film frame of the top and of the bottom field of each frame of five.
TFF = (0, 1, 1, 2, 3), (0, 1, 2, 3, 3)
BFF = TFF[::-1]
ADVANCED = (0, 1, 1, 2, 3), (0, 1, 2, 2, 3)
WHOLE = (0, 1, 1, 2, 3), (0, 1, 1, 2, 3)


def picture(time: float, *, grain: int = 0, seed: int = 0) -> Luma:
    """What a camera sees at a time, in film frames: a texture that moves at a changing speed, and grain."""
    shift = 3 * time + 4 * np.sin(time / 3)
    columns = (np.arange(WIDTH) + round(shift * 2)) % _TEXTURE.shape[1]
    rows = (np.arange(HEIGHT) + round(shift)) % _TEXTURE.shape[0]
    noise = np.random.default_rng(seed).integers(-grain, grain + 1, (HEIGHT, WIDTH))
    return (_TEXTURE[np.ix_(rows, columns)] + noise).clip(0, 255).astype(np.uint8)


def woven(top: Luma, bottom: Luma) -> Luma:
    frame = top.copy()
    frame[1::2] = bottom[1::2]
    return frame


def telecined(
    film: Sequence[Luma], pattern: tuple[tuple[int, ...], tuple[int, ...]] = TFF
) -> list[Luma]:
    return [
        woven(film[first + top], film[first + bottom])
        for first in range(0, len(film) // 4 * 4, 4)
        for top, bottom in zip(*pattern, strict=True)
    ]


def a_film(frames: int, *, grain: int = 0, first: float = 0) -> list[Luma]:
    return [picture(first + n, grain=grain, seed=n) for n in range(frames)]


def interlaced(frames: int) -> list[Luma]:
    """Bottom field first."""
    return [woven(picture(n + 0.5), picture(n)) for n in range(frames)]


def found(
    frames: Sequence[Luma], asked: str = "auto", rate: Fraction = Fraction(30000, 1001)
) -> list[tuple[int, ...]]:
    meter = FieldMeter()
    for frame in frames:
        meter.add_luma(frame)
    return [
        (f.first - f.lead, f.last + f.rest, f.top_repeat, f.bottom_repeat)
        for f in meter.film(range(len(frames)), 1 / rate, asked)
    ]


@pytest.mark.parametrize("grain", [0, 6])
@pytest.mark.parametrize(("pattern", "repeats"), [(TFF, (2, 4)), (BFF, (4, 2)), (ADVANCED, (2, 3))])
def test_film_is_found(
    pattern: tuple[tuple[int, ...], tuple[int, ...]], repeats: tuple[int, int], grain: int
) -> None:
    frames = telecined(a_film(40, grain=grain), pattern)
    assert found(frames) == [(0, 50, *repeats)]
    # From any frame of the pattern on.
    for start in range(1, 5):
        (run,) = found(frames[start:])
        assert run[:2] == (0, 50 - start)
        assert run[2:] == tuple((each - start) % 5 for each in repeats)


@pytest.mark.parametrize(
    "frames",
    [
        a_film(60),
        a_film(60, grain=6),
        interlaced(60),
        [picture(n // 5) for n in range(60)],
        [picture(n // 2) for n in range(60)],
        [picture(n // 3) for n in range(60)],
        [woven(picture((2 * n) // 3), picture((2 * n + 1) // 3)) for n in range(60)],
        [picture(0)] * 60,
        [picture(0, grain=6, seed=n) for n in range(60)],
        telecined(a_film(12)),
        a_film(3),
    ],
    ids=[
        "progressive",
        "grain",
        "interlaced",
        "six",
        "fifteen",
        "ten",
        "3:3",
        "still",
        "noise",
        "short",
        "few",
    ],
)
def test_other_video_is_left_alone(frames: list[Luma]) -> None:
    assert found(frames) == []


def test_repeats_of_whole_frames_only_if_asked() -> None:
    frames = telecined(a_film(40), WHOLE)
    assert found(frames) == []
    assert found(frames, "on") == [(0, 50, 2, 2)]
    assert found(telecined(a_film(12)), "on") == [(0, 15, 2, 4)]


@pytest.mark.parametrize("rate", [24, 25, 50, Fraction(60000, 1001)])
@pytest.mark.parametrize("asked", ["auto", "on"])
@pytest.mark.parametrize("pattern", [TFF, WHOLE])
def test_other_rates_have_no_film(
    rate: Fraction, asked: str, pattern: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    assert found(telecined(a_film(40), pattern), asked, Fraction(rate)) == []


def test_film_at_another_rate_is_left_and_said(tmp_path: Path) -> None:
    pts = [n * 1200 for n in range(50)]
    path = clip(tmp_path / "a.mp4", telecined(a_film(40), WHOLE), rate=25, pts=pts)
    info = probe(path)
    index = build_index(info, detelecine="on")
    assert made(path, "on")[1] == index and index.frames == 50
    settings = check_encoder(EncodeOptions(), path, info, WIDTH, HEIGHT)
    options = UpscaleOptions(look=LookOptions(detelecine="on"))
    (note,) = picture_notes(info, index, settings, options)
    assert note.startswith("no pull-down is found, which only video of 29.97 or 30 frames a second")


def test_a_break_in_the_pattern_and_a_still_part() -> None:
    film = telecined(a_film(24))
    assert found([*film, *film[3:]]) == [(0, 30, 2, 4), (30, 57, 4, 1)]
    assert found([*film, *interlaced(23), *film]) == [(0, 30, 2, 4), (53, 83, 0, 2)]
    still = [film[-1]] * 20
    assert found([*film, *still, *film]) == [(0, 80, 2, 4)]


def clip(path: Path, frames: Sequence[Luma], **changes: object) -> Path:
    def fill(frame: av.VideoFrame, number: int) -> None:
        for plane, data in zip(frame.planes, (frames[number], None, None), strict=True):
            rows = np.full((plane.height, plane.line_size), 128, np.uint8)
            if data is not None:
                rows[:, :WIDTH] = data
            plane.update(rows.tobytes())

    given: dict[str, object] = {
        "frames": len(frames),
        "codec": "libx264",
        "options": {"qp": "0", "preset": "ultrafast", "x264-params": "keyint=9"},
        "time_base": Fraction(1, 30000),
        "pts": [n * 1001 for n in range(len(frames))],
        "fill": fill,
        **changes,
    }
    return make(path, Clip(**given))  # type: ignore[arg-type]


def made(
    path: Path, detelecine: Detelecine = "auto", deinterlace: Deinterlace = "auto"
) -> tuple[VideoInfo, VideoIndex]:
    look = LookOptions(detelecine=detelecine, deinterlace=deinterlace)
    info = probe(path)
    index = build_index(info, detelecine=detelecine)
    return made_index(info, index, plan_fields(info, index, look))


def luma(path: Path, detelecine: Detelecine = "auto", at: int = 0, last: int = -1) -> list[Luma]:
    """Green is a line in luma where there are no colours."""
    info, index = made(path, detelecine)
    frames = read_frames(info, index, at, index.frames if last < 0 else last)
    return [np.round((frame[..., 1] / 257) * 219 / 255 + 16).astype(np.uint8) for frame in frames]


def test_the_film_is_read_from_every_start(tmp_path: Path) -> None:
    film = [frame.clip(16, 235) for frame in a_film(40)]
    path = clip(tmp_path / "a.mp4", telecined(film))
    whole = luma(path)
    assert len(whole) == 40 and all(map(np.array_equal, whole, film))
    for at in range(0, 40, 3):
        assert all(map(np.array_equal, luma(path, at=at, last=min(40, at + 2)), film[at:]))
    info, index = made(path)
    assert info.frame_rate == Fraction(24000, 1001) and info.header_frames == 40
    assert [pts * info.time_base for pts in index.pts] == [
        n * Fraction(1001, 24000) for n in range(40)
    ]
    assert {ticks * info.time_base for ticks in index.durations[:-1]} == {Fraction(1001, 24000)}
    assert len(luma(path, "off")) == 50


def test_as_libavfilter_has_it(tmp_path: Path) -> None:
    path = clip(tmp_path / "a.mp4", telecined([f.clip(16, 235) for f in a_film(40)]))

    def filtered() -> Iterator[Luma]:
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        chain = [("fieldmatch", "order=tff:field=top:mode=pcn"), ("fps", "25"), ("decimate", "")]
        graph = linked(frames[0], chain, frames[0].format.name)
        for number, frame in enumerate([*frames, None]):
            if frame is not None:
                frame.pts, frame.duration = number, 1
            graph.vpush(frame)
            with suppress(BlockingIOError, EOFError):
                while True:
                    yield graph.vpull().to_ndarray()[:HEIGHT].astype(np.uint8)

    theirs = list(filtered())
    assert len(theirs) == 40 and all(map(np.array_equal, luma(path), theirs))


def test_mixed_material_keeps_its_times(tmp_path: Path) -> None:
    film = telecined(a_film(40))
    frames = [*film, *interlaced(28), *film[2:]]
    path = clip(tmp_path / "a.mp4", frames)
    info, index = made(path)
    assert isinstance(index, MadeIndex)
    step = Fraction(1001, 30000)
    starts = [pts * info.time_base for pts in index.pts]
    assert all(
        abs(start - each.top * step) <= step
        for start, each in zip(starts, index.sources, strict=True)
    )
    assert [each.top for each in index.sources[40:68]] == list(range(50, 78))
    decoded = build_index(probe(path), detelecine="auto")
    end = (decoded.pts[-1] + decoded.durations[-1]) * probe(path).time_base
    assert (index.pts[-1] + index.durations[-1]) * info.time_base == end
    settings = check_encoder(EncodeOptions(), path, info, WIDTH, HEIGHT)
    (note,) = picture_notes(probe(path), decoded, settings, UpscaleOptions())
    assert note.startswith("pull-down is undone in 97 of 126 frames: 4 film frames in place of 5")
    assert note.endswith("; the other 29 keep their rate")


def test_cuts_are_of_the_film(tmp_path: Path) -> None:
    for length in (20, 21, 22, 23):
        film = [picture(n) // 4 + (150 if n < length else 0) for n in range(44)]
        _, index = made(clip(tmp_path / f"{length}.mp4", telecined(film)))
        assert index.cuts == (length,)


def test_one_frame_for_each_field(tmp_path: Path) -> None:
    options = {"x264-params": "bff=1:keyint=5", "crf": "4"}
    path = clip(tmp_path / "a.mp4", interlaced(14), options=options)
    info, index = made(path, deinterlace="field")
    assert index.frames == 28 and info.frame_rate == Fraction(60000, 1001)
    assert [pts * info.time_base for pts in index.pts[:27]] == [
        n * Fraction(1001, 60000) for n in range(27)
    ]
    whole = list(read_frames(info, index, 0, 28))
    for at in range(0, 26, 3):
        assert all(map(np.array_equal, read_frames(info, index, at, at + 2), whole[at : at + 2]))
    # The first field of each is what one frame for each frame has, and the other is in between.
    alone = list(read_frames(*made(path), 0, 14))
    assert all(map(np.array_equal, whole[::2], alone))
    wanted = [picture(n / 2).astype(float) for n in range(28)]
    greens = [(frame[..., 1] / 257) * 219 / 255 + 16 for frame in whole]
    near = [
        min(range(n - 1, n + 2), key=lambda k: np.abs(greens[n] - wanted[k]).mean())
        for n in range(4, 24)
    ]
    assert near == list(range(4, 24))


def test_soft_pull_down_is_shown_evenly() -> None:
    steps = [3003 * 3 // 2, 3003] * 8
    pts = [90000 + sum(steps[:n]) for n in range(17)]
    assert soft_film(pts, Fraction(1, 90000)) == ((0, 16),)
    assert soft_film(pts[1:], Fraction(1, 90000)) == ((0, 14),)
    assert soft_film(pts[:9], Fraction(1, 90000)) == ()
    assert soft_film([n * 3003 for n in range(40)], Fraction(1, 90000)) == ()


def test_soft_pull_down_becomes_even_times(tmp_path: Path) -> None:
    steps = [4505, 3003] * 8
    pts = [sum(steps[:n]) for n in range(17)]
    path = clip(tmp_path / "a.mp4", a_film(17), time_base=Fraction(1, 90000), pts=pts)
    info, index = made(path)
    assert {(b - a) * info.time_base for a, b in pairwise(index.pts)} == {Fraction(3754, 90000)}
    assert len(luma(path)) == 17
    assert made(path, "off")[1].pts == tuple(pts)
    settings = check_encoder(EncodeOptions(), path, info, WIDTH, HEIGHT)
    (note,) = picture_notes(probe(path), build_index(probe(path)), settings, UpscaleOptions())
    assert note.startswith("16 of 17 frames are shown for three and two fields in turn")


@pytest.mark.parametrize("deinterlace", ["auto", "field"])
def test_made_frames_of_rounded_times_become_even(tmp_path: Path, deinterlace: Deinterlace) -> None:
    """Film, or fields, of which Matroska has the times of 30000/1001 in milliseconds."""
    path = clip(tmp_path / "a.mkv", telecined(a_film(40)), rate=30)
    look = LookOptions(
        detelecine="auto" if deinterlace == "auto" else "off", deinterlace=deinterlace
    )
    info = probe(path)
    decoded = build_index(info, detelecine=look.detelecine)
    info, index = made_index(info, decoded, plan_fields(info, decoded, look))
    rate = Fraction(24000 if deinterlace == "auto" else 60000, 1001)
    assert index.frames == (40 if deinterlace == "auto" else 100) and info.frame_rate == rate
    shown = timeline(info, index, 0, index.frames, rate, "mp4")
    assert {length * shown.unit for length in shown.durations} == {1 / rate}


def test_runs_are_plain_data() -> None:
    meter = FieldMeter()
    for frame in telecined(a_film(40))[3:]:
        meter.add_luma(frame)
    assert meter.film(range(47), Fraction(1, 30), "auto") == (Film(2, 47, 4, 1, lead=2),)
