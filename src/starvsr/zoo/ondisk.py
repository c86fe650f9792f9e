"""Copies of published files that other programs, or the user, have put on this machine. Reads, and writes nothing.

Looked at without being asked: Hugging Face's cache, whichever program filled it, and ComfyUI's folders for STAR.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from starvsr.errors import WeightsError
from starvsr.specs import SourceFile
from starvsr.zoo.environment import check_hub_variables, expanded
from starvsr.zoo.folder import is_file

COMFYUI = "COMFYUI_PATH"
_COMFYUI_HOMES = ("~/ComfyUI", "~/comfyui", "~/Documents/ComfyUI")
_COMFYUI_FOLDERS = ("models/STAR", "models/star")
MODEL_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")
"""Endings of files that may have tensors."""

logger = logging.getLogger(__name__)


def cached_copies(source: SourceFile, commit: str = "") -> list[Path]:
    """Copies of a published file in Hugging Face's cache, of any version, that of `commit` or of its revision first."""
    check_hub_variables()
    from huggingface_hub import constants, try_to_load_from_cache

    try:
        first = try_to_load_from_cache(
            source.repository, source.path, revision=commit or source.revision
        )
        name = f"models--{source.repository.replace('/', '--')}"
        versions = Path(constants.HF_HUB_CACHE) / name / "snapshots"
        others = sorted(versions.iterdir()) if versions.is_dir() else []
    except (OSError, ValueError) as error:
        logger.warning("Hugging Face's cache cannot be read, so it is not used: %s", error)
        return []
    found = [Path(first)] if isinstance(first, str) else []
    return _once([*found, *(version / source.path for version in others)])


def _once(paths: Iterable[Path]) -> list[Path]:
    """Those that exist, without further names of the same file."""
    found: dict[Path, Path] = {}
    for path in filter(os.path.exists, paths):
        found.setdefault(path.resolve(), path)
    return list(found.values())


def hash_in_cache(path: Path) -> str:
    """The hash that Hugging Face's cache states of a file in it; empty if it states none.

    As the hub states it: SHA-256 of a large file, git's hash of a small one.
    """
    blob = path.resolve()
    is_stated = re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", blob.name)
    return blob.name if is_stated and blob.parent.name == "blobs" else ""


def comfyui_folders() -> list[Path]:
    """ComfyUI's folders for STAR that exist: below `COMFYUI_PATH` if it is set, else below usual ones of the user."""
    given = os.environ.get(COMFYUI)
    try:
        homes = [expanded(each, COMFYUI) for each in ([given] if given else _COMFYUI_HOMES)]
        return _once(home / folder for home in homes for folder in _COMFYUI_FOLDERS)
    except (OSError, WeightsError) as error:
        logger.warning("ComfyUI's folders are not used: %s", error)
        return []


def comfyui_copies(source: SourceFile) -> list[Path]:
    """Files with the name of a published file in ComfyUI's folders."""
    name = Path(source.path).name
    return [folder / name for folder in comfyui_folders() if is_file(folder / name)]


def comfyui_models() -> list[Path]:
    """All model files in ComfyUI's folders."""
    return [path for folder in comfyui_folders() for path in model_files(folder)]


def model_files(folder: Path) -> list[Path]:
    """Files in a folder, not in those inside, that may have tensors, by their names; none if it cannot be read."""
    # Unlike Path's, it accepts names that are too long.
    if not os.path.isdir(folder):  # noqa: PTH112
        return []
    try:
        return [
            each
            for each in sorted(folder.iterdir())
            if each.suffix in MODEL_FILES and is_file(each)
        ]
    except OSError as error:
        logger.warning("%s cannot be read: %s", folder, error.strerror or error)
        return []


def in_folder(source: SourceFile, folder: Path, all_sources: Iterable[SourceFile]) -> Path | None:
    """A published file in a folder that the user filled; None if it is not there.

    It is looked for under its path, with and without the repository's name and owner before it, and under its bare name
    if no other of `all_sources` has that.
    """
    names = Counter(Path(each.path).name for each in all_sources)
    path = Path(source.path)
    name = source.repository.partition("/")[2]
    places = [f"{source.repository}/{path}", f"{name}/{path}"]
    # A path without folders is a bare name, which must not be another file's.
    if len(path.parts) > 1 or names[path.name] == 1:
        places.append(str(path))
    if names[path.name] == 1:
        places.append(path.name)
    return next((folder / place for place in places if is_file(folder / place)), None)
