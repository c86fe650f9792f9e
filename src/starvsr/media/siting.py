"""Where chroma samples lie between luma samples: what a file says of it, and which encoders can be told."""

from __future__ import annotations

import re
import threading

import av.logging
from av.container import InputContainer
from av.video.stream import VideoStream

LEFT, CENTRE, TOP_LEFT = 1, 2, 3
SITINGS = {1: "left", 2: "center", 3: "topleft", 4: "top", 5: "bottomleft", 6: "bottom"}
"""libav's names by its codes."""

# Codecs that define them as centred; MPEG-2 and its heirs have them left unless they say otherwise.
_CENTRED_CODECS = ("mjpeg", "mpeg1video")
# Encoders that write it into their stream, with the places that it can be in.
_TOLD = {
    "libx264": tuple(SITINGS),
    "libx265": tuple(SITINGS),
    "libsvtav1": (LEFT, TOP_LEFT),
}
# libav's log has one level for all threads.
_level = threading.Lock()


def said_siting(container: InputContainer, stream: VideoStream) -> int:
    """libav's code of what stream or container say; 0 where they say nothing.

    PyAV has no field for it, but libav's own description of a file, which it logs, has one at a talkative level.
    """
    # What other threads log meanwhile is caught too, and not shown.
    with _level, av.logging.Capture(local=False):
        before = av.logging.get_level()
        av.logging.set_libav_level(av.logging.VERBOSE)
        av.logging.set_level(av.logging.INFO)
        try:
            described = str(container.dumps_format())  # type: ignore[attr-defined]
        finally:
            av.logging.set_level(before)
            av.logging.set_libav_level(av.logging.INFO)
    pattern = (
        rf"^ *Stream #0:{stream.index}\b.*?: Video: .*?\b{stream.codec_context.pix_fmt}\(([^)]*)\)"
    )
    match = re.search(pattern, described, re.MULTILINE)
    facts = match[1].split(", ") if match else []
    return next((code for code, name in SITINGS.items() if name in facts), 0)


def usual_siting(codec: str) -> int:
    """Where a codec has them unless it says otherwise."""
    return CENTRE if codec in _CENTRED_CODECS else LEFT


def carried_siting(said: int, source: str, encoder: str) -> int:
    """Where the output has them: as the source says, if that is no codec's own rule and the encoder can be told."""
    usual = usual_siting(encoder)
    if said in (0, usual_siting(source)) or said not in _TOLD.get(encoder, ()):
        return usual
    return said


def siting_options(siting: int, encoder: str) -> dict[str, str]:
    """The encoder's options that say so."""
    unusual = siting in SITINGS and siting != usual_siting(encoder)
    return {"chroma_sample_location": SITINGS[siting]} if unusual else {}
