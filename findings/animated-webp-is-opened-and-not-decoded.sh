#!/usr/bin/env bash
# Question:  Does libav decode an animated WebP file, as it does GIF and APNG?
# Guess:     Yes: it opens the file, says that it has one WebP stream, and has a decoder for WebP.
# Behaviour: No: its decoder knows single pictures only, skips the chunks of an animation and then finds no picture.
#            The demuxer opens the file, with size 0x0; only decoding fails, with an error that could as well be a
#            damaged file. Pillow reads all frames.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Pillow 12.0.0, Python 3.11, Linux x86-64
# Seen:      webp: InvalidDataError; gif and png (APNG): 4 frames; Pillow: 4 frames of each
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0 pillow==12.0.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av
from PIL import Image

pictures = [Image.new("RGB", (64, 48), (40 * number, 30, 30)) for number in range(4)]
for suffix in ("webp", "gif", "png"):
    name = f"clip.{suffix}"
    pictures[0].save(name, save_all=True, append_images=pictures[1:], duration=100)
    with Image.open(name) as image, av.open(name) as clip:
        try:
            result = len(list(clip.decode(video=0)))
        except av.error.FFmpegError as error:
            result = type(error).__name__
        stream = clip.streams.video[0]
        print(suffix, stream.codec_context.name, f"{stream.width}x{stream.height}", result, "Pillow", image.n_frames)
PYTHON
)
expected='webp webp 0x0 InvalidDataError Pillow 4
gif gif 64x48 4 Pillow 4
png apng 64x48 4 Pillow 4'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
