"""What mediainfo sees beside the pictures of a source, it sees in the output; and the comparison finds a loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.media.clips import Clip, make
from tests.media.jobs import upscale
from tests.media.marked import with_elements
from tests.media.seen import _tracks, differences
from tests.media.test_beside import SIDE_BY_SIDE, sphere
from tests.media.test_messages import CLIP, with_messages
from tests.media.test_tags import KEYS, OWN

PLAIN = Clip(
    frames=8, options={"preset": "ultrafast"}, metadata={"title": "A film", "artist": "Somebody"}
)
LIGHT = (
    "log-level=error:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)


def source_of(kind: str, folder: Path) -> Path:
    if kind == "3D packing":
        return with_elements(make(folder / "a.mkv", PLAIN), SIDE_BY_SIDE)
    if kind == "projection":
        return with_elements(make(folder / "a.mkv", PLAIN), sphere(1, 0, 0, 0, 0, 0))
    if kind == "time code":
        return make(folder / "a.mov", replace(PLAIN, video_tags={"timecode": "10:00:00:00"}))
    if kind == "captions":
        return with_messages(folder / "a.mp4", CLIP)
    if kind == "tags":
        return make(
            folder / "a.mov", replace(PLAIN, metadata={**OWN, **PLAIN.metadata}, muxer=KEYS)
        )
    color = {"colorspace": 9, "color_primaries": 9, "color_trc": 16}
    clip = replace(
        PLAIN, codec="libx265", pix_fmt="yuv420p10le", color=color, options={"x265-params": LIGHT}
    )
    return make(folder / "a.mkv", clip)


# A field of each kind by which mediainfo tells it, in any track.
FIELDS = {
    "3D packing": "multiview_layout",
    "projection": "",
    "time code": "time_code_of_first_frame",
    "captions": "",
    "tags": "comapplequicktimemake",
    "light": "mastering_display_luminance",
}
# mediainfo reads the packing of Matroska alone; the mp4's is compared by libav's eyes (`test_beside`).
UNSEEN = {"multiview_count", "multiview_layout"}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("kind", FIELDS)
def test_nothing_beside_the_pictures_is_lost(kind: str, suffix: str, tmp_path: Path) -> None:
    source = source_of(kind, tmp_path)
    every = [track for tracks in _tracks(source).values() for track in tracks]
    assert not FIELDS[kind] or any(FIELDS[kind] in track for track in every)
    found = differences(source, upscale(source, tmp_path / f"o{suffix}"))
    if kind == "3D packing" and suffix != ".mkv":
        assert {each.split()[2] for each in found} <= UNSEEN
    else:
        assert found == []


@pytest.mark.parametrize(
    ("kind", "part", "lost"),
    [
        (
            "time code",
            "timecode_tags",
            "the time code 10:00:00:00 is missing",
        ),
        ("tags", "ReservedTags.write", "General 0: comapplequicktimemake is None, not Apple"),
    ],
)
def test_a_loss_is_found(
    kind: str, part: str, lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(kind, tmp_path)
    monkeypatch.setattr(f"starvsr.media.join.{part}", lambda *_: {})
    assert any(lost in each for each in differences(source, upscale(source, tmp_path / "o.mp4")))
