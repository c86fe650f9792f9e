#!/usr/bin/env bash
# Question:  Are the tags that libav reads from an mp4 file found again in an mp4 file that they are written to?
# Guess:     Yes: demuxer and muxer of one library, for one format, know the same names.
# Behaviour: The muxer has fewer. Sort order, rating, category, purchase date and iTunes' own fields (MOOD here) are
#            read and then dropped without a word, while show, season, network and description survive. Matroska
#            keeps them all.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), mutagen 1.47.0, Python 3.11, Linux x86-64
# Seen:      lost in mp4: MOOD category purchase_date rating sort_artist sort_name; lost in mkv: none
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0 mutagen==1.47.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av
from mutagen.mp4 import MP4


def clip(name):
    with av.open(name, "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(5):
            frame = av.VideoFrame(64, 48, "yuv420p")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode())


def copied(old, new, **options):
    with av.open(old) as source, av.open(new, "w", container_options=options) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        output.metadata.update(source.metadata)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    with av.open(new) as result:
        return dict(result.metadata)


clip("clip.mp4")
tags = MP4("clip.mp4")
tags.update({
    "\xa9nam": "Title", "tvsh": "Show", "tvsn": [2], "tvnn": "Network", "desc": "Description",
    "sonm": "Sort name", "soar": "Sort artist", "rtng": [4], "catg": "Category", "purd": "2020-01-01",
    "----:com.apple.iTunes:MOOD": b"calm",
})
tags.save()
with av.open("clip.mp4") as source:
    old = dict(source.metadata)
for suffix in ("mp4", "mkv"):
    new = {key.lower(): value for key, value in copied("clip.mp4", f"copy.{suffix}").items()}
    print("lost in", f"{suffix}:", *sorted(key for key in old if key.lower() not in new))
PYTHON
)
expected='lost in mp4: MOOD category purchase_date rating sort_artist sort_name
lost in mkv:'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
