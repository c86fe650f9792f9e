"""Pieces `ceilings`, `network` and `cogvideox`: calls of the networks beside what the device can do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch

from gpu_pieces.calls import Inputs, Window, kernels, measured_network
from gpu_pieces.setting import DTYPES, Case, Setting, timed
from gpu_pieces.weights import drawn_network, drawn_vae, loaded_star, star
from starvsr.models.attention import Backend, select_backend
from starvsr.models.causal_vae import CausalVAE
from starvsr.specs import STAR_COGVIDEOX
from starvsr.types import ModelSpec

WINDOWS: tuple[Window, ...] = ((32, 90, 160), (32, 82, 136), (8, 90, 160), (32, 42, 64))
"""Of 1280x720 in one tile, of 1920x1080 in four, and the two that are left where memory is short."""
SLOW_WINDOW: Window = (8, 90, 160)
"""For float32."""
DRY_WINDOW: Window = (2, 6, 8)


def ceiling_cases(setting: Setting) -> Iterator[Case]:
    """What the device can do at all."""
    for precision in DTYPES:
        yield Case(precision, partial(_ceilings, setting, precision))
    yield Case("copies", partial(_copies, setting))


def _ceilings(setting: Setting, precision: str) -> Mapping[str, Any]:
    limits = setting.ceilings(precision)
    return {
        "matmul_tflops": limits.matmul_tflops,
        "conv_tflops": limits.conv_tflops,
        # What float32 means to each of them.
        "matmul_tf32": torch.backends.cuda.matmul.allow_tf32,
        "conv_tf32": torch.backends.cudnn.allow_tf32,
    }


def _copies(setting: Setting) -> Mapping[str, Any]:
    """On the device, bytes read and written together; from and to main memory, bytes that cross."""
    size = setting.pick(1 << 30, 1 << 16)
    source = torch.randn(size // 4, device=setting.device)
    target = torch.empty_like(source)
    _, inside = timed(setting, lambda: target.copy_(source))
    here = torch.randn(size // 16)
    pinned = here.pin_memory() if setting.device.type == "cuda" else here
    there = target[: here.numel()]
    result = {"inside_gbytes": 2 * source.nbytes / inside / 1e9}
    for name, of in (("pageable", here), ("pinned", pinned)):
        _, bring = timed(setting, lambda of=of: there.copy_(of))  # type: ignore[misc]
        result[f"{name}_in_gbytes"] = of.nbytes / bring / 1e9
    _, back = timed(setting, lambda: here.copy_(there))
    result["pageable_out_gbytes"] = here.nbytes / back / 1e9
    return result


def cases(setting: Setting) -> Iterator[Case]:
    """star-light's network: every window in every precision and kind of attention."""
    windows = setting.pick(WINDOWS, (DRY_WINDOW,))
    plain = [
        ("fp16", windows),
        ("bf16", windows),
        ("fp32", (setting.pick(SLOW_WINDOW, DRY_WINDOW),)),
    ]
    for attention in backends(setting):
        for precision, several in plain:
            for window in several:
                yield _case(setting, precision, attention, window)
    for attention in backends(setting):
        name = f"kernels {attention} fp16 {shown(windows[0])}"
        yield Case(name, partial(_kernels, setting, attention, windows[0]))


def compiled_cases(setting: Setting) -> Iterator[Case]:
    """star-light's network compiled, which takes minutes at first."""
    windows = setting.pick(WINDOWS, (DRY_WINDOW,))
    for precision, several in (("fp16", {windows[0], windows[-1]}), ("bf16", {windows[0]})):
        for window in sorted(several, reverse=True):
            yield _case(setting, precision, "sdpa", window, compile=True)


def backends(setting: Setting) -> list[str]:
    """Kinds of attention that run here."""
    found = select_backend("auto", setting.device)
    return [Backend.SDPA.value, *([found.value] if found is not Backend.SDPA else [])]


def shown(window: Window) -> str:
    """Frames, rows and columns."""
    return "x".join(map(str, window))


def _case(
    setting: Setting, precision: str, attention: str, window: Window, *, compile: bool = False
) -> Case:
    name = f"{shown(window)} {precision} {attention}" + (" compiled" if compile else "")
    return Case(name, partial(_measure, setting, precision, attention, window, compile))


def _measure(
    setting: Setting, precision: str, attention: str, window: Window, compile: bool
) -> Mapping[str, Any]:
    with compiling(setting):
        model = loaded_star(setting, precision, attention=attention, compile=compile)
        tokens = star(setting).context_tokens
        return measured_network(setting, precision, model.network, tokens, window)


@contextmanager
def compiling(setting: Setting) -> Iterator[None]:
    """In a dry run what would be compiled stays as it is: it takes minutes on a CPU, and has tests of its own."""
    if not setting.dry:
        yield
        return
    with (
        patch("starvsr.zoo.load.compiler_for", lambda _: lambda part: part),
        patch("starvsr.models.compiled.check_compiler", lambda _: None),
    ):
        yield


def _kernels(setting: Setting, attention: str, window: Window) -> Mapping[str, Any]:
    model = loaded_star(setting, "fp16", attention=attention)
    tokens = star(setting).context_tokens
    with torch.inference_mode():
        inputs = Inputs(model.network, tokens, window, setting.device, DTYPES["fp16"])
        return {"kernels": kernels(setting, inputs.one)}


def cogvideox_cases(setting: Setting) -> Iterator[Case]:
    """star-cogvideox's network on its usual window, and its autoencoder."""
    windows = spec_window(setting)
    for attention in backends(setting):
        name = f"network {shown(windows)} bf16 {attention}"
        yield Case(name, partial(_cogvideox, setting, attention, windows))
    for direction in ("encode", "decode"):
        yield Case(f"{direction} bf16", partial(_causal_vae, setting, direction))


def _spec(setting: Setting) -> ModelSpec:
    if not setting.dry:
        return STAR_COGVIDEOX
    # It imports pytest, which a machine to measure may not have.
    from tests.zoo.published_cogvideox import SMALL_COGVIDEOX

    return SMALL_COGVIDEOX


def spec_window(setting: Setting) -> Window:
    """The window of STAR on CogVideoX."""
    windows = _spec(setting).windows
    rows, columns = windows.tile_height, windows.tile_width
    assert rows is not None and columns is not None
    return windows.chunk_frames, rows, columns


def _cogvideox(setting: Setting, attention: str, window: Window) -> Mapping[str, Any]:
    spec = _spec(setting)
    if setting.kept.get("key") != "cogvideox":
        setting.release()
        network = drawn_network(spec.network, setting.device, DTYPES["bf16"])
        setting.kept.update(key="cogvideox", model=network)
    network = setting.kept["model"]
    network.use_attention(Backend(attention))
    return measured_network(setting, "bf16", network, spec.context_tokens, window)


@torch.inference_mode()
def _causal_vae(setting: Setting, direction: str) -> Mapping[str, Any]:
    from gpu_pieces.autoencoder import measured_direction

    setting.release()
    config: Mapping[str, Any] = {}  # diffusers' defaults are the published sizes
    if setting.dry:
        from tests.models.test_causal_vae import CONFIG as config
    vae = drawn_vae(CausalVAE, config, setting.device, DTYPES["bf16"])
    return measured_direction(setting, vae, direction, setting.pick((11, 45, 45), (2, 4, 4)))
