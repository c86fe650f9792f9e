"""`starvsr info`: what a file contains, or what this installation supports."""

from __future__ import annotations

import dataclasses
import json
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import typer

from starvsr import __version__
from starvsr.cli.common import AsJson, Verbose
from starvsr.cli.messages import set_verbosity
from starvsr.cli.printing import echo
from starvsr.cli.report import JSON_VERSION
from starvsr.cli.upscale import refuse_folder
from starvsr.errors import WeightsError
from starvsr.plan.fitting import format_memory
from starvsr.types import VideoInfo

# Characters; the longest file path has 4096 bytes.
_LONGEST_LINE = 5000
_EDGES = ("left", "right", "top", "bottom")
_STREAM_WORDS = ("codec", "language", "detail")
_UNSAID = "not said"
ENCODERS = ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "prores_ks", "h264_nvenc")


def info(
    input: Annotated[
        Path | None,
        typer.Argument(metavar="INPUT", help="A media file (default: show this installation)."),
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
    for name, value in (_file_text if input is not None else _installation_text)(facts).items():
        lines = value if isinstance(value, list) else [value]
        for number, line in enumerate(lines):
            # A title may contain newlines, or megabytes.
            text = line.replace("\n", "\\n")[:_LONGEST_LINE]
            echo(f"{name if number == 0 else '':<14} {text}".rstrip())
    return 0


def _file_facts(path: Path) -> dict[str, Any]:
    """What a file contains, as data for JSON."""
    from starvsr.media.color_names import color_names
    from starvsr.media.firsts import first_packets
    from starvsr.media.probe import probe
    from starvsr.media.still import STILL

    refuse_folder(path)
    video = probe(path)
    if video.container == STILL:
        return _still_facts(path, video)
    packets = first_packets(path)
    rate = video.frame_rate
    return {
        "file": str(path),
        "container": video.container,
        "video": {
            "stream": video.stream_index,
            "codec": video.codec,
            "width": video.width,
            "height": video.height,
            "pix_fmt": video.pix_fmt,
            "bit_depth": video.bit_depth,
        },
        "frame_rate": rate and [rate.numerator, rate.denominator],
        "duration_s": video.duration_s,
        "frames": video.header_frames or None,
        "rotation": video.rotation,
        "sample_aspect": [video.sample_aspect.numerator, video.sample_aspect.denominator],
        "interlaced": video.interlaced,
        "color": color_names(video.color),
        "crop": dict(zip(_EDGES, video.crop, strict=True)),
        "hdr": {
            "mastering_display": list(video.hdr.display) or None,
            "content_light": list(video.hdr.light) or None,
            "dynamic": list(video.hdr.dynamic),
            "dolby_vision": list(video.hdr.dolby_vision) or None,
        },
        "beside": dict(video.beside),
        "other_programs": list(video.foreign),
        "chapters": video.chapters,
        "streams": [
            {**dataclasses.asdict(stream), "empty": not packets.get(stream.index, True)}
            for stream in video.streams
        ],
    }


def _file_text(facts: dict[str, Any]) -> dict[str, str | list[str]]:
    """The same for people, by the name of each line."""
    if "picture" in facts:
        return _still_text(facts)
    video, rate, aspect = facts["video"], facts["frame_rate"], Fraction(*facts["sample_aspect"])
    duration = facts["duration_s"]
    size = f"{video['width']}x{video['height']}"
    color = (f"{name.replace('_', ' ')} {value}" for name, value in facts["color"].items())
    return {
        "file": facts["file"],
        "container": facts["container"],
        "video": f"{video['codec']}, {size}, {video['pix_fmt']} ({video['bit_depth']} bit)",
        "frame rate": f"{rate[0] / rate[1]:.3f} per second" if rate else _UNSAID,
        "duration": _UNSAID if duration is None else f"{duration:.3f} s",
        "frames": str(facts["frames"] or _UNSAID),
        "rotation": f"{facts['rotation']} degrees",
        "sample aspect": str(aspect),
        "interlaced": "yes" if facts["interlaced"] else "no",
        "color": ", ".join(color),
        **_beside_text(facts),
        "chapters": str(facts["chapters"]),
        "streams": [_stream_text(stream) for stream in facts["streams"]],
    }


def _still_facts(path: Path, video: VideoInfo) -> dict[str, Any]:
    from starvsr.media.still import still_facts

    facts = still_facts(path)
    return {
        "file": str(path),
        "container": video.container,
        "picture": {
            "format": facts.kind,
            "width": video.width,
            "height": video.height,
            "pix_fmt": video.pix_fmt,
            "bit_depth": video.bit_depth,
        },
        "pictures": facts.pages,
        "turned": facts.turned,
        "color_profile_bytes": len(facts.icc),
        "exif_tags": len(facts.exif),
        "not_read": list(facts.others),
    }


def _still_text(facts: dict[str, Any]) -> dict[str, str | list[str]]:
    picture, profile, exif = facts["picture"], facts["color_profile_bytes"], facts["exif_tags"]
    size = f"{picture['width']}x{picture['height']}"
    return {
        "file": facts["file"],
        "container": facts["container"],
        "picture": f"{picture['format']}, {size}, {picture['pix_fmt']} ({picture['bit_depth']} bit)",
        "pictures": str(facts["pictures"]),
        "turned": "yes: it is restored upright" if facts["turned"] else "no",
        "color profile": f"{profile} bytes" if profile else "none, or not of its pixels",
        "exif": f"{exif} tags" if exif else "none",
        "not read": facts["not_read"] or ["nothing"],
        "restored": "as one frame: OUTPUT may be .png, .jpg, .webp, .tif, .bmp or .avif",
    }


def _stream_text(stream: dict[str, Any]) -> str:
    words = (f"{stream['index']}: {stream['kind']}", *map(stream.get, _STREAM_WORDS))
    return " ".join(filter(None, words)) + (", empty" if stream["empty"] else "")


def _beside_text(facts: dict[str, Any]) -> dict[str, str]:
    """What the file says beside its pictures, as far as it does."""
    found: dict[str, str] = {}
    hdr, crop = facts["hdr"], facts["crop"]
    films = [
        str(each["index"])
        for each in facts["streams"]
        if each["kind"] == "video" and each["detail"] != "cover picture"
    ]
    if len(films) > 1:
        found["restored"] = (
            f"stream {facts['video']['stream']}, of the video streams {', '.join(films)}"
        )
    if any(crop.values()):
        found["crop"] = ", ".join(f"{count} {edge}" for edge, count in crop.items())
    if hdr["mastering_display"] or hdr["content_light"]:
        display = "said" if hdr["mastering_display"] else _UNSAID
        light = ", ".join(map(str, hdr["content_light"] or ())) or _UNSAID
        found["hdr"] = f"mastering display {display}, content light {light}"
    if hdr["dynamic"]:
        found["dynamic hdr"] = ", ".join(hdr["dynamic"])
    if hdr["dolby_vision"]:
        profile, compatibility = hdr["dolby_vision"]
        found["dolby vision"] = f"profile {profile}, base layer compatibility {compatibility}"
    found |= facts["beside"]
    if facts["other_programs"]:
        found["other programs"] = f"streams {', '.join(map(str, facts['other_programs']))}"
    return found


def _weights_facts() -> dict[str, Any]:
    from starvsr.specs import COMPONENTS
    from starvsr.zoo.folder import component_file, is_file, weights_folder
    from starvsr.zoo.ondisk import model_files
    from starvsr.zoo.places import CONVERTED

    folder = weights_folder()
    return {
        "folder": str(folder),
        "components": [name for name in COMPONENTS if is_file(component_file(name, folder))],
        "converted": list(map(str, model_files(folder / CONVERTED))),
        **_copies_found(),
    }


def _copies_found() -> dict[str, Any]:
    """Copies of other programs' that an installation would use or could be given."""
    from starvsr.specs import COMPONENTS
    from starvsr.zoo.environment import check_hub_variables
    from starvsr.zoo.ondisk import cached_copies, comfyui_copies, comfyui_models

    try:
        check_hub_variables()
    except WeightsError as error:
        return {"found": [], "unreadable": str(error)}
    used = {
        path: name
        for name, component in COMPONENTS.items()
        for source in component.tensor_sources
        for path in (
            *(copy for each in (source, *source.alternatives) for copy in cached_copies(each)),
            *comfyui_copies(source),
        )
    }
    others = {path: None for path in comfyui_models() if path not in used}
    return {
        "found": [
            {"component": name, "path": str(path), "size_bytes": path.stat().st_size}
            for path, name in (used | others).items()
        ],
        "unreadable": None,
    }


def _weights_text(facts: dict[str, Any]) -> list[str]:
    from starvsr.zoo.amounts import format_bytes

    components = ", ".join(facts["components"]) or "only the embedded ones"
    lines = [f"{components} in {facts['folder']}"]
    lines += (
        f"{path}, converted from a file that was given by path" for path in facts["converted"]
    )
    for each in facts["found"]:
        name, file = each["component"], f"{each['path']} ({format_bytes(each['size_bytes'])})"
        use = f"{name}: {file}, used if its hash is right"
        lines.append(use if name else f"{file}: give it by --model or --source")
    if facts["unreadable"]:
        lines.append(f"Hugging Face's cache cannot be read: {facts['unreadable']}")
    return lines


def _installation_facts() -> dict[str, Any]:
    """What this installation supports, as data for JSON."""
    import av
    import torch

    from starvsr.models.attention import select_backend
    from starvsr.models.device import device_info
    from starvsr.specs import SPECS

    device = device_info("auto")
    return {
        "starvsr": __version__,
        "torch": torch.__version__,
        "PyAV": av.__version__,
        "device": dataclasses.asdict(device),
        "attention": select_backend("auto", torch.device(device.name)).value,
        "encoders": [name for name in ENCODERS if name in av.codecs_available],
        "models": [
            {"name": name, "summary": spec.summary, "licence": spec.licence}
            for name, spec in SPECS.items()
        ],
        "weights": _weights_facts(),
    }


def _installation_text(facts: dict[str, Any]) -> dict[str, str | list[str]]:
    device = facts["device"]
    memory, threads = device["memory_bytes"], device["threads"]
    parts = [device["description"], format_memory(memory) if memory else ""]
    parts.append("1 thread" if threads == 1 else f"{threads} threads")
    return {
        **{name: facts[name] for name in ("starvsr", "torch", "PyAV")},
        "device": f"{device['name']} ({', '.join(filter(None, parts))})",
        "attention": facts["attention"],
        "encoders": ", ".join(facts["encoders"]),
        "models": [
            f"{model['name']}: {model['summary']} ({model['licence']})" for model in facts["models"]
        ],
        "weights": _weights_text(facts["weights"]),
    }
