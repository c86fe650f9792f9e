"""The small pictures of the page."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from starvsr.media.probe import probe
from starvsr.ui.pictures import frame_strip
from tests.media.clips import Clip, make


def test_a_strip_of_a_recording_has_the_frames_of_its_times(tmp_path: Path) -> None:
    """Its clock does not begin at 0."""

    def brighter(frame: object, number: int) -> None:
        for plane, level in zip(frame.planes, (8 * number, 128, 128), strict=True):  # type: ignore[attr-defined]
            memoryview(plane)[:] = bytes([level]) * plane.buffer_size

    times = [3000 * 12800 + 512 * number for number in range(30)]
    clip = Clip(frames=30, fill=brighter, pts=times, options={"g": "5"})
    strip = frame_strip(probe(make(tmp_path / "a.ts", clip)), tmp_path)
    levels = []
    for _, path in strip:
        with Image.open(path) as picture:
            levels.append(picture.convert("L").resize((1, 1)).tobytes())
    assert len(levels) > 3
    assert levels == sorted(set(levels)), levels
