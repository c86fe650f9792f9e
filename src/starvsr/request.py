"""What makes a job that job: everything that its output follows from, as plain data under the names people gave it.

A job that was broken off goes on only under the same request. What changes speed or memory alone is no part of it.
"""

from __future__ import annotations

import dataclasses
from importlib.metadata import version
from pathlib import Path
from typing import Any

from starvsr.journal import fingerprint
from starvsr.options import UpscaleOptions
from starvsr.specs import components_of
from starvsr.types import DeviceInfo
from starvsr.zoo.choose import ModelChoice
from starvsr.zoo.folder import embedded_file, find_component

_GROUPS = ("size", "range", "sampling", "windows", "look", "encode", "streams")
_FLAGS = {
    "extra": "-e",
    "chapters": "--no-chapters",
    "metadata": "--no-metadata",
    "attachments": "--no-attachments",
}


def request_of(
    source: Path,
    target: Path,
    choice: ModelChoice,
    device: DeviceInfo,
    precision: str,
    options: UpscaleOptions,
) -> dict[str, dict[str, Any]]:
    """The request of a planned job. Raises OSError where the input or a model's file cannot be read."""
    return {
        "input": {"the input": fingerprint(source), "the container": target.suffix.lower()},
        "model": {"--model": choice.spec.name, **weights_of(choice)},
        "options": {
            flag_of(field.name): getattr(group, field.name)
            for name in _GROUPS
            for group in (getattr(options, name),)
            for field in dataclasses.fields(group)
        },
        "place": {
            "starvsr's version": version("starvsr"),
            # Kernels of another kind of device round otherwise.
            "--device": device.name.partition(":")[0],
            "--precision": precision,
        },
    }


def flag_of(field: str) -> str:
    """The flag of a field of `UpscaleOptions`' groups."""
    return _FLAGS.get(field, "--" + field.removesuffix("_px").removesuffix("_s").replace("_", "-"))


def weights_of(choice: ModelChoice) -> dict[str, str]:
    """A fingerprint of every file of weights that is there, by what it is. Raises OSError."""
    network = choice.path or embedded_file(choice.spec.name)
    files = {"the model's weights": network}
    for name in components_of(choice.spec):
        found = find_component(name, choice.folders)
        if found is not None:
            files[f"the component {name}"] = found
    return {name: fingerprint(path) for name, path in files.items()}
