#!/usr/bin/env bash
# Question:  Is the sample aspect ratio that is set on PyAV's encoder found again in the file?
# Guess:     Yes, in every container that has a field for it; Matroska and WebM have DisplayWidth and DisplayHeight.
# Behaviour: The mp4 muxer takes it from the encoder, and H.264 has it in its bitstream. The muxer of Matroska and
#            WebM takes it only from libav's stream, which PyAV neither sets nor lets set (it is read-only), so for
#            VP9, AV1 and FFV1 it is lost without a word.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      4/3 in .mp4, and in .mkv with H.264; none in .mkv with VP9 and FFV1; 1 in .webm
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
from fractions import Fraction

import av

kinds = [("libx264", "mkv"), ("libvpx-vp9", "mp4"), ("libvpx-vp9", "mkv"), ("libvpx-vp9", "webm"), ("ffv1", "mkv")]
for codec, suffix in kinds:
    name = f"{codec}.{suffix}"
    with av.open(name, "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for number in range(2):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with av.open(name) as clip:
        print(name, clip.streams.video[0].sample_aspect_ratio)
PYTHON
)
expected='libx264.mkv 4/3
libvpx-vp9.mp4 4/3
libvpx-vp9.mkv None
libvpx-vp9.webm 1
ffv1.mkv None'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
