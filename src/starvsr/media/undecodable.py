"""Why a video stream gives no frame, as far as its first packet says."""

from __future__ import annotations

from pathlib import Path

from starvsr.media.decode import readable_packets
from starvsr.media.source import broken_picture, open_source

# A WebP file with this flag of its extended header is a sequence of pictures.
_EXTENDED, _FLAGS_AT, _ANIMATED = b"VP8X", 20, 2


def undecodable(path: Path, index: int) -> str:
    """The message about a file whose stream of this index cannot be decoded, with what to do. Raises InputError."""
    with open_source(path) as source:
        stream = source.streams[index]
        first = next((bytes(packet) for packet in readable_packets(source, stream)), b"")
        context = stream.codec_context
        codec = context.codec.canonical_name if context else "unknown"
    if picture := broken_picture(path):
        return picture
    if not first:
        return (
            f"{path}: its video stream ({codec}) has no packets, as in the init segment of a stream: join it with the "
            "segments that follow first"
        )
    if codec == "webp" and first[12:16] == _EXTENDED and first[_FLAGS_AT] & _ANIMATED:
        return (
            f"{path} is an animated WebP, which libav does not decode: convert it to images first, such as with "
            f"anim_dump of libwebp or with ImageMagick, and give these as %06d.png with --fps"
        )
    return f"{path}: its video stream ({codec}) cannot be decoded: it is damaged, encrypted, or not of this codec"
