"""Job files, configurations, manifests and histories that nobody means: refused in words, at once, in little memory."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.worker import Outcome, Worker

LONGEST_S, MOST_BYTES = 5.0, 600 << 20

JOBS = """[defaults]
model = "nano"
no-metadata = true
segment-frames = 16

[[job]]
input = "no.mp4"
output = "large/a.mkv"
scale = 2.5
start = "00:01:00"
e = ["tune=film", "bf=3"]
prompt = "a bee"
work-dir = "work"

[[job]]
input = "none.mp4"
output = "b.mkv"
resolution = 1080
scene-detect = false
duration = 00:00:03
workers = 2
"""
CONFIG = """parts = "all"
steps = 10
batch = 2
seed = 3

[model]
base = "nano"
pretrained = false

[data]
frames = 3
crop = [64, 64]
degradations = { light = 0.5, clean = 0.5 }

[[data.folders]]
path = "no"
weight = 1.5
held_out = ["*.png"]

[data.bank]
clips = 4
frames = 5
crop = [96, 96]

[optimizer]
lr = 1e-4
betas = [0.9, 0.99]
"""
MANIFEST = """[[clip]]
name = "one"
group = "ours"
result = "no.mp4"
reference = "none.mp4"

[[clip]]
result = "nothing.mp4"
"""
HISTORY = (
    '{"version": 1, "event": "bench", "starvsr": "0.1", "at": "2026", "machine": {"threads": 2}, "model": "nano", '
    '"calls": [{"latent": [1, 2, 3], "share_of_ceiling": 0.5, "seconds": {"wall": 1.0, "processor": 1.5}}], '
    '"job": {"input_size": [32, 24], "output_size": [64, 48], "frames": 4, "wall_s": 2.5}}\n'
)
TEXTS = {"jobs": JOBS, "config": CONFIG, "manifest": MANIFEST, "history": HISTORY}

VALUES = (
    "9" * 5000,
    "0x" + "f" * 5000,
    "1" + "0" * 30,
    "-1",
    "0",
    "1000000000",
    "1e400",
    "nan",
    "-inf",
    '""',
    '"' + "x" * 100_000 + '"',
    '"\\u0000"',
    '"\\u001b[2J"',
    '"../../../x"',
    "[]",
    "[1000000000, 1000000000]",
    "[" * 5000,
    "[" * 30 + "]" * 30,
    "{}",
    "{ a = 1 }",
    "{a=" * 40 + "1" + "}" * 40,
    "true",
    "0001-01-01",
    "2026-02-31",
    "99:99:99",
    '"""',
    "null",
)
LINES = (
    "a." * 30_000 + "b = 1",
    "[" + "a." * 30_000 + "b]",
    "[" + '"".' * 30_000 + "b]",
    "[[job]]",
    "[job]",
    "[[clip.result]]",
    "\x00",
    "\ufeff",
    "# " + "x" * 2_000_000,
    "x = 1\n" * 3,
    "[[job]]\ninput='a'\noutput='b'\n" * 20_000,
    "[[clip]]\nresult='a'\n" * 30_000,
)


def mutated(kind: str, number: int) -> bytes:
    """A file that is wrong in one to three places, the same for the same number."""
    draw = random.Random(f"{kind} {number}")
    lines = TEXTS[kind].splitlines()
    for _ in range(draw.randint(1, 3)):
        place = draw.randrange(len(lines))
        way = draw.randrange(5)
        if way == 0:
            key, sign, _ = lines[place].partition("=")
            lines[place] = f"{key}{sign or '='}{draw.choice(VALUES)}"
        elif way == 1:
            lines[place] = lines[place].replace(
                draw.choice(['"', "]", "1", "a", ":"]), draw.choice(VALUES), 1
            )
        elif way == 2:
            lines.insert(place, draw.choice(LINES))
        elif way == 3:
            lines.insert(place, draw.choice(lines))
        else:
            del lines[place]
            lines = lines or [""]
    content = bytearray("\n".join(lines).encode())
    if draw.random() < 0.3 and content:
        for _ in range(draw.randint(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
    return bytes(content)


def command(kind: str, path: Path) -> list[str]:
    """One that reads the file and then has nothing to work on."""
    if kind == "jobs":
        return ["upscale", "--jobs", str(path)]
    if kind == "config":
        return ["train", "--config", str(path), "--output", str(path.with_name("run"))]
    if kind == "manifest":
        return ["evaluate", str(path), "--metrics", "psnr_y"]
    # With a model that there is not, the history is all that is read.
    return ["bench", "--model", "nano", "--history", str(path), "--size", "1x1"]


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    # Importing what the commands are made of is no part of it.
    worker.run(["upscale", "no.mp4", "no.mkv"])
    worker.run(["evaluate", "no.toml"])
    worker.run(["bench", "--history", "."])
    worker.run(["train", "--config", "pyproject.toml"])
    yield worker
    worker.stop()


def check(outcome: Outcome, kind: str, case: object) -> None:
    """A refusal, in words, at once."""
    said = f"{kind} {case}: code {outcome.code} after {outcome.seconds:.1f} s: {outcome.err[-500:]}"
    assert outcome.code in (2, 3, 4, 7), said
    assert outcome.err.count("error: ") >= 1 and "Traceback" not in outcome.err, said
    assert outcome.seconds < LONGEST_S, said
    assert outcome.peak_bytes < MOST_BYTES, f"{outcome.peak_bytes >> 20} MiB: {said}"


def try_all(worker: Worker, folder: Path, kind: str, numbers: range) -> None:
    for number in numbers:
        path = folder / f"{kind}.toml"
        path.write_bytes(mutated(kind, number))
        check(worker.run(command(kind, path)), kind, number)


@pytest.mark.parametrize("kind", TEXTS)
def test_mutated(worker: Worker, tmp_path: Path, kind: str) -> None:
    try_all(worker, tmp_path, kind, range(12))


@pytest.mark.slow
@pytest.mark.parametrize("kind", TEXTS)
def test_many_mutated(worker: Worker, tmp_path: Path, kind: str) -> None:
    try_all(worker, tmp_path, kind, range(12, 112))


@pytest.mark.parametrize("kind", TEXTS)
def test_what_is_no_file(worker: Worker, tmp_path: Path, kind: str) -> None:
    pipe, folder = tmp_path / "pipe.toml", tmp_path / "folder.toml"
    os.mkfifo(pipe)
    folder.mkdir()
    device = tmp_path / "device.toml"
    device.symlink_to("/dev/zero")
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(8 << 30)
    for path in (pipe, folder, device, large):
        check(worker.run(command(kind, path)), kind, path.name)


def test_prompts_are_read_within_bounds(worker: Worker, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        words = [
            "upscale",
            str(tmp_path / "no.mp4"),
            str(tmp_path / "o.mkv"),
            "--prompt-file",
            str(path),
        ]
        check(worker.run(words), "prompt", path)
