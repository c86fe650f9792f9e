"""Running the command line in this process, on clips and a model that take milliseconds."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from starvsr.cli.app import run
from tests.cli.events import check_events
from tests.media.clips import Audio, Clip, make

FRAMES = 12


@dataclass(frozen=True)
class Outcome:
    """What one command line gave."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one error message; more or fewer than one fail the test, and so does a traceback."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("error: ")


Cli = Callable[..., Outcome]


@pytest.fixture
def cli(one_thread: None, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command line; also what C libraries write is seen. JSON that is none of the events fails the test."""

    def call(*arguments: str | Path) -> Outcome:
        capfd.readouterr()
        code = run([os.fspath(argument) for argument in arguments])
        out, err = capfd.readouterr()
        check_events(out)
        check_events(err)
        return Outcome(code, out, err)

    return call


@pytest.fixture
def quick(toy_path: Path) -> list[str]:
    """Options that make a run short."""
    return ["--model", str(toy_path), "--scale", "1", "--steps", "1"]


@pytest.fixture(scope="session")
def _clip_data(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = make(
        tmp_path_factory.mktemp("clip") / "clip.mp4",
        Clip(frames=FRAMES, width=32, height=24, audio=(Audio(seconds=0.48),)),
    )
    return path.read_bytes()


@pytest.fixture
def clip(tmp_path: Path, _clip_data: bytes) -> Path:
    """12 frames of 32x24 with sound, alone in a folder of its own."""
    path = tmp_path / "clip.mp4"
    path.write_bytes(_clip_data)
    return path


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, hidden files too: contents by path, None for folders."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@contextmanager
def as_nobody(*folders: Path) -> Iterator[None]:
    """Without root's power to read and write anything; the folders and those above them are open for reading."""
    if os.geteuid() != 0:
        yield
        return
    opened = {}
    for above in {above for folder in folders for above in (folder, *folder.parents)}:
        mode = above.stat().st_mode & 0o7777
        # Root's group goes on being ours.
        if mode & 0o55 != 0o55:
            opened[above] = mode
            above.chmod(mode | 0o55)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        for above, mode in opened.items():
            above.chmod(mode)
