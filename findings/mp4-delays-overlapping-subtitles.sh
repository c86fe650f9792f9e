#!/usr/bin/env bash
# Question:  What becomes of text subtitles in mp4 whose times overlap, such as a sign that is shown while people speak?
# Guess:     Samples of mp4 follow each other, so the muxer ends a line where the next begins, as it does in a file of its own.
# Behaviour: In a file with video, libav's muxer writes the end of each line as soon as another stream gets that far, and moves a
#            line that begins before such an end to 1 ms after it, with its whole length. Lines that follow without a gap are
#            moved on as well, so one overlap of 0.5 s makes all later lines late. Nothing is reported.
# Versions:  av 18.1.0 (libavformat 62.12.102), Python 3.11, Linux x86-64
# Seen:      0+2.5 2.501+2 4.502+2 6.503+2 with video, 0+2 2+2 4+2 6+2 without it; Matroska keeps 0+2.5 2+2 4+2 6+2
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
from av.packet import Packet

MS = Fraction(1, 1000)
# Start and length: the first is still shown when the second begins.
LINES = [(0, 2500), (2000, 2000), (4000, 2000), (6000, 2000)]


def text_packet(number, stream):
    text = f"line {number}".encode()
    mp4 = stream.codec_context.name == "mov_text"
    packet = Packet(len(text).to_bytes(2, "big") + text if mp4 else text)
    packet.stream, packet.time_base = stream, MS
    packet.pts = packet.dts = LINES[number][0]
    packet.duration = LINES[number][1]
    return packet


for suffix, codec in (("mp4", "mov_text"), ("mkv", "subrip")):
    for film in (True, False):
        packets = []
        with av.open(f"lines.{suffix}", "w") as output:
            if film:
                video = output.add_stream("mpeg4", rate=5)
                video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
                for number in range(45):
                    frame = av.VideoFrame(64, 48, "yuv420p")
                    frame.pts = number
                    packets += video.encode(frame)
                packets += video.encode(None)
            lines = output.add_stream(codec)
            lines.codec_context.subtitle_header = b"[Script Info]\n"
            lines.time_base = MS
            packets += [text_packet(number, lines) for number in range(len(LINES))]
            for packet in sorted(packets, key=lambda each: each.dts * each.time_base):
                output.mux(packet)
        with av.open(f"lines.{suffix}") as written:
            found = [
                f"{float(each.pts * each.time_base):g}+{float(each.duration * each.time_base):g}"
                for each in written.demux(subtitles=0)
                # Shorter ones are the gaps between lines.
                if each.pts is not None and each.size > 2
            ]
        print(suffix, "with video" if film else "alone", *found)
PYTHON
)
expected='mp4 with video 0+2.5 2.501+2 4.502+2 6.503+2
mp4 alone 0+2 2+2 4+2 6+2
mkv with video 0+2.5 2+2 4+2 6+2
mkv alone 0+2.5 2+2 4+2 6+2'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
