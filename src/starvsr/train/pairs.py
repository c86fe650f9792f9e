"""Video files degraded, alone or as pairs of a data set in STAR's layout: `gt/`, `lq/` and `text/`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from starvsr.errors import InputError, UsageError
from starvsr.media.color import Pixels
from starvsr.media.deadline import within_deadline
from starvsr.media.encoder import EncoderSettings, check_encoder, container_of
from starvsr.media.files import check_target, complete_or_absent, errors_of
from starvsr.media.folders import new_folders, videos_in
from starvsr.media.index import build_index
from starvsr.media.join import join
from starvsr.media.pixfmt import is_hdr
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.removal import Right, remove_file
from starvsr.media.scratch import scratch_folder
from starvsr.media.still import STILL
from starvsr.media.writer import PartWriter
from starvsr.options import EncodeOptions, StreamOptions
from starvsr.train.degrade import Degradation
from starvsr.types import Progress, ProgressCallback, VideoIndex, VideoInfo

logger = logging.getLogger(__name__)

# A rate factor of 0 is lossless in 8 bits only, and comes before the quantiser unless that is unset.
_TRUTH = EncodeOptions(codec="libx264", crf=-1, pix_fmt="source", extra=(("qp", "0"),))
LOSSLESS = replace(_TRUTH, pix_fmt="yuv420p")
"""Of what was degraded, which is 8-bit 4:2:0 after its last codec anyway; HDR keeps its depth."""
_PICTURES_ONLY = StreamOptions(
    audio="none", subtitles="none", chapters=False, metadata=False, attachments=False
)


@dataclass(frozen=True)
class ClipFiles:
    """One source and its outputs."""

    source: Path
    degraded: Path
    truth: Path | None = None
    """Where the source's own frames go, cropped as the degraded ones; None leaves them out."""
    text: Path | None = None

    @property
    def made(self) -> tuple[Path, ...]:
        """The files that will be written."""
        return tuple(path for path in (self.truth, self.text, self.degraded) if path is not None)


@dataclass(frozen=True)
class DegradeResult:
    """The result for one clip."""

    files: ClipFiles
    width: int
    height: int
    frames: int
    lost_frames: int
    """Frames of the source that could not be decoded."""
    left_out: tuple[str, ...]
    """Kinds of the source's streams that are not in the output, such as `audio`."""
    degradation: Degradation
    elapsed_s: float

    def to_json(self) -> dict[str, Any]:
        """Plain data for `json.dumps`."""
        files = self.files
        return {
            "source": str(files.source),
            "target": str(files.degraded),
            "truth": None if files.truth is None else str(files.truth),
            "width": self.width,
            "height": self.height,
            "frames": self.frames,
            "lost_frames": self.lost_frames,
            "left_out": list(self.left_out),
            "degradation": self.degradation.to_json(),
            "elapsed_s": self.elapsed_s,
        }


def clip_files(source: Path, output: Path, *, pairs: bool) -> list[ClipFiles]:
    """The clips of a file or a folder (not of folders inside it), by name, and where they go.

    pairs: `output` is a folder that gets `gt/NAME.mp4`, `lq/NAME.mp4` and `text/NAME.txt`; otherwise it is the file
    for a file, and a folder that gets `NAME.mp4` for a folder. Raises InputError where a folder holds no video,
    UsageError where two videos would have one name.
    """
    if not within_deadline(source, source.is_dir):
        return [_pair(source, output) if pairs else ClipFiles(source, output)]
    found = videos_in(source)
    by_name: dict[str, Path] = {}
    for path in found:
        if path.stem in by_name:
            raise UsageError(
                f"{by_name[path.stem].name} and {path.name} would both become {path.stem}.mp4: rename one of them"
            )
        by_name[path.stem] = path
    if pairs:
        return [_pair(path, output) for path in found]
    return [ClipFiles(path, output / f"{path.stem}.mp4") for path in found]


def _pair(source: Path, output: Path) -> ClipFiles:
    name = f"{source.stem}.mp4"
    return ClipFiles(
        source, output / "lq" / name, output / "gt" / name, output / "text" / f"{source.stem}.txt"
    )


def made_folders(clips: Sequence[ClipFiles], output: Path) -> AbstractContextManager[None]:
    """Create `output` and the clips' folders in it, and finally remove those that stayed empty.

    Raises OutputError where one cannot be made.
    """
    return new_folders([output, *(path.parent for clip in clips for path in clip.made)])


def degrade_video(
    files: ClipFiles,
    degradation: Degradation,
    *,
    encode: EncodeOptions = LOSSLESS,
    text: str = "",
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> DegradeResult:
    """Degrade one video file, in memory that does not grow with its length.

    The picture is cropped at its centre to a multiple of twice the scale, so that both sizes are even and in the exact
    proportion; every frame keeps its time, and nothing but pictures is kept. encode: of the degraded file; the truth is
    always lossless. Raises StarvsrError; on any error or interrupt no new file is left behind.
    """
    began = time.perf_counter()
    report = progress or (lambda _: None)
    info = probe(files.source)
    for target in files.made:
        check_target(files.source, target, overwrite=overwrite)
    for target in filter(None, (files.degraded, files.truth)):
        if container_of(target) == STILL:
            raise UsageError(
                f"{target}: videos and numbered images are written, no single picture: give such as {target.stem}-%d"
                f"{target.suffix} or {target.stem}.mkv"
            )
    height, width = _cropped_size(info, degradation.scale)
    size = height // degradation.scale, width // degradation.scale
    if encode == LOSSLESS and is_hdr(info):
        encode = _TRUTH
    outputs = {files.degraded: check_encoder(encode, files.degraded, info, size[1], size[0])}
    if files.truth is not None:
        outputs[files.truth] = check_encoder(_TRUTH, files.truth, info, width, height)
    index = build_index(info, scene_detect=False, progress=progress)
    with ExitStack() as folders, errors_of(files.degraded):
        places = {
            target: folders.enter_context(scratch_folder(target.parent)) for target in files.made
        }
        _write_parts(files, places, outputs, info, index, degradation, report)
        _complete(files, places, outputs, info, index, text, overwrite=overwrite)
    kinds = dict.fromkeys(s.kind for s in info.streams if s.index != info.stream_index)
    return DegradeResult(
        files=files,
        width=size[1],
        height=size[0],
        frames=index.frames,
        lost_frames=index.lost_frames,
        left_out=tuple(kinds),
        degradation=degradation,
        elapsed_s=time.perf_counter() - began,
    )


def _complete(
    files: ClipFiles,
    places: Mapping[Path, Path],
    outputs: Mapping[Path, EncoderSettings],
    info: VideoInfo,
    index: VideoIndex,
    text: str,
    *,
    overwrite: bool,
) -> None:
    """Give all files of a clip their names, or none. Raises OutputError."""
    with _all_or_none(files.made) as completed:
        for target, settings in outputs.items():
            join(
                [_part(places[target], settings)],
                info,
                index,
                target,
                settings,
                _PICTURES_ONLY,
                0,
                index.frames,
                work_dir=places[target],
                on_complete=partial(completed, target),
                overwrite=overwrite,
            )
        if files.text is not None:
            with (
                complete_or_absent(
                    files.text,
                    places[files.text],
                    partial(completed, files.text),
                    replace=overwrite,
                ) as temporary,
                temporary.open("x", encoding="utf-8") as file,
            ):
                file.write(text)


def _part(folder: Path, settings: EncoderSettings) -> Path:
    return folder / f"part{settings.part_suffix}"


def _write_parts(
    files: ClipFiles,
    places: Mapping[Path, Path],
    outputs: Mapping[Path, EncoderSettings],
    info: VideoInfo,
    index: VideoIndex,
    degradation: Degradation,
    report: ProgressCallback,
) -> None:
    """Encode what is made of a clip, and its truth if that is wanted, each into one part."""
    with ExitStack() as stack:
        writers = {
            target: stack.enter_context(
                PartWriter(_part(places[target], own), own, info, own.width, own.height)
            )
            for target, own in outputs.items()
        }

        def write(target: Path, pixels: Pixels, number: int) -> None:
            writers[target].write(pixels, index.pts[number], index.durations[number])

        def source() -> Generator[Tensor, None, None]:
            with closing(read_frames(info, index, 0, index.frames)) as frames:
                for number, pixels in enumerate(frames):
                    cropped = _crop(pixels, degradation.scale)
                    if files.truth is not None:
                        write(files.truth, cropped, number)
                    yield torch.from_numpy(cropped.astype(np.float32)).permute(2, 0, 1).div_(65535)

        with closing(source()) as frames:
            for number, frame in enumerate(degradation.stream(frames)):
                levels = (frame.permute(1, 2, 0) * 65535).round().contiguous().numpy()
                write(files.degraded, levels.astype(np.uint16), number)
                report(Progress("degrade", number + 1, index.frames))


def _crop(pixels: Pixels, scale: int) -> Pixels:
    height, width = (_legal_side(side, scale) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def _legal_side(side: int, scale: int) -> int:
    return side - side % (2 * scale)


def _cropped_size(info: VideoInfo, scale: int) -> tuple[int, int]:
    """Rows and columns of the truth; says so where they are not the source's."""
    height, width = (_legal_side(side, scale) for side in (info.height, info.width))
    if min(height, width) == 0:
        raise InputError(
            f"{info.path} is {info.width}x{info.height}, which is too small for 1/{scale} of it: "
            f"give a video of at least {2 * scale}x{2 * scale}"
        )
    if (height, width) != (info.height, info.width):
        logger.warning(
            "%s is cropped from %dx%d to %dx%d, a multiple of %d",
            info.path,
            info.width,
            info.height,
            width,
            height,
            2 * scale,
        )
    return height, width


@contextmanager
def _all_or_none(targets: Iterable[Path]) -> Iterator[Callable[[Path, Path], None]]:
    """Where not all files of a clip can be put in place, remove those that are new.

    Yields a callback for each: it receives the name, and the complete file before it takes that name.
    """
    new = [target for target in targets if not target.exists()]
    made: dict[Path, int] = {}

    def completed(target: Path, file: Path) -> None:
        made[target] = file.stat().st_ino

    try:
        yield completed
    except BaseException:
        for target in new:
            with suppress(OSError):
                # Another process may have taken the name meanwhile.
                if target.lstat().st_ino == made.get(target):
                    remove_file(target, Right.INCOMPLETE)
        raise
