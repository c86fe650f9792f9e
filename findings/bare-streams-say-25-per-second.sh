#!/usr/bin/env bash
# Question:  H.264 and HEVC state their rate in the stream. What does PyAV say of a bare .h264 or .hevc file that
#            states 50?
# Guess:     `average_rate` is 50: there is nothing else that it could be.
# Behaviour: `average_rate` is 25, the demuxer's default, for both, whatever the stream says; packets have no times.
#            `guessed_rate` is 50, and `base_rate` is 100 for H.264, whose clock ticks twice a frame, and 50 for
#            HEVC.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      h264: average 25, guessed 50, base 100; hevc: average 25, guessed 50, base 50
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av

for codec, suffix, options in (("libx264", "h264", {}), ("libx265", "hevc", {"x265-params": "log-level=error"})):
    with av.open(f"clip.{suffix}", "w") as output:
        stream = output.add_stream(codec, rate=50, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(50):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with av.open(f"clip.{suffix}") as clip:
        stream = clip.streams.video[0]
        print(suffix, "average", stream.average_rate, "guessed", stream.guessed_rate, "base", stream.base_rate)
        print(suffix, "times", {packet.pts for packet in clip.demux(stream) if packet.size})
PYTHON
)
expected='h264 average 25 guessed 50 base 100
h264 times {None}
hevc average 25 guessed 50 base 50
hevc times {None}'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
