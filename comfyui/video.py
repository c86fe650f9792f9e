"""The node over a video file."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
from glob import escape
from pathlib import Path
from typing import Any

import starvsr
from starvsr.errors import InputError, UsageError, WorkDirError

from .models import DEFAULT, Model
from .running import Bar
from .widgets import (
    CATEGORY,
    MODEL,
    SETTINGS,
    SIZE,
    default_settings,
    look_options,
    number,
    sampling_options,
    size_options,
    window_options,
)

_WORK_DIR = ".starvsr"
"""What the name of a work directory has more than the file's."""

logger = logging.getLogger(__name__)


class UpscaleVideo:
    """Restores a video file into ComfyUI's output folder, with all of its streams."""

    CATEGORY = CATEGORY
    DESCRIPTION = (
        "Restores a video file of any length into the output folder, with sound, subtitles, chapters and times. An "
        "interrupted run resumes when it is queued again unchanged."
    )
    RETURN_TYPES = ("VIDEO", "STRING")
    RETURN_NAMES = ("video", "path")
    FUNCTION = "upscale"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                **SIZE,
                "filename_prefix": (
                    "STRING",
                    {"default": "video/starvsr", "tooltip": "Of the result, in the output folder."},
                ),
                "format": (
                    ["mkv", "mp4", "mov", "webm"],
                    {
                        "default": "mkv",
                        "tooltip": "mkv keeps most of the source; mp4 plays in more browsers.",
                    },
                ),
                "codec": (
                    ["auto", "libx264", "libx265", "libsvtav1", "libvpx-vp9", "prores_ks", "ffv1"],
                    {"default": "auto", "tooltip": "As --codec."},
                ),
                "crf": number("INT", -1, -1, 63, "As --crf; -1: the codec's default."),
            },
            "optional": {
                "video": ("VIDEO", {"tooltip": "A video that was loaded from a file."}),
                "path": (
                    "STRING",
                    {
                        "default": "",
                        "tooltip": "Instead of video: a path, or a name in ComfyUI's input folder.",
                    },
                ),
                "model": (MODEL, {"tooltip": "Of starvsr Load Model; without: as auto there."}),
                **SETTINGS,
            },
        }

    @classmethod
    def IS_CHANGED(cls, path: str = "", **_: Any) -> str:
        """A file given by path may be another one than in the last run."""
        name = _typed(path or "")
        try:
            facts = Path(_place(name)).stat() if name else None
        except OSError:
            return "missing"
        return f"{facts.st_mtime_ns} {facts.st_size}" if facts else ""

    def upscale(
        self,
        scale: float,
        resolution: int,
        filename_prefix: str,
        format: str,
        codec: str,
        crf: int,
        video: Any = None,
        path: str = "",
        model: Model | None = None,
        **given: Any,
    ) -> dict[str, Any]:
        """See `INPUT_TYPES`. Raises StarvsrError, ValueError, and ComfyUI's InterruptProcessingException."""
        from comfy_api.input_impl import VideoFromFile

        source, span = _source(video, _typed(path))
        settings, model = {**default_settings(), **given}, model or DEFAULT
        sampling = sampling_options(settings)
        options = starvsr.UpscaleOptions(
            model=model.name,
            size=size_options(scale, resolution),
            range=span,
            sampling=model.with_prompts(sampling),
            windows=window_options(settings),
            look=look_options(settings, model.detail),
            encode=starvsr.EncodeOptions(codec=codec, crf=None if crf < 0 else crf),
            device=model.device,
            weights=model.weights,
        )
        bar = Bar()
        models = model.jobs(bar)
        folder, targets = _targets(filename_prefix, format)
        target = _first_done(source, targets, options, models, bar)
        shown = {"filename": target.name, "subfolder": folder, "type": "output"}
        return {
            "ui": {"images": [shown], "animated": (True,)},
            "result": (VideoFromFile(file=str(target)), str(target)),
        }


def _first_done(
    source: str,
    targets: list[Path],
    options: starvsr.UpscaleOptions,
    models: starvsr.LastModel,
    bar: Bar,
) -> Path:
    """Do the job into the first target that is not another job's; the last one is new. Raises StarvsrError."""
    # Planned once: it decodes the whole video.
    planned = starvsr.plan_video(
        source, targets[-1], options, fetch=lambda _: None, progress=bar.of_job
    )
    for note in planned.notes:
        logger.info("note: %s", note)
    for target in targets:
        job = dataclasses.replace(planned, target=target)
        try:
            starvsr.run_job(job, progress=bar.of_job, models=models, on_resume=_say_resumed)
            break
        except (WorkDirError, UsageError) as error:
            # Another job's folder, or one that another process works in.
            if target == targets[-1]:
                raise
            logger.info("not resumed: %s", error)
    return target


def _say_resumed(count: int, folder: Path) -> None:
    logger.info("resuming: %d segments already done in %s", count, folder)


def _targets(prefix: str, suffix: str) -> tuple[str, list[Path]]:
    """The subfolder, and where the result may go: what an interrupted run was to make, the newest first, then a new
    name. Raises an exception of ComfyUI for a place outside its output folder."""
    import folder_paths

    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        prefix, folder_paths.get_output_directory()
    )
    begun = sorted(Path(folder).glob(f"{escape(name)}_*_.{suffix}{_WORK_DIR}"), reverse=True)
    targets = [path.with_name(path.name.removesuffix(_WORK_DIR)) for path in begun]
    new = Path(folder) / f"{name}_{counter:05}_.{suffix}"
    return subfolder, [*(target for target in targets if not target.exists()), new]


def _source(video: Any, path: str) -> tuple[str, starvsr.RangeOptions]:
    """The file that is meant, and the part of it. Raises InputError, ValueError."""
    if (video is None) == (not path):
        raise ValueError("give either video or path" + (", not both" if path else ""))
    if path:
        return _place(path), starvsr.RangeOptions()
    from comfy_api.input_impl import VideoFromComponents

    # Whether frames were changed that the file still has; ComfyUI's later versions tell.
    edited = getattr(video, "has_pending_frame_edits", bool)()
    if isinstance(video, VideoFromComponents) or edited:
        raise InputError(
            "this video is in memory and not a file as it is: save it and give its path, or connect its images to "
            "starvsr Upscale Images"
        )
    start_s, duration_s = getattr(video, "get_active_trim_window", lambda: (0.0, 0.0))()
    span = starvsr.RangeOptions(start_s=start_s or None, duration_s=duration_s or None)
    found = video.get_stream_source()
    return (_stored(found) if isinstance(found, io.BytesIO) else str(found)), span


def _stored(content: io.BytesIO) -> str:
    """A video that is in memory as a file, of which every run makes the same one."""
    import folder_paths

    data = content.getbuffer()
    place = Path(folder_paths.get_temp_directory())
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"starvsr-{hashlib.sha256(data).hexdigest()[:16]}"
    file.write_bytes(data)
    return str(file)


def _typed(path: str) -> str:
    """A path without the spaces around it and the quotes of Windows' "copy as path"."""
    return path.strip().strip('"')


def _place(path: str) -> str:
    """A path, or a name in ComfyUI's input folder."""
    import folder_paths

    place: str = folder_paths.get_annotated_filepath(path)
    return place
