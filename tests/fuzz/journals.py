"""`python -m tests.fuzz.journals` goes on with, and finishes, 1,000 jobs whose journal was tampered with."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starvsr.cli.app import run
from starvsr.job.executor import InTurn
from starvsr.job.records import sealed
from starvsr.models.unet import StarUNet
from starvsr.zoo.load import save_model
from tests.conftest import TOY
from tests.fuzz.worker import Outcome, Worker
from tests.golden.seeded_init import fill_module
from tests.media.clips import Clip, make

LONGEST_S, MOST_BYTES = 30.0, 600 << 20
# Done, usage, input, output, work directory. 1 would be a bug.
_CODES = (0, 2, 3, 7, 9)

_HOSTILE: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, 0.5, "", "x", "\0", "\ud800", "..", "/"),
    *("../000000-core.mkv", "/etc/hostname", "000000-core.mkv", "1e999999999", "1/0", "ffv1"),
    *([], {}, [1], {"a": 1}, [[[]]], "9" * 5000, ["x"] * 1000, [{}] * 1000),
)


@dataclass(frozen=True)
class Case:
    """What a journal came to."""

    seed: int
    what: str
    outcomes: dict[str, Outcome]
    failures: tuple[str, ...]
    """What should not have been; empty is well."""


@dataclass(frozen=True)
class Job:
    """A job that was broken off behind two of three segments, and its command line."""

    folder: Path
    """Where it runs."""
    before: Path
    """A copy of how it was left."""
    arguments: tuple[str, ...]

    @property
    def journal(self) -> Path:
        return self.folder / "out.mkv.starvsr" / "journal.jsonl"

    def reset(self) -> None:
        """Make the folder look as it was left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.before, self.folder)


def broken_off(folder: Path) -> Job:
    """Begin the job, in an empty folder."""
    toy = folder / "toy.safetensors"
    save_model(toy, TOY, fill_module(StarUNet(TOY.network), 0).state_dict())
    source = make(folder / "clip.mkv", Clip(frames=12, width=16, height=12))
    job = Job(
        folder / "run",
        folder / "before",
        (
            *("upscale", str(source), str(folder / "run" / "out.mkv"), "--model", str(toy)),
            *("--scale", "2", "--steps", "1", "--cfg", "1", "--codec", "ffv1"),
            *("--segment-frames", "6", "--device", "cpu", "--quiet"),
        ),
    )
    job.folder.mkdir()
    (job.folder / "000000-core.mkv").write_bytes(b"mine")
    call = InTurn.__call__

    def two(self: InTurn, work: Any, segments: Any, *rest: Any) -> Any:
        yield from call(self, work, segments[:2], *rest)
        raise KeyboardInterrupt

    InTurn.__call__ = two  # type: ignore[method-assign, assignment]
    try:
        assert run(list(job.arguments)) == 130
    finally:
        InTurn.__call__ = call  # type: ignore[method-assign]
    shutil.copytree(job.folder, job.before)
    return job


def flipped(data: bytes, random_: random.Random) -> bytes:
    """Some bits are others."""
    content = bytearray(data)
    for _ in range(random_.randint(1, 8)):
        content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    return bytes(content)


def cut(data: bytes, random_: random.Random) -> bytes:
    """The end is missing."""
    return data[: random_.randrange(len(data))]


def spliced(data: bytes, random_: random.Random) -> bytes:
    """A piece is somewhere else too, or gone."""
    first, last = sorted(random_.randrange(len(data)) for _ in range(2))
    place = random_.randrange(len(data))
    piece = data[first:last]
    return data[:first] + data[last:] if place % 2 else data[:place] + piece + data[place:]


def shuffled(data: bytes, random_: random.Random) -> bytes:
    """Lines come in another order, or twice."""
    lines = data.splitlines(keepends=True)
    return b"".join(random_.choices(lines, k=random_.randint(0, 2 * len(lines))))


def large(data: bytes, random_: random.Random) -> bytes:
    """Much of something, behind a first line or in its place."""
    piece = random_.choice(
        [b"[", b"9", b'{"a":', b"[],", b'"ab",', b"\0", b"\n", b'{"steps": {}}\n']
    )
    much = piece * (random_.choice((1 << 12, 1 << 20, 1 << 26)) // len(piece))
    first = data[: data.index(b"\n") + 1]
    return random_.choice((much, first + much, first + much + b"\n" + data, much + b"\n" + first))


def forged(data: bytes, random_: random.Random) -> bytes:
    """A value is another one, and the hash of its line says that it was written so."""
    lines = data.splitlines()
    number = random_.choice((0, random_.randrange(len(lines))))
    content = json.loads(lines[number])
    del content["sha256"]
    places = [*_places(content)]
    holder, key = random_.choice(places)
    way = random_.randrange(4)
    if way == 0 and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif way == 1:
        del holder[key]
    else:
        holder[key] = random_.choice(_HOSTILE)
    lines[number] = sealed(content)[:-1]
    return b"\n".join(lines) + b"\n"


def _places(value: Any) -> Any:
    """Every place in plain data, as what holds it and its key."""
    keys = list(value) if isinstance(value, dict) else range(len(value))
    for key in keys:
        yield value, key
        if isinstance(value[key], (dict, list)):
            yield from _places(value[key])


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(forged, forged, forged, flipped, cut, spliced, shuffled, large),
)


def run_case(seed: int, job: Job, worker: Worker) -> Case:
    """Tamper with the journal as the seed says, and give it to every command."""
    random_ = random.Random(seed)
    mutation = MUTATIONS[seed % len(MUTATIONS)]
    data = mutation((job.before / "out.mkv.starvsr" / "journal.jsonl").read_bytes(), random_)
    partial = str(job.folder / "partial.mkv")
    lines = {
        "finish": ("finish", str(job.journal.parent), partial, "--quiet"),
        "upscale": job.arguments,
        "upscale --no-resume": (*job.arguments, "--no-resume"),
    }
    outcomes: dict[str, Outcome] = {}
    failures = []
    for command, arguments in lines.items():
        if command.endswith("--no-resume") and seed % 20:
            continue
        job.reset()
        job.journal.write_bytes(data)
        before = _listing(job.folder)
        outcomes[command] = outcome = worker.run(arguments)
        failures += [f"{command}: {failure}" for failure in failures_of(outcome)]
        after = _listing(job.folder)
        after.pop("partial.mkv", None)
        if (outcome.code == 9 or command == "finish") and after != before:
            failures.append(f"{command}: changes something")
        if after.get("000000-core.mkv") != b"mine":
            failures.append(f"{command}: touches a file outside")
    return Case(seed, mutation.__name__, outcomes, tuple(failures))


def failures_of(outcome: Outcome) -> list[str]:
    """What is wrong with an outcome whatever the journal was; empty is well."""
    failures = []
    if outcome.hung or outcome.seconds > LONGEST_S:
        failures.append(f"takes {outcome.seconds:.1f} s")
    if outcome.code not in _CODES:
        failures.append(f"ends with code {outcome.code}: {outcome.err[-500:]}")
    if outcome.peak_bytes > MOST_BYTES:
        failures.append(f"takes {outcome.peak_bytes >> 20} MiB")
    return failures


def _listing(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def main() -> int:
    """Exit code: 1 where anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.journals", description=__doc__)
    parser.add_argument("seeds", nargs="*", type=int, help="seeds to run (default: 0..999)")
    parser.add_argument("--count", type=int, default=1000, help="how many seeds (default 1000)")
    options = parser.parse_args()
    cases = []
    with tempfile.TemporaryDirectory() as name:
        job, worker = broken_off(Path(name)), Worker()
        for seed in options.seeds or range(options.count):
            cases.append(run_case(seed, job, worker))
            for failure in cases[-1].failures:
                print(f"seed {seed} ({cases[-1].what}): {failure}")
                sys.stdout.flush()
        worker.stop()
    outcomes = [outcome for case in cases for outcome in case.outcomes.values()]
    codes = Counter(outcome.code for outcome in outcomes)
    print(", ".join(f"{count} x code {code}" for code, count in sorted(codes.items())))
    slowest = max(outcome.seconds for outcome in outcomes)
    peak = max(outcome.peak_bytes for outcome in outcomes) >> 20
    failed = sum(bool(case.failures) for case in cases)
    print(
        f"{len(cases)} journals, slowest {slowest:.1f} s, most memory {peak} MiB, {failed} failed"
    )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
