"""Inputs whose opening never returns: code 3, the rest of a batch, signals. A stand-in hangs; no file does."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest

from starvsr.media.deadline import VARIABLE
from starvsr.train.config import FolderConfig
from starvsr.train.tables import to_toml
from tests.cli.conftest import Cli, listing
from tests.train.toys import data_config, train_config, write_model, write_sources

SECONDS = 60.0


@pytest.fixture
def stuck(clip: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A video that nothing ever opens."""
    monkeypatch.setenv(VARIABLE, "0.4")
    end, real = threading.Event(), av.open
    before = set(threading.enumerate())

    def opening(file: object, *arguments: object, **options: object) -> object:
        if "stuck" in str(file):
            end.wait()
        return real(file, *arguments, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(av, "open", opening)
    yield Path(shutil.copy(clip, clip.with_name("stuck.mp4")))
    end.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(SECONDS)


@pytest.mark.parametrize(
    "command",
    [
        "info STUCK",
        "plan STUCK",
        "upscale STUCK OUT.mkv",
        "upscale STUCK OUT.mkv --preview 1",
        "compare CLIP STUCK -o OUT.html",
        "evaluate STUCK CLIP",
        "evaluate CLIP STUCK",
        "degrade STUCK OUT.mp4",
    ],
)
def test_every_command_gives_up(cli: Cli, clip: Path, stuck: Path, command: str) -> None:
    before = listing(clip.parent)
    names = {"STUCK": str(stuck), "CLIP": str(clip)}
    words = [
        names.get(word, word.replace("OUT", str(clip.parent / "out"))) for word in command.split()
    ]
    result = cli(*words)
    assert result.code == 3
    assert result.error.startswith(f"{stuck} cannot be read: no result in 0.4 seconds")
    assert VARIABLE in result.error
    assert listing(clip.parent) == before


def test_training_names_the_file_and_does_not_hold_it_for_damaged(
    cli: Cli, tmp_path: Path, stuck: Path
) -> None:
    write_sources(tmp_path / "sources")
    stuck.rename(tmp_path / "sources/stuck.mp4")
    write_model(tmp_path / "tiny.safetensors")
    config = train_config(
        tmp_path / "tiny.safetensors", data=data_config(folders=(FolderConfig("sources"),))
    )
    (tmp_path / "run.toml").write_text(to_toml(config))
    arguments = ("--config", tmp_path / "run.toml", "--output", tmp_path / "out")
    result = cli("train", *arguments, "--device", "cpu", "--workers", "0")
    assert result.code == 3
    assert "sources/stuck.mp4 cannot be read: no result" in result.error


def test_a_batch_goes_on(cli: Cli, clip: Path, stuck: Path, quick: list[str]) -> None:
    output = clip.parent / "large"
    result = cli("upscale", stuck, clip, output, *quick, "--frames", "2", "--keep-going", "--json")
    assert result.code == 6
    assert sorted(listing(output)) == ["clip.mp4"]
    failed, done, batch = (json.loads(line) for line in result.out.splitlines())
    assert (failed["event"], failed["source"], failed["exit_code"]) == ("failed", str(stuck), 3)
    assert (done["event"], batch["done"], batch["failed"]) == ("done", 1, 1)


def test_a_folder_that_does_not_answer(
    cli: Cli, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "0.4")
    end, real = threading.Event(), Path.is_dir

    def hanging(path: Path, **options: bool) -> bool:
        if path == clip:
            end.wait()
        return real(path, **options)

    monkeypatch.setattr(Path, "is_dir", hanging)
    result = cli("info", clip)
    end.set()
    assert result.code == 3
    assert "no result in 0.4 seconds" in result.error


@pytest.mark.parametrize("command", ["info", "plan", "upscale"])
def test_a_limit_that_means_nothing(
    cli: Cli, clip: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv(VARIABLE, "soon")
    others = [clip, clip.with_name("out"), "--keep-going"] if command == "upscale" else []
    result = cli(command, clip, *others)
    assert result.code == 2
    assert f"{VARIABLE}=soon is not a number of seconds" in result.error


# A C function that Python's signals do not end, as libav's loops are.
_STUCK = """
import ctypes, sys, av
libc = ctypes.CDLL(None)
def opening(*_, **__):
    print("opening", file=sys.stderr, flush=True)
    while True:
        libc.pause()
av.open = opening
from starvsr.cli.app import main
main()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
@pytest.mark.parametrize("command", ["info", "plan"])
def test_signals_are_heeded_meanwhile(
    clip: Path, number: signal.Signals, code: int, word: str, command: str
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _STUCK, command, str(clip)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, VARIABLE: "0"},
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "opening\n"
        process.send_signal(number)
        _, messages = process.communicate(timeout=SECONDS)
    assert process.returncode == code
    assert messages.startswith(word)
    assert "Traceback" not in messages


def test_the_process_ends_although_the_thread_does_not(clip: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STUCK, "info", str(clip)],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, VARIABLE: "0.4"},
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.startswith(f"opening\nerror: {clip} cannot be read")


# Reading hangs where frames are restored: in a thread beside the network, or in a worker.
_STUCK_LATER = """
import ctypes, sys
from starvsr.media import decode
real, calls = decode._stepping_over, 0 if __name__ == "__main__" else 2
def reading(*arguments):
    global calls
    calls += 1
    # The probe is the first, the index the second.
    if calls > 2:
        print("reading", file=sys.stderr, flush=True)
        while True:
            ctypes.CDLL(None).pause()
    yield from real(*arguments)
decode._stepping_over = reading
if __name__ == "__main__":
    from starvsr.cli.app import main
    main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("limit", "code"), [("0", 130), ("1", 3)])
def test_frames_that_are_never_read(
    clip: Path, quick: list[str], workers: str, limit: str, code: int
) -> None:
    script, output = clip.with_name("stuck.py"), clip.with_name("out.mkv")
    script.write_text(_STUCK_LATER)
    options = [*quick, "--segment-frames", "6", "--workers", workers, "--quiet"]
    with subprocess.Popen(
        [sys.executable, str(script), "upscale", str(clip), str(output), *options],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, VARIABLE: limit, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "reading\n"
        if code == 130:
            process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=SECONDS)
    assert process.returncode == code, messages
    assert ("no result in 1 seconds" in messages) == (code == 3)
    assert "Traceback" not in messages
    assert not output.exists()
