"""What of a source must be found again in the output: the list in `docs/fidelity.md`, checked."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.stream import Disposition, Stream

from starvsr.errors import OutputError
from starvsr.job.executor import LastModel
from starvsr.job.run import plan_video, run_job
from starvsr.media.pixfmt import layout_of
from starvsr.media.probe import probe
from starvsr.options import DeviceOptions, EncodeOptions, SizeOptions, UpscaleOptions
from starvsr.types import VideoIndex, VideoInfo
from tests.media.clips import Payload, heard, payloads, tone
from tests.media.jobs import opened
from tests.media.matrix import Case, cover_data, home, write_source
from tests.media.seen import differences
from tests.media.test_audio import place_of

MS = Fraction(1, 1000)
# Audio and subtitle codecs that a target can hold a copy of, and what the others become: lossy, lossless, text.
HELD = {
    ".mp4": {"aac", "flac", "opus", "ac3", "mp2", "alac", "mov_text"},
    ".mov": {"aac", "alac", "ac3", "mp2", "mov_text"},
    ".mkv": {"aac", "flac", "opus", "ac3", "mp2", "alac", "subrip", "ass"},
    ".webm": {"opus", "webvtt"},
}
BECOMES = {
    ".mp4": ("aac", "flac", "mov_text"),
    ".mov": ("aac", "alac", "mov_text"),
    ".mkv": ("opus", "flac", "subrip"),
    ".webm": ("opus", "opus", "webvtt"),
}
# Where a cover picture can be.
COVERED = (".mp4", ".mkv")
LOSSLESS = {"flac", "alac"}
TEXTS = {"subrip", "ass", "mov_text", "webvtt"}
PLAIN = {
    "mov_text": b"\x00\x09Two\nlines",
    "webvtt": b"Two\nlines",
    "subrip": b"Two\nlines",
}
STYLED = {**PLAIN, "webvtt": b"<i>Two</i>\nlines"}
# Two codes of one language, of which QuickTime has one.
SAME_LANGUAGE = {"ger": "deu"}


def _without_adts(data: bytes) -> bytes:
    """AAC of a transport stream has a header in each packet, which other containers do not have."""
    return data[7:] if data[:2] == b"\xff\xf1" else data


class _Said(logging.Handler):
    """Keeps warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


class Runner:
    """Restores cases with the embedded model, loaded once, and compares."""

    def __init__(self) -> None:
        self._models = LastModel()

    def problems(self, case: Case, folder: Path) -> list[str]:
        """What the output of a case lacks, one line each."""
        source, target = write_source(case, folder), folder / f"target{case.target}"
        said = _Said()
        logger = logging.getLogger("starvsr")
        logger.addHandler(said)
        try:
            notes = self._restore(source, target)
        except OutputError as error:
            return [] if _is_refused(case, str(error)) else [f"refused: {error}"]
        finally:
            logger.removeHandler(said)
        if _is_refused(case, ""):
            return ["is not refused"]
        return [
            *_Comparison(case, source, target).problems(),
            *_said(case, source, target, [*said.lines, *notes]),
            *differences(source, target),
        ]

    def _restore(self, source: Path, target: Path) -> tuple[str, ...]:
        """Do the job; what its plan says of the picture."""
        codec = "auto" if target.suffix == ".webm" else "libx264"
        options = UpscaleOptions(
            model="nano",
            size=SizeOptions(scale=2),
            encode=EncodeOptions(codec, preset=None if codec == "auto" else "ultrafast"),
            device=DeviceOptions("cpu"),
        )
        job = plan_video(source, target, options)
        run_job(job, models=self._models)
        return job.notes


def _is_refused(case: Case, message: str) -> bool:
    """Whether a case is one that must be refused, and for the right reason (an empty one is always right)."""
    if case.picture == "anamorphic" and case.target == ".webm":
        return not message or "sample aspect 4/3" in message
    return False


def _codecs(path: Path, *kinds: str) -> list[str]:
    with av.open(str(path)) as container:
        return [
            stream.codec_context.codec.canonical_name
            for stream in container.streams
            if stream.type in kinds
        ]


def _wanted(codec: str, target: str) -> str:
    if codec == "mp2" and target == ".mp4":
        # Its packets, unchanged; mp4 has one name for all layers of MPEG audio.
        return "mp3"
    if codec in HELD[target]:
        return codec
    lossy, lossless, text = BECOMES[target]
    return text if codec in TEXTS else lossless if codec in LOSSLESS else lossy


def _said(case: Case, source: Path, target: Path, lines: list[str]) -> Iterator[str]:
    """Every change must be said, once, and nothing else."""
    expected = [
        f"({codec}) is {'converted to' if codec in TEXTS else 'encoded by'}"
        for codec in _codecs(source, "audio", "subtitle")
        if codec not in HELD[case.target]
    ]
    if case.extra == "font" and case.target != ".mkv":
        expected.append("font.ttf is left out")
    if case.extra == "cover" and case.target not in COVERED:
        expected.append("cover picture")
    with av.open(str(source)) as opened:
        roles = [each.disposition & Disposition.comment for each in _of_kind(opened, "audio")]
    if any(roles) and case.target in (".webm", ".mov"):
        expected.append("stream roles are left out")
    if case.picture == "interlaced":
        expected.append("are interlaced and are deinterlaced")
    before, behind = (layout_of(probe(path).pix_fmt) for path in (source, target))
    if case.picture == "alpha" and not behind.alpha:
        expected.append("alpha, if it has any, is left out")
    if sum(behind.chroma_shift) > sum(before.chroma_shift):
        expected.append("chroma becomes 4:2:0")
    if behind.depth < before.depth:
        expected.append(f"{before.depth} bits become {behind.depth}")
    if len(lines) != len(expected) or not all(any(e in line for line in lines) for e in expected):
        yield f"said {lines}, and should say {expected}"


def _depth(case: Case, depth: int) -> int:
    """The bits that are left: VP9, the one codec of webm with alpha, has it with 8; others have no more than 10."""
    return 8 if case.picture == "alpha" and case.target == ".webm" else min(depth, 10)


class _Comparison:
    """One output beside its source."""

    def __init__(self, case: Case, source: Path, target: Path) -> None:
        self.case, self.source, self.target = case, source, target
        self.old, self.old_index = opened(source)
        self.new, self.new_index = opened(target)
        # A broadcast's clock begins at 0.
        self.shift = self._first(self.old, self.old_index) - self._first(self.new, self.new_index)

    @staticmethod
    def _first(info: VideoInfo, index: VideoIndex) -> Fraction:
        return index.pts[0] * info.time_base

    def problems(self) -> Iterator[str]:
        """One line for each difference."""
        yield from self._picture()
        yield from self._times()
        yield from self._streams("audio")
        yield from self._streams("subtitle")
        for kind, compare in (("audio", self._sound), ("subtitle", self._lines)):
            numbers = [range(len(_codecs(path, kind))) for path in (self.source, self.target)]
            for which in min(numbers, key=len):
                yield from compare(which)
        yield from self._container()

    def _picture(self) -> Iterator[str]:
        old, new = self.old, self.new
        size = (old.width * 2, old.height * 2)
        yield from _unlike("size", size, (new.width, new.height))
        yield from _unlike("rotation", 0, new.rotation)
        yield from _unlike("sample aspect", old.sample_aspect, new.sample_aspect)
        yield from _unlike("bit depth", _depth(self.case, old.bit_depth), new.bit_depth)
        for name in ("matrix", "primaries", "transfer"):
            yield from _unlike(name, getattr(old.color, name), getattr(new.color, name))

    def _times(self) -> Iterator[str]:
        if self.old_index.frames != self.new_index.frames:
            yield f"{self.new_index.frames} frames of {self.old_index.frames}"
            return
        if home(self.case) != ".ts" and abs(self.shift) > self.new.time_base:
            yield f"the video begins {float(self.shift):.4f} s early"
        for number in range(self.old_index.frames):
            before = self.old_index.pts[number] * self.old.time_base - self.shift
            behind = self.new_index.pts[number] * self.new.time_base
            if abs(before - behind) > self.new.time_base:
                yield f"frame {number} is at {float(behind):.4f} s, not {float(before):.4f}"

    def _streams(self, kind: str) -> Iterator[str]:
        codecs = _codecs(self.source, kind)
        yield from _unlike(
            f"{kind} codecs",
            [_wanted(codec, self.case.target) for codec in codecs],
            _codecs(self.target, kind),
        )
        with av.open(str(self.source)) as old, av.open(str(self.target)) as new:
            yield from self._dispositions(kind, old, new)
            pairs = zip(_of_kind(old, kind), _of_kind(new, kind), strict=False)
            for number, (before, behind) in enumerate(pairs):
                yield from _unlike_streams(f"{kind} {number}", before, behind)

    def _dispositions(self, kind: str, *files: InputContainer) -> Iterator[str]:
        before, behind = (_dispositions(_of_kind(each, kind), self.case.target) for each in files)
        yield from _unlike(f"dispositions of {kind}", before, behind)

    def _sound(self, which: int) -> Iterator[str]:
        codec = _codecs(self.source, "audio")[which]
        if codec in HELD[self.case.target]:
            yield from _unlike(
                f"payloads of audio {which}",
                [_without_adts(packet.data) for packet in payloads(self.source, "audio")[which]],
                [packet.data for packet in payloads(self.target, "audio")[which]],
            )
        (start, rate, old), (new_start, new_rate, new) = (
            heard(path, which) for path in (self.source, self.target)
        )
        before = start - self.shift + Fraction(place_of(tone(0.3, rate), old), rate)
        behind = new_start + Fraction(place_of(tone(0.3, new_rate), new), new_rate)
        # Clocks of 1 ms round pictures and sound, each by half of one; a sample is what is measured.
        if abs(before - behind) > MS + Fraction(1, new_rate):
            yield f"audio {which} is {float(behind - before) * 1000:.2f} ms late"
        yield from _unlike(f"channels of audio {which}", len(old), len(new))

    def _lines(self, which: int) -> Iterator[str]:
        old, new = (_shown(path, which) for path in (self.source, self.target))
        codec = _codecs(self.source, "subtitle")[which]
        becomes = _wanted(codec, self.case.target)
        lines = STYLED if codec == "ass" else PLAIN
        expected = [line.data if becomes == codec else lines[becomes] for line in old]
        found = [line.data for line in new]
        if len(found) != len(expected) or not all(
            have.startswith(want) for have, want in zip(found, expected, strict=True)
        ):
            yield f"subtitles are {found}, not {expected}"
        for before, behind in zip(old, new, strict=False):
            if abs(before.start - self.shift - behind.start) > MS:
                yield f"a subtitle is at {float(behind.start):.4f} s, not {float(before.start):.4f}"

    def _container(self) -> Iterator[str]:
        with av.open(str(self.source)) as old, av.open(str(self.target)) as new:
            for name in ("title", "artist"):
                if name in _lower(old.metadata):
                    yield from _unlike(
                        name, _lower(old.metadata)[name], _lower(new.metadata).get(name)
                    )
            yield from _unlike("chapters", _chapters(old), _chapters(new))
            before, behind = (_of_kind(each, "video")[0] for each in (old, new))
            yield from _unlike_streams("video", before, behind)
            yield from self._dispositions("video", old, new)
            fonts = {each.name: each.data for each in old.streams.attachments}
            held = {each.name: each.data for each in new.streams.attachments}
            yield from _unlike("fonts", fonts if self.case.target == ".mkv" else {}, held)
        if self.case.extra == "cover" and self.case.target in COVERED:
            yield from _unlike("cover", cover_data(self.source.parent), _cover(self.target))


def _unlike(what: str, before: object, behind: object) -> Iterator[str]:
    if before != behind:
        yield f"{what}: {behind!r}, not {before!r}"


def _unlike_streams(name: str, before: Stream, behind: Stream) -> Iterator[str]:
    languages = [SAME_LANGUAGE.get(each.language or "", each.language) for each in (before, behind)]
    # mp4 says "und" where nobody said anything.
    languages = [None if each == "und" else each for each in languages]
    yield from _unlike(f"language of {name}", *languages)
    yield from _unlike(f"title of {name}", _title(before), _title(behind))


def _title(stream: Stream) -> str | None:
    # What libav writes as a title into an mp4, it reads as a name.
    return stream.metadata.get("title", stream.metadata.get("name"))


def _dispositions(streams: list[Stream], target: str) -> list[Disposition]:
    found = [stream.disposition for stream in streams]
    # mp4 always has a default stream of each kind.
    if target in (".mp4", ".mov") and not any(each & Disposition.default for each in found):
        found[:1] = [each | Disposition.default for each in found[:1]]
    if target in (".webm", ".mov"):
        found = [each & (Disposition.default | Disposition.forced) for each in found]
    return found


def _of_kind(container: InputContainer, kind: str) -> list[Stream]:
    return [
        stream
        for stream in container.streams
        if stream.type == kind and not stream.disposition & Disposition.attached_pic
    ]


def _shown(path: Path, which: int) -> list[Payload]:
    return [line for line in payloads(path, "subtitle")[which] if line.data != b"\0\0"]


def _chapters(container: InputContainer) -> list[tuple[float, float, Any]]:
    return [
        (
            round(float(each["start"] * (each["time_base"] or 0)), 3),
            round(float(each["end"] * (each["time_base"] or 0)), 3),
            each["metadata"].get("title"),
        )
        for each in container.chapters()
    ]


def _cover(path: Path) -> bytes:
    with av.open(str(path)) as container:
        for stream in container.streams.video:
            if stream.disposition & Disposition.attached_pic:
                return next(bytes(packet) for packet in container.demux(stream))
    return b""


def _lower(tags: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value for key, value in tags.items()}
