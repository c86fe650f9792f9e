#!/usr/bin/env bash
# Question:  GIF frames with a delay of 10 ms: at which rate does libav show them?
# Guess:     10 per second: its demuxer has the option `min_delay` (2 hundredths by default), below which a frame is
#            held for `default_delay` (10), as browsers do.
# Behaviour: 100 per second. Only a delay of 0 becomes 100 ms; 10 ms stay 10 ms, and `min_delay` is taken without
#            complaint and has no effect. ffmpeg 5.1 shows the same file ten times as slowly.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Pillow 12.0.0, Python 3.11, Linux x86-64
# Seen:      0 ms: steps of 10 hundredths; 10 ms: of 1, with and without min_delay; 20 ms: of 2
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

pictures = [Image.new("RGB", (64, 48), (40 * number, 30, 30)) for number in range(4)]
for delay in (0, 10, 20):
    pictures[0].save("clip.gif", save_all=True, append_images=pictures[1:], duration=delay)
    for options in ({}, {"min_delay": "5"}):
        with av.open("clip.gif", options=options) as clip:
            print(f"{delay} ms", *options, *(packet.pts for packet in clip.demux(video=0) if packet.size))
PYTHON
)
expected='0 ms 0 10 20 30
0 ms min_delay 0 10 20 30
10 ms 0 1 2 3
10 ms min_delay 0 1 2 3
20 ms 0 2 4 6
20 ms min_delay 0 2 4 6'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
