#!/usr/bin/env bash
# Question:  An mp4 file whose edit list begins half a second into its sound: which packets does PyAV demux?
# Guess:     Those that are shown; the demuxer honours edit lists, and decoding gives the right samples.
# Behaviour: All of them. Those that are not shown have negative times and the flag `is_discard`; only decoders heed
#            it. Copied as they are into Matroska, which has no edit list, they become half a second of sound that
#            the source does not play; with the flag gone.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      47 packets, 25 of them discarded, from -0.533 s; mkv: 47 packets, 0 discarded
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import struct
from pathlib import Path

import av

with av.open("whole.mp4", "w") as output:
    stream = output.add_stream("aac", rate=48000, layout="mono")
    for number in range(46):
        frame = av.AudioFrame(format="fltp", layout="mono", samples=1024)
        frame.planes[0].update(bytes(frame.planes[0].buffer_size))
        frame.sample_rate, frame.pts = 48000, 1024 * number
        output.mux(stream.encode(frame))
    output.mux(stream.encode())

# One entry: its length in the clock of the film (1/1000 s), then where it begins, in that of the sound.
content = Path("whole.mp4").read_bytes()
place = content.index(b"elst") + 12
length, begin = struct.unpack_from(">II", content, place)
entry = struct.pack(">II", length - 512, begin + 24 * 1024)
Path("cut.mp4").write_bytes(content[:place] + entry + content[place + 8 :])

with av.open("cut.mp4") as clip, av.open("copy.mkv", "w") as output:
    stream = output.add_stream_from_template(clip.streams.audio[0])
    packets = [packet for packet in clip.demux(audio=0) if packet.size]
    first = float(packets[0].pts * packets[0].time_base)
    print("mp4", len(packets), "packets", sum(packet.is_discard for packet in packets), f"discarded, from {first:.3f} s")
    for packet in packets:
        packet.stream = stream
        output.mux(packet)
with av.open("copy.mkv") as clip:
    packets = [packet for packet in clip.demux(audio=0) if packet.size]
    print("mkv", len(packets), "packets", sum(packet.is_discard for packet in packets), "discarded")
PYTHON
)
expected='mp4 47 packets 25 discarded, from -0.533 s
mkv 47 packets 0 discarded'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
