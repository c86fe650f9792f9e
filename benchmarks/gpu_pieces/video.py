"""Piece `video`: decoding and encoding by the device, where the installed libav has them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.hwaccel import hwdevices_available
from av.video.stream import VideoStream
from memory import make_clip

from gpu_pieces.setting import Case, Setting
from starvsr.media.hwaccel import usable_device
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.types import VideoInfo

SOURCES = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
"""What is decoded, and who encodes it."""
ENCODERS = ("libx264", "h264_nvenc", "hevc_nvenc", "av1_nvenc")


def cases(setting: Setting) -> Iterator[Case]:
    """What there is, and each of it beside the CPU."""
    yield Case("devices", _devices)
    for codec in SOURCES:
        yield Case(f"decode {codec}", partial(_decode, setting, codec))
    for encoder in ENCODERS:
        yield Case(f"encode {encoder}", partial(_encode, setting, encoder))


def _devices() -> Mapping[str, Any]:
    hardware = ("nvenc", "vaapi", "qsv", "amf", "vulkan")
    return {
        "pyav": av.__version__,
        "hwaccel": " ".join(hwdevices_available()),
        "encoders": " ".join(
            name for name in sorted(av.codecs_available) if any(kind in name for kind in hardware)
        ),
    }


def _decode(setting: Setting, codec: str) -> Mapping[str, Any]:
    """Frames as the program reads them, on the CPU and where `--hwaccel auto` decodes."""
    path = setting.folder / f"{codec}.mkv"
    if not path.exists():
        _transcode(_clip(setting), path, SOURCES[codec])
    info = probe(path)
    index = build_index(info)
    found = usable_device(info, "auto")
    seconds, wanted = _read(info, index)
    result = {"device": found, "frames": index.frames, "cpu_fps": index.frames / seconds}
    if found == "none":
        return result
    there = dataclasses.replace(info, hwaccel=found)
    seconds, got = _read(there, index)
    result["device_fps"] = index.frames / seconds
    result["same_frames"] = all(map(np.array_equal, wanted, got))
    return result


def _read(info: VideoInfo, index: Any) -> tuple[float, list[Any]]:
    """Seconds, and some of the frames."""
    began, kept = time.perf_counter(), []
    for number, frame in enumerate(read_frames(info, index, 0, index.frames)):
        if number % 15 == 0:
            kept.append(frame)
    return time.perf_counter() - began, kept


def _encode(setting: Setting, encoder: str) -> Mapping[str, Any]:
    """Frames a second of the encoder alone, with its default settings."""
    if encoder not in av.codecs_available:
        return {"works": False, "why": "this libav build does not have it"}
    path = setting.folder / f"{encoder}.mkv"
    began = time.perf_counter()
    try:
        frames = _transcode(_clip(setting), path, encoder)
    except (av.FFmpegError, OSError) as error:
        return {"works": False, "why": str(error).split("\n")[0]}
    seconds = time.perf_counter() - began
    return {
        "works": True,
        "frames": frames,
        "fps_with_decoding": frames / seconds,
        "file_bytes": path.stat().st_size,
    }


def _clip(setting: Setting) -> Path:
    path = setting.folder / "video.mp4"
    if not path.exists():
        size, frames = setting.pick(((1920, 1080), 90), ((160, 96), 6))
        make_clip(path, *size, frames)
    return path


def _transcode(source: Path, target: Path, encoder: str) -> int:
    """Returns the number of frames."""
    count = 0
    with av.open(str(source)) as reader, av.open(str(target), "w") as writer:
        video = reader.streams.video[0]
        stream = writer.add_stream(encoder, rate=25)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = video.width, video.height, "yuv420p"
        for frame in reader.decode(video):
            frame.pts = None
            writer.mux(stream.encode(frame))
            count += 1
        writer.mux(stream.encode())
    return count
