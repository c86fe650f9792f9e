#!/usr/bin/env bash
# Question:  What frame rate does PyAV's `average_rate` give for a raw DV file?
# Guess:     25 in PAL (30000/1001 in NTSC): DV has these two rates only, and each frame says which.
# Behaviour: It gives 60000, the inverse of the time base, though packets are 2400 ticks long. `guessed_rate` and
#            `base_rate` are right. A muxer or an encoder that is given the average rate asks for levels that do not
#            exist.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      average 60000, guessed 25, base 25, packets of 1/25 s
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av

with av.open("clip.dv", "w", format="rawvideo") as output:
    stream = output.add_stream("dvvideo", rate=25)
    stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
    for number in range(5):
        frame = av.VideoFrame(720, 576, "yuv420p")
        frame.pts = number
        output.mux(stream.encode(frame))
    output.mux(stream.encode())
with av.open("clip.dv") as clip:
    stream = clip.streams.video[0]
    print("average", stream.average_rate, "guessed", stream.guessed_rate, "base", stream.base_rate)
    print("packets", {packet.duration * stream.time_base for packet in clip.demux(stream) if packet.size})
PYTHON
)
expected='average 60000 guessed 25 base 25
packets {Fraction(1, 25)}'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
