#!/usr/bin/env bash
# Question:  A WebM file in VP8 with alpha: does libav decode yuva420p?
# Guess:     Yes: libav wrote it from yuva420p, and the file has alpha_mode 1.
# Behaviour: Only with libvpx. libav's own decoder, which is chosen for VP8 and VP9, ignores the alpha that WebM has
#            beside each picture, and nothing is said: stream and frames are yuv420p. The tag alpha_mode is the only
#            sign. The decoder named libvpx gives all of it.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      default: vp8 yuv420p, alpha_mode 1; libvpx: yuva420p
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av

with av.open("clip.webm", "w") as output:
    stream = output.add_stream("libvpx", rate=25, options={"auto-alt-ref": "0"})
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuva420p"
    for number in range(3):
        frame = av.VideoFrame(64, 48, "yuva420p")
        frame.pts = number
        output.mux(stream.encode(frame))
    output.mux(stream.encode())
with av.open("clip.webm") as clip:
    stream = clip.streams.video[0]
    formats = {frame.format.name for frame in clip.decode(stream)}
    print("default", stream.codec_context.codec.name, *formats, "alpha_mode", stream.metadata["alpha_mode"])
decoder = av.CodecContext.create("libvpx", "r")
with av.open("clip.webm") as clip:
    frames = [frame for packet in clip.demux(video=0) for frame in decoder.decode(packet if packet.size else None)]
print("libvpx", *{frame.format.name for frame in frames}, len(frames))
PYTHON
)
expected='default vp8 yuv420p alpha_mode 1
libvpx yuva420p 3'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
