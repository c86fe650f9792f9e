"""Models with the same network, told apart by what is said of a file and not by its tensors."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from starvsr.errors import WeightsError
from starvsr.specs import COMPONENTS
from starvsr.zoo.hashes import file_sha256

_TOLERANCE = 0.02
"""Published sizes are known to three digits."""


def told_apart(path: Path, models: Sequence[str]) -> str | None:
    """The model whose network a file has; None if neither its name nor a published hash tells.

    models: those whose network has the file's tensors. A name tells if it contains the last word of one model's name.
    A file is hashed only if its name does not tell and its size is a published one's. Raises WeightsError if it cannot
    be read.
    """
    if len(models) == 1:
        return models[0]
    words = re.split("[^a-z]+", path.stem.lower())
    named = [model for model in models if model.rpartition("-")[2] in words]
    if len(named) == 1:
        return named[0]
    known = {hash_: model for hash_, model in published_hashes(path).items() if model in models}
    return known.get(_hashed(path)) if known else None


def published_hashes(path: Path) -> dict[str, str]:
    """Models by the published hash of their network, of those with a file of about this size, or of unknown size."""
    size = path.stat().st_size
    networks = {
        name: each.sources[0] for name, each in COMPONENTS.items() if each.kind == "network"
    }
    return {
        source.sha256: name
        for name, source in networks.items()
        if source.sha256 and abs(size - (source.size_bytes or size)) <= _TOLERANCE * size
    }


def _hashed(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def which_one(path: Path, models: Sequence[str], option: str) -> str:
    """The question for a file that several models could be of. option: `--model` or `--source`."""
    either = " or ".join(models)
    if option == "--source":
        how = f"name one of them as MODEL, or use the file as `--model {models[0]}={path}`"
    else:
        how = " or ".join(f"--model {model}={path}" for model in models)
        how = f"give {how}"
    return (
        f"{option} {path} has the network of {either}, which have the same shapes, and its name does not say whose: "
        f"{how}"
    )
