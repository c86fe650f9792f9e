"""Differences that are no fault, each with its reason. Nothing else may be left."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.corpus.difference import Difference


@dataclass(frozen=True)
class Accepted:
    """Differences that match all patterns (searched, not matched whole)."""

    reason: str
    field: str
    source: str = ""
    output: str = ""
    file: str = ""

    def covers(self, file: str, difference: Difference) -> bool:
        """Whether a difference of a file is one of these."""
        pairs = (
            (self.field, difference.field),
            (self.source, difference.source),
            (self.output, difference.output),
            (self.file, file),
        )
        return all(re.search(pattern, text) for pattern, text in pairs)


ACCEPTED = (
    Accepted(
        "the matrix that players assume at the source's size is written: at the output's they would assume another",
        field="^color_space$",
        source="^unknown$",
        output="^(bt709|smpte170m|bt470bg)$",
    ),
    Accepted(
        "8 bits are too few for PQ and HLG, which are written with 10",
        field="^pixel format$",
        source=r"^yuv4\d\dp$",
        output=r"^yuv4\d\dp10le$",
    ),
    Accepted(
        "RGB becomes YUV with all of its chroma, and grey gets chroma planes without colour: players take no other",
        field="^pixel format$",
        source="^(gbrp|rgb|bgr|gray)",
        output="^yuv4(44|20)p",
    ),
    Accepted(
        "ffprobe 5.1 neither turns AVIF nor reads its colours; the size is compared with Pillow's",
        field="^(size|color_.*)$",
        file=r"\.avif$",
    ),
    Accepted(
        "ffprobe 5.1 shows GIF frames of 10 ms for 100; the file's own delays are kept",
        field="^(frame times|last frame's duration|average rate)$",
        file=r"assets/go_router/\w+\.gif$",
    ),
    Accepted(
        "the edit list holds the last frame for longer or ends within it, which no packet says",
        field="^last frame's duration$",
        file=r"(mp4\W?_*bt601\.mov|only_preroll_sync_sample\.mp4)$",
    ),
    Accepted(
        "ffprobe 5.1 takes 24-bit ipcm for 16 bits; PyAV reads the same bytes in both files",
        field="^packets of audio",
        file=r"sample_ipcm_24le\.mp4$",
    ),
    Accepted(
        "the window of wide film on a 4:3 set, which players do not use",
        field="^side data AVPanScan$",
    ),
    Accepted(
        "a stream whose codec libav does not know is named before the work, with the option that leaves it out",
        field="^restored$",
        output=r"^code 7: .*(libav does not know|has no decoder for it).* give --(audio|subtitles) none",
    ),
    Accepted(
        "the sequence of an AVIF is restored; ffprobe 5.1 names the still beside it",
        field="^frames$",
        source="^1$",
        file=r"alpha_video_\w+\.avif$",
    ),
    Accepted(
        "a matrix that is not converted is refused at once, with the reason",
        field="^restored$",
        output="^code 3: .* its colour matrix ",
    ),
)


def reason_for(file: str, difference: Difference) -> str | None:
    """Why a difference is no fault; None where it is one."""
    return next((each.reason for each in ACCEPTED if each.covers(file, difference)), None)
