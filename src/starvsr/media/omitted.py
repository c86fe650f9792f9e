"""What of a source's streams, tags and statements beside its pictures is not in an output, in words."""

from __future__ import annotations

from collections.abc import Iterable

from av.audio.layout import AudioLayout

from starvsr.media.beside import PROJECTION, STEREO, TIME_CODE, unheld, value_of
from starvsr.media.carrier import holds
from starvsr.media.copies import lost_roles
from starvsr.media.encoder import IMAGES, EncoderSettings
from starvsr.media.messages import inserter, kinds_of
from starvsr.media.pixfmt import find_encoder
from starvsr.media.tags import lost_tags
from starvsr.media.timecode import is_timecode
from starvsr.options import StreamOptions
from starvsr.types import StreamInfo, VideoIndex, VideoInfo

COVER = "cover picture"
"""What `StreamInfo.detail` says of one."""
# A time code as a stream: the muxer writes another from the tag.
_TIME_CODES = ("tmcd",)
# Muxers that say how many channels there are, not which.
_COUNTING_CHANNELS = ("matroska", "nut")
# Chapters as a stream of a mov or mp4, which are kept.
_CHAPTERS = "text"


def beside_notes(
    info: VideoInfo, index: VideoIndex, settings: EncoderSettings, streams: StreamOptions
) -> list[str]:
    """One sentence for everything that is cut off or left out."""
    return [
        *_crop(info),
        *_films(info),
        *_other_programs(info),
        *_data(info),
        *_statements(info, settings, streams),
        *_messages(index, settings),
        *_layouts(info, settings, streams),
        *_roles(info, settings, streams),
        *_tags(info, settings, streams),
    ]


def _crop(info: VideoInfo) -> list[str]:
    if not any(info.crop):
        return []
    left, right, above, below = info.crop
    sides = {"columns left": left, "right": right, "rows above": above, "below": below}
    hidden = ", ".join(f"{count} {side}" for side, count in sides.items() if count)
    return [f"what the source hides of its pictures is cut off: {hidden}"]


def _films(info: VideoInfo) -> list[str]:
    videos = [each for each in info.streams if each.kind == "video"]
    film = next(each for each in videos if each.index == info.stream_index)
    others = [
        f"{number} ({each.codec or 'unknown'}{_size(each)}{_auxiliary(each, film)})"
        for number, each in enumerate(videos)
        if each.index != info.stream_index and each.detail != COVER
    ]
    if not others:
        return []
    verb = "is" if len(others) == 1 else "are"
    return [
        f"video stream {videos.index(film)} is restored, {_listed(others)} {verb} left out: "
        "--video-stream chooses another"
    ]


def _size(stream: StreamInfo) -> str:
    return f" {stream.detail.partition(' ')[0]}" if stream.detail else ""


def _auxiliary(stream: StreamInfo, film: StreamInfo) -> str:
    """What AVIF and HEIF have as another picture, which libav lists as any other stream."""
    is_gray = stream.detail.partition(" ")[2].startswith("gray")
    is_alike = (stream.codec, _size(stream)) == (film.codec, _size(film))
    if is_gray and is_alike and not film.detail.partition(" ")[2].startswith("gray"):
        return ", gray: alpha or depth"
    return ""


def _other_programs(info: VideoInfo) -> list[str]:
    foreign = [each for each in info.streams if each.index in info.foreign and each.kind != "video"]
    if not foreign:
        return []
    names = [f"{each.index} ({each.kind} {each.codec})" for each in foreign]
    return [f"streams of other programs are left out: {_listed(names)}"]


def _data(info: VideoInfo) -> list[str]:
    known = ("video", "audio", "subtitle", "attachment")
    names = [
        f"{each.index} ({each.codec or each.kind})"
        for each in info.streams
        if each.kind not in known
        and each.index not in info.foreign
        and each.codec not in _TIME_CODES
        and not (each.codec == _CHAPTERS and info.chapters)
    ]
    return [f"data streams are left out: {_listed(names)}"] if names else []


def _statements(info: VideoInfo, settings: EncoderSettings, streams: StreamOptions) -> list[str]:
    container, notes = settings.container, []
    for kind in (STEREO, PROJECTION):
        value = value_of(info, kind)
        if value and not holds(info, kind, container):
            better = [
                name
                for name, muxer in ((".mp4", "mp4"), (".mov", "mov"), (".mkv", "matroska"))
                if holds(info, kind, muxer)
            ]
            advice = f"; {_listed(better)} can hold it" if better else ""
            name = value.partition(" at ")[0]
            notes.append(f"the {kind} ({name}) is left out: the output cannot hold it{advice}")
    code = value_of(info, TIME_CODE) if streams.metadata else ""
    if code and container == IMAGES:
        notes.append(f"the time code {code} is left out: images cannot hold it")
    elif code and container in ("mp4", "mov") and not is_timecode(code):
        notes.append(f"the time code {code!r} is left out: it is not of the form hh:mm:ss:ff")
    if kinds := unheld(info):
        notes.append(f"no output can hold the source's {_listed(kinds)}: left out")
    return notes


def _messages(index: VideoIndex, settings: EncoderSettings) -> list[str]:
    kinds = kinds_of(index.messages)
    codec = find_encoder(settings.codec).canonical_name
    if not kinds or (inserter(codec, None) and settings.container != IMAGES):
        return []
    return [
        f"{_listed(kinds)} in the pictures cannot be kept by {settings.codec}: left out; --codec libx264, libx265 and "
        "libsvtav1 keep them"
    ]


def _layouts(info: VideoInfo, settings: EncoderSettings, streams: StreamOptions) -> list[str]:
    """Which channels a copy of PCM has, where the container only says how many."""
    if settings.container not in _COUNTING_CHANNELS or streams.audio != "copy":
        return []
    sounds = [
        each for each in info.streams if each.kind == "audio" and each.index not in info.foreign
    ]
    notes = []
    for each in sounds:
        layout = each.detail.rpartition(" ")[0].rpartition(" ")[0]
        if each.codec.startswith("pcm_") and not _is_usual(layout):
            notes.append(
                f"the channel layout of audio stream {each.index} ({layout}) is left out: for PCM the container has no "
                "place for it; .mov has"
            )
    return notes


def _is_usual(layout: str) -> bool:
    """Whether a layout is what players take for its number of channels."""
    usual = AudioLayout(f"{AudioLayout(layout).nb_channels}c")
    return layout.endswith(" channels") or usual.name == layout


def _roles(info: VideoInfo, settings: EncoderSettings, streams: StreamOptions) -> list[str]:
    lost = [] if settings.container == IMAGES else lost_roles(info, settings.container, streams)
    if not lost:
        return []
    return [
        f"stream roles are left out, for which {settings.container} has no place: {_listed(lost)}"
    ]


def _tags(info: VideoInfo, settings: EncoderSettings, streams: StreamOptions) -> list[str]:
    if not streams.metadata:
        return []
    lost = lost_tags(info, settings.container)
    if not lost:
        return []
    place = "images have" if settings.container == IMAGES else f"{settings.container} has"
    return [f"tags are left out, for which {place} no place: {_listed(lost)}"]


def _listed(names: Iterable[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
