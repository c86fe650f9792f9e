#!/usr/bin/env bash
# Question:  Does libav read WebVTT in a Matroska file?
# Guess:     Yes: the Matroska specification names the codec S_TEXT/WEBVTT, mkvmerge uses it, and libav both reads
#            and writes WebVTT.
# Behaviour: libav knows only WebM's older names, D_WEBVTT/SUBTITLES and its siblings, and writes them into .mkv too.
#            A stream with the specified name has no codec at all, though its packets are there. Here the name of a
#            file that libav wrote is replaced, and an EBML void fills the rest.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      D_WEBVTT/SUBTITLES webvtt, S_TEXT/WEBVTT None, with a packet in both
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
from fractions import Fraction
from pathlib import Path

import av

OLD, NEW = b"D_WEBVTT/SUBTITLES", b"S_TEXT/WEBVTT"

with av.open("old.mkv", "w") as output:
    video = output.add_stream("libx264", rate=25)
    video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
    lines = output.add_mux_stream("webvtt")
    output.start_encoding()
    for number in range(20):
        frame = av.VideoFrame(64, 48, "yuv420p")
        frame.pts = number
        output.mux(video.encode(frame))
    output.mux(video.encode())
    packet = av.Packet(b"A line")
    packet.stream, packet.time_base = lines, Fraction(1, 1000)
    packet.pts = packet.dts = 100
    packet.duration = 300
    output.mux(packet)

# CodecID is element 0x86; 0xEC is a void, whose own two bytes count too.
old = bytes([0x86, 0x80 + len(OLD)]) + OLD
new = bytes([0x86, 0x80 + len(NEW)]) + NEW
new += bytes([0xEC, 0x80 + len(old) - len(new) - 2]).ljust(len(old) - len(new), b"\0")
content = Path("old.mkv").read_bytes()
assert content.count(old) == 1
Path("new.mkv").write_bytes(content.replace(old, new))

for name, codec_id in (("old.mkv", OLD), ("new.mkv", NEW)):
    with av.open(name) as clip:
        stream = clip.streams[1]
        codec = stream.codec_context.name if stream.codec_context else None
        packets = sum(1 for packet in clip.demux(stream) if packet.size)
        print(codec_id.decode(), stream.type, codec, packets)
PYTHON
)
expected='D_WEBVTT/SUBTITLES subtitle webvtt 1
S_TEXT/WEBVTT subtitle None 1'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
