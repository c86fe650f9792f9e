"""Put a crop of one frame of a video and of its upscaled version side by side: python crop.py IN OUT PNG."""

import sys
from pathlib import Path

import av
import numpy as np

FRAME = 60
ROWS, COLUMNS = slice(150, 450), slice(400, 850)


def frame_of(path: str) -> av.VideoFrame:
    """The frame number FRAME of a video."""
    with av.open(path) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number == FRAME:
                return frame
    raise SystemExit(f"{path} has no frame {FRAME}")


def save_png(pixels: np.ndarray, path: Path) -> None:
    """Write `h w 3` uint8 RGB as a PNG file."""
    with av.open(str(path), "w", format="image2") as output:
        stream = output.add_stream("png", rate=1)
        stream.height, stream.width = pixels.shape[:2]
        stream.pix_fmt = "rgb24"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        output.mux(stream.encode())


def main() -> None:
    """Left half: the input enlarged by bicubic interpolation. Right half: the output."""
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/crop.py INPUT UPSCALED PICTURE.png")
    source, upscaled, target = sys.argv[1:]
    after = frame_of(upscaled)
    before = frame_of(source).reformat(
        after.width, after.height, format="rgb24", interpolation="BICUBIC"
    )
    halves = [image.to_ndarray(format="rgb24")[ROWS, COLUMNS] for image in (before, after)]
    save_png(np.ascontiguousarray(np.concatenate(halves, axis=1)), Path(target))


if __name__ == "__main__":
    main()
