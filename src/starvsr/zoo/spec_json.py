"""A model's spec as JSON, and back from untrusted files."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from starvsr.errors import WeightsError
from starvsr.media.strict_json import parse_json, shown
from starvsr.specs import EMBEDDED
from starvsr.types import (
    AutoencoderSpec,
    CogVideoXConfig,
    ModelSpec,
    RecurrentConfig,
    SizeRule,
    TextSpec,
    UNetConfig,
    WindowSpec,
)
from starvsr.zoo.places import is_component_name

Built = TypeVar("Built")

_MOST_CHARACTERS = 1 << 16

_NESTED: dict[str, type[Any]] = {
    "network": UNetConfig,
    "autoencoder": AutoencoderSpec,
    "size_rule": SizeRule,
    "windows": WindowSpec,
    "text": TextSpec,
}
_CHOICES = {
    "start": ("noised", "clean", "noise"),
    "solver": ("one_step", "dpmpp_2m_sde", "vpsde_dpmpp_2m"),
    "schedule": ("logsnr_cosine_interp", "scaled_linear_zero_snr", "shifted_linear_zero_snr"),
    "upsampling": ("bicubic", "bilinear"),
    "color_fix": ("adain", "wavelet", "none"),
    "half": ("fp16", "bf16"),
    "posterior": ("sample", "mean"),
    "liem": ("published", "acting", "none", True, False),
}
_MAY_BE_0 = (
    "chunk_overlap",
    "tile_overlap",
    "call_elements",
    "context_frames",
    "height_remainder",
    "full_width",
    "cfg_rescale",
)
_LEAST, _MOST = 1e-9, 16_384
# Limits of values that are multiplied or repeated. With all at their maximum a network is still built in seconds,
# as long as it has no memory for its weights.
_MOST_OF = {
    "residual_blocks": 8,
    "multipliers": 64,
    "blocks_before": 64,
    "deep_blocks": 64,
    "blocks_behind": 64,
    "layers": 64,
    "heads": 1024,
    "head_width": 1024,
    "first_heads": 1024,
    "factor": 64,
    "time_factor": 64,
    "multiple": 1024,
    "min_size": 4096,
    "noise_level": 1000,
    "steps": 1000,
    "cfg_rescale": 1,
    "call_elements": 1 << 40,
}
_MOST_ITEMS = 8
_MOST_TEXT = 10_000
_LONGEST_NAME = 200


def spec_to_json(spec: ModelSpec) -> str:
    """The spec as JSON with sorted keys, as in a model file's metadata; without counted values."""
    fields = dataclasses.asdict(spec)
    kept = {name: fields[name] for name in _field_names(ModelSpec)}
    return json.dumps(kept, sort_keys=True)


def spec_from_json(text: str) -> ModelSpec:
    """The inverse of `spec_to_json`. Raises WeightsError for a spec this version does not understand.

    All its sizes are within a machine's limits: a network without memory for its weights is built
    from them within seconds.
    """
    try:
        fields = parse_json(text, _MOST_CHARACTERS)
        if not isinstance(fields, dict):
            raise TypeError(f"{shown(fields)} is not a ModelSpec")
        _drop_former(fields.get("windows"))
        for name, kind in _NESTED.items():
            if name == "network":
                kind = _network_kind(fields[name])
            if name != "text" or fields.get(name) is not None:
                fields[name] = _build(kind, fields[name])
        spec = _build(ModelSpec, fields)
        _check_together(spec)
    except (ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"the model file's description is not one this version understands ({error})"
        ) from error
    return dataclasses.replace(spec, min_size=(spec.min_size[0], spec.min_size[1]))


def _drop_former(windows: object) -> None:
    """Remove fields that older versions always wrote, of which this one knows a single value."""
    if isinstance(windows, dict):
        bound = windows.pop("tiles_bound", "network")
        if bound != "network":
            raise ValueError(f"tiles_bound is {shown(bound)}, and this version only knows network")


def _network_kind(fields: object) -> type[Any]:
    """Identify networks by their fields: files of the UNet have never named their kind."""
    names = fields if isinstance(fields, dict) else {}
    marks = {"stem_width": RecurrentConfig, "time_width": CogVideoXConfig}
    return next((kind for mark, kind in marks.items() if mark in names), UNetConfig)


def _check_together(spec: ModelSpec) -> None:
    """Raise ValueError for values that are valid alone but not together."""
    if spec.network.recurrent and (spec.solver, spec.steps) != ("one_step", 1):
        raise ValueError("a recurrent network goes over a video once, in one step")
    if spec.start == "clean" and spec.solver != "one_step":
        raise ValueError(f"a start of clean goes with one_step, not with {spec.solver}")
    if (spec.start == "noise") != spec.schedule.endswith("zero_snr"):
        raise ValueError(f"a start of {spec.start} does not go with {spec.schedule}")
    rule, windows, coder = spec.size_rule, spec.windows, spec.autoencoder
    if (
        spec.min_size[0] % rule.multiple != rule.height_remainder
        or spec.min_size[1] % rule.multiple
    ):
        raise ValueError(f"min_size {shown(spec.min_size)} does not follow the size_rule")
    overlaps = (
        ("chunk_overlap", windows.chunk_overlap, windows.chunk_frames),
        ("tile_overlap", windows.tile_overlap, windows.tile_height),
        ("tile_overlap", windows.tile_overlap, windows.tile_width),
        ("chunk_overlap", coder.chunk_overlap, coder.chunk_frames),
        ("tile_overlap", coder.tile_overlap, coder.tile),
    )
    for name, overlap, size in overlaps:
        if size is not None and 2 * overlap > size:
            raise ValueError(f"{name} is {overlap}, and more than half of {size}")
    if 2 * spec.context_frames >= spec.segment_frames:
        raise ValueError(
            f"context_frames is {spec.context_frames}, too many for segments of {spec.segment_frames}"
        )
    if spec.faithful and spec.faithful not in EMBEDDED:
        raise ValueError(f"faithful is {shown(spec.faithful)}, not one of {', '.join(EMBEDDED)}")
    files = (coder.weights, *([spec.text.weights] if spec.text else []))
    odd = [name for name in files if name and not is_component_name(name)]
    if odd:
        raise ValueError(f"weights is {shown(odd[0])}, which is not a component name")


def _build(kind: type[Built], fields: object) -> Built:
    """A dataclass from JSON values, each of its field's type and in its range. Raises ValueError, TypeError."""
    if not isinstance(fields, dict):
        raise TypeError(f"{shown(fields)} is not a {kind.__name__}")
    hints = get_type_hints(kind)
    known = _field_names(kind)
    for name, value in fields.items():
        if name not in known:
            raise ValueError(f"{shown(name)} is not a field of {kind.__name__}")
        if not _fits(value, hints[name]):
            raise TypeError(f"{name} is {shown(value)}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ValueError(
                f"{name} is {shown(value)}, not one of {', '.join(map(str, _CHOICES[name]))}"
            )
        if not _is_in_range(name, value):
            raise ValueError(f"{name} is {shown(value)}")
    return kind(**fields)


def _field_names(kind: type[Any]) -> set[str]:
    """A dataclass's fields that JSON may set: all but those that follow from the rest."""
    return {field.name for field in dataclasses.fields(kind) if field.compare}


def _is_in_range(name: str, value: object) -> bool:
    if isinstance(value, str):
        # Lone surrogates, which JSON can spell, are not text.
        value.encode()
        return len(value) <= (_LONGEST_NAME if name == "name" else _MOST_TEXT)
    numbers = value if isinstance(value, (list, tuple)) else (value,)
    least, most = 0 if name in _MAY_BE_0 else _LEAST, _MOST_OF.get(name, _MOST)
    if not numbers and name != "attention_scales":
        return False
    return len(numbers) <= _MOST_ITEMS and all(
        least <= number <= most for number in numbers if type(number) in (int, float)
    )


def _fits(value: object, hint: Any) -> bool:
    kinds = get_args(hint) or (hint,)
    if hint is float:
        return type(value) in (int, float)
    if get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)) or not all(_fits(v, kinds[0]) for v in value):
            return False
        return ... in kinds or len(value) == len(kinds)
    return type(value) in kinds
