"""One broken file through `info`, `plan` and `upscale`, and what must hold of each whatever the file is."""

from __future__ import annotations

import re
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import av

from starvsr.media.probe import probe
from tests.fuzz.mutations import broken
from tests.fuzz.sources import SOURCES
from tests.fuzz.worker import LONGEST_S, Outcome, Worker

MOST_BYTES = 3 << 29
# Done, usage, input, memory, output, done with losses. 1 would be a bug.
_CODES = (0, 2, 3, 5, 7, 8)
_DONE = (0, 8)
# Further lines of an error are indented.
_LINE = re.compile(
    r"(error|warning|note): \S|  \S|(reading|restoring|joining|loading model): |[^ ].*: \d+ frames? in "
    r"|\d+ frames?, \d+x\d+ -> |finished parts are kept in "
)
_LONGEST_ERROR = 600


@dataclass(frozen=True)
class Case:
    """What a broken file came to."""

    seed: int
    what: str
    """The source and what was done to it."""
    outcomes: dict[str, Outcome]
    failures: tuple[str, ...]
    """What should not have been; empty is well."""


def whole_files(folder: Path) -> dict[str, tuple[str, bytes]]:
    """File name ending and content of every source, made in an empty folder."""
    found = {}
    for name, write in SOURCES.items():
        place = folder / name
        place.mkdir()
        path = write(place)
        found[name] = path.suffix, path.read_bytes()
    return found


def run_case(seed: int, whole: dict[str, tuple[str, bytes]], folder: Path, worker: Worker) -> Case:
    """Put the file of a seed into an empty folder, use it, and empty the folder again."""
    what, name, content = broken(seed, whole)
    source, target = folder / name, folder / f"out{('.mkv', '.mp4', '.mov')[seed % 3]}"
    source.write_bytes(content)
    options = ["--model", "nano", "--scale", "2", "--preset", "ultrafast"]
    # Some as far as they go, and some from a place that may not be there.
    options += (["--frames", "2"], ["--start", "0.08"], [])[seed // 3 % 3]
    lines = {
        "info": ["info", str(source)],
        "info --json": ["info", "--json", str(source)],
        "plan": ["plan", str(source), str(target), *options],
        "upscale": ["upscale", str(source), str(target), *options],
    }
    outcomes: dict[str, Outcome] = {}
    failures = []
    for command, arguments in lines.items():
        outcomes[command] = outcome = worker.run(arguments)
        failures += [f"{command}: {failure}" for failure in failures_of(outcome)]
        left = {path.name for path in folder.iterdir()} - {name}
        done = command == "upscale" and outcome.code in _DONE
        allowed = {target.name} if done else {f"{target.name}.starvsr"} if outcome.kept else set()
        if left != allowed:
            failures.append(f"{command}: leaves {sorted(left)}")
        elif done:
            failures += _result_failures(target)
    if source.read_bytes() != content:
        failures.append("the input was changed")
    shutil.rmtree(folder)
    folder.mkdir()
    return Case(seed, what, outcomes, tuple(failures))


def failures_of(
    outcome: Outcome, longest_s: float = LONGEST_S, most_bytes: int = MOST_BYTES
) -> list[str]:
    """What is wrong with an outcome whatever the file was; empty is well."""
    failures = []
    if outcome.hung or outcome.seconds > longest_s:
        failures.append(f"takes over {longest_s:.0f} s")
    if outcome.code < 0:
        failures.append(f"dies of signal {-outcome.code}")
    elif not outcome.hung and outcome.code not in _CODES:
        failures.append(f"ends with code {outcome.code}: {outcome.err[-500:]}")
    if outcome.peak_bytes > most_bytes:
        failures.append(f"takes {outcome.peak_bytes / 2**30:.2f} GiB")
    if "Traceback" in outcome.err:
        failures.append(f"prints a traceback: {outcome.err[-500:]}")
    errors = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    wanted = 0 if outcome.code in _DONE else 1
    if outcome.code >= 0 and not outcome.hung and len(errors) != wanted:
        failures.append(f"prints {len(errors)} errors, not {wanted}: {outcome.err[-500:]}")
    failures += [f"a long error: {line}" for line in errors if len(line) > _LONGEST_ERROR]
    strange = [line for line in outcome.err.split("\n") if line and not _LINE.match(line)]
    if strange:
        failures.append(f"prints {strange[:3]!r}")
    raw = {each for each in outcome.out + outcome.err if unsafe(each)}
    if raw:
        failures.append(f"sends {sorted(raw)!r} to the terminal")
    return failures


def unsafe(character: str) -> bool:
    """Whether a terminal would obey a character, or show others in another order or place."""
    if character in "\n\t":
        return False
    kind = unicodedata.category(character)
    return (
        kind in ("Cc", "Cs", "Zl", "Zp")
        or character in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    )


def _result_failures(target: Path) -> list[str]:
    try:
        probe(target)
        with av.open(str(target), metadata_errors="replace") as container:
            frames = sum(1 for _ in container.decode(video=0))
    except Exception as error:
        return [f"upscale: its result cannot be read: {type(error).__name__}: {error}"]
    return [] if frames else ["upscale: its result holds no frame"]
