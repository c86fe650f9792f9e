#!/usr/bin/env bash
# Question:  What does libav make of an animated AVIF with alpha, as Pillow writes it?
# Guess:     One video stream of four frames with alpha, such as yuva420p; that is what Pillow itself reads.
# Behaviour: Four streams: the still picture that the file shows where it is not played, its alpha, the sequence, and
#            its alpha. Alpha is a grey stream of its own, marked by nothing that PyAV shows. The first video stream,
#            which `decode(video=0)` takes, is one opaque frame; `streams.best` chooses the sequence, without its
#            alpha.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Pillow 12.0.0 (its bundled libavif), Python
#            3.11, Linux x86-64
# Seen:      streams 0 yuv420p 1 frame, 1 gray 1, 2 yuv420p 4, 3 gray 4; best 2; decode(video=0) gives 1; Pillow
#            reads 4 of RGBA
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

pictures = [Image.new("RGBA", (64, 48), (40 * number, 30, 30, 80)) for number in range(4)]
pictures[0].save("clip.avif", save_all=True, append_images=pictures[1:], duration=100)
with av.open("clip.avif") as clip:
    for stream in clip.streams:
        print(stream.index, stream.type, stream.codec_context.pix_fmt, stream.frames)
    print("best", clip.streams.best("video").index)
    print("decode(video=0)", *(frame.format.name for frame in clip.decode(video=0)))
with Image.open("clip.avif") as image:
    print("Pillow", image.n_frames, image.mode)
PYTHON
)
expected='0 video yuv420p 1
1 video gray 1
2 video yuv420p 4
3 video gray 4
best 2
decode(video=0) yuv420p
Pillow 4 RGBA'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
