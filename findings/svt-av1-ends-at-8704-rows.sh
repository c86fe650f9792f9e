#!/usr/bin/env bash
# Question:  How tall may a picture be that libsvtav1 encodes?
# Guess:     65536 rows, as AV1 allows; or 16384, since that is its limit for the width.
# Behaviour: 16384 columns, but only 8704 rows, so a tall picture is refused that is encoded when it lies on its
#            side. libav's error is EINVAL; the reason is only printed to standard error by the library.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      64x8704 ok, 64x8706 error 22, 8706x64 ok, 16384x64 ok, 16386x64 error 22
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import os

import av

# The library's own lines.
os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

for width, height in ((64, 8704), (64, 8706), (8706, 64), (16384, 64), (16386, 64)):
    try:
        with av.open("clip.mkv", "w") as output:
            stream = output.add_stream("libsvtav1", rate=25, options={"preset": "10"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            frame = av.VideoFrame(width, height, "yuv420p")
            frame.pts = 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode())
        result = "ok"
    except av.error.FFmpegError as error:
        result = f"error {error.errno}"
    print(f"{width}x{height} {result}")
PYTHON
)
expected='64x8704 ok
64x8706 error 22
8706x64 ok
16384x64 ok
16386x64 error 22'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
