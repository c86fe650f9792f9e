"""Where the files of models are: the weights folder, what is found in it, and models in the package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from starvsr.zoo.environment import expanded


def weights_folder(folder: Path | None = None) -> Path:
    """The weights folder: the one given, else `STARVSR_WEIGHTS`, else `starvsr` in Hugging Face's home.

    It need not exist. A leading `~` is the user's home. Raises WeightsError where that is nobody's.
    """
    if folder is not None:
        return expanded(str(folder), "the weights folder that was given")
    own = os.environ.get("STARVSR_WEIGHTS")
    return expanded(own, "STARVSR_WEIGHTS") if own else _hugging_face_home() / "starvsr"


def _hugging_face_home() -> Path:
    # As huggingface_hub does; importing it only for this would slow down every command.
    home = os.environ.get("HF_HOME")
    if home:
        return expanded(home, "HF_HOME")
    return (
        expanded(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "XDG_CACHE_HOME") / "huggingface"
    )


def component_file(name: str, folder: Path) -> Path:
    """Where a component's file is in a weights folder, whether it is there or not."""
    return folder / f"{name}.safetensors"


def embedded_file(name: str) -> Path:
    """Where the file of a model or a component is that is part of the package."""
    return component_file(name, Path(__file__).parent)


def find_component(name: str, folders: Sequence[Path]) -> Path | None:
    """The component's file in the first of the folders that has it, else in the package; or None."""
    places = [*(component_file(name, folder) for folder in folders), embedded_file(name)]
    return next((path for path in places if is_file(path)), None)


def is_file(path: Path) -> bool:
    """Whether a file is there; False too where a name is too long, or a folder closed, where Path's raises OSError."""
    return os.path.isfile(path)  # noqa: PTH113
