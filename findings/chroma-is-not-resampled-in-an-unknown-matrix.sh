#!/usr/bin/env bash
# Question:  A frame tagged BT.2020 with constant luminance (matrix code 10), or ICtCp (14): does PyAV's
#            `frame.reformat` turn 4:2:0 into 4:4:4?
# Guess:     Yes: only the chroma planes are resampled and the matrix stays as it is, so none needs to be known. To
#            RGB it may fail.
# Behaviour: Any change of format fails with EOPNOTSUPP, to grey too, for 8, 10, 12, 13 and 14; a change of size
#            alone works. Matrix 2 (unspecified) works, so a frame without any tag is converted where one with the
#            right tag is not.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      2 and 9: ok; 8, 10, 12, 13 and 14: size ok, to yuv444p, gray and rgb24 error 95
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av

for matrix in (2, 9, 8, 10, 12, 13, 14):
    results = []
    for name in ("yuv420p", "yuv444p", "gray", "rgb24"):
        frame = av.VideoFrame(64, 48, "yuv420p")
        frame.colorspace = matrix
        try:
            frame.reformat(32, 24, name)
            results.append(f"{name} ok")
        except OSError as error:
            results.append(f"{name} error {error.errno}")
    print(matrix, *results)
PYTHON
)
expected='2 yuv420p ok yuv444p ok gray ok rgb24 ok
9 yuv420p ok yuv444p ok gray ok rgb24 ok
8 yuv420p ok yuv444p error 95 gray error 95 rgb24 error 95
10 yuv420p ok yuv444p error 95 gray error 95 rgb24 error 95
12 yuv420p ok yuv444p error 95 gray error 95 rgb24 error 95
13 yuv420p ok yuv444p error 95 gray error 95 rgb24 error 95
14 yuv420p ok yuv444p error 95 gray error 95 rgb24 error 95'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
