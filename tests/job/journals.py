"""Work directories with tiny parts, for tests of the journal alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from starvsr.job.journal import open_journal
from starvsr.media.encoder import EncoderSettings
from starvsr.options import LookOptions, StreamOptions
from starvsr.types import ColorInfo

REQUEST = {"input": {"the input": "1" * 64}, "options": {"--scale": 2}}
SETTINGS = EncoderSettings(
    codec="ffv1",
    container="matroska",
    pix_fmt="gbrp",
    width=32,
    height=24,
    options=(("level", "3"),),
    color=ColorInfo(),
    time_base=(1, 25),
    source_times=True,
    frame_rate=(25, 1),
)
NOTES: dict[str, Any] = {
    "memory_bytes": 1 << 30,
    "threads": 2,
    "offload": "auto",
    "job": {
        "source": "/in.mkv",
        "target": "/out.mkv",
        "settings": dataclasses.asdict(SETTINGS),
        "streams": dataclasses.asdict(StreamOptions()),
        "provenance": "",
        "fps": None,
        "look": dataclasses.asdict(LookOptions()),
        "video_stream": None,
        "segments": [[0, 0, 6, 0, 0, 0, 6]],
    },
}


class Broken(Exception):
    """What ends the job of a test."""


def part(folder: Path, name: str, content: bytes = b"part") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def broken_off(folder: Path) -> Path:
    """A work directory with one finished segment; gives it."""
    with pytest.raises(Broken), open_journal(folder, REQUEST, NOTES, resume=True) as journal:
        shared = part(folder, "000000-00000006.raw")
        journal.record(
            **{"core-0": [part(folder, "000000-core.mkv")], "head-0": [], "tail-0": [shared]}
        )
        raise Broken
    return folder


def go_on(work: Path, *, resume: bool = True) -> list[str]:
    """Open a journal and break it off again; gives the steps that are finished."""
    found: list[str] = []
    with pytest.raises(Broken), open_journal(work, REQUEST, NOTES, resume=resume) as journal:
        found = [step for step in journal.steps if journal.finished(step) is not None]
        raise Broken
    return found


STEPS = ["core-0", "head-0", "tail-0"]
