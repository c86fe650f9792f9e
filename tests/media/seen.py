"""What mediainfo sees of a source, and of its output: equal, or on the list of what may differ (`docs/fidelity.md`)."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pymediainfo import MediaInfo

# Of every kind of track, what describes the file or is another way to say the same.
_OF_FILES = (
    r"complete_name|folder_name|file_.*|count.*|unique_id|stream_?order|track_id|stream_identifier|stream_?kind.*|"
    r"kind_of_stream|track_type|.*proportion.*|.*size|.*stream_size|isstreamable|other_.*|alternate_group|menus?_?(id|for)?|"
    r"commercial_name|format.*|codec.*|internet_media_type|compression_mode|encod.*|writing_.*|muxing_mode.*|.*compliance|"
    r"errordetectiontype|general_.*|crc_.*|othercount|tagged_date|colour_.*_source|.*_source"
)
# Bit rates, and times as each container counts them; the real ones are compared packet by packet.
_OF_RATES = (
    r".*bit_?rate.*|bits__pixel_frame|.*duration.*|delay.*|.*_delay.*|.*frame_count|.*frame_?rate.*|samples_.*|.*samples|"
    r"frame_rate_mode"
)
_MAY_DIFFER = {
    # The lists of the streams' formats; covers and fonts, which other comparisons check.
    "General": (
        r".*_(codecs|format_list|format_withhint_list|language_list)|codecs_video|.*cover.*|attachments|"
        r"audio_channels_total"
    ),
    # Size is scaled and the rotation applied, which other comparisons check; interlaced frames become progressive; the
    # encoder's own ways; chroma becomes 4:2:0 in mp4 and mov, which a note says.
    "Video": (
        r"(stored_|sampled_)?(width|height)|rotation|display_aspect_ratio|scan_.*|coder_type|buffer_size|"
        r"chroma_subsampling.*|maxslicescount|intra_dc_precision|default|forced|time_?code_.*"
    ),
    # What codecs say of themselves where one is encoded by another; default and forced, which have no place in mp4.
    "Audio": (
        r"channel_?(layout|positions|s|layout_original).*|bit_depth|md5_of_the_unencoded_content|service_kind|default|"
        r"forced|proportion.*|bsid|acmod|lfeon|c_?mixlev|surmixlev|dialog_normalization|dialnorm_.*"
    ),
    "Text": r"default|forced|muxing_mode|events_.*|lines_.*",
    "Menu": r"chapters_pos_.*|language|default|forced",
}
# Of single values: alpha where the codec has none, and a time code that encoders write unasked.
_NO_ALPHA = ("color_space", "YUVA")
_TIME_CODE, _NO_TIME_CODE = "time_code_of_first_frame", "00:00:00:00"
# Two names of one.
_SAME = {"performer": "artist", "track_name": "title", "movie_name": "title"}


def differences(source: Path, target: Path) -> list[str]:
    """What an output lacks or has otherwise, one line each.

    Chapters and time codes are compared apart from their tracks.
    """
    before, after = _tracks(source), _tracks(target)
    return [*_of_tracks(before, after), *_of_chapters(before, after), *_of_timecodes(before, after)]


def _tracks(path: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for track in MediaInfo.parse(str(path)).tracks:
        data = {_SAME.get(name, name): value for name, value in track.to_data().items()}
        found[track.track_type].append(data)
    return found


def _of_tracks(
    before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]
) -> Iterator[str]:
    for kind, tracks in before.items():
        if kind in ("Menu", "Image", "Other"):
            continue
        allowed = re.compile("|".join((_OF_FILES, _OF_RATES, _MAY_DIFFER[kind])))
        if len(after[kind]) != len(tracks):
            yield f"{len(after[kind])} tracks of {kind}, not {len(tracks)}"
            continue
        for number, (old, new) in enumerate(zip(tracks, after[kind], strict=True)):
            for name, value in old.items():
                if allowed.fullmatch(name) or _is_known(old, name):
                    continue
                if _plain(new.get(name)) != _plain(value):
                    yield f"{kind} {number}: {name} is {new.get(name)}, not {value}"


def _plain(value: object) -> object:
    """Without the unit that MediaInfo adds to a stream's light, and not to Matroska's."""
    return value.removesuffix(" cd/m2") if isinstance(value, str) else value


def _is_known(track: dict[str, Any], name: str) -> bool:
    """Whether it is JPEG's matrix, BT.601 by definition, alpha or its depth, or the aspect of one of two views."""
    is_jpeg = "JPEG" in f"{track.get('format')} {track.get('codec_id')}"
    of_jpeg = name == "matrix_coefficients" and is_jpeg
    of_views = name == "pixel_aspect_ratio" and "multiview_layout" in track
    of_alpha = name == "bit_depth" and track.get(_NO_ALPHA[0]) == _NO_ALPHA[1]
    return of_jpeg or of_views or of_alpha or (name, track[name]) == _NO_ALPHA


def _of_timecodes(
    before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]
) -> Iterator[str]:
    for text in _timecodes(before) - _timecodes(after) - {_NO_TIME_CODE}:
        yield f"the time code {text} is missing"


def _timecodes(tracks: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {each[_TIME_CODE] for kind in tracks.values() for each in kind if _TIME_CODE in each}


def _of_chapters(
    before: dict[str, list[dict[str, Any]]], after: dict[str, list[dict[str, Any]]]
) -> Iterator[str]:
    old, new = (_titles(tracks["Menu"]) for tracks in (before, after))
    for time, title in old - new:
        yield f"the chapter {title} at {time} is missing"


def _titles(menus: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Every chapter once; a mov lists them twice."""
    return {
        (name, str(title).partition(":")[2] or str(title))
        for menu in menus
        for name, title in menu.items()
        if re.fullmatch(r"\d\d_\d\d_\d+", name)
    }
