"""One real file through `info`, `plan` and `upscale`, and the result beside what ffprobe sees of the file."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.corpus.compare import differences
from tests.corpus.difference import Difference
from tests.corpus.ffprobe import Facts, FfprobeError, facts_of
from tests.corpus.stills import SUFFIXES, still_differences
from tests.fuzz.cases import failures_of
from tests.fuzz.worker import Outcome, Worker

SHORT_SIDE = 32
OPTIONS = ("--model", "nano", "--resolution", str(SHORT_SIDE))
"""Whole files, as small as the encoders take them: nearly all time is decoding."""
LONGEST_S = 300.0
# A few frames of 8K at full size, at 16 bits a component, while they are made small.
MOST_BYTES = 8 << 30
_KEPT_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
_DONE = (0, 8)
_REFUSED = 3
_SAID = re.compile(r"^(?:note|warning|error)(?:: | +)(.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Record:
    """What a file came to."""

    file: str
    """Relative to the folder."""
    state: str
    """`restored`, `damaged` (lost frames are said), `refused by both`, `refused`, `ffprobe cannot`, `failed`."""
    seconds: float
    codes: dict[str, int]
    said: tuple[str, ...]
    """Lines of notes, warnings and errors of `upscale`."""
    wrong: tuple[Difference, ...]
    """Differences that no line tells of."""
    told: tuple[Difference, ...]
    """Differences that one does."""

    def as_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Record:
        """The opposite of `as_json`."""
        lists = {key: tuple(Difference(**each) for each in said[key]) for key in ("wrong", "told")}
        return cls(**{**said, **lists, "said": tuple(said["said"])})


def run_file(folder: Path, file: Path, worker: Worker, options: Sequence[str] = ()) -> Record:
    """Use a file of a folder; nothing is written beside it. options: more ones of `plan` and `upscale`."""
    try:
        source: Facts | str = facts_of(file)
    except FfprobeError as error:
        source = str(error)
    with tempfile.TemporaryDirectory() as name:
        suffix = file.suffix.lower()
        target = Path(name) / f"out{suffix if suffix in _KEPT_SUFFIXES else '.mkv'}"
        # VP9's encoder has no presets.
        pace = () if suffix == ".webm" else ("--preset", "ultrafast")
        job = [str(file), str(target), *OPTIONS, *pace, *options]
        outcomes = {
            "info": worker.run(["info", str(file)]),
            "plan": worker.run(["plan", *job]),
            "upscale": worker.run(["upscale", *job]),
        }
        found = [*_command_faults(outcomes), *_result(source, outcomes["upscale"], file, target)]
        shutil.rmtree(f"{target}.starvsr", ignore_errors=True)
    said = tuple(_SAID.findall(outcomes["upscale"].err))
    told = [each for each in found if _is_told(each, said)]
    return Record(
        file=str(file.relative_to(folder)),
        state=_state(source, outcomes["upscale"]),
        seconds=round(sum(each.seconds for each in outcomes.values()), 2),
        codes={command: outcome.code for command, outcome in outcomes.items()},
        said=said,
        wrong=tuple(each for each in found if each not in told),
        told=tuple(told),
    )


def not_compared(folder: Path, file: Path, error: Exception) -> Record:
    """The record of a file that the driver itself failed on."""
    wrong = Difference("the driver itself", "", f"{type(error).__name__}: {error}"[:500])
    return Record(str(file.relative_to(folder)), "failed", 0.0, {}, (), (wrong,), ())


def _state(source: Facts | str, outcome: Outcome) -> str:
    reads = isinstance(source, Facts) and bool(source.frames)
    if outcome.code in _DONE:
        return "ffprobe cannot" if not reads else "damaged" if outcome.code else "restored"
    if outcome.code == _REFUSED and not reads:
        return "refused by both"
    return "refused" if outcome.code > 1 else "failed"


def _command_faults(outcomes: dict[str, Outcome]) -> Iterator[Difference]:
    for command, outcome in outcomes.items():
        for failure in failures_of(outcome, LONGEST_S, MOST_BYTES):
            yield Difference(f"{command} itself", "", failure[:500])
    codes = {command: outcome.code for command, outcome in outcomes.items()}
    if codes["plan"] == 0 and codes["upscale"] not in _DONE:
        yield Difference("known before the work", "plan: 0", f"upscale: {codes['upscale']}")
    if codes["plan"] != 0 and codes["plan"] != codes["upscale"]:
        yield Difference("plan's code", str(codes["upscale"]), str(codes["plan"]))
    planned, said = (
        {line for line in _SAID.findall(outcomes[name].out + outcomes[name].err) if "lost" not in line}
        for name in ("plan", "upscale")
    )  # fmt: skip
    for line in sorted(said - planned) if codes["upscale"] in _DONE else ():
        yield Difference("plan's words", line, "not said by plan")


def _result(
    source: Facts | str, outcome: Outcome, file: Path, target: Path
) -> Iterator[Difference]:
    if outcome.code not in _DONE:
        if isinstance(source, Facts) and source.frames:
            error = "".join(_SAID.findall(outcome.err)[-1:])
            yield Difference(
                "restored", f"{len(source.frames)} frames", f"code {outcome.code}: {error}"[:500]
            )
        return
    try:
        output = facts_of(target)
    except FfprobeError as error:
        yield Difference("output is read", "", str(error))
        return
    if not output.frames:
        yield Difference("output has frames", "some", "0")
        return
    if file.suffix.lower() in SUFFIXES:
        yield from still_differences(file, output, SHORT_SIDE)
    if isinstance(source, Facts) and source.frames:
        yield from differences(source, output, (file, target), SHORT_SIDE)


def _is_told(difference: Difference, said: Sequence[str]) -> bool:
    return bool(difference.words) and any(
        re.search(difference.words, line, re.IGNORECASE) for line in said
    )
