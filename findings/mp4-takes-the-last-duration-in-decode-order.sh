#!/usr/bin/env bash
# Question:  A last frame that is shown for two seconds: does an mp4 file keep its duration?
# Guess:     Yes: mp4 has a duration for every sample, and the muxer is given it with the packet. It works in a clip
#            without B-frames, which is what one tries.
# Behaviour: Only if the last frame shown is also the last one decoded. The duration of a sample is the distance to
#            the next decode time, so only the last packet muxed has a duration that counts. With B-frames that is
#            another frame, and the two seconds are lost, in the file and stream durations too. Matroska keeps them
#            either way.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      mp4: 2000 ms without B-frames, 40 ms with; mkv: 2000 ms and 2000 ms
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

for suffix in ("mp4", "mkv"):
    for b_frames in (0, 2):
        with av.open("clip.mkv", "w") as output:
            options = {"bf": str(b_frames), "x264-params": "b-adapt=0:scenecut=0"}
            stream = output.add_stream("libx264", rate=25, options=options)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(6):
                frame = av.VideoFrame(64, 48, "yuv420p")
                frame.pts = number
                output.mux(stream.encode(frame))
            output.mux(stream.encode())
        with av.open("clip.mkv") as clip, av.open(f"held.{suffix}", "w") as output:
            stream = output.add_stream_from_template(clip.streams.video[0])
            for packet in clip.demux(video=0):
                if packet.size:
                    packet.duration = 2000 if packet.pts == 200 else 40
                    packet.stream = stream
                    output.mux(packet)
        with av.open(f"held.{suffix}") as held:
            base = held.streams.video[0].time_base
            last = max((packet for packet in held.demux(video=0) if packet.size), key=lambda packet: packet.pts)
            print(suffix, b_frames, last.duration * base / Fraction(1, 1000), held.duration // 1000)
PYTHON
)
expected='mp4 0 2000 2200
mp4 2 40 240
mkv 0 2000 2200
mkv 2 2000 2200'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
