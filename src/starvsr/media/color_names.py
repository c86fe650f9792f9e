"""Colour codes of ISO/IEC 23091-2 by the names that ffmpeg gives them."""

from __future__ import annotations

from starvsr.media.siting import SITINGS
from starvsr.types import ColorInfo

_UNSPECIFIED = "unspecified"
_MATRICES = {
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    11: "smpte2085",
    12: "chroma-derived-nc",
    13: "chroma-derived-c",
    14: "ictcp",
    15: "ipt-c2",
    16: "ycgco-re",
    17: "ycgco-ro",
}
_PRIMARIES = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
_TRANSFERS = {
    1: "bt709",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    9: "log100",
    10: "log316",
    11: "iec61966-2-4",
    12: "bt1361e",
    13: "iec61966-2-1",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "smpte2084",
    17: "smpte428",
    18: "arib-std-b67",
}
_RANGES = {1: "tv", 2: "pc"}
_TABLES = {
    "matrix": _MATRICES,
    "primaries": _PRIMARIES,
    "transfer": _TRANSFERS,
    "range": _RANGES,
    "chroma_location": SITINGS,
}


def color_names(color: ColorInfo) -> dict[str, str]:
    """A name for each field of a colour: `unspecified` where nothing is said, the number of a reserved code."""
    unsaid = dict.fromkeys(_TABLES, 2) | {"range": 0, "chroma_location": 0}
    codes = {field: getattr(color, field) for field in _TABLES}
    return {
        field: _UNSPECIFIED if code == unsaid[field] else _TABLES[field].get(code, str(code))
        for field, code in codes.items()
    }
