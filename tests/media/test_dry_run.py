"""What a muxer refuses is known before the work, and the message names what helps."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from starvsr.errors import OutputError
from starvsr.job.plan_job import plan_video
from starvsr.media.dry_run import check_muxer
from starvsr.media.encoder import check_encoder
from starvsr.media.probe import probe
from starvsr.options import EncodeOptions, StreamOptions, UpscaleOptions
from tests.media.clips import Audio, Clip, make
from tests.media.jobs import RICH


def check(source: Path, target: Path, streams: StreamOptions | None = None) -> None:
    info = probe(source)
    codec = "libvpx-vp9" if target.suffix == ".webm" else "mpeg4"
    settings = check_encoder(EncodeOptions(codec=codec), target, info, 64, 48)
    check_muxer(info, target, settings, streams or StreamOptions())


def without_layout(folder: Path) -> Path:
    """A file whose PCM has no channel layout, of which libav writes no copy into an mp4."""
    sounds = (Audio("pcm_s16le", seconds=0.2, layout="stereo"),)
    return make(folder / "a.mkv", Clip(audio=sounds, chapters=((0, 0.2, "One"),)))


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams are taken to be copied without trying each on its own."""
    monkeypatch.setattr("starvsr.media.passage.is_copied", lambda *_: True)
    monkeypatch.setattr("starvsr.media.passage.can_hold", lambda *_: True)


@pytest.mark.parametrize("target", ["o.mkv", "o.nut", "o.mov", "o.mp4", "o.webm"])
def test_what_is_written_later_passes(tmp_path: Path, target: str) -> None:
    source = make(tmp_path / f"a{'.ts' if target == 'o.nut' else '.mkv'}", Clip(audio=(Audio(),)))
    check(source, tmp_path / target)
    if target != "o.nut":
        check(make(tmp_path / "rich.mkv", RICH), tmp_path / target)
    assert not (tmp_path / target).exists()


@pytest.mark.usefixtures("trusting")
def test_sound_is_refused_at_the_end_of_the_file(tmp_path: Path) -> None:
    source = without_layout(tmp_path)
    with pytest.raises(OutputError, match=r"o\.mp4: libav's mp4 muxer refuses .*give --audio none"):
        check(source, tmp_path / "o.mp4")
    check(source, tmp_path / "o.mp4", StreamOptions(audio="none"))
    check(source, tmp_path / "o.mov")


@pytest.mark.usefixtures("trusting")
def test_subtitles_are_refused_in_the_header(tmp_path: Path) -> None:
    line = ("ass", 0.1, 0.1, "0,0,Default,,0,0,0,,one")
    source = make(tmp_path / "a.mkv", Clip(audio=(Audio(),), subtitles=(line,)))
    with pytest.raises(OutputError, match=r"muxer refuses .*give --subtitles none"):
        check(source, tmp_path / "o.mov")


@pytest.mark.usefixtures("trusting")
def test_before_the_video_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("starvsr.job.plan_job.build_index", None)
    options = UpscaleOptions(model="nano")
    with pytest.raises(OutputError, match="--audio none"):
        plan_video(without_layout(tmp_path), tmp_path / "o.mp4", options)


def test_times_of_the_source_change_nothing(tmp_path: Path) -> None:
    """A broadcast's clock starts anywhere within 26 hours."""
    first = 90_000 * 3600 * 20
    clip = Clip(
        time_base=Fraction(1, 90_000),
        pts=[first + 3600 * number for number in range(12)],
        audio=(Audio("ac3", start_s=Fraction(3600 * 20), seconds=0.3),),
        muxer={"mpegts_copyts": "1"},
    )
    check(make(tmp_path / "a.ts", clip), tmp_path / "o.mp4")
