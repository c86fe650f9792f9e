#!/usr/bin/env bash
# Question:  One video stream and two chapters are written to .mp4: which streams does the file have?
# Guess:     One: chapters are metadata, as in Matroska.
# Behaviour: Two. Chapters are written as a text track as QuickTime does it, which reads as a data stream without a
#            codec, beside the chapters themselves. So what copies or counts all streams meets one that nobody added.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      .mkv: video; .mp4: video, data; two chapters in both
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

CHAPTERS = [
    {"id": 1, "start": 0, "end": 80, "time_base": Fraction(1, 1000), "metadata": {"title": "One"}},
    {"id": 2, "start": 80, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "Two"}},
]
for name in ("clip.mkv", "clip.mp4"):
    with av.open(name, "w") as output:
        output.set_chapters(CHAPTERS)
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with av.open(name) as clip:
        print(name, *(stream.type for stream in clip.streams), *(each["metadata"]["title"] for each in clip.chapters()))
PYTHON
)
expected='clip.mkv video One Two
clip.mp4 video data One Two'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
