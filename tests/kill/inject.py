"""Runs of `starvsr upscale` in which one system call fails, by strace (Linux), and what must hold afterwards."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import torch

from starvsr.cli.app import run
from starvsr.media import files
from starvsr.models.unet import StarUNet
from starvsr.zoo.load import save_model
from tests.conftest import TOY
from tests.golden.seeded_init import fill_module
from tests.kill.cases import Content, content_of, recorded_files
from tests.media.clips import Clip, make

ERRORS = ("EIO", "ENOSPC", "EMFILE", "EACCES")
CALLS = (
    *("openat", "read", "pread64", "write", "pwrite64", "writev", "lseek", "close"),
    *("fsync", "ftruncate", "rename", "unlink", "mkdir", "rmdir", "chmod", "flock"),
    *("newfstatat", "stat", "lstat", "fstat", "statx", "getdents64"),
)
# Done, in use (that is what a lock that fails looks like), the output cannot be written.
_CODES = (0, 2, 7)
_LINE = re.compile(r"^(\d+) +(\w+)\((.*)")
_PATH = re.compile(r'[<"]([^<>"]*)[>"]')
_LONGEST_S = 120.0
_MINE = b"mine"


@dataclass(frozen=True)
class Call:
    """The n-th system call of a kind by a thread that has to do with a path."""

    name: str
    path: str
    """Relative to the folder of the run."""
    number: int


@dataclass(frozen=True)
class Injection:
    """A call that fails, and how."""

    call: Call
    error: str

    def __str__(self) -> str:
        return f"{self.error} at {self.call.name} {self.call.number} of {self.call.path}"


@dataclass(frozen=True)
class Scene:
    """A command line, how its folder looks before, and what it makes where nothing fails."""

    name: str
    arguments: tuple[str, ...]
    before: Path
    """A folder, which is copied for every run."""
    content: Content


class Stage:
    """Where scenes are played: the same place every time, since strace is told of paths."""

    def __init__(self, folder: Path) -> None:
        """folder: an empty one."""
        self.folder, self.log = folder / "run", folder / "trace"
        self.out, self.target = folder / "said", folder / "run" / "out.mkv"
        self.work = self.folder / "out.mkv.starvsr"

    def set(self, scene: Scene) -> None:
        """Make the folder look as before the run."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(scene.before, self.folder)

    def play(self, scene: Scene, strace: tuple[str, ...] = ()) -> tuple[int, str]:
        """Run the command in a child, under strace if it is given options. Its exit code, and what it said."""
        ready, go = os.pipe()
        child = os.fork()
        if child == 0:
            _in_child(ready, go, self.out, scene.arguments)
        os.close(ready)
        tracer = None
        if strace:
            # Whether it is attached is told by the kernel.
            command = ["strace", "-f", "-y", "-o", str(self.log), "-p", str(child), *strace]
            tracer = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            _wait_until(lambda: _tracer_of(child) or tracer.poll() is not None)
        os.close(go)
        deadline = time.monotonic() + _LONGEST_S
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(child, 9)
            time.sleep(0.01)
        if tracer is not None:
            tracer.wait()
        return os.waitstatus_to_exitcode(ended[1]), self.out.read_text(errors="replace")


def _in_child(ready: int, go: int, out: Path, arguments: tuple[str, ...]) -> None:
    code = 70
    try:
        os.close(go)
        # Nothing comes; it ends when the tracer is there.
        os.read(ready, 1)
        said = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(said, number)
        # A test runner may have put something else in their place.
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        setattr(files, "secrets", _Names)  # noqa: B010
        code = run(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class _Names:
    """In place of `secrets`: temporary names by what they are for, so that they are the same in every run."""

    @staticmethod
    def token_hex(size: int) -> str:
        return _name_of(sys._getframe(1).f_locals["target"])[: 2 * size]


def _name_of(target: Path) -> str:
    return sha256(os.fsencode(target)).hexdigest()[:16]


def _tracer_of(child: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{child}/status").read_text().splitlines():
            if line.startswith("TracerPid:"):
                return int(line.split()[1])
    return 0


def _wait_until(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LONGEST_S
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError("strace does not attach")
        time.sleep(0.002)


def is_possible() -> bool:
    """Whether strace is there and may trace."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True)
    return tried.returncode == 0


def scenes(folder: Path, source: Path, options: tuple[str, ...], stage: Stage) -> list[Scene]:
    """A run from the beginning, and one that goes on behind a torn line, with a file of somebody's in its folder."""
    fresh = folder / "fresh"
    fresh.mkdir()
    (fresh / "mine.txt").write_bytes(_MINE)
    arguments = ("upscale", str(source), str(stage.target), *options)
    scene = Scene("fresh", arguments, fresh, ([], []))
    stage.set(scene)
    code, said = stage.play(scene)
    assert code == 0, said
    content = content_of(stage.target)
    begun = folder / "begun"
    stage.set(scene)
    # When the first part is finished and the second one is to be put in place.
    partial = f".starvsr-{_name_of(stage.work / '000001-core.mkv')}.partial"
    failing = Injection(Call("rename", f"{stage.work.name}/{partial}", 1), "EIO")
    code, said = stage.play(scene, _options(stage, failing))
    assert (code, bool(recorded_files(stage.work / "journal.jsonl"))) == (7, True), said
    (stage.work / "mine.txt").write_bytes(_MINE)
    with (stage.work / "journal.jsonl").open("ab") as journal:
        journal.write(b'{"steps": {"core')
    shutil.copytree(stage.folder, begun)
    return [
        Scene("fresh", arguments, fresh, content),
        Scene("begun", arguments, begun, content),
    ]


def _options(stage: Stage, injection: Injection) -> tuple[str, ...]:
    call = injection.call
    fault = f"inject={call.name}:error={injection.error}:when={call.number}"
    return ("-P", str(stage.folder / call.path), "-e", f"trace={call.name}", "-e", fault)


def calls_of(scene: Scene, stage: Stage) -> list[Call]:
    """Every system call of a run that has to do with something in its folder."""
    stage.set(scene)
    code, said = stage.play(scene, ("-e", f"trace={','.join(CALLS)}"))
    assert code == 0, said
    inside = f"{stage.folder}"
    counts: dict[tuple[str, str], Counter[str]] = {}
    for line in stage.log.read_text(errors="replace").splitlines():
        match = _LINE.match(line)
        if match is None or match[2] not in CALLS:
            continue
        # A name that was never given to a file is of a lock that is tried out.
        found = [
            path for path in _PATH.findall(match[3]) if path.startswith(inside) and "#" not in path
        ]
        # Of two names strace looks at the first alone.
        for path in set(found[:1] if match[2] == "rename" else found):
            counts.setdefault((match[2], os.path.relpath(path, inside)), Counter())[match[1]] += 1
    return [
        Call(name, path, number)
        for (name, path), threads in counts.items()
        for number in range(1, max(threads.values()) + 1)
    ]


def failures_of(injection: Injection, scene: Scene, stage: Stage) -> Iterator[str]:
    """Play a scene with a call that fails, then without; what must not be."""
    stage.set(scene)
    before = recorded_files(stage.work / "journal.jsonl")
    code, said = stage.play(scene, _options(stage, injection))
    if code not in _CODES or "Traceback" in said:
        yield f"ends with code {code}: {said.strip()}"
    over = stage.target.exists()
    after = recorded_files(stage.work / "journal.jsonl")
    if not over and (lost := before.keys() - after.keys()):
        yield f"no longer recorded: {', '.join(sorted(lost))}"
    for name, digest in after.items():
        path = stage.work / name
        # Raw frames go when their seam is there.
        if not over and not name.endswith(".raw") and _digest(path) != digest:
            yield f"lost: {name}"
    yield from _others(stage)
    code, said = stage.play(scene)
    if code and not (over and code == 7 and "exists already" in said):
        yield f"the same command gives {code}: {said.strip()}"
        return
    if content_of(stage.target) != scene.content:
        yield "the result is not that of the unbroken run"
    yield from _others(stage)
    allowed = {"mine.txt", "out.mkv", "out.mkv.starvsr", "out.mkv.starvsr/mine.txt"}
    left = {str(path.relative_to(stage.folder)) for path in stage.folder.rglob("*")}
    if not (stage.work / "mine.txt").exists():
        allowed.discard("out.mkv.starvsr")
    if left - allowed:
        yield f"left behind: {', '.join(sorted(left - allowed))}"


def _others(stage: Stage) -> Iterator[str]:
    """What is somebody's must be as it was."""
    places = [stage.folder / "mine.txt"]
    if (stage.work / "mine.txt").exists():
        places.append(stage.work / "mine.txt")
    for place in places:
        if not place.exists() or place.read_bytes() != _MINE:
            yield f"{place.relative_to(stage.folder)} was touched"


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


@dataclass(frozen=True)
class Outcome:
    """What an injection came to."""

    scene: str
    injection: Injection
    happened: bool
    """Whether the run came to that call."""
    failures: tuple[str, ...]
    """What should not have been; empty is well."""


def prepared(folder: Path) -> tuple[Stage, list[Scene]]:
    """A stage and its scenes, in an empty folder; what a run imports is imported then, so that a child is quick."""
    toy = folder / "toy.safetensors"
    save_model(toy, TOY, fill_module(StarUNet(TOY.network), 0).state_dict())
    source = make(folder / "clip.mkv", Clip(frames=12, width=16, height=12))
    options: tuple[str, ...] = (
        "--model",
        str(toy),
        "--scale",
        "2",
        "--steps",
        "1",
        "--cfg",
        "1",
        "--codec",
        "ffv1",
    )
    options += ("--segment-frames", "6", "--device", "cpu", "--quiet")
    torch.set_num_threads(1)
    assert run(["upscale", str(source), str(folder / "whole.mkv"), *options]) == 0
    (folder / "stage").mkdir()
    stage = Stage(folder / "stage")
    return stage, scenes(folder, source, options, stage)


def all_injections(stage: Stage, found: list[Scene]) -> list[tuple[Scene, Injection]]:
    """Every error at every call of every scene, so that the first of so many are spread over all of them."""
    calls = [(scene, call) for scene in found for call in calls_of(scene, stage)]
    random.Random(0).shuffle(calls)
    return [
        (scene, Injection(call, ERRORS[(number + turn) % len(ERRORS)]))
        for turn in range(len(ERRORS))
        for number, (scene, call) in enumerate(calls)
    ]


def inject(scene: Scene, injection: Injection, stage: Stage) -> Outcome:
    """Play a scene with a call that fails, and look."""
    failures = tuple(failures_of(injection, scene, stage))
    happened = "(INJECTED)" in stage.log.read_text(errors="replace")
    return Outcome(scene.name, injection, happened, failures)
