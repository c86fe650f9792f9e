"""Decoding by other devices, of which there need be none: what is asked for is tried, and said where it fails."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from av.codec.hwaccel import hwdevices_available

from starvsr.errors import UsageError
from starvsr.media import hwaccel
from starvsr.media.hwaccel import usable_device
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from tests.media.clips import Clip, make

KINDS = hwdevices_available()


def test_nothing_asked_for_is_nothing_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = probe(make(tmp_path / "a.mp4"))
    monkeypatch.setattr(hwaccel, "open_source", None)
    assert usable_device(info, "none") == "none"


@pytest.mark.parametrize("kind", KINDS)
def test_a_device_that_is_not_there_is_done_without(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    # No graphics card decodes FFV1 but through shaders.
    info = probe(make(tmp_path / "a.mkv", Clip(frames=2, codec="ffv1", pix_fmt="yuv411p")))
    assert usable_device(info, kind) == "none"
    assert f"--hwaccel {kind} cannot decode ffv1 yuv411p here" in caplog.text
    caplog.clear()
    assert usable_device(info, "auto") == "none"
    assert caplog.text == ""


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    info = probe(make(tmp_path / "a.mp4", Clip(frames=2)))
    with pytest.raises(UsageError, match="--hwaccel abacus is not in this libav build: give none"):
        usable_device(info, "abacus")


def test_frames_are_read_through_a_device(tmp_path: Path) -> None:
    """Also by one that only part of libav knows: PyAV decodes without it then."""
    plain = probe(make(tmp_path / "a.mp4"))
    index = build_index(plain)
    frames = list(read_frames(plain, index, 3, 9))
    for kind in set(KINDS) - {"cuda"}:
        info = dataclasses.replace(plain, hwaccel=kind)
        assert build_index(info) == index
        assert all(map(np.array_equal, read_frames(info, index, 3, 9), frames))
