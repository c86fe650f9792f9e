"""Reads only tensors from published files. Nothing in these files is ever run.

Tensors stay in the file until they are used: they are mapped into memory, and the system may drop their pages again.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import torch
from torch import Tensor

from starvsr.errors import MemoryLimitError, WeightsError
from starvsr.zoo.foreign import TAKEN, about_bytes, about_names, advice, is_intact, names_in_pickle
from starvsr.zoo.metadata import ANEW, opened
from starvsr.zoo.parallel import StoppedError
from starvsr.zoo.tensorfile import DTYPES

_ZIP_MAGIC, _PICKLE_MAGIC = b"PK\x03\x04", b"\x80"
_PIECE_BYTES = 1 << 22
_LISTED = 5
_LONGEST = 200
"""Characters of one problem in a message."""


class _Ignored:
    """Replaces numpy objects in a file, such as random states that trainers store beside the weights."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


# Constructors of arrays before and since numpy 2, and those of their type.
_IGNORED: list[Any] = [
    (_Ignored, f"numpy.{name}")
    for name in (
        "core.multiarray._reconstruct",
        "core.multiarray.scalar",
        "_core.multiarray._reconstruct",
        "_core.multiarray.scalar",
        "ndarray",
        "dtype",
    )
]


def read_pickle(path: Path) -> Mapping[str, object]:
    """The content of a `.pt` file of `torch.save`, its tensors mapped (files from before torch 1.6 are read).

    Of numpy's arrays only their position is preserved.
    Raises WeightsError for a file that is corrupt, not a mapping, or needs more than tensors and plain containers to be
    read: such a file could run code, and none of it is run. Raises MemoryLimitError if memory runs out.
    """
    if not is_pickle(path):
        found = about_bytes(path)
        if is_intact(found):
            raise WeightsError(f"{path} is {found}; {TAKEN}")
        raise WeightsError(
            f"{path} is {f'{found}, ' if found else ''}not a torch checkpoint: {ANEW}"
        )
    mapped = _begin(path) == _ZIP_MAGIC
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_IGNORED):
            # torch warns of its own classes in old files.
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", mmap=mapped, weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, str(error))) from error
    # A damaged file fails wherever the damage is.
    except Exception as error:
        if isinstance(error, MemoryError) or "allocate memory" in str(error):
            raise MemoryLimitError(
                f"memory ran out while {path} was read: end other programs and run the same command again"
            ) from error
        found = about_bytes(path)
        if is_intact(found):
            raise WeightsError(f"{path} is {found}; {TAKEN}") from error
        why = found or _first_sentence(error)
        raise WeightsError(f"{path} is corrupt ({why}): {ANEW}") from error
    if not isinstance(content, Mapping):
        raise WeightsError(
            f"{path} contains a {type(content).__name__} and not tensors by name: it is not one of the published files"
        )
    return content


def is_pickle(path: Path) -> bool:
    """Whether a file begins as those of `torch.save` do: as a zip, since torch 1.6, or as a bare pickle.

    Raises WeightsError if it cannot be read.
    """
    return _begin(path).startswith((_ZIP_MAGIC, _PICKLE_MAGIC))


def _begin(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(len(_ZIP_MAGIC))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _refusal(path: Path, message: str) -> str:
    # torch's own message ends with how to run the file's code anyway, and its form differs for what it forbids and
    # what it does not know.
    wanted = re.search(r"GLOBAL (\S{1,200})", message)
    found = re.search(r"WeightsUnpickler error:\s*(.*?)(\. |\n|$)", message)
    if wanted:
        reason = f"it requires {wanted[1]}"
    else:
        reason = found[1] if found else "unknown reason"
    text = f"{path} is refused, since it needs more than tensors to be read ({reason}); nothing in it was run"
    what = about_names(names_in_pickle(path))
    return f"{text}; by its names it is {what}; {advice(what)}" if what else f"{text}; {TAKEN}"


def _first_sentence(error: Exception) -> str:
    return re.split(r"\. |\n", str(error))[0] or type(error).__name__


def check_intact(path: Path, stop: Event | None = None) -> None:
    """Compare a zip's contents with its own checksums; other files have none.

    Raises WeightsError if they differ, StoppedError once `stop` is set.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                with archive.open(entry) as content:
                    while content.read(_PIECE_BYTES):
                        if stop is not None and stop.is_set():
                            raise StoppedError
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(
            f"{path} is damaged: its content differs from its own checksums ({_first_sentence(error)}): {ANEW}"
        ) from error


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The mapped tensors and the metadata of a safetensors file. Raises WeightsError if it is not one."""
    # In another thread no signal raises: of that torch would make an error, as if the file were damaged.
    with opened(path, "pt") as file, ThreadPoolExecutor(1) as reader:
        return reader.submit(_content, file).result()


def _content(file: Any) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    return tensors, dict(file.metadata() or {})


def misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    """Differences between `found` and the tensors `expected` (of which only shapes count), a phrase each, sorted."""
    problems = [f"{key} is missing" for key in expected.keys() - found.keys()]
    problems += [f"{key} is unexpected" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        if expected[key].shape != found[key].shape:
            shapes = tuple(found[key].shape), tuple(expected[key].shape)
            problems.append(f"{key} is {shapes[0]} instead of {shapes[1]}")
    return sorted(problems)


class MisfitError(WeightsError):
    """A file's tensors are not those of a network."""

    def __init__(self, what: str, problems: list[str]) -> None:
        """what: the beginning of the message. problems: phrases of `misfits` or `not_plain`."""
        super().__init__(f"{what}, in {len(problems)} tensors: {listed(problems)}")
        self.problems = problems


def not_plain(tensors: Mapping[str, Tensor]) -> list[str]:
    """Tensors that are not plain floating point and cannot be written, a phrase each."""
    return [
        f"{name} is {tensor.dtype} ({tensor.layout})"
        for name, tensor in tensors.items()
        if tensor.layout != torch.strided or tensor.dtype not in DTYPES
    ]


def listed(problems: list[str]) -> str:
    """The first few of `problems`, and whether there are more."""
    first = "; ".join(problem[:_LONGEST] for problem in problems[:_LISTED])
    return first + ("; ..." if len(problems) > _LISTED else "")
