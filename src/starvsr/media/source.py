"""Opening media files: libav's errors as one clear sentence, and the streams that the rest of `media` uses."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.stream import Disposition, Stream

from starvsr.errors import InputError
from starvsr.media import boxes
from starvsr.media.deadline import closing_unless_stuck, libav_timeout, within_deadline
from starvsr.media.sequence import is_sequence, open_sequence


@contextmanager
def open_source(path: Path, device: HWAccel | None = None) -> Iterator[InputContainer]:
    """A media file or an image sequence, open for reading in the `with` block. Raises InputError.

    device: the device that decodes it, if not the CPU; raises what PyAV raises if there is none or it cannot.
    """
    container = within_deadline(path, lambda: _checked(path, device))
    with closing_unless_stuck(container):
        yield container


@contextmanager
def open_part(path: Path) -> Iterator[InputContainer]:
    """A file written by this program, or so it is claimed. Raises what PyAV raises, InputError if it hangs."""
    container = within_deadline(path, lambda: _open(os.fspath(path.absolute())))
    with closing_unless_stuck(container):
        yield container


def _checked(path: Path, device: HWAccel | None) -> InputContainer:
    try:
        if is_sequence(path) and not path.exists():
            return open_sequence(path)
        if not path.exists():
            raise InputError(_absent(path))
        if path.is_dir():
            raise InputError(f"{path} is a folder, not a video file")
        if not path.is_file():
            raise InputError(
                f"{path} is a pipe or a device, which cannot be read twice: write it to a file, or give - to "
                "upscale, which stores standard input"
            )
        if path.stat().st_size == 0:
            raise InputError(f"{path} is empty (0 bytes): get the file again, or give another")
        # Absolute, or libav would take the text before a colon for a protocol.
        return _refuse_text(path, _open(os.fspath(path.absolute()), device))
    except PermissionError as error:
        raise InputError(f"{path} cannot be read: permission denied") from error
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{path} does not exist: no name can be that long") from error
        front = _without_cut_box(path)
        if front is None:
            raise InputError(_refusal(path, error)) from error
        return front


def check_exists(path: Path) -> None:
    """Raise InputError for a name of neither a file nor an image sequence."""
    if not within_deadline(path, path.exists) and not is_sequence(path):
        raise InputError(_absent(path))


def _absent(path: Path) -> str:
    # A path keeps one of an address's two slashes.
    scheme, slash, rest = str(path).partition(":/")
    if slash and scheme.isalpha() and len(scheme) > 1:
        url = f"{scheme}://{rest.lstrip('/')}"
        return (
            f"{url} is an address, not a file: download it first, or pipe it, as in "
            f"ffmpeg -i {url} -c copy -f matroska - | starvsr upscale - OUTPUT"
        )
    return f"{path} does not exist: check the name"


def _open(file: object, device: HWAccel | None = None) -> InputContainer:
    # Metadata in a wrong encoding must not make a video unreadable.
    return av.open(file, "r", metadata_errors="replace", hwaccel=device, timeout=libav_timeout())


def _refuse_text(path: Path, container: InputContainer) -> InputContainer:
    """Refuse text files, which libav would draw as a terminal does."""
    if container.format.name == "tty":
        container.close()
        raise InputError(f"{path} is not a video: it is a text file")
    return container


def _without_cut_box(path: Path) -> InputContainer | None:
    """A fragmented mp4 up to its last complete box; libav refuses the whole of a file that ends inside a `moof`."""
    length = boxes.whole_length(path) if path.is_file() and not boxes.lacks_index(path) else None
    if length is None:
        return None
    front = _Front(path, length)
    try:
        return _open(front)
    except (av.FFmpegError, OSError):
        front.close()
        return None


class _Front(io.RawIOBase):
    """The first bytes of a file, as a file. libav's container closes it when it is released."""

    def __init__(self, path: Path, length: int) -> None:
        self.name = os.fspath(path)
        self._file, self._length = path.open("rb"), length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self._file.tell())
        return self._file.read(left if size < 0 else min(size, left))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            offset, whence = self._length + offset, os.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()


def broken_picture(path: Path) -> str:
    """The message about an AVIF or HEIF of which nothing can be read; empty for other files."""
    if not path.is_file() or not boxes.is_picture(path):
        return ""
    if boxes.is_cut(path):
        return f"{path} is a truncated AVIF or HEIF picture: copy or download it again"
    return (
        f"{path} is an AVIF or HEIF picture that is damaged, or of a form that libav does not read"
    )


def _refusal(path: Path, error: Exception) -> str:
    if picture := broken_picture(path):
        return picture
    if path.is_file() and boxes.lacks_index(path):
        return (
            f"{path} cannot be read: its index (the moov box) is missing, as when a recording or a download was "
            "cut off; repair it with a tool such as untrunc first"
        )
    if isinstance(error, av.InvalidDataError):
        return f"{path} is not a media file that libav can read: give a video"
    return f"{path} cannot be read: {getattr(error, 'strerror', None) or error}"


def is_cover(stream: object) -> bool:
    """Whether a stream is an attached picture (cover art) and not a video."""
    return bool(getattr(stream, "disposition", 0) & Disposition.attached_pic)


def is_text(stream: Stream) -> bool:
    """Whether a stream is text subtitles, not bitmaps, that this libav can decode line by line."""
    context = stream.codec_context
    if stream.type != "subtitle" or context is None:
        return False
    # Closed captions are commands to a screen: a packet is not a line, and has no duration.
    return context.codec.text_sub and context.codec.canonical_name != "eia_608"
