"""A playable file from what an interrupted job has finished; the job can still go on behind it."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from starvsr.errors import InputError, OutputError, UsageError
from starvsr.job.journal import Journal, open_begun
from starvsr.job.kept import JOB_NOTE, KeptParts
from starvsr.job.request import source_print
from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import check_target
from starvsr.media.index import build_index
from starvsr.media.join import join
from starvsr.media.probe import probe
from starvsr.options import StreamOptions
from starvsr.plan.plan import Segment
from starvsr.types import ColorInfo, Progress, ProgressCallback


@dataclass(frozen=True)
class FinishResult:
    """What was made of a job's finished parts."""

    target: Path
    frames: int
    """Of the file, from the job's first one on."""
    of_frames: int
    """Of the whole job."""
    left_out: int
    """Frames that are finished too, but behind ones that are not."""

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        return {**dataclasses.asdict(self), "target": str(self.target)}


def finish_job(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> FinishResult:
    """Join what a job has finished, from its beginning up to the first segment that is missing, without its model.

    folder: the job's work directory, which stays. target: the file to write; None is `STEM-partial` beside the job's
    own. Sound, subtitles and chapters are cut with the picture. Raises UsageError where it is no work directory, of
    another version, or in use; InputError where the job's input is gone or another one; OutputError where nothing is
    finished at the beginning or the file cannot be written.
    """
    report = progress or (lambda _: None)
    with open_begun(Path(folder).absolute()) as (journal, request):
        facts = _facts(journal)
        source, wanted = Path(facts["source"]), Path(facts["target"])
        place = Path(target) if target is not None else _beside(wanted)
        _check_input(source, request)
        if place.suffix.lower() != wanted.suffix.lower():
            raise UsageError(
                f"the parts in {folder} are for a {wanted.suffix} file, and {place.name} is none: give an OUTPUT "
                f"that ends so"
            )
        check_target(source, place, overwrite=overwrite)
        info = probe(source, Fraction(facts["fps"]) if facts["fps"] else None)
        index = build_index(info, scene_detect=False, progress=progress)
        settings = _settings(facts["settings"])
        segments = [Segment(*numbers) for numbers in facts["segments"]]
        kept = KeptParts(info, index, segments, settings, journal, lambda _: None)
        kept.make_seams()
        parts, end = kept.parts()
        if not parts:
            verb = "is" if len(kept.files) == 1 else "are"
            raise OutputError(
                f"nothing is finished at the beginning yet ({len(kept.files)} of {len(segments)} segments {verb}, "
                "behind it): go on with the job first"
            )
        report(Progress("join", 0, 1))
        streams, first = StreamOptions(**facts["streams"]), segments[0].first
        join(
            parts,
            info,
            index,
            place,
            settings,
            streams,
            first,
            end,
            provenance=facts["provenance"],
        )
        report(Progress("join", 1, 1))
        left_out = sum(
            files.segment.core[1] - files.segment.core[0]
            for files in kept.files.values()
            if files.segment.first >= end
        )
    return FinishResult(place, end - first, kept.frames, left_out)


def _facts(journal: Journal) -> dict[str, Any]:
    facts = journal.notes.get(JOB_NOTE)
    if not isinstance(facts, dict):
        raise UsageError(
            f"the job in {journal.folder} was begun by a version of starvsr that did not note where its input is: go "
            "on with the same upscale command instead"
        )
    return facts


def _check_input(source: Path, request: dict[str, Any]) -> None:
    """Sound and times come from the input, so it must still be the job's. Raises InputError."""
    try:
        same = source_print(source) == request["input"]["the input"]
    except OSError as error:
        raise InputError(
            f"the job's input {source} cannot be read ({error.strerror or error}): put it back where it was"
        ) from error
    if not same:
        raise InputError(f"the job's input {source} is another file now: put the old one back")


def _beside(target: Path) -> Path:
    return target.with_name(f"{target.stem}-partial{target.suffix}")


def _settings(facts: dict[str, Any]) -> EncoderSettings:
    """Encoder settings from their plain data."""
    pairs = tuple((key, value) for key, value in facts["options"])
    return EncoderSettings(
        **{
            **facts,
            "options": pairs,
            "color": ColorInfo(**facts["color"]),
            "time_base": tuple(facts["time_base"]),
            "frame_rate": tuple(facts["frame_rate"]),
        }
    )
