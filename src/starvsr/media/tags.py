"""Which tags an mp4 or mov can hold by libav's muxer, and a place in the file for those that it leaves out.

The muxer writes a list of tags that it knows. For the others, one that the file does not have reserves as many bytes as
they take; once the file is complete, they are written over it, so nothing else moves.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from starvsr.errors import OutputError
from starvsr.media.boxes import boxed, read_index
from starvsr.media.copies import kept_tags
from starvsr.media.encoder import IMAGES
from starvsr.media.provenance import TAG
from starvsr.media.removal import Right, write_over
from starvsr.media.source import is_cover, open_source
from starvsr.types import VideoInfo

_LISTING = ("mp4", "mov")
# Tags of the muxers' lists that few files have, and the bytes of their boxes without the text.
_RESERVES = {
    "mp4": (
        (
            *("lyrics", "synopsis", "network", "grouping"),
            *("show", "episode_id", "composer", "copyright"),
        ),
        24,
    ),
    "mov": (("author", "make", "model"), 12),
}
# A text's length has 16 bits in a mov.
_MOST_TEXT = 60_000
_MARK = "starvsr reserves this for tags "


def lost_tags(info: VideoInfo, container: str) -> list[str]:
    """Names of the source's tags that an output of this muxer does not have. Raises InputError."""
    lost: dict[str, None] = {}
    with open_source(info.path) as source:
        tags = kept_tags(source.metadata)
        if container == IMAGES:
            return list(tags)
        if container not in _LISTING:
            return []
        if _reserve(container, tags) is None:
            lost |= dict.fromkeys(_left_out(container, tags))
        # The muxer writes the file's time into every stream.
        timed = any(name.lower() == "creation_time" for name in tags)
        for stream in source.streams:
            if _is_copied(stream, info):
                own = kept_tags(stream.metadata)
                own = {
                    name: own[name]
                    for name in own
                    if not (timed and name.lower() == "creation_time")
                }
                names = _left_out(container, own, of_stream=True)
                lost |= dict.fromkeys(f"{name} of stream {stream.index}" for name in names)
    return list(lost)


def _is_copied(stream: Stream, info: VideoInfo) -> bool:
    own = stream.index == info.stream_index or stream.type in ("audio", "subtitle")
    return own and stream.index not in info.foreign and not is_cover(stream)


class ReservedTags:
    """Tags of one output that its muxer leaves out."""

    def __init__(self, output: OutputContainer, *, wanted: bool) -> None:
        """Reserve the bytes for what the muxer would leave out of an output's tags, before its header is written.

        wanted: else none are.
        """
        self._container = output.format.name
        self._tags: dict[str, str] = {}
        if not wanted or self._container not in _LISTING:
            return
        tags = dict(output.metadata)
        reserve = _reserve(self._container, tags)
        if reserve and reserve[0]:
            self._tags = _left_out(self._container, tags)
            output.metadata[reserve[0]] = reserve[1]

    def write(self, path: Path) -> None:
        """Write them into the complete file. Raises OSError, and OutputError if their place is not found."""
        if not self._tags:
            return
        place, index = read_index(path)
        content = _content(self._container, self._tags)
        start = index.find(_MARK.encode()) - _RESERVES[self._container][1]
        if start < 0 or int.from_bytes(index[start : start + 4], "big") != len(content):
            raise OutputError(
                f"{path}: its tags have no place: give --no-metadata to leave them out"
            )
        write_over(path, place + start, content, Right.TEMPORARY)


def _reserve(container: str, tags: Mapping[str, str]) -> tuple[str, str] | None:
    """A tag whose box is as large as all that is left out; empty if nothing is, None if there is no room."""
    left = _left_out(container, tags)
    if not left:
        return ("", "")
    names, around = _RESERVES[container]
    taken = {name.lower() for name in tags}
    name = next((name for name in names if name not in taken), None)
    length = len(_content(container, left)) - around
    if name is None or length > _MOST_TEXT:
        return None
    return name, _MARK.ljust(length, ".")


def _left_out(
    container: str, tags: Mapping[str, str], *, of_stream: bool = False
) -> dict[str, str]:
    """Tags that are not there when a small file with them is read again, without those of `media.provenance`."""
    # A language is a field, not a tag, and a name is written as a title.
    other = (TAG, "LANGUAGE", "NAME") if of_stream else (TAG,)
    tags = {name: text for name, text in tags.items() if name.upper() not in other}
    if not tags:
        return {}
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_mux_stream("mjpeg", width=16, height=16)
        (stream.metadata if of_stream else output.metadata).update(tags)
        output.start_encoding()
        packet: Packet[Stream] = Packet(b"\0")
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, 0, 0, True
        output.mux(packet)
    file.seek(0)
    with av.open(file, metadata_errors="replace") as written:
        found = written.streams[0].metadata if of_stream else written.metadata
    held = {name.lower() for name in found}
    # A stream's title is read as its name.
    held |= {"title"} if "name" in held else set()
    return {name: text for name, text in tags.items() if name.lower() not in held}


def _content(container: str, tags: Mapping[str, str]) -> bytes:
    """The tags as boxes: in an mp4 free ones of its list, in a mov a list of its own with its keys."""
    if container == "mp4":
        return b"".join(
            boxed(
                b"----",
                boxed(b"mean", bytes(4) + b"com.apple.iTunes")
                + boxed(b"name", bytes(4) + name.encode())
                + _data(text),
            )
            for name, text in tags.items()
        )
    keys = b"".join(boxed(b"mdta", name.encode()) for name in tags)
    items = b"".join(
        boxed(number.to_bytes(4, "big"), _data(text))
        for number, text in enumerate(tags.values(), 1)
    )
    return boxed(
        b"meta",
        bytes(4)
        + boxed(b"hdlr", bytes(8) + b"mdta" + bytes(13))
        + boxed(b"keys", bytes(4) + len(tags).to_bytes(4, "big") + keys)
        + boxed(b"ilst", items),
    )


def _data(text: str) -> bytes:
    # Kind 1 is UTF-8.
    return boxed(b"data", (1).to_bytes(4, "big") + bytes(4) + text.encode())
