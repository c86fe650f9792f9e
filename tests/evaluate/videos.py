"""Videos without loss, of given pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
from av.video.stream import VideoStream

from tests.metrics.pictures import Picture, moving


def write(path: Path, pictures: Sequence[Picture], rate: int = 25) -> Path:
    """FFV1 in RGB."""
    height, width = pictures[0].shape[:2]
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=rate)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for picture in pictures:
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="bgr0"))
            )
        container.mux(stream.encode(None))
    return path


def clip(
    count: int = 6, height: int = 48, width: int = 64, step: tuple[int, int] = (2, 1)
) -> list[Picture]:
    """A moving picture."""
    return moving(count, height, width, step)
