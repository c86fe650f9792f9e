#!/usr/bin/env bash
# Question:  In which order are the times of frames that libav decodes from an AVI file with B-frames?
# Guess:     Ascending, as from every other container: a decoder returns frames in the order in which they are shown.
# Behaviour: An AVI file has no presentation times. Its demuxer numbers packets in decode order and gives that number
#            as pts too, so frames come in the right order with times that jump back and forth. Sorting the times of
#            all frames gives the right ones.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      pts 1 4 3 5 2 8 7 9 6 12
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av

options = {"bf": "3", "x264-params": "b-adapt=0:b-pyramid=normal:scenecut=0:keyint=50"}
with av.open("clip.avi", "w") as output:
    stream = output.add_stream("libx264", rate=25, options=options)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(20):
        frame = av.VideoFrame(64, 48, "yuv420p")
        frame.pts = number
        output.mux(stream.encode(frame))
    output.mux(stream.encode())
with av.open("clip.avi") as clip:
    times = [frame.pts for frame in clip.decode(video=0)]
print("frames, all once:", sorted(times) == list(range(times[0], times[0] + 20)))
print("pts", *times[:10])
PYTHON
)
expected='frames, all once: True
pts 1 4 3 5 2 8 7 9 6 12'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
