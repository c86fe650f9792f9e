"""A job's identity: everything that its output depends on, as plain data under the user's names.

A job that was broken off goes on only under the same request. What changes speed or memory alone is no part of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

from starvsr import __version__
from starvsr.job.records import IMPLIED
from starvsr.media.encoder import EncoderSettings
from starvsr.media.files import content_digest
from starvsr.media.provenance import PROGRAM
from starvsr.media.sequence import image_path, is_sequence, numbers_of
from starvsr.options import UpscaleOptions, flag_of, shares_text
from starvsr.plan.plan import Plan
from starvsr.plan.settings import resolve
from starvsr.specs import components_of
from starvsr.types import DeviceInfo, ModelSpec, VideoInfo
from starvsr.zoo.choose import ModelChoice
from starvsr.zoo.folder import embedded_file, find_component

_GROUPS = ("input", "size", "range", "sampling", "windows", "look", "encode", "streams")


def request_of(
    source: Path,
    target: Path,
    choice: ModelChoice,
    device: DeviceInfo,
    precision: str,
    options: UpscaleOptions,
    encoder: EncoderSettings,
) -> dict[str, dict[str, Any]]:
    """The request of a planned job. Raises OSError if the input or a model's file cannot be read."""
    return {
        "input": {"the input": source_print(source), "the container": target.suffix.lower()},
        "model": {"--model": choice.spec.name, **weights_of(choice)},
        "options": recorded_options(options),
        IMPLIED: {
            "the codec": encoder.codec,
            "the pixel format": encoder.pix_fmt,
            "the encoder's threads": encoder.threads,
            "the encoder's options": encoder.options,
            **_sampling(choice.spec, options),
        },
        "place": {
            "starvsr's version": __version__,
            # Other kinds of device round differently.
            "--device": device.name.partition(":")[0],
            "--precision": precision,
            # Fused sums round differently.
            **({"--compile": True} if options.device.compile else {}),
        },
    }


def _sampling(spec: ModelSpec, options: UpscaleOptions) -> dict[str, Any]:
    """What the model and `--speed` put where no option is given."""
    settings = resolve(spec, options.sampling, options.windows, options.look)
    names = ("steps", "solver_mode", "cfg", "cfg_rescale", "guidance_interval", "cache")
    chosen = {name: getattr(settings, name) for name in (*names, "noise_level", "color_fix")}
    return {
        name.replace("_", " "): value for name, value in (chosen | vars(settings.windows)).items()
    }


def recorded_options(options: UpscaleOptions) -> dict[str, Any]:
    """The options that an output depends on, by flag, as plain data."""
    return {
        flag_of(field.name): _plain(getattr(group, field.name))
        for name in _GROUPS
        for group in (getattr(options, name),)
        for field in dataclasses.fields(group)
    }


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Fraction) else value


def source_print(source: Path) -> str:
    """Digest of an input; of all images of a sequence. Raises OSError, InputError."""
    if not is_sequence(source) or source.exists():
        return content_digest(source)
    digest = hashlib.sha256()
    for number in numbers_of(source):
        image = image_path(source, number)
        digest.update(f"{number} {content_digest(image, once=False)}\n".encode())
    return digest.hexdigest()


def provenance_text(
    choice: ModelChoice, info: VideoInfo, plan: Plan, options: UpscaleOptions
) -> str:
    """An output's provenance tag (see `media.provenance`), if wanted; without prompts."""
    if not options.streams.provenance:
        return ""
    given = [
        _typed(field.name, getattr(group, field.name))
        for group in (options.sampling, options.windows, options.look)
        for field in dataclasses.fields(group)
        if getattr(group, field.name) != field.default and "prompt" not in field.name
    ]
    if options.size.model_scale is not None:
        given.insert(0, _typed("model_scale", options.size.model_scale))
    if plan.precision != "fp32":
        given.append(_typed("precision", plan.precision))
    sizes = f"{info.width}x{info.height} to {plan.width}x{plan.height}"
    return f"{PROGRAM} {__version__} {choice.spec.name}: {', '.join([sizes, *given])}"


def _typed(field: str, value: object) -> str:
    if isinstance(value, bool):
        return flag_of(field) if value else f"--no-{flag_of(field).removeprefix('--')}"
    if field == "guidance_interval":
        value = shares_text(cast(tuple[float, float], value))
    return f"{flag_of(field)} {value}"


def weights_of(
    choice: ModelChoice, digest: Callable[[Path], str] = content_digest
) -> dict[str, str]:
    """Digests of the existing weight files, by their role. Raises OSError, InputError."""
    network = choice.path or embedded_file(choice.spec.name)
    files = {"the model's weights": network}
    if choice.spec.faithful:
        files[f"the weights of {choice.spec.faithful}"] = embedded_file(choice.spec.faithful)
    for name in components_of(choice.spec):
        found = find_component(name, choice.folders)
        if found is not None:
            files[f"the component {name}"] = found
    return {name: digest(path) for name, path in files.items()}
