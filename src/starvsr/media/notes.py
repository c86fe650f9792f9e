"""What a job does to the picture beside enlarging it, and what of it cannot be carried: sentences for people."""

from __future__ import annotations

from starvsr.media.deinterlace import frames_to_deinterlace
from starvsr.options import LookOptions
from starvsr.types import VideoIndex, VideoInfo


def picture_notes(info: VideoInfo, index: VideoIndex, look: LookOptions) -> tuple[str, ...]:
    """One sentence for each. Raises InputError where the picture is too small to be deinterlaced."""
    return tuple(_fields(info, index, look.deinterlace))


def _fields(info: VideoInfo, index: VideoIndex, asked: str) -> list[str]:
    which, marked = frames_to_deinterlace(info, index, asked), index.interlaced_frames
    if which == "all":
        return ["every frame is deinterlaced"]
    if which == "interlaced":
        return [
            f"{marked} of {index.frames} frames are interlaced and are deinterlaced "
            "(--deinterlace off leaves them)"
        ]
    if marked:
        return [f"{marked} of {index.frames} frames are interlaced and stay so"]
    if info.interlaced and asked == "auto":
        return [
            "the header says interlaced, but no frame does, so none is deinterlaced: if it shows combs, give "
            "--deinterlace on"
        ]
    return []
