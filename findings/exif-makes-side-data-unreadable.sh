#!/usr/bin/env bash
# Question:  A frame of a photograph with EXIF: what does PyAV give for `frame.side_data`?
# Guess:     Its entries, perhaps with EXIF among them; at worst without it.
# Behaviour: ValueError, whatever else the frame carries: libav now hands EXIF of JPEG, PNG, WebP and AVIF to the
#            frame, as a kind of side data that PyAV's enumeration lacks, and one unknown kind makes all entries
#            unreadable. So reading the display matrix of an ordinary photograph fails.
# Versions:  av 18.1.0 (libavformat 62.12.102, libavcodec 62.28.102), Pillow 12.0.0, Python 3.11, Linux x86-64
# Seen:      without EXIF: read; with EXIF: ValueError: 31 is not a valid Type, in all four formats
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

image = Image.new("RGB", (64, 48), (9, 9, 200))
exif = image.getexif()
exif[0x010E] = "A description"
for suffix in ("jpg", "png", "webp", "avif"):
    results = []
    for options in ({}, {"exif": exif}):
        image.save(f"photo.{suffix}", **options)
        with av.open(f"photo.{suffix}") as photo:
            frame = next(photo.decode(video=0))
        try:
            frame.side_data
            results.append("read")
        except ValueError as error:
            results.append(f"ValueError: {error}")
    print(f"{suffix}: without {results[0]}, with {results[1]}")
PYTHON
)
expected='jpg: without read, with ValueError: 31 is not a valid Type
png: without read, with ValueError: 31 is not a valid Type
webp: without read, with ValueError: 31 is not a valid Type
avif: without read, with ValueError: 31 is not a valid Type'

printf '%s\n' "$seen"
if [ "$seen" != "$expected" ]; then
    printf 'this is no longer so; it was:\n%s\n' "$expected" >&2
    exit 1
fi
