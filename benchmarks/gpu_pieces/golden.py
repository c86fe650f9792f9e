"""Piece `golden`: how far the device's results are from the recorded ones, in every precision."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file
from tests.golden.seeded_init import seeded_input
from tests.models.helpers import SMALL, relative_error
from torch import Tensor

from gpu_pieces.network import backends
from gpu_pieces.setting import DTYPES, ROOT, Case, Setting
from gpu_pieces.weights import golden_parameter
from starvsr.models.attention import Backend
from starvsr.models.build import empty_network
from starvsr.models.network import VideoNetwork
from starvsr.models.offload import assign_weights, placed
from starvsr.types import UNetConfig
from starvsr.zoo.convert import from_published, to_published
from starvsr.zoo.load import load_model

GOLDEN = ROOT / "tests" / "golden"
SMALL_CASES = ("one_frame", "traced", "batch2", "eight_frames")
FULL_CASES = {"full_tiny": ((1, 4, 2, 10, 8), 7), "full": ((1, 4, 4, 26, 32), 77)}


def cases(setting: Setting) -> Iterator[Case]:
    """The small network's cases, the full-size one's, and the toy's pipeline but for prompts, which take an encoder."""
    kinds = [(precision, True) for precision in DTYPES]
    kinds.append(("fp32", False))
    sizes = setting.pick(("small", "full"), ("small",))
    for size in sizes:
        for attention in backends(setting):
            for precision, tf32 in kinds:
                name = f"{size} {precision} {attention}" + ("" if tf32 else " without TF32")
                yield Case(name, partial(_network, setting, size, precision, attention, tf32))
    for precision in DTYPES:
        yield Case(f"toy {precision}", partial(_toy, setting, precision))


@torch.inference_mode()
def _network(
    setting: Setting, size: str, precision: str, attention: str, tf32: bool
) -> Mapping[str, Any]:
    config = SMALL if size == "small" else UNetConfig()
    network = _golden_network(setting, config, precision)
    network.use_attention(Backend(attention))
    recorded = load_file(GOLDEN / f"unet_{size}.safetensors")
    result = {}
    with _tf32(tf32):
        for case in SMALL_CASES if size == "small" else FULL_CASES:
            out = network(*_inputs(setting, recorded, case, DTYPES[precision])).float().cpu()
            result[f"error {case}"] = relative_error(out, recorded[f"{case}.out"])
    return result


def _golden_network(setting: Setting, config: UNetConfig, precision: str) -> VideoNetwork:
    """With the weights of the golden runs; kept for the next case of its kind."""
    key = repr((config, precision))
    if setting.kept.get("key") != key:
        setting.release()
        dtype, network = DTYPES[precision], empty_network(config).eval()
        published = {name: like.shape for name, like in to_published(network.state_dict()).items()}
        state = from_published(
            {
                name: placed(golden_parameter(name, shape, setting.device), setting.device, dtype)
                for name, shape in published.items()
            }
        )
        assign_weights(
            network,
            {name: placed(each, setting.device, dtype) for name, each in state.items()},
        )
        setting.kept.update(key=key, model=network)
    kept: VideoNetwork = setting.kept["model"]
    return kept


def _inputs(
    setting: Setting, recorded: Mapping[str, Tensor], case: str, dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """x, t, context and hint of a recorded case."""
    if case in FULL_CASES:
        shape, tokens = FULL_CASES[case]
        x, hint = (seeded_input(f"{case}.{name}", shape) for name in ("x", "hint"))
        y = seeded_input(f"{case}.y", (1, tokens, 1024))
    else:
        x, y, hint = (recorded[f"{case}.{name}"] for name in ("x", "y", "hint"))
    x, y, hint = (each.to(setting.device, dtype) for each in (x, y, hint))
    return x, recorded[f"{case}.t"].to(setting.device), y, hint


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    """As torch has it by default, or nowhere."""
    if allowed:
        yield
        return
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _toy(setting: Setting, precision: str) -> Mapping[str, Any]:
    # They import pytest, which a machine to measure may not have.
    from tests.restore.test_toy import CASES, STORED, psnr, restored
    from tests.restore.test_toy import GOLDEN as FILE

    setting.release()
    recorded, result = load_file(FILE), {}
    toy = load_model("toy", device=str(setting.device), precision=precision)  # type: ignore[arg-type]
    for case, (words, sampling) in CASES.items():
        if words:
            continue
        found = restored(toy, **sampling)[STORED]
        result[f"PSNR {case}"] = psnr(found, recorded[case].float() / 255)
    return result
