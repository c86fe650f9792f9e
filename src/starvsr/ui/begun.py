"""Jobs that were begun and not finished, as their work directories tell."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from starvsr.errors import StarvsrError, UsageError
from starvsr.job.records import JOB_NOTE, Records, read_records
from starvsr.job.request import recorded_options, weights_of
from starvsr.job.workdir import JOURNAL, is_begun, open_begun_dir
from starvsr.options import UpscaleOptions
from starvsr.specs import SPECS
from starvsr.types import DeviceInfo
from starvsr.ui.access import Roots
from starvsr.ui.commands import upscale_command
from starvsr.zoo.choose import choose_model

# A model that is named is the same on any.
_NO_DEVICE = DeviceInfo("cpu", "", 0, 1)


@dataclass(frozen=True)
class Begun:
    """A work directory and what it says of its job."""

    folder: Path
    target: Path
    done: int
    """Segments that are finished."""
    segments: int
    arguments: tuple[str, ...]
    """Of the command that resumes it; empty where `problem` says why there is none."""
    problem: str = ""
    can_finish: bool = False
    """Whether what is finished may be made a file: it is known, and all that it names may be read and written here."""
    model: Mapping[str, object] = field(default_factory=dict)
    """What the job's identity says of it."""


def begun_in(folder: Path, roots: Roots) -> list[Begun]:
    """The jobs whose work directories `NAME.starvsr` lie in a folder, by name; nothing is changed."""
    found = []
    for path in sorted(folder.glob("*.starvsr")):
        with suppress(OSError, UsageError):
            if is_begun(roots.inside(path)):
                found.append(
                    _with_weights(_begun(roots, path, (path / JOURNAL).stat().st_mtime_ns))
                )
    return found


def discard(folder: Path) -> None:
    """Remove the work directory of a job, but nothing in it that is not starvsr's own. Raises StarvsrError."""
    open_begun_dir(folder).remove()


@lru_cache(maxsize=256)
def _begun(roots: Roots, folder: Path, _written_ns: int) -> Begun:
    """What a journal says, which is read again once it was written again."""
    try:
        records = read_records(folder / JOURNAL)
        if records is None:
            raise UsageError("it is just being removed")
        return _told(roots, folder, records)
    except (StarvsrError, OSError) as error:
        return Begun(folder, folder, 0, 0, (), str(error))
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # An intact line of a journal may still say anything.
        problem = f"its journal is not as this version writes it ({error!r})"
        return Begun(folder, folder, 0, 0, (), problem)


def _told(roots: Roots, folder: Path, records: Records) -> Begun:
    facts = records.notes[JOB_NOTE]
    source, target = roots.source(facts["source"]), roots.inside(facts["target"])
    done = sum(step.startswith("core-") for step in records.steps)
    segments, model = len(facts["segments"]), records.request["model"]["--model"]
    problem = ""
    if model not in SPECS:
        problem = f"its model {model} was given as a file: give the same command to resume it"
    options = records.request["options"]
    if options.get("-e"):
        # An encoder may be told to write files of its own, wherever.
        problem = "it has encoder options (-e): give the same command to resume it"
    if strange := sorted(options.keys() - recorded_options(UpscaleOptions()).keys()):
        raise UsageError(f"its journal contains {strange[0]}, which no job writes there")
    given = {"--model": model, **options}
    if records.request["place"].get("--compile"):
        given["--compile"] = True
    arguments = [] if problem else upscale_command(source, target, given)
    if arguments and folder.name != f"{target.name}.starvsr":
        arguments += ["--work-dir", str(folder)]
    can_finish = not options.get("-e")
    said = records.request["model"]
    return Begun(folder, target, done, segments, tuple(arguments), problem, can_finish, said)


def _with_weights(begun: Begun) -> Begun:
    """Without a command where a model's name gives other weights than the job began with: files have any name."""
    if begun.problem:
        return begun
    name = str(begun.model["--model"])
    try:
        weights = weights_of(choose_model(name, _NO_DEVICE))
    except (StarvsrError, OSError):
        weights = {}
    if {"--model": name, **weights} == begun.model:
        return begun
    problem = (
        f"the weights of {name} are missing here, or not those that it began with, such as of a file: give the same "
        "command to resume it"
    )
    return replace(begun, arguments=(), problem=problem)
