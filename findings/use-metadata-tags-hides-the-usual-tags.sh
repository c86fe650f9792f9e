#!/usr/bin/env bash
# Question:  `movflags=use_metadata_tags` lets libav's mp4 muxer write any tag. What does it do to title and artist?
# Guess:     Nothing: they stay where they are, and the tags without a place of their own are added.
# Behaviour: All tags move. They are written in QuickTime's form (a list of keys, with values by number) instead of
#            iTunes' form; libav reads both. What knows iTunes' form only, as mutagen, finds neither title nor
#            artist.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), mutagen 1.47.0, Python 3.11, Linux x86-64
# Seen:      plain: mutagen has title and artist, mood is lost; use_metadata_tags: libav has all three, mutagen
#            neither title nor artist
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


clip("clip.mkv")
with av.open("clip.mkv") as source, av.open("tagged.mkv", "w") as output:
    stream = output.add_stream_from_template(source.streams.video[0])
    output.metadata.update({"title": "Title", "artist": "Artist", "mood": "calm"})
    for packet in source.demux(video=0):
        if packet.size:
            packet.stream = stream
            output.mux(packet)
for name, options in (("plain", {}), ("use_metadata_tags", {"movflags": "use_metadata_tags"})):
    found = {key.lower(): value for key, value in copied("tagged.mkv", "copy.mp4", **options).items()}
    print(name, "libav", *(found.get(key) for key in ("title", "artist", "mood")))
    print(name, "mutagen", *(MP4("copy.mp4").tags.get(key, [None])[0] for key in ("\xa9nam", "\xa9ART")))
PYTHON
)
expected='plain libav Title Artist None
plain mutagen Title Artist
use_metadata_tags libav Title Artist calm
use_metadata_tags mutagen None None'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
