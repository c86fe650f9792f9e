#!/usr/bin/env bash
# Question:  Which titles do chapters without one have, after libav has written them to an mp4?
# Guess:     None: an untitled chapter stays untitled, as in Matroska.
# Behaviour: The first title of all is given to the first chapter too. An empty title for each untitled chapter keeps
#            every title where it belongs.
# Versions:  av 18.1.0 (libavformat 62.12.102), Python 3.11, Linux x86-64
# Seen:      none: Last - Last
#            empty: - - Last
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

MS = Fraction(1, 1000)


def titles(untitled):
    tags = [dict(untitled), dict(untitled), {"title": "Last"}]
    with av.open("clip.mp4", "w") as output:
        stream = output.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.set_chapters(
            [
                {"id": n, "start": 200 * n, "end": 200 * (n + 1), "time_base": MS, "metadata": each}
                for n, each in enumerate(tags, 1)
            ]
        )
        for number in range(10):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    with av.open("clip.mp4") as clip:
        return [chapter["metadata"].get("title") or "-" for chapter in clip.chapters()]


print("none:", *titles({}))
print("empty:", *titles({"title": ""}))
PYTHON
)
expected='none: Last - Last
empty: - - Last'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
