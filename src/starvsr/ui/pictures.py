"""Pictures of videos for the page: a strip of frames, both halves of a preview, the newest finished frame."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from pathlib import Path

import av
from av.video.frame import VideoFrame
from PIL import Image

from starvsr.errors import StarvsrError
from starvsr.job.preview import DIVIDER_PX
from starvsr.job.workdir import CORE
from starvsr.media.choice import film_stream
from starvsr.media.deadline import within_deadline
from starvsr.media.orientation import orientation_of
from starvsr.media.source import open_part, open_source
from starvsr.media.still import STILL
from starvsr.types import VideoInfo

_STRIP, _STRIP_PX = 6, (320, 240)


def frame_strip(info: VideoInfo, folder: Path) -> list[tuple[float, Path]]:
    """Some frames of a video, evenly spaced, as small files in a folder, and their times in seconds.

    Fewer where it cannot be decoded or jumped to. Raises StarvsrError.
    """
    if info.container == STILL:
        with Image.open(info.path) as still:
            return [(0.0, _saved(still.convert("RGB"), folder / "strip-0.jpg"))]
    length = info.duration_s or 0.0
    times = [length * number / _STRIP for number in range(_STRIP)] if length else [0.0]
    return [
        (time_s, _saved(picture, folder / f"strip-{number}.jpg"))
        for number, time_s in enumerate(times)
        if (picture := _frame_near(info, time_s)) is not None
    ]


def halves(preview: Path) -> tuple[Path, Path]:
    """The two sides of a preview's picture, input and result, as files beside it."""
    with Image.open(preview) as picture:
        width = (picture.width - DIVIDER_PX) // 2
        sides = [(0, "input"), (width + DIVIDER_PX, "result")]
        found = []
        for left, name in sides:
            path = preview.with_name(f"{preview.stem}-{name}.png")
            picture.crop((left, 0, left + width, picture.height)).save(path)
            found.append(path)
    return found[0], found[1]


def newest_part(work_dir: Path) -> tuple[int, Path] | None:
    """When the last finished part of a job was written, and its file; None if there is none."""
    with suppress(OSError):
        parts = [p for p in work_dir.iterdir() if CORE.fullmatch(p.name) and p.suffix != ".raw"]
        # A link may lead to anything.
        own = [part for part in parts if not part.is_symlink()]
        return max(((part.stat().st_mtime_ns, part) for part in own), default=None)
    return None


def last_frame(part: Path, picture: Path) -> Path | None:
    """The last frame of a part as a small file; None if the part is gone or cannot be read."""
    with suppress(av.FFmpegError, StarvsrError, OSError), open_part(part) as container:
        frames = deque(container.decode(video=0), maxlen=1)
        if frames:
            return _saved(Image.fromarray(frames[0].to_ndarray(format="rgb24")), picture)
    return None


def _frame_near(info: VideoInfo, time_s: float) -> Image.Image | None:
    def found() -> VideoFrame | None:
        stream = film_stream(container, info)
        if time_s:
            first = stream.start_time or 0
            container.seek(first + int(time_s / float(info.time_base)), stream=stream)
        return next(iter(container.decode(stream)), None)

    with suppress(av.FFmpegError), open_source(info.path) as container:
        frame = within_deadline(info.path, found)
        if frame is not None:
            return Image.fromarray(
                orientation_of(frame).apply(frame.to_ndarray(format="rgb24"))  # type: ignore[arg-type]
            )
    return None


def _saved(picture: Image.Image, path: Path) -> Path:
    picture.thumbnail(_STRIP_PX)
    picture.save(path)
    return path
