"""The inputs that both upscaling nodes have, and the options that they stand for."""

from __future__ import annotations

from typing import Any, get_args

import starvsr
from starvsr.options import DEFAULT_SCALE, DEFAULT_SEED, ColorFix, SolverMode, Speed

CATEGORY = "video/upscaling"
MODEL = "STARVSR_MODEL"
"""The type of what the loader gives."""
OWN = "model's own"
"""A choice that is left to the model."""

Inputs = dict[str, tuple[Any, ...]]


def number(kind: str, default: float, least: float, most: float, tooltip: str, **more: Any) -> Any:
    """An input of `INT` or `FLOAT`."""
    return (kind, {"default": default, "min": least, "max": most, "tooltip": tooltip, **more})


SIZE: Inputs = {
    "scale": number(
        "FLOAT", DEFAULT_SCALE, 0.25, 8, "Factor of both sides, as --scale.", step=0.05
    ),
    "resolution": number(
        "INT", 0, 0, 16384, "Short side of the result in pixels, as --resolution; 0: by scale."
    ),
}

SETTINGS: Inputs = {
    "color_fix": (
        [OWN, *get_args(ColorFix)],
        {"default": OWN, "tooltip": "Match the colours to the input's, as --color-fix."},
    ),
    "sharpen": number(
        "FLOAT", 0, -1, 2, "Amplify fine detail; below 0, attenuate it. As --sharpen.", step=0.05
    ),
    "blend": number(
        "FLOAT", 0, 0, 1, "Fraction of the plainly upsampled input, as --blend.", step=0.05
    ),
    "steps": number("INT", 0, 0, 1000, "Steps of the diffusion, as --steps; 0: the model's own."),
    "cfg": number(
        "FLOAT", 0, 0, 20, "Guidance scale, as --cfg; 1: none, 0: the model's own.", step=0.1
    ),
    "solver_mode": (
        [OWN, *get_args(SolverMode)],
        {"default": OWN, "tooltip": "As --solver-mode.", "advanced": True},
    ),
    "speed": (
        list(get_args(Speed)),
        {"default": "exact", "tooltip": "Preset for fewer network calls, as --speed."},
    ),
    "max_chunk_len": number(
        "INT",
        0,
        0,
        512,
        "Frames per network call, as --chunk-frames; 0: the model's own, or what fits into memory.",
        advanced=True,
    ),
    "tile_size": number(
        "INT",
        -1,
        -1,
        8192,
        "Side of a tile in pixels of the result, as --tile; 0: no tiles, -1: the model's own, or what fits.",
        advanced=True,
    ),
    "scene_detect": (
        "BOOLEAN",
        {"default": True, "tooltip": "Blend nothing across shot changes, as --scene-detect."},
    ),
    # A seed that ComfyUI changes after every run would make an interrupted job another one. It is the last input, since
    # older versions put a widget for that behind it all the same.
    "seed": number(
        "INT",
        DEFAULT_SEED,
        0,
        0xFFFFFFFFFFFFFFFF,
        "Seed of all noise, as --seed; an interrupted job resumes only with the same.",
        control_after_generate=False,
    ),
}


def size_options(scale: float, resolution: int) -> starvsr.SizeOptions:
    """The size that the inputs `SIZE` ask for."""
    if resolution:
        return starvsr.SizeOptions(resolution=resolution)
    return starvsr.SizeOptions(scale=scale)


def sampling_options(settings: dict[str, Any]) -> starvsr.SamplingOptions:
    """Of the inputs `SETTINGS`. Raises UsageError."""
    return starvsr.SamplingOptions(
        steps=settings["steps"] or None,
        solver_mode=_chosen(settings["solver_mode"]),
        cfg=settings["cfg"] or None,
        # Given, it would be refused for models without noise.
        seed=None if settings["seed"] == DEFAULT_SEED else settings["seed"],
        speed=settings["speed"],
    )


def window_options(settings: dict[str, Any]) -> starvsr.WindowOptions:
    """Of the inputs `SETTINGS`. Raises UsageError."""
    tile_px = settings["tile_size"]
    return starvsr.WindowOptions(
        chunk_frames=settings["max_chunk_len"] or None,
        tile_px=None if tile_px < 0 else tile_px,
        scene_detect=settings["scene_detect"],
    )


def look_options(settings: dict[str, Any], detail: float | None) -> starvsr.LookOptions:
    """Of the inputs `SETTINGS`, and the model's `detail`. Raises UsageError."""
    return starvsr.LookOptions(
        detail=detail,
        color_fix=_chosen(settings["color_fix"]),
        blend=settings["blend"],
        sharpen=settings["sharpen"],
    )


def _chosen(name: str) -> Any:
    return None if name == OWN else name


def default_settings() -> dict[str, Any]:
    """What the inputs `SETTINGS` are where a workflow does not have them."""
    return {name: options["default"] for name, (_, options) in SETTINGS.items()}
