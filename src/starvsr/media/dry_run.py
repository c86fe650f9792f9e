"""Tries the real muxer before any work: the join of one black frame and the first second of all else."""

from __future__ import annotations

import errno
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from starvsr.errors import OutputError
from starvsr.media.encoder import IMAGES, EncoderSettings, empty_frame, reason_of
from starvsr.media.join import join
from starvsr.media.scratch import scratch_folder
from starvsr.media.source import open_source
from starvsr.media.still import STILL
from starvsr.media.writer import PartWriter
from starvsr.options import StreamOptions
from starvsr.types import VideoIndex, VideoInfo

# What can be left out of an output, by the flag that does so; tried in this order to name what is refused.
_LESS: dict[str, dict[str, Any]] = {
    "--no-metadata": {"metadata": False},
    "--no-chapters": {"chapters": False},
    "--no-attachments": {"attachments": False},
    "--subtitles none": {"subtitles": "none"},
    "--audio none": {"audio": "none"},
}
# Of a large frame, x265 at its usual preset takes seconds; a muxer sees no difference.
_FAST = {codec: {"preset": "ultrafast"} for codec in ("libx264", "libx264rgb", "libx265")}
# Errors of the place of temporary files, not of the muxer.
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


def check_muxer(
    info: VideoInfo, target: Path, settings: EncoderSettings, streams: StreamOptions
) -> None:
    """Join one frame and what the source's other streams have in its first second, to a temporary file.

    Raises OutputError if the muxer refuses any of it, with the flag that leaves it out; for images there is nothing.
    """
    if settings.container in (IMAGES, STILL):
        return
    if streams.audio == "none" or all(each.kind != "audio" for each in info.streams):
        # Only audio ends the reading after a second; subtitles were tried each on its own.
        streams = replace(streams, subtitles="none")
    with scratch_folder() as folder, _disk_errors(folder):
        index, part = _two_frames(info), folder / f"part{settings.part_suffix}"
        fast = {**dict(settings.options), **_FAST.get(settings.codec, {})}
        quick = replace(settings, options=tuple(fast.items()))
        with PartWriter(part, quick, info, settings.width, settings.height) as writer:
            writer.encode(empty_frame(settings), index.pts[0], index.durations[0])

        def refusal(tried: StreamOptions) -> str | None:
            """Why the muxer refuses the file; None if it does not."""
            place = folder / f"joined{target.suffix}"
            try:
                join([part], info, index, place, settings, tried, 0, 1)
            except OutputError as error:
                cause = error.__cause__
                if not isinstance(cause, Exception) or _is_of_the_disk(cause):
                    raise
                return reason_of(cause)
            except ValueError as error:
                return reason_of(error)
            return None

        reason = refusal(streams)
        if reason is not None:
            fewer = {flag: replace(streams, **less) for flag, less in _LESS.items()}
            helps = (
                flag for flag, tried in fewer.items() if tried != streams and refusal(tried) is None
            )
            advice = next(helps, "another --codec")
            raise OutputError(
                f"{target.name}: libav's {settings.container} muxer refuses what the file would contain ({reason}): "
                f"give {advice}, or an output with another extension"
            )


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    """Errors of the disk are the temporary folder's, of which nobody has heard before."""
    try:
        yield
    except OutputError as error:
        if not isinstance(error.__cause__, Exception) or not _is_of_the_disk(error.__cause__):
            raise
        raise OutputError(
            f"temporary files cannot be written in {folder.parent} ({reason_of(error.__cause__)}): make room there, or "
            "set TMPDIR to another folder"
        ) from error.__cause__


def _is_of_the_disk(error: Exception) -> bool:
    return getattr(error, "errno", None) in _OF_THE_DISK


def _two_frames(info: VideoInfo) -> VideoIndex:
    """An index whose first frame is the source's first second."""
    with open_source(info.path) as source:
        first = source.streams[info.stream_index].start_time or 0
    second = max(1, math.ceil(1 / info.time_base))
    return VideoIndex((first, first + second), (second, second), (first,))
