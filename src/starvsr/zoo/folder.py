"""Where model files are: the weights folder, its contents, and models in the package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from starvsr.errors import WeightsError
from starvsr.specs import COMPONENTS
from starvsr.zoo.environment import expanded
from starvsr.zoo.places import CONVERTED

_HASH_DIGITS = 16


def weights_folder(folder: Path | None = None) -> Path:
    """The weights folder: the one given, else `STARVSR_WEIGHTS`, else `starvsr` in Hugging Face's home.

    It need not exist. A leading `~` is the user's home. Raises WeightsError if there is no such home, or a file there.
    """
    own = os.environ.get("STARVSR_WEIGHTS")
    if folder is not None:
        found = expanded(str(folder), "the given weights folder")
    else:
        found = expanded(own, "STARVSR_WEIGHTS") if own else _hugging_face_home() / "starvsr"
    if is_file(found):
        raise WeightsError(f"the weights folder {found} is a file: give another folder")
    return found


def _hugging_face_home() -> Path:
    # As huggingface_hub does; importing it only for this would slow down every command.
    home = os.environ.get("HF_HOME")
    if home:
        return expanded(home, "HF_HOME")
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return expanded(caches, "XDG_CACHE_HOME") / "huggingface"


def component_file(name: str, folder: Path) -> Path:
    """The path of a component's file in a weights folder, whether it exists or not."""
    return folder / f"{name}.safetensors"


def converted_file(model: str, sha256: str, folder: Path) -> Path:
    """The path of a model's network that was converted from a file with this hash, whether it exists or not."""
    return component_file(f"{model}-{sha256[:_HASH_DIGITS]}", folder / CONVERTED)


def embedded_file(name: str) -> Path:
    """The path of a model's or component's file in the package."""
    return component_file(name, Path(__file__).parent)


def find_component(name: str, folders: Sequence[Path]) -> Path | None:
    """The component's file in the first folder that has it, else in the package, else None.

    A network is also found where its published file was converted after it was given by path.
    """
    places = [component_file(name, folder) for folder in folders]
    sha256 = COMPONENTS[name].sources[0].sha256 if name in COMPONENTS else ""
    if sha256:
        places += [converted_file(name, sha256, folder) for folder in folders]
    places.append(embedded_file(name))
    return next((path for path in places if is_file(path)), None)


def is_file(path: Path) -> bool:
    """Whether a file exists; False, where Path raises OSError, for a name that is too long or a closed folder."""
    return os.path.isfile(path)  # noqa: PTH113
