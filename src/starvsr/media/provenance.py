"""How a file was made, in its own tags: a sentence such as `starvsr 0.1.0 nano: 256x144 to 1024x576, --blend 0.3`.

Matroska and WebM store it under a name of its own, mp4 as the encoding tool. QuickTime stores
neither, but every container stores the video stream's encoder, which has room for the text before the colon. Single
pictures have it as Exif's software.
(mp4 would store any name with `movflags=use_metadata_tags`, but then players find no title.)
"""

from __future__ import annotations

from pathlib import Path

from av.container import OutputContainer
from av.stream import Stream
from PIL import ExifTags

from starvsr.media.source import open_source
from starvsr.media.still import is_still, still_facts

PROGRAM = "starvsr"
TAG = "STARVSR"
"""The tag's name, in capitals."""
_MP4_TAG = "encoding_tool"
# Of the compressor name in a sample entry.
_MOST_BYTES = 31


def add_provenance(output: OutputContainer, video: Stream, text: str) -> None:
    """Tag a file that is being written with how it was made, replacing earlier tags; empty means nothing."""
    for key in [key for key in output.metadata if key.upper() == TAG]:
        del output.metadata[key]
    if text:
        output.metadata[_MP4_TAG if output.format.name == "mp4" else TAG] = text
        short = text.partition(":")[0].encode()[:_MOST_BYTES].decode(errors="ignore")
        video.metadata["encoder"] = short


def provenance_of(path: Path) -> str:
    """How a file was made, by its tags; empty if starvsr did not make it. Raises InputError."""
    if is_still(path):
        said = str(still_facts(path).exif.get(ExifTags.Base.Software, ""))
        return said if said.startswith(f"{PROGRAM} ") else ""
    with open_source(path) as source:
        tags = {key.upper(): text for key, text in source.metadata.items()}
        encoders = [
            text
            for stream in source.streams.video
            for key, text in stream.metadata.items()
            if key.upper() == "ENCODER"
        ]
    every = (tags.get(TAG, ""), tags.get("ENCODER", ""), *encoders)
    return next((text for text in every if text.startswith(f"{PROGRAM} ")), "")
