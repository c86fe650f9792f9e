"""A playable file from the finished parts of an interrupted job, which can still be resumed."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from starvsr.errors import InputError, OutputError, UsageError, WorkDirError
from starvsr.job.journal import Journal, open_begun
from starvsr.job.kept import KeptParts
from starvsr.job.plain import from_plain
from starvsr.job.records import JOB_NOTE, JobFacts
from starvsr.job.request import source_print
from starvsr.job.workdir import check_outside
from starvsr.media.encoder import CONTAINERS, IMAGES
from starvsr.media.fields import made_index, plan_fields
from starvsr.media.files import check_target, errors_of
from starvsr.media.index import build_index
from starvsr.media.join import join
from starvsr.media.pixfmt import find_encoder, layout_of
from starvsr.media.probe import probe
from starvsr.media.scratch import scratch_folder
from starvsr.media.sequence import is_sequence
from starvsr.media.still import STILL
from starvsr.options import RangeOptions, flag_of
from starvsr.plan.pictures import shown_spans
from starvsr.plan.ranges import cut_to_range
from starvsr.plan.segments import Segment
from starvsr.types import Progress, ProgressCallback, VideoIndex, VideoInfo

# A numerator and a denominator that a frame rate may have.
_FPS = re.compile(r"[1-9][0-9]{0,17}(/[1-9][0-9]{0,17})?")
_MOST_SIDE, _MOST_THREADS = 1 << 16, 1 << 10


@dataclass(frozen=True)
class FinishResult:
    """The file made of a job's finished parts."""

    target: Path
    frames: int
    """Frames of the file, which begins with the job's first."""
    of_frames: int
    """Frames of the whole job."""
    left_out: int
    """Finished frames after the first gap."""

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
    """Join what a job has finished, from its beginning up to the first segment that is missing; loads no model.

    folder: the job's work directory, which stays. target: the file to write; None is `STEM-partial` beside the job's
    own. Sound, subtitles and chapters are cut with the picture. Raises UsageError where it is no work directory or in
    use, and where the file to write lies in it; WorkDirError where it is damaged or of another version; InputError
    where the job's input is gone or another one; OutputError where nothing is finished at the beginning or the file
    cannot be written.
    """
    report = progress or (lambda _: None)
    with open_begun(Path(folder).absolute()) as (journal, request), ExitStack() as stack:
        facts = _facts(journal)
        source = Path(facts.source)
        _check_input(source, request)
        place = _place(target, Path(facts.target), folder)
        check_outside(journal.folder, "output", place, "give another OUTPUT")
        check_target(source, place, overwrite=overwrite)
        info, index = _frames(source, facts, request["options"], progress)
        index = cut_to_range(info, index, _range(request["options"]))
        segments = _segments(facts, index)
        stack.enter_context(errors_of(place))
        scratch = stack.enter_context(scratch_folder(place.parent))
        kept = KeptParts(
            info, index, segments, facts.settings, journal, lambda _: None, scratch=scratch
        )
        parts, end = _beginning(kept, len(segments))
        report(Progress("join", 0, 1))
        first = segments[0].first
        join(
            parts,
            info,
            index,
            place,
            facts.settings,
            facts.streams,
            first,
            end,
            work_dir=scratch,
            provenance=facts.provenance,
            overwrite=overwrite,
        )
        report(Progress("join", 1, 1))
    return FinishResult(place, end - first, kept.frames, kept.frames_after(end))


def _frames(
    source: Path, facts: JobFacts, options: dict[str, Any], progress: ProgressCallback | None
) -> tuple[VideoInfo, VideoIndex]:
    """The facts and the index of the frames that the job restores."""
    info = probe(source, Fraction(facts.fps) if facts.fps else None, facts.video_stream)
    repeats = "off" if options.get("--parity") else facts.look.repeats
    index = build_index(
        info,
        # What repeats depends on the shots; the segments are known.
        scene_detect=repeats != "off" and bool(options.get("--scene-detect")),
        gaps=str(options.get("--gaps")),
        detelecine=facts.look.detelecine,
        repeats=repeats,
        progress=progress,
    )
    return made_index(info, index, plan_fields(info, index, facts.look))


def _range(options: dict[str, Any]) -> RangeOptions:
    """What the job restores of its input. Raises UsageError for what no job can have been given."""
    numbers: dict[str, Any] = {
        field.name: value
        for field in dataclasses.fields(RangeOptions)
        if isinstance(value := options.get(flag_of(field.name)), (int, float))
    }
    return RangeOptions(**numbers)


def _beginning(kept: KeptParts, segments: int) -> tuple[list[Path], int]:
    """The parts up to the first missing segment, and the frame behind them. Raises OutputError if there is none."""
    kept.make_seams()
    parts, end = kept.parts()
    if not parts:
        verb = "is" if len(kept.files) == 1 else "are"
        raise OutputError(
            f"nothing is finished at the beginning yet ({len(kept.files)} of {segments} segments {verb}, "
            "after it): resume the job first"
        )
    return parts, end


def _facts(journal: Journal) -> JobFacts:
    """The job as in the journal. Raises WorkDirError for invalid content."""
    try:
        facts = from_plain(JobFacts, journal.notes[JOB_NOTE], "its note job")
        _check_facts(facts)
    except (ValueError, UsageError) as error:
        raise WorkDirError(
            f"the journal in {journal.folder} is invalid: {error}; resume with the same upscale command instead"
        ) from error
    return facts


def _check_facts(facts: JobFacts) -> None:
    """Raise ValueError for values that no job has, OutputError for an encoder that is unavailable."""
    for path in (facts.source, facts.target):
        # Undecodable bytes have an escaped form; anything else is invalid.
        os.fsencode(path)
        if not Path(path).is_absolute() or not Path(path).name:
            raise ValueError("a path is not absolute")
    if facts.fps is not None and not _FPS.fullmatch(facts.fps):
        raise ValueError("the frame rate is not a fraction")
    settings = facts.settings
    if settings.container == STILL:
        raise OutputError(
            "the job writes one picture, which has no parts: give the same upscale command to resume it"
        )
    if settings.container not in (*CONTAINERS.values(), IMAGES):
        raise ValueError("the container is unknown")
    if min(*settings.time_base, *settings.frame_rate, settings.width, settings.height) < 1:
        raise ValueError("a size or a rate is not positive")
    if (
        max(settings.width, settings.height) > _MOST_SIDE
        or not 1 <= settings.threads <= _MOST_THREADS
    ):
        raise ValueError("a size or a number of threads is too large")
    find_encoder(settings.codec)
    layout_of(settings.pix_fmt)


def _segments(facts: JobFacts, index: VideoIndex) -> list[Segment]:
    """The job's segments. Raises WorkDirError if they are not consecutive frames of the input."""
    segments = [Segment(*numbers) for numbers in facts.segments]
    fits = bool(segments) and segments[-1].last <= index.frames and segments[0].first >= 0
    fits = fits and segments[0].head == segments[-1].tail == 0
    for number, segment in enumerate(segments):
        fits = fits and segment.index == number and min(segment.head, segment.tail) >= 0
        fits = fits and segment.core[0] < segment.core[1]
    for before, behind in itertools.pairwise(segments):
        fits = fits and before.tail == behind.head and before.last - before.tail == behind.first
    # By now they lie within the index, so counting their pictures takes no longer than the index did.
    if not fits or any(
        segment.pictures != len(shown_spans(index.repeats, segment.first, segment.last))
        for segment in segments
    ):
        raise WorkDirError(
            f"the segments of the job are not consecutive frames of {facts.source}: give the same upscale command "
            "instead"
        )
    return segments


def _check_input(source: Path, request: dict[str, Any]) -> None:
    """Audio and timestamps come from the input, so it must be unchanged. Raises InputError."""
    try:
        same = source_print(source) == request["input"]["the input"]
    except OSError as error:
        raise InputError(
            f"the job's input {source} cannot be read ({error.strerror or error}): put it back where it was"
        ) from error
    if not same:
        raise InputError(f"the job's input {source} has changed: restore the original file")


def _place(
    given: str | os.PathLike[str] | None, wanted: Path, folder: str | os.PathLike[str]
) -> Path:
    """The file to write. Raises UsageError if its extension is not that of the job's output, `wanted`."""
    if given is None:
        return wanted.with_name(f"{wanted.stem}-partial{wanted.suffix}")
    place = Path(given)
    if place.suffix.lower() != wanted.suffix.lower():
        raise UsageError(
            f"the parts in {folder} are for a {wanted.suffix} file, but {place.name} is not one: give an OUTPUT "
            f"with that extension"
        )
    if is_sequence(wanted) and not is_sequence(place):
        raise UsageError(
            f"the parts in {folder} are for numbered images, and {place.name} is one file: give such as "
            f"{place.stem}-%06d{place.suffix}"
        )
    return place
