"""Folders of videos: their contents, and new folders for results."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starvsr.errors import InputError, UsageError
from starvsr.media.choice import choose_stream
from starvsr.media.files import written_errors
from starvsr.media.removal import Right, remove_folder
from starvsr.media.sequence import STILL_SUFFIXES, UNREAD_SUFFIXES
from starvsr.media.source import open_source

logger = logging.getLogger(__name__)


def _suffixes(*names: str) -> tuple[str, ...]:
    return tuple(f".{name}" for line in names for name in line.split())


VIDEO_SUFFIXES = _suffixes(
    "mp4 m4v mov qt mkv mk3d webm avi divx ts m2ts mts m2t trp tp mpg mpeg mpe m1v m2v mpv mp2v vob vro evo",
    "wmv asf flv f4v ogv ogm 3gp 3g2 mxf gxf dv dif rm rmvb nut ivf obu y4m gif apng mjpeg mjpg h261 h263",
    "h264 264 avc hevc h265 265 vvc h266 266 vc1 amv nuv wtv ismv mj2 bik smk roq",
)
"""Extensions of files that count as videos."""
# Files beside videos, which are not opened to find out: pictures, sound, text, playlists, previews of cameras, what is
# not complete, archives and data.
_OTHER_SUFFIXES = _suffixes(
    "jpg jpeg png bmp tif tiff webp heic heif avif jxl dng cr2 nef arw svg ico psd exr dpx",
    "mp3 wav flac m4a m4b aac opus oga mka ac3 eac3 dts thd wma aif aiff mp2 ape mid",
    "txt nfo srt ass ssa vtt sub idx sup lrc smi scc mcc stl mks xml xmp json csv md html htm toml yaml yml log ini",
    "cue edl m3u m3u8 mpd pls ifo bup thm lrv lrf sav db url lnk torrent part partial crdownload tmp temp bak",
    "zip rar 7z gz bz2 xz tar iso pdf doc docx odt xls xlsx py sh exe dll so md5 sha1 sha256 sfv par2 safetensors pt",
    "pth onnx npy npz",
)
_PICTURES = re.compile(r"image2|ico|tty|.*_pipe")


def videos_in(folder: Path, *, pictures: str = "") -> list[Path]:
    """The videos of a folder in name order, without hidden ones and subfolders.

    A file is one by its extension in any case or, if that says nothing, because libav finds a video in it. Raises
    InputError if there are none, or the folder cannot be read. pictures: what to do where it has pictures instead.
    """
    found = _files_in(folder)
    videos = [path for path in found if _is_video(path)]
    if not videos:
        stills = any(path.suffix.lower() in STILL_SUFFIXES for path in found)
        how = f"; {pictures}" if stills and pictures else ""
        raise InputError(
            f"{folder} contains no video: none of its files has such an extension ({' '.join(VIDEO_SUFFIXES[:6])}, "
            f"...) or content that libav reads as one{how}"
        )
    return videos


def stills_in(folder: Path) -> list[Path]:
    """The pictures of a folder by their extension in any case, in name order, without hidden ones and subfolders.

    Warns of HEIC, which is not read. Raises InputError if there are none, or the folder cannot be read.
    """
    found = _files_in(folder)
    stills = [path for path in found if path.suffix.lower() in STILL_SUFFIXES]
    unread = [path.name for path in found if path.suffix.lower() in UNREAD_SUFFIXES]
    if unread:
        logger.warning("left out, since HEIC is not read: %s", ", ".join(unread))
    if not stills:
        raise InputError(
            f"{folder} contains no picture: none of its files has such an extension ({' '.join(STILL_SUFFIXES)})"
        )
    return stills


def _files_in(folder: Path) -> list[Path]:
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read: {(error.strerror or str(error)).lower()}"
        ) from error
    return [path for path in found if not path.name.startswith(".") and path.is_file()]


def _is_video(path: Path) -> bool:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES or suffix in _OTHER_SUFFIXES:
        return suffix in VIDEO_SUFFIXES
    try:
        with open_source(path) as container:
            context = choose_stream(container, path).codec_context
            return not _PICTURES.fullmatch(container.format.name) and context.width > 0
    except InputError:
        return False


def refuse_named_like_a_file(folder: Path, *suffixes: str) -> None:
    """Raise UsageError for a new folder with such an extension, which a file was meant by."""
    if folder.suffix.lower() in suffixes and not folder.exists():
        raise UsageError(
            f"{folder} would be a folder of results: give a name without {folder.suffix}"
        )


@contextmanager
def new_folders(folders: Iterable[Path]) -> Iterator[None]:
    """Create the missing folders and those above them, and on exit remove those created here that stayed empty.

    Raises OutputError if one cannot be created.
    """
    made: list[Path] = []
    try:
        for folder in folders:
            with written_errors(folder):
                for each in (*reversed(folder.parents), folder):
                    if not each.is_dir():
                        # Another process may create it too.
                        each.mkdir(exist_ok=True)
                        made.append(each)
        yield
    finally:
        for folder in reversed(made):
            remove_folder(folder, Right.EMPTY)
