#!/usr/bin/env bash
# Question:  Does libx264, on one thread, give the same stream of the same frames every time?
# Guess:     Yes: x264 is deterministic, and its assembler gives what its C code gives.
# Behaviour: Not with the macroblock tree (on by default) on a CPU with AVX-512, where the number of macroblocks in a row is
#            no multiple of 16 (336, 848 or 1920 columns; 1280 is one). It reads memory that nobody wrote: the stream
#            depends on the byte with which glibc's MALLOC_PERTURB_ fills it, and without that on what was there before
#            (14 streams in 14 runs of one process were seen). With asm=avx2, asm=sse4.2 or mbtree=0 it does not.
# Versions:  av 18.1.0 (x264 of its wheel), numpy 2.3.5, Python 3.11, glibc 2.36, x86-64 with AVX-512
# Seen:      2a095647 5c46e7a9 (default); 203ab0c5 203ab0c5 (asm=avx2); 72df3206 72df3206 (mbtree=0)
# Without AVX-512 there is nothing to see, and the script says so.
set -euo pipefail

if ! grep -qw avx512bw /proc/cpuinfo 2>/dev/null; then
    echo "skipped: this CPU has no AVX-512"
    exit 0
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check av==18.1.0 numpy==2.3.5

cat >"$folder/stream.py" <<'PYTHON'
"""Print the hash of a stream."""

import hashlib
import sys
from fractions import Fraction

import av
import numpy as np

WIDTH, HEIGHT = 336, 192
rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]


def frame(number):
    waves = np.sin((columns + 7 * number) / 11) * np.cos((rows - 5 * number) / 7)
    noise = np.random.default_rng(number).normal(0, 20, (HEIGHT, WIDTH))
    planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    planes[:HEIGHT] = (126 + 70 * waves + noise).clip(16, 235)
    made = av.VideoFrame.from_ndarray(planes, format="yuv420p")
    made.pts, made.time_base = number, Fraction(1, 25)
    return made


def stream():
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.thread_count = Fraction(1, 25), 1
    encoder.options = {"preset": "veryfast", "crf": "23", "x264-params": sys.argv[1]}
    found = hashlib.sha256()
    for given in [*map(frame, range(24)), None]:
        for packet in encoder.encode(given):
            found.update(bytes(packet))
    return found.hexdigest()[:8]


print(stream())
PYTHON

stream() { MALLOC_PERTURB_=$1 "$folder/venv/bin/python" "$folder/stream.py" "$2"; }
default="$(stream 7 '') $(stream 200 '')"
avx2="$(stream 7 asm=avx2) $(stream 200 asm=avx2)"
without="$(stream 7 mbtree=0) $(stream 200 mbtree=0)"
printf 'default: %s\nasm=avx2: %s\nmbtree=0: %s\n' "$default" "$avx2" "$without"

same() { [ "${1% *}" = "${1#* }" ]; }
if same "$default" || ! same "$avx2" || ! same "$without"; then
    echo "this is no longer so" >&2
    exit 1
fi
