"""One pass over the whole video for what headers are unreliable for: times, keyframes, shots, losses."""

from __future__ import annotations

import logging

from av.video.frame import VideoFrame

from starvsr.errors import InputError
from starvsr.media import boxes
from starvsr.media.choice import film_stream
from starvsr.media.deadline import within_deadline
from starvsr.media.decode import FrameDecoder
from starvsr.media.hwaccel import open_for
from starvsr.media.messages import messages_of
from starvsr.media.shots import ShotDetector
from starvsr.media.telecine import FieldMeter, may_have_film
from starvsr.media.timing import durations, nominal_ticks, repair_pts
from starvsr.types import Progress, ProgressCallback, VideoIndex, VideoInfo

logger = logging.getLogger(__name__)

# Reports are cheap, but not free.
_REPORT_EVERY = 50
# A frame's data depends on at most this many later frames: its duration, and whether it begins a shot.
_BEYOND_FRAMES = 32


def build_index(
    info: VideoInfo,
    *,
    scene_detect: bool = True,
    until_s: float | None = None,
    detelecine: str = "off",
    progress: ProgressCallback | None = None,
) -> VideoIndex:
    """Decode the whole video once, in memory that does not grow with the size of its frames.

    scene_detect: also find shot changes; without it `cuts` is empty. until_s: frames from this time on,
    seconds from the first one, are not needed, and most are not read. Damaged sections are skipped and counted in
    `lost_frames`. detelecine: look for film as `auto`, `on` or `off` say. Raises InputError if no frame can be decoded.
    """
    until = float("inf") if until_s is None else until_s / float(info.time_base)
    film = detelecine if may_have_film(detelecine, info.frame_rate) else "off"
    scan = _Scan(info, until, film, scene_detect=scene_detect, progress=progress, one_thread=False)
    # The reader depends on what is lost too: both must see the same frames.
    if scan.failures or scan.lost:
        logger.debug("damaged: reading again with one thread")
        scan = _Scan(
            info, until, film, scene_detect=scene_detect, progress=progress, one_thread=True
        )
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
        film: str,
        *,
        scene_detect: bool,
        progress: ProgressCallback | None,
        one_thread: bool,
    ) -> None:
        self.info = info
        self.raw_pts: list[int | None] = []
        self.keyframes: list[int] = []
        self.last_duration = 0
        self.resized = beyond = 0
        self.sizes: list[tuple[int, int]] = []
        self.aspects = set[object]()
        self.interlaced: list[int] = []
        self.film, self.fields = film, FieldMeter() if film != "off" else None
        self.messages: list[tuple[int, bytes]] = []
        self.shots = ShotDetector() if scene_detect else None
        with open_for(info) as container:
            stream = film_stream(container, info)
            decoder = FrameDecoder(container, stream, one_thread=one_thread)
            for frame in decoder:
                self._take(frame, decoder)
                if progress is not None and decoder.frames % _REPORT_EVERY == 0:
                    progress(_report(info, decoder.frames))
                beyond += (self.raw_pts[-1] or 0) - (self.raw_pts[0] or 0) >= until
                if beyond > _BEYOND_FRAMES:
                    break
            self.failures, self.damaged = decoder.failures, decoder.damaged
            undecoded = max(0, decoder.packets - decoder.frames)
            promised = len(stream.index_entries) if "mp4" in info.container else 0
            missing = max(0, promised - decoder.all_packets)
        self.lost = min(self.failures, undecoded) + missing
        self.whole = beyond <= _BEYOND_FRAMES
        if not self.whole:
            # What was not read is not lost.
            self.lost = self.failures
        elif within_deadline(info.path, lambda: info.path.is_file() and boxes.is_cut(info.path)):
            # A truncated mp4 has the number of samples in its index; other headers have at least a duration.
            expected = 0 if promised else expected_frames(info)
            self.lost = max(1, self.lost, expected - len(self.raw_pts))
        if progress is not None:
            progress(Progress("index", len(self.raw_pts), len(self.raw_pts)))

    def _take(self, frame: VideoFrame, decoder: FrameDecoder) -> None:
        if decoder.at_keyframe:
            self.keyframes.append(len(self.raw_pts))
        if frame.interlaced_frame:
            self.interlaced.append(len(self.raw_pts))
        self.raw_pts.append(frame.pts if frame.pts is not None else frame.dts)
        self.last_duration = frame.duration or 0
        self.sizes = self.sizes or [(frame.width, frame.height)]
        self.resized += (frame.width, frame.height) != self.sizes[0]
        # The decoder's is that of a later frame; a frame's own takes a filter graph.
        self.aspects.add(decoder.context.sample_aspect_ratio)
        self.messages += ((len(self.raw_pts) - 1, each) for each in messages_of(frame))
        if self.fields is not None:
            self.fields.add(frame)
        if self.shots is not None:
            self.shots.add(frame)

    def index(self) -> VideoIndex:
        """The results, with repaired times."""
        info = self.info
        nominal = nominal_ticks(self.raw_pts, info.frame_rate, info.time_base)
        pts = repair_pts(self.raw_pts, nominal)
        cuts = self.shots.cuts() if self.shots is not None else ()
        film = self.fields.film(pts, self.film) if self.fields is not None else ()
        return VideoIndex(
            pts=tuple(pts),
            durations=tuple(durations(pts, self.last_duration or nominal)),
            keyframe_pts=tuple(pts[i] for i in self.keyframes),
            cuts=self.fields.settled(cuts, film) if self.fields is not None else cuts,
            lost_frames=self.lost,
            damaged_frames=self.damaged,
            resized_frames=self.resized,
            changes_aspect=len(self.aspects) > 1,
            interlaced=tuple(self.interlaced),
            film=film,
            whole=self.whole,
            messages=tuple(self.messages),
        )


def expected_frames(info: VideoInfo) -> int:
    """Number of frames from the header, or from its duration and rate; 0 if unknown."""
    if info.header_frames or not info.duration_s or not info.frame_rate:
        return info.header_frames
    return round(info.duration_s * info.frame_rate)


def _report(info: VideoInfo, done: int) -> Progress:
    return Progress("index", done, max(done, expected_frames(info)))
