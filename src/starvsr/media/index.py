"""One pass over the whole video for what headers are unreliable for: times, keyframes, shots, losses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from av.video.frame import VideoFrame

from starvsr.errors import InputError
from starvsr.media import boxes
from starvsr.media.choice import film_stream
from starvsr.media.clock import (
    begun_later,
    counted_times,
    frame_times,
    in_order,
    last_length,
    nominal_ticks,
    reorder_depth,
    rises,
)
from starvsr.media.deadline import within_deadline
from starvsr.media.decode import FrameDecoder
from starvsr.media.hwaccel import open_for
from starvsr.media.messages import messages_of
from starvsr.media.repeats import RepeatDetector
from starvsr.media.shifts import Steps, decided
from starvsr.media.shots import ShotDetector
from starvsr.media.steps import Watch
from starvsr.media.still import STILL, still_index
from starvsr.media.telecine import FieldMeter, may_have_film
from starvsr.media.timing import durations
from starvsr.options import DEFAULT_FPS
from starvsr.types import Progress, ProgressCallback, VideoIndex, VideoInfo

logger = logging.getLogger(__name__)

# Reports are cheap, but not free.
_REPORT_EVERY = 50
# libav's decoders that drop the picture they keep for reordering where the size changes, without a word.
_KEEPS_ONE = ("mpeg1video", "mpeg2video")
# A frame's data depends on at most this many later frames: its duration, and whether it begins a shot.
_BEYOND_FRAMES = 32


def build_index(
    info: VideoInfo,
    *,
    scene_detect: bool = True,
    gaps: str = "auto",
    until_s: float | None = None,
    detelecine: str = "off",
    repeats: str = "off",
    progress: ProgressCallback | None = None,
) -> VideoIndex:
    """Decode the whole video once, in memory that does not grow with its length.

    scene_detect: also find shot changes; without it `cuts` is empty. gaps: `auto`, `close` or `keep` (see
    `media.steps`). until_s: frames from this time on, seconds from the first one, are not needed, and most are not
    read. detelecine: look for film as `auto`, `on` or `off` say. repeats: look for frames that show the one before them
    again, as `exact`, `near` or `off` say. Damaged sections are skipped and counted in `lost_frames`. Raises InputError
    if no frame can be decoded.
    """
    if info.container == STILL:
        return still_index()
    until = float("inf") if until_s is None else until_s / float(info.time_base)
    film = detelecine if may_have_film(detelecine, info.frame_rate) else "off"
    wanted = scene_detect, gaps, film, repeats
    scan = _Scan(info, until, wanted, progress, one_thread=False)
    # The reader depends on what is lost too: both must see the same frames.
    if scan.failures or scan.lost > scan.leading:
        logger.debug("damaged: reading again with one thread")
        scan = _Scan(info, until, wanted, progress, one_thread=True)
    if not scan.raw_pts:
        raise InputError(f"{info.path}: no frame of its video can be decoded")
    if scan.damaged:
        logger.warning(
            "%d frames of %s are damaged: the decoder concealed the missing parts",
            scan.damaged,
            info.path,
        )
    return scan.index()


class _Scan:
    """One pass and its results, frame by frame."""

    def __init__(
        self,
        info: VideoInfo,
        until: float,
        wanted: tuple[bool, str, str, str],
        progress: ProgressCallback | None,
        *,
        one_thread: bool,
    ) -> None:
        """wanted: `scene_detect`, `gaps`, `detelecine` and `repeats` of `build_index`."""
        scene_detect, gaps, film, repeats = wanted
        self.info = info
        self.raw_pts: list[int | None] = []
        self.has_pts = False
        self.guessed: list[int] = []
        """Frames whose time is that of decoding."""
        self.lengths: list[int] = []
        self.keyframes: list[int] = []
        beyond = 0
        self.values: dict[str, set[object]] = {"size": set(), "sample aspect": set()}
        self.size: tuple[int, int] | None = None
        self.resized = 0
        """How often the size changes."""
        self.interlaced: list[int] = []
        self.film, self.fields = film, FieldMeter() if film != "off" else None
        self.messages: list[tuple[int, bytes]] = []
        self.shots = ShotDetector() if scene_detect else None
        self.repeats = RepeatDetector(repeats) if repeats != "off" else None
        with open_for(info) as container:
            stream = film_stream(container, info)
            self.watch = Watch(container, stream, gaps)
            decoder = FrameDecoder(container, stream, one_thread=one_thread, watch=self.watch)
            for frame in decoder:
                self._take(frame, decoder)
                if progress is not None and decoder.frames % _REPORT_EVERY == 0:
                    progress(_report(info, decoder.frames))
                beyond += (self.raw_pts[-1] or 0) - (self.raw_pts[0] or 0) >= until
                if beyond > _BEYOND_FRAMES:
                    break
            self.failures, self.damaged = decoder.failures, decoder.damaged
            undecoded = max(0, decoder.packets - decoder.frames)
            self.end = (stream.start_time or 0) + (stream.duration or 0)
            promised = len(stream.index_entries) if "mp4" in info.container else 0
            missing = max(0, promised - decoder.all_packets)
        self.leading = self.watch.leading.count(info, undecoded)
        self.whole = beyond <= _BEYOND_FRAMES
        self.lost = self._count_lost(undecoded, promised, missing)
        if progress is not None:
            progress(Progress("index", len(self.raw_pts), len(self.raw_pts)))

    def _count_lost(self, undecoded: int, promised: int, missing: int) -> int:
        """Frames that cannot be decoded. undecoded: packets less frames; missing: samples promised and not there."""
        failures = self.failures + self.leading
        if self.info.codec in _KEEPS_ONE:
            failures += self.resized
        if not self.whole:
            # What was not read is not lost.
            return failures
        lost, path = min(failures, undecoded) + missing, self.info.path
        if within_deadline(path, lambda: path.is_file() and boxes.is_cut(path)):
            lost = max(lost, self._cut_off(promised))
        return lost

    def _cut_off(self, promised: int) -> int:
        """Frames that a file lacks which is shorter than its structure says."""
        if promised and self.info.header_frames:
            # An mp4 lists every sample: if all are there, only a box's length is wrong.
            return 0
        expected = 0 if promised else expected_frames(self.info)
        return expected - len(self.raw_pts) if expected else 1

    def _take(self, frame: VideoFrame, decoder: FrameDecoder) -> None:
        if decoder.at_keyframe:
            self.keyframes.append(len(self.raw_pts))
        if frame.interlaced_frame:
            self.interlaced.append(len(self.raw_pts))
        if frame.pts is None and frame.dts is not None:
            self.guessed.append(len(self.raw_pts))
        self.raw_pts.append(frame.pts if frame.pts is not None else frame.dts)
        self.lengths.append(frame.duration or 0)
        self.has_pts |= frame.pts is not None
        # The clock may step between a frame's decoding and its display.
        self.watch.frame(frame.pts if self.has_pts else frame.dts)
        size = frame.width, frame.height
        self.resized += self.size not in (None, size)
        self.size = size
        self.values["size"].add(size)
        # The decoder's is that of a later frame; a frame's own takes a filter graph.
        self.values["sample aspect"].add(decoder.context.sample_aspect_ratio)
        self.messages += ((len(self.raw_pts) - 1, each) for each in messages_of(frame))
        if self.fields is not None:
            self.fields.add(frame)
        if self.shots is not None:
            self.shots.add(frame)
        if self.repeats is not None:
            self.repeats.add(frame)

    def _stated(self) -> list[int | None]:
        """The frames' times, but of few known ones none that is uncertain."""
        stamps = list(self.raw_pts)
        if not self.has_pts or 2 * stamps.count(None) < len(stamps):
            return stamps
        uncertain = set(self.guessed)
        known = [n for n, stamp in enumerate(stamps) if stamp is not None and n not in uncertain]
        for number, following in pairwise(known):
            # Two that begin in one packet of a program stream have the same time, which is that of one of them.
            if stamps[number] == stamps[following]:
                uncertain |= {number, following}
        return [None if n in uncertain else stamp for n, stamp in enumerate(stamps)]

    def _shown(self) -> tuple[list[int | None], int]:
        """Times by the container of the frames as they are shown, and the usual ticks of one."""
        info, stamps, delay = self.info, self._stated(), self.watch.delay
        is_decode_order = self.watch.in_order and not rises(stamps)
        raw = in_order(stamps) if is_decode_order else stamps
        nominal = nominal_ticks(raw, self.lengths, info.frame_rate, info.time_base)
        if (is_decode_order and self.leading) or (
            self.watch.is_bare and _is_early(raw, nominal, info.time_base)
        ):
            raw = begun_later(raw, nominal)
        if info.container == "avi" and delay:
            raw = counted_times(raw, delay, nominal)
        elif info.container == "asf" and is_decode_order:
            raw = counted_times(raw, delay - reorder_depth(stamps) * nominal, nominal)
        return raw, nominal

    def index(self) -> VideoIndex:
        """The results, with true times."""
        info, stamps, base = self.info, self.raw_pts, self.info.time_base
        raw, nominal = self._shown()
        steps = decided(self.watch, nominal)
        pts = frame_times(raw, self.lengths, nominal, base, steps)
        left = self.end - (raw[-1] or 0) if self.whole and not self.lost else 0
        own = ((info.stream_index, frame, seconds) for frame, seconds in steps.frames)
        _tell(info, steps, pts)
        cuts = self.shots.cuts() if self.shots is not None else ()
        film = self.fields.film(pts, base, self.film) if self.fields is not None else ()
        return VideoIndex(
            pts=tuple(pts),
            durations=tuple(durations(pts, last_length(info, self.lengths[-1], nominal, left))),
            keyframe_pts=tuple(pts[i] for i in self.keyframes),
            cuts=self.fields.settled(cuts, film) if self.fields is not None else cuts,
            lost_frames=self.lost,
            damaged_frames=self.damaged,
            interlaced=tuple(self.interlaced),
            film=film,
            changing=tuple(name for name, values in self.values.items() if len(values) > 1),
            whole=self.whole,
            messages=tuple(self.messages),
            stamps=tuple(stamps) if stamps != pts else (),
            repeats=self.repeats.found(cuts) if self.repeats is not None else (),
            equal=self.repeats.equal(cuts) if self.repeats is not None else (),
            shifts=(*own, *steps.shifts),
        )


def _is_early(stamps: Sequence[int | None], nominal: int, base: Fraction) -> bool:
    """Whether the first picture of a bare stream is held: libav may not know yet that others are shown before it, or
    the stream's rate."""
    first, second = (*stamps, None, None)[:2]
    if first is None or second is None:
        return False
    return second - first >= 2 * nominal or second - first == 1 / (DEFAULT_FPS * base) != nominal


def _tell(info: VideoInfo, steps: Steps, pts: Sequence[int]) -> None:
    """Say what the clock does, in one line."""
    if steps.lengths:
        first, more = steps.lengths[0], len(steps.lengths) - 1
        begins = (pts[steps.frames[0][0]] - pts[0]) * info.time_base if steps.frames else None
        logger.warning(
            "%s: the clock %s steps %s by %.3f s%s%s: what follows goes on without a gap%s",
            info.path,
            "of its sound" if begins is None else f"at {float(begins):.3f} s",
            "ahead" if first > 0 else "back",
            abs(first),
            f" (frame {steps.frames[0][0]})" if steps.frames else "",
            f", and {more} times more" if more else "",
            "; --gaps keep holds the picture instead" if max(steps.lengths) > 0 else "",
        )
    if steps.kept:
        logger.warning(
            "%s: a picture is held for %.3f s in which no other stream plays; --gaps close leaves such gaps out",
            info.path,
            max(steps.kept),
        )


def expected_frames(info: VideoInfo) -> int:
    """Number of frames from the header, or from its duration and rate; 0 if unknown."""
    if info.header_frames or not info.duration_s or not info.frame_rate:
        return info.header_frames
    return round(info.duration_s * info.frame_rate)


def _report(info: VideoInfo, done: int) -> Progress:
    return Progress("index", done, max(done, expected_frames(info)))
