"""The film among a file's video streams, a stream that is asked for, and the streams of other programs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import pytest
from av.stream import Disposition

from starvsr.errors import InputError, UsageError
from starvsr.media.choice import (
    choose_stream,
    film_stream,
    foreign_streams,
    tagged_duration_s,
)
from starvsr.media.index import build_index
from starvsr.media.omitted import _films, _other_programs
from starvsr.media.probe import probe
from starvsr.options import InputOptions
from starvsr.types import StreamInfo
from tests.media.clips import Audio, Clip, make
from tests.media.jobs import times, upscale
from tests.media.marked import joined, two_programs

FILM = Clip(frames=6, options={"preset": "ultrafast"})
STILL = Clip(frames=1, width=128, height=96, codec="mjpeg", pix_fmt="yuvj420p")
SMALL = replace(FILM, width=32, height=24)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".nut"])
def test_a_still_is_not_the_film(suffix: str, tmp_path: Path) -> None:
    info = probe(joined(tmp_path / f"a{suffix}", STILL, FILM))
    assert (info.stream_index, info.codec, info.width) == (1, "h264", 64)
    assert build_index(info).frames == 6
    assert _films(info) == [
        "video stream 1 is restored, 0 (mjpeg 128x96) is left out: --video-stream chooses another"
    ]


@pytest.mark.parametrize(
    ("film", "gray", "said"),
    [
        (("av1", "64x48 yuv420p"), ("av1", "64x48 gray"), ", gray: alpha or depth"),
        (("av1", "64x48 yuv420p10le"), ("av1", "64x48 gray10le"), ", gray: alpha or depth"),
        (("av1", "64x48 gray"), ("av1", "64x48 gray"), ""),
        (("av1", "64x48 yuv420p"), ("av1", "32x24 gray"), ""),
        (("h264", "64x48 yuv420p"), ("ffv1", "64x48 gray"), ""),
    ],
)
def test_the_alpha_of_an_avif_is_named(
    film: tuple[str, str], gray: tuple[str, str], said: str, tmp_path: Path
) -> None:
    """libav lists it as a video stream of its own."""
    info = probe(make(tmp_path / "a.mp4", FILM))
    streams = tuple(
        StreamInfo(number, "video", codec, detail=detail)
        for number, (codec, detail) in enumerate((film, gray))
    )
    (note,) = _films(replace(info, streams=streams))
    size = gray[1].partition(" ")[0]
    assert f", 1 ({gray[0]} {size}{said}) is left out" in note


def test_the_only_stream_is_one(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4", FILM)
    with pytest.raises(UsageError, match="has only 1 video stream: give 0"):
        probe(path, video_stream=1)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_few_stills_are_not_the_film(suffix: str, tmp_path: Path) -> None:
    """As telephones write them beside the film of a moving picture."""
    stills = replace(STILL, frames=2, pts=(0, 12800))
    film = replace(SMALL, frames=40)
    assert probe(joined(tmp_path / f"a{suffix}", stills, film)).stream_index == 1


def test_the_sequence_of_an_animated_avif(tmp_path: Path) -> None:
    clip = Clip(frames=4, width=64, height=64, codec="libsvtav1")
    info = probe(make(tmp_path / "a.avif", clip))
    assert info.stream_index == 1 and build_index(info).frames == 4


@pytest.mark.parametrize(
    ("clips", "dispositions", "chosen"),
    [
        ((SMALL, FILM), (0, 0), 1),
        ((FILM, SMALL), (0, 0), 0),
        ((FILM, FILM), (0, 0), 0),
        # A default stream comes before a larger one, and a long one before a clip.
        ((FILM, SMALL), (0, Disposition.default), 1),
        ((replace(FILM, frames=2), replace(SMALL, frames=12)), (Disposition.default,) * 2, 1),
    ],
)
def test_of_several_sequences(
    clips: tuple[Clip, ...], dispositions: tuple[int, ...], chosen: int, tmp_path: Path
) -> None:
    source = joined(tmp_path / "a.mkv", *clips, dispositions=dispositions)
    assert probe(source).stream_index == chosen


def test_a_stream_that_is_asked_for(tmp_path: Path) -> None:
    source = joined(tmp_path / "a.mkv", FILM, SMALL)
    info = probe(source, video_stream=1)
    assert (info.stream_index, info.width) == (1, 32)
    with pytest.raises(
        UsageError, match=r"--video-stream 2: .* has only 2 video streams: give 0 to 1"
    ):
        probe(source, video_stream=2)
    with pytest.raises(UsageError, match="--video-stream -1 is not allowed: give 0 or more"):
        InputOptions(video_stream=-1)
    made = upscale(source, tmp_path / "o.mkv", video_stream=1)
    assert probe(made).width == 64


def test_a_cover_is_not_restored(tmp_path: Path) -> None:
    marks = (0, Disposition.attached_pic)
    source = joined(tmp_path / "a.mp4", FILM, STILL, dispositions=marks)
    assert probe(source).stream_index == 0 and _films(probe(source)) == []
    with pytest.raises(UsageError, match="cover picture: give another one"):
        probe(source, video_stream=1)


def test_a_picture_of_tiles_is_refused() -> None:
    tile = SimpleNamespace(disposition=Disposition.dependent)
    container = cast("Any", SimpleNamespace(streams=SimpleNamespace(video=[tile, tile])))
    with pytest.raises(InputError, match="a grid of 2 tiles"):
        choose_stream(container, Path("a.heic"))


def test_a_file_that_changed(tmp_path: Path) -> None:
    info = replace(probe(make(tmp_path / "a.mkv", FILM)), stream_index=1)
    with av.open(str(info.path)) as container, pytest.raises(InputError, match="has it changed"):
        film_stream(container, info)


def test_another_program_s_sound_is_left_out(tmp_path: Path) -> None:
    heard = (Audio("mp2", seconds=0.3),)
    source = two_programs(
        tmp_path / "a.ts", replace(SMALL, audio=heard), replace(FILM, audio=heard)
    )
    info = probe(source)
    assert (info.width, len(info.streams), len(info.foreign)) == (64, 4, 2)
    (note,) = _other_programs(info)
    assert note.startswith("streams of other programs are left out: ") and "(audio mp2)" in note
    made = upscale(source, tmp_path / "o.mkv")
    assert [each.kind for each in probe(made).streams] == ["video", "audio"]
    assert probe(source, video_stream=0).foreign != info.foreign


@pytest.mark.parametrize("late", [True, False])
def test_another_programs_clock_is_not_the_films(tmp_path: Path, late: bool) -> None:
    begins = [(100 * late + number) * 512 for number in range(6)]
    sound = replace(SMALL, audio=(Audio("mp2", seconds=0.3),))
    source = two_programs(tmp_path / "a.ts", sound, replace(FILM, pts=begins))
    info = probe(source)
    assert info.width == 64
    assert build_index(info).pts[0] * info.time_base == 4 * late
    assert times(upscale(source, tmp_path / "o.mp4"))[0] == 0


def test_streams_that_programs_share() -> None:
    assert foreign_streams([[0, 2], [1, 2, 3]], 0) == (1, 3)
    assert foreign_streams([[1, 2]], 0) == ()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("01:02:03.500000000", 3723.5),
        ("00:00:02", 2.0),
        ("", None),
        ("2 s", None),
        # Python refuses to convert so many digits.
        ("9" * 5000 + ":00:00", None),
    ],
    ids=["nanoseconds", "seconds", "none", "other", "huge"],
)
def test_the_duration_tag_of_a_stream(text: str, seconds: float | None) -> None:
    stream = cast(Any, SimpleNamespace(metadata={"Duration": text}))
    assert tagged_duration_s(stream) == seconds
