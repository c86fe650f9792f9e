"""`starvsr info`: what a file contains, or what this installation supports."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from starvsr import __version__
from starvsr.cli.common import AsJson, Verbose
from starvsr.cli.messages import set_verbosity
from starvsr.cli.printing import echo
from starvsr.cli.report import JSON_VERSION
from starvsr.cli.upscale import (
    refuse_folder,
)
from starvsr.types import VideoInfo

# Characters; the longest file path has 4096 bytes.
_LONGEST_LINE = 5000
ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "h264_nvenc")


def info(
    input: Annotated[
        Path | None,
        typer.Argument(metavar="[INPUT]", help="A media file (default: show this installation)."),
    ] = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> int:
    """Show what a file contains; without one: version, device, attention, encoders, models."""
    set_verbosity(verbose=verbose, quiet=False)
    facts = _file_facts(input) if input is not None else _installation_facts()
    if as_json:
        echo(json.dumps({"version": JSON_VERSION, "event": "info", **facts}))
        return 0
    for name, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        for number, line in enumerate(lines):
            # A title may contain newlines, or megabytes.
            text = str(line).replace("\n", "\\n")[:_LONGEST_LINE]
            echo(f"{name.replace('_', ' ') if number == 0 else '':<14} {text}".rstrip())
    return 0


def _file_facts(path: Path) -> dict[str, Any]:
    from starvsr.media.firsts import first_packets
    from starvsr.media.probe import probe
    from starvsr.media.still import STILL

    refuse_folder(path)
    video = probe(path)
    if video.container == STILL:
        return _still_facts(path, video)
    empty = [index for index, data in first_packets(path).items() if not data]
    return {
        "file": str(path),
        "container": video.container,
        "video": f"{video.codec}, {video.width}x{video.height}, {video.pix_fmt} ({video.bit_depth} bit)",
        "frame_rate": f"{float(video.frame_rate):.3f} per second"
        if video.frame_rate
        else "not said",
        "duration": f"{video.duration_s:.3f} s" if video.duration_s is not None else "not said",
        "frames": video.header_frames or "not said",
        "rotation": f"{video.rotation} degrees",
        "sample_aspect": str(video.sample_aspect),
        "interlaced": "yes" if video.interlaced else "no",
        "color": _color_text(video),
        **_beside(video),
        "chapters": video.chapters,
        "streams": [
            " ".join(filter(None, (f"{s.index}: {s.kind}", s.codec, s.language, s.detail)))
            + (", empty" if s.index in empty else "")
            for s in video.streams
        ],
    }


def _still_facts(path: Path, video: VideoInfo) -> dict[str, Any]:
    from starvsr.media.still import still_facts

    facts = still_facts(path)
    profile = f"{len(facts.icc)} bytes" if facts.icc else "none, or not of its pixels"
    return {
        "file": str(path),
        "container": video.container,
        "picture": f"{facts.kind}, {video.width}x{video.height}, {video.pix_fmt} ({video.bit_depth} bit)",
        "pictures": facts.pages,
        "turned": "yes: it is restored upright" if facts.turned else "no",
        "color_profile": profile,
        "exif": f"{len(facts.exif)} tags" if facts.exif else "none",
        "not_read": list(facts.others) or ["nothing"],
        "restored": "as one frame: OUTPUT may be .png, .jpg, .webp, .tif, .bmp or .avif",
    }


def _beside(video: VideoInfo) -> dict[str, Any]:
    """What the file says beside its pictures, as far as it does."""

    facts: dict[str, Any] = {}
    films = [
        each.index
        for each in video.streams
        if each.kind == "video" and each.detail != "cover picture"
    ]
    if len(films) > 1:
        facts["restored"] = (
            f"stream {video.stream_index}, of the video streams {', '.join(map(str, films))}"
        )
    if any(video.crop):
        facts["crop"] = "{} left, {} right, {} above, {} below".format(*video.crop)
    if video.hdr.display or video.hdr.light:
        light = ", ".join(map(str, video.hdr.light)) or "not said"
        facts["hdr"] = (
            f"mastering display {'said' if video.hdr.display else 'not said'}, content light {light}"
        )
    if video.hdr.dynamic:
        facts["dynamic_hdr"] = ", ".join(video.hdr.dynamic)
    if video.hdr.dolby_vision:
        facts["dolby_vision"] = "profile {}, base layer compatibility {}".format(
            *video.hdr.dolby_vision
        )
    facts |= {kind.replace(" ", "_"): value for kind, value in video.beside}
    if video.foreign:
        facts["other_programs"] = f"streams {', '.join(map(str, video.foreign))}"
    return facts


def _color_text(video: VideoInfo) -> str:
    fields = dataclasses.asdict(video.color)
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in fields.items())


def _weights_found() -> list[str]:
    from starvsr.specs import COMPONENTS
    from starvsr.zoo.folder import component_file, is_file, weights_folder

    folder = weights_folder()
    found = [name for name in COMPONENTS if is_file(component_file(name, folder))]
    return [f"{', '.join(found) or 'only the embedded ones'} in {folder}"]


def _installation_facts() -> dict[str, Any]:
    import av
    import torch

    from starvsr.models.attention import select_backend
    from starvsr.models.device import device_info
    from starvsr.specs import SPECS

    device = device_info("auto")
    memory = f", {device.memory_bytes / 2**30:.1f} GiB" if device.memory_bytes else ""
    return {
        "starvsr": __version__,
        "torch": torch.__version__,
        "PyAV": av.__version__,
        "device": f"{device.name} ({device.description}{memory}, {device.threads} threads)",
        "attention": select_backend("auto", torch.device(device.name)).value,
        "encoders": ", ".join(name for name in ENCODERS if name in av.codecs_available),
        "models": [f"{name}: {spec.summary} ({spec.licence})" for name, spec in SPECS.items()],
        "weights": _weights_found(),
    }
