#!/usr/bin/env bash
# Question:  A Matroska file states PixelCropTop. How tall are the frames that libav decodes, and does it say so?
# Guess:     Cropped, as with H.264's own crop values; or at least the numbers are on the stream or the frame.
#            Players hide these rows.
# Behaviour: Neither: frames have all rows, the stream has the full height, and PyAV shows the values nowhere.
#            MediaInfo gives the cropped height, so two tools disagree about the size of one file. Here the crop
#            takes the place of two optional elements, and an EBML void fills the rest.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), pymediainfo 7.0.1 (with its bundled
#            libmediainfo), Python 3.11, Linux x86-64
# Seen:      PyAV 64x48, frames 64x48, no side data of a crop; MediaInfo 64x36, original height 48, offset 12
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0 pymediainfo==7.0.1

seen=$(
    venv/bin/python - <<'PYTHON'
from pathlib import Path

import av
from pymediainfo import MediaInfo

with av.open("clip.mp4", "w") as output:
    stream = output.add_stream("libx264", rate=25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    for number in range(2):
        frame = av.VideoFrame(64, 48, "yuv420p")
        frame.pts = number
        output.mux(stream.encode(frame))
    output.mux(stream.encode())
with av.open("clip.mp4") as clip, av.open("clip.mkv", "w") as output:
    stream = output.add_stream_from_template(clip.streams.video[0])
    for packet in clip.demux(video=0):
        if packet.size:
            packet.stream = stream
            output.mux(packet)

# FlagInterlaced is 2 (progressive), DisplayUnit is 4 (unknown); PixelCropTop is 12.
old, new = bytes.fromhex("9a8102 54b28104"), bytes.fromhex("54bb810c ec8100")
content = Path("clip.mkv").read_bytes()
assert content.count(old) == 1
Path("crop.mkv").write_bytes(content.replace(old, new))

with av.open("crop.mkv") as clip:
    stream = clip.streams.video[0]
    frame = next(clip.decode(stream))
    print("PyAV", f"{stream.width}x{stream.height}", f"frame {frame.width}x{frame.height}", sum("crop" in str(each.type).lower() for each in frame.side_data))
(track,) = (track for track in MediaInfo.parse("crop.mkv").tracks if track.track_type == "Video")
print("MediaInfo", f"{track.width}x{track.height}", track.original_height, track.height_offset)
PYTHON
)
expected='PyAV 64x48 frame 64x48 0
MediaInfo 64x36 48 12'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
