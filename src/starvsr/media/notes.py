"""What a job does to the picture beside enlarging it, and what of it cannot be carried: sentences for people."""

from __future__ import annotations

from starvsr.media.deinterlace import frames_to_deinterlace
from starvsr.media.encoder import EncoderSettings
from starvsr.media.hdr import hdr_options
from starvsr.media.pixfmt import layout_of
from starvsr.options import LookOptions
from starvsr.types import HdrInfo, VideoIndex, VideoInfo


def picture_notes(
    info: VideoInfo, index: VideoIndex, settings: EncoderSettings, look: LookOptions
) -> tuple[str, ...]:
    """One sentence for each. Raises InputError where the picture is too small to be deinterlaced."""
    return (
        *_fields(info, index, look.deinterlace),
        *_alpha(info, settings),
        *_dynamic_range(info.hdr, settings.codec),
    )


def _dynamic_range(hdr: HdrInfo, codec: str) -> list[str]:
    notes = []
    if (hdr.display or hdr.light) and not hdr_options(codec, hdr):
        notes.append(
            f"what the source says of its mastering display and light is left out: {codec} cannot be told; "
            "--codec libx265, libx264 and libsvtav1 can"
        )
    if hdr.dynamic:
        kinds = " and ".join(hdr.dynamic)
        notes.append(
            f"{kinds} is left out: it belongs to the source's own frames; the picture below it is restored"
        )
    return notes


def _alpha(info: VideoInfo, settings: EncoderSettings) -> list[str]:
    if not layout_of(info.pix_fmt).alpha or settings.alpha:
        return []
    return [
        f"its alpha is left out: {settings.codec} {settings.pix_fmt} in {settings.container} has none; "
        "--codec ffv1 in .mkv, prores_ks in .mov or libvpx-vp9 in .webm keep it"
    ]


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
