"""Frames from OpenCV, of a file or of a camera by its number, restored as they come (pip install opencv-python).

python examples/opencv_loop.py examples/butterfly.mp4 butterfly-2x.mp4
"""

import sys

import starvsr

SCALE = 2


def main(source: str, target: str, model: str = "nano") -> None:
    import cv2

    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if not capture.isOpened():
        sys.exit(f"error: OpenCV cannot open {source}")
    size = [
        SCALE * int(capture.get(side))
        for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
    ]
    rate = capture.get(cv2.CAP_PROP_FPS) or 25
    writer = cv2.VideoWriter(target, cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    stream = starvsr.Restorer.from_name(model).open_stream(scale=SCALE)
    try:
        is_open = True
        while is_open:
            is_open, frame = capture.read()
            # OpenCV's colours are blue, green, red. What it says of a file's length is only an estimate.
            restored = stream.push(frame[..., ::-1]) if is_open else stream.flush()
            for picture in restored:
                writer.write(picture[..., ::-1].copy())
    except starvsr.StarvsrError as error:
        sys.exit(f"error: {error}")
    finally:
        capture.release()
        writer.release()


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: python examples/opencv_loop.py INPUT OUTPUT [MODEL]")
    main(*sys.argv[1:])
