#!/usr/bin/env bash
# Question:  Can stereo PCM be copied from Matroska, AVI or WAV into mp4?
# Guess:     Yes: mp4 holds PCM (ISO/IEC 23003-5), libav writes it, mono works, and so does stereo of a .mov.
# Behaviour: No: these demuxers give a number of channels without a layout, and for more than one channel mp4's muxer
#            needs the layout for a box. The error is EINVAL, comes with the first packet that is muxed, and names no
#            reason. .mov takes the same packets.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Python 3.11, Linux x86-64
# Seen:      mono into mp4 ok; stereo of mkv, avi and wav into mp4 [Errno 22], into mov ok; stereo of mov into mp4 ok
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/python -m pip install --quiet --disable-pip-version-check av==18.1.0

seen=$(
    venv/bin/python - <<'PYTHON'
import av

for layout in ("mono", "stereo"):
    for old in ("mkv", "avi", "wav", "mov"):
        with av.open(f"sound.{old}", "w") as output:
            stream = output.add_stream("pcm_s16le", rate=48000, layout=layout)
            frame = av.AudioFrame(format="s16", layout=layout, samples=1024)
            for plane in frame.planes:
                plane.update(bytes(plane.buffer_size))
            frame.sample_rate, frame.pts = 48000, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode())
        results = []
        for new in ("mp4", "mov"):
            try:
                with av.open(f"sound.{old}") as sound, av.open(f"copy.{new}", "w") as output:
                    stream = output.add_stream_from_template(sound.streams.audio[0])
                    for packet in sound.demux(audio=0):
                        if packet.size:
                            packet.stream = stream
                            output.mux(packet)
                results.append(f"{new} ok")
            except av.error.ArgumentError as error:
                results.append(f"{new} error {error.errno}")
        print(layout, "of", f"{old}:", *results)
PYTHON
)
expected='mono of mkv: mp4 ok mov ok
mono of avi: mp4 ok mov ok
mono of wav: mp4 ok mov ok
mono of mov: mp4 ok mov ok
stereo of mkv: mp4 error 22 mov ok
stereo of avi: mp4 error 22 mov ok
stereo of wav: mp4 error 22 mov ok
stereo of mov: mp4 ok mov ok'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
