"""Chroma location: what a file signals, and which encoders can signal it."""

from __future__ import annotations

import re

LEFT, CENTRE, TOP_LEFT = 1, 2, 3
SITINGS = {1: "left", 2: "center", 3: "topleft", 4: "top", 5: "bottomleft", 6: "bottom"}
"""libav's names by its codes."""

# Codecs that define it as centred; MPEG-2 and its successors default to left.
_CENTRED_CODECS = ("mjpeg", "mpeg1video")
# Encoders that write it into their stream, with the locations that they support.
_TOLD = {
    "libx264": tuple(SITINGS),
    "libx265": tuple(SITINGS),
    "libsvtav1": (LEFT, TOP_LEFT),
}


def said_siting(described: str, pix_fmt: str | None) -> int:
    """libav's code of the location in a stream or container, by libav's description; 0 if unspecified."""
    match = re.search(rf"\b{pix_fmt}\(([^)]*)\)", described)
    facts = match[1].split(", ") if match else []
    return next((code for code, name in SITINGS.items() if name in facts), 0)


def usual_siting(codec: str) -> int:
    """A codec's default location."""
    return CENTRE if codec in _CENTRED_CODECS else LEFT


def carried_siting(said: int, source: str, encoder: str) -> int:
    """The output's location: the source's, if it is not a codec's default and the encoder can signal it."""
    usual = usual_siting(encoder)
    if said in (0, usual_siting(source)) or said not in _TOLD.get(encoder, ()):
        return usual
    return said


def siting_options(siting: int, encoder: str) -> dict[str, str]:
    """The encoder's options that signal it."""
    unusual = siting in SITINGS and siting != usual_siting(encoder)
    return {"chroma_sample_location": SITINGS[siting]} if unusual else {}
