"""What a file is that starvsr cannot use: by its first bytes, by the names of its tensors, by their types."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from starvsr.zoo.amounts import format_bytes

_BEGINNING_BYTES = 512
_MOST_HEADER_BYTES = 16 << 20
_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_BEGINNINGS = (
    (
        rb"version https://git-lfs",
        "a pointer of Git LFS and not the file, which `git lfs pull` fetches",
    ),
    (rb"\s*<(!doctype|html|\?xml)", "a web page and not the file that was to be saved"),
    (rb"GGUF", "a GGUF file, whose numbers are quantized"),
    (rb"\x89HDF", "an HDF5 file of another framework"),
    (rb"Rar!|7z\xbc\xaf|\x1f\x8b", "an archive: unpack it, and give the file inside"),
    (rb"....ftyp|\x1aE\xdf\xa3|RIFF", "a video and not a model"),
    (rb"\x08[\x01-\x1f][\x12:]", "an ONNX model"),
    (rb"\s*[{\[]\s*[\"{\[]", "JSON and not a model"),
)
_TORCHSCRIPT = "a TorchScript program and not a checkpoint"
_ARCHIVE = "an archive and not a checkpoint"
_UNKNOWN = "neither a checkpoint of torch.save nor a safetensors file"
# These are as they should be; getting them again would not help.
_INTACT = ("GGUF", "HDF5", "video", "ONNX", "JSON", "archive", "TorchScript", "neither")

STAR = "a network with the layout of STAR's"
OWN = "a starvsr network without its description: its metadata has no 'starvsr' entry"
VENHANCER = "VEnhancer's network, from which STAR was trained, without LIEM"
SAT = "a CogVideoX network under the names of SAT"

# First match wins. Names are those of the whole file, so each pattern needs a name that no other kind has.
_NETWORKS = (
    (
        r"\.(lora[_.](up|down|A|B)|hada_w1_[ab]|dora_scale)\b",
        "a LoRA, which changes another model and is not one itself",
    ),
    (r"^(text\.|visual\.)?transformer\.resblocks\.", "CLIP under the names of open_clip"),
    (r"^text_model\.", "CLIP under the names of transformers"),
    (r"^encoder\.block\.\d+\.layer\.", "a T5 text encoder"),
    (r"^(model\.diffusion_model\.)?double_blocks\.", "a FLUX or HunyuanVideo network"),
    (r"^(model\.diffusion_model\.)?joint_blocks\.", "a Stable Diffusion 3 network"),
    (r"^encoder\.levels\.\d+\.blocks\.", OWN),
    (r"^VideoControlNet\.scale_cond\.", VENHANCER),
    (r"^VideoControlNet\.", STAR),
    (r"\.VideoControlNet\.", f"{STAR}, with something before each name"),
    (r"(^|\.)mixins\.adaln_layer\.", SAT),
    (
        r"^(model\.diffusion_model\.)?input_blocks\..*\.temopral_conv\.",
        "I2VGen-XL's network without STAR's control branch",
    ),
    (r"^(model\.diffusion_model\.|unet\.)?input_blocks\.", "a UNet of Stable Diffusion"),
    (r"^control_model\.|^controlnet_", "a ControlNet of Stable Diffusion"),
    (r"^down_blocks\.", "a UNet under the names of diffusers"),
    (r"^transformer_blocks\.\d+\.attn1\.", "a diffusion transformer under the names of diffusers"),
    (
        r"^blocks\.\d+\.(self_attn|cross_attn|attn)\.",
        "a video transformer of another kind, such as Wan or SeedVR2",
    ),
    (r"^(first_stage_model\.)?(encoder|decoder)\.(down|up|mid)", "an autoencoder"),
    (r"(^|\.)(rdb|RDB)\d\.", "an ESRGAN network for images"),
    (r"^body\.\d+\.weight$|^body\.\d+\.0\.weight$", "a compact Real-ESRGAN network for images"),
    (r"^(spynet|basicvsr)\.|backward_resblocks\.", "a BasicVSR network"),
)
_PARTS = ("CLIP under", "a T5", "an autoencoder")
_FP8 = ("float8", "F8_")

TAKEN = (
    "--model and --source take STAR's light_deg.pt and heavy_deg.pt, the same tensors as safetensors (fp32, fp16 or "
    "bf16), STAR's checkpoint on CogVideoX, and what starvsr wrote"
)
"""What would work."""


def about_bytes(path: Path) -> str:
    """What a file is that cannot be read as tensors, by its bytes; empty if they do not tell. Raises OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        begin = file.read(_BEGINNING_BYTES)
    if not size:
        return "empty"
    for pattern, what in _BEGINNINGS:
        if re.match(pattern, begin, re.IGNORECASE | re.DOTALL):
            return what
    if begin.startswith(_ZIP):
        return _about_zip(path, size)
    if not begin.strip(b"\0"):
        return "zeros where its beginning should be, as a download that was interrupted leaves them"
    return _about_safetensors(path, begin, size)


def is_intact(found: str) -> bool:
    """Whether a file of which `about_bytes` says `found` is a whole one of another kind, and not a damaged one."""
    return any(kind in found for kind in _INTACT)


def _about_zip(path: Path, size: int) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, EOFError):
        return f"truncated: {format_bytes(size)} are there, without the end that lists its contents"
    if any("/code/" in name for name in names):
        return _TORCHSCRIPT
    return "" if any(name.endswith("data.pkl") for name in names) else _ARCHIVE


def _about_safetensors(path: Path, begin: bytes, size: int) -> str:
    length = int.from_bytes(begin[:8], "little")
    if begin[8:9] != b"{" or not 0 < length < _MOST_HEADER_BYTES:
        is_claimed = path.suffix == ".safetensors" or begin.startswith(_PICKLE)
        return "" if is_claimed else _UNKNOWN
    with path.open("rb") as file:
        file.seek(8)
        header = file.read(length)
    ends = [
        int(end) for end in re.findall(rb'"data_offsets":\s*\[\d{1,18},\s*(\d{1,18})\]', header)
    ]
    whole = 8 + length + max(ends, default=0)
    if size >= whole:
        return ""
    return f"truncated: {format_bytes(size)} of {format_bytes(whole)} are there"


def names_in_pickle(path: Path) -> list[str]:
    """Texts in a pickle, such as names of tensors, read without running it; up to where it is damaged."""
    names = []
    # Whatever is wrong with it, it is described by what was found.
    with suppress(Exception):
        for opcode, argument, _ in pickletools.genops(_pickled(path)):
            if "UNICODE" in opcode.name and isinstance(argument, str):
                names.append(argument)
    return names


def _pickled(path: Path) -> bytes:
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return file.read(_MOST_HEADER_BYTES)
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        with archive.open(name) as content:
            return content.read(_MOST_HEADER_BYTES)


def about_names(names: Iterable[str]) -> str:
    """What the network with tensors of these names is; empty if they do not tell."""
    names = list(names)
    for pattern, what in _NETWORKS:
        if any(map(re.compile(pattern).search, names)):
            return what
    return ""


def advice(what: str) -> str:
    """What would work instead of a file that is `what`."""
    if what.startswith(_PARTS):
        return (
            "it is a part of models, not one: give it to `starvsr download-weights MODEL --source`"
        )
    if what == VENHANCER:
        return "`starvsr train` starts from it: [model] checkpoint, as in configs/star.toml"
    return TAKEN


def about_types(types: Mapping[str, str]) -> str:
    """For tensors of types that no weights are taken in: which they are; empty for fp64, fp32, fp16 and bf16.

    types: the type's name by the tensor's.
    """
    counts = Counter(types.values())
    eight = {name: count for name, count in counts.items() if any(mark in name for mark in _FP8)}
    if eight:
        return f"{sum(eight.values())} of its {len(types)} tensors are fp8 ({', '.join(sorted(eight))})"
    return ""
