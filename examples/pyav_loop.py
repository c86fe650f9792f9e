"""Frames from PyAV, restored as they come and encoded with their times; for filters of your own in between.

python examples/pyav_loop.py examples/butterfly.mp4 butterfly-2x.mkv
"""

import sys
from collections.abc import Iterator

import av
import numpy as np

import starvsr

SCALE = 2


def main(source: str, target: str, model: str = "nano") -> None:
    restorer = starvsr.Restorer.from_name(model)
    times: list[int | None] = []
    with av.open(source) as given, av.open(target, "w") as made:
        video = given.streams.video[0]
        encoder = made.add_stream("libx264", rate=video.average_rate or 25, options={"crf": "17"})
        encoder.width, encoder.height = SCALE * video.width, SCALE * video.height
        encoder.pix_fmt = "yuv420p"
        if video.time_base is not None:
            encoder.codec_context.time_base = video.time_base

        def frames() -> Iterator[np.ndarray]:
            for frame in given.decode(video):
                times.append(frame.pts)
                # 16 bits, so that no gradient has steps before the encoder's.
                yield frame.to_ndarray(format="rgb48le")

        for picture in restorer.stream(frames(), scale=SCALE):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb48le")
            frame.pts, frame.time_base = times.pop(0), video.time_base
            made.mux(encoder.encode(frame))
        made.mux(encoder.encode())


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python examples/pyav_loop.py INPUT OUTPUT [MODEL]")
    try:
        main(*sys.argv[1:])
    except (starvsr.StarvsrError, OSError) as error:
        sys.exit(f"error: {error}")
