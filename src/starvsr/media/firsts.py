"""The first packet of each audio and subtitle stream, and which of these streams have none."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from av.stream import Stream

from starvsr.media.deadline import within_deadline
from starvsr.media.decode import readable_packets
from starvsr.media.others import lacks_header
from starvsr.media.source import open_source


def first_packets(path: Path) -> dict[int, bytes]:
    """The first packet's data of every stream that a header alone does not show to have one, by stream index.

    Empty data: the file was read to its end, and the stream has no packets. Subtitles are left out where only
    reading the whole file would tell. Raises InputError.
    """
    try:
        state = within_deadline(path, path.stat)
    except OSError:
        # An image sequence has no file of its own.
        return _first_packets(path, None)
    return _first_packets(path, (state.st_size, state.st_mtime_ns))


# A job asks three times: when its streams are checked, in the dry run, and when it is joined.
@lru_cache(maxsize=4)
def _first_packets(path: Path, _state: tuple[int, int] | None) -> dict[int, bytes]:
    with open_source(path) as source:
        unseen = {
            stream.index for stream in source.streams if _is_doubtful(stream, source.format.name)
        }
        found: dict[int, bytes] = {}
        for packet in readable_packets(source) if unseen else ():
            if packet.stream_index in unseen:
                found[packet.stream_index] = bytes(packet)
                # A muxer must not judge the stream by a damaged packet, which is not copied.
                if not lacks_header(packet):
                    unseen.remove(packet.stream_index)
            if not unseen:
                break
        return dict.fromkeys(unseen, b"") | found


def _is_doubtful(stream: Stream, container: str) -> bool:
    # Of these containers, only the index of mp4 says how many packets there are.
    return stream.type == "audio" or (
        stream.type == "subtitle" and "mp4" in container and not stream.frames
    )
