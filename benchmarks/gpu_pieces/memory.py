"""Piece `memory`: the peaks of what is planned for sizes and limits, and smaller windows after running out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from memory_table import LIMITS_GIB, SIZES

from gpu_pieces.calls import Inputs
from gpu_pieces.setting import DTYPES, Case, Peaks, Setting
from gpu_pieces.weights import loaded_star, star
from starvsr.errors import MemoryLimitError
from starvsr.models.build import counted
from starvsr.options import BYTES_PER_ELEMENT, DeviceOptions, SamplingOptions
from starvsr.plan.fitting import fitted_layout
from starvsr.plan.layout import Layout, largest_picture, largest_window
from starvsr.plan.memory import RESERVE_BYTES
from starvsr.plan.settings import resolve
from starvsr.restore.restorer import Restorer
from starvsr.types import ModelSpec

DRY_SIZES = {"test": (48, 64)}
# Too little for the weights, enough only if they are offloaded, and enough.
DRY_LIMITS_BYTES = (24 << 20, 524 << 20, 1 << 30)
_ORDER = ("fp16", "bf16", "fp32")


def cases(setting: Setting) -> Iterator[Case]:
    """Every size under every limit; of float32 and bfloat16 a few. Then a real lack of memory."""
    limits = setting.pick(tuple(limit << 30 for limit in LIMITS_GIB), DRY_LIMITS_BYTES)
    sizes = setting.pick(SIZES, DRY_SIZES)
    rows = [("fp16", size, limit) for size in sizes for limit in limits]
    some = next(iter(sizes))
    rows += [(other, some, limit) for other in ("fp32", "bf16") for limit in limits[-2:]]
    spec = counted(star(setting))
    planned = [(row, _planned(spec, row[0], sizes[row[1]], row[2])) for row in rows]
    # Each way of offloading is another model to load.
    planned.sort(key=lambda each: (_ORDER.index(each[0][0]), each[1].offload if each[1] else ""))
    for (precision, size, limit), layout in planned:
        name = f"{size} {precision} {limit / 2**30:.3g} GiB"
        yield Case(name, partial(_measure, setting, precision, layout, limit))
    yield Case("running out of memory", partial(_scarce, setting))


def _planned(spec: ModelSpec, precision: str, size: tuple[int, int], limit: int) -> Layout | None:
    """As a run on a GPU with so much free memory plans; None where nothing fits."""
    try:
        return fitted_layout(
            spec,
            resolve(spec),
            size,
            spec.segment_frames,
            DeviceOptions(memory_limit_bytes=limit),
            bytes_per_element=BYTES_PER_ELEMENT[precision],
            limit_bytes=max(1, limit - min(RESERVE_BYTES, limit // 2)),
        )
    except MemoryLimitError:
        return None


@torch.inference_mode()
def _measure(
    setting: Setting, precision: str, layout: Layout | None, limit: int
) -> Mapping[str, Any]:
    """Both stages on the largest window and the largest picture of the layout."""
    if layout is None:
        return {"offload": "does not fit"}
    window, picture = largest_window(star(setting), layout), largest_picture(layout)
    stage = (precision, layout.offload, window, picture, layout.shared)
    # Larger videos and limits often come to the same.
    if stage not in setting.peaks:
        setting.peaks[stage] = _stage_peaks(setting, *stage)
    network, autoencoder, context = setting.peaks[stage]
    allocated = max(network.allocated, autoencoder.allocated)
    reserved = max(network.reserved, autoencoder.reserved)
    return {
        "offload": layout.offload,
        "window": "x".join(map(str, window)),
        "picture": "x".join(map(str, picture)),
        "shared": layout.shared,
        "planned_bytes": layout.peak_bytes,
        "allocated_bytes": allocated,
        "planned_over_allocated": layout.peak_bytes / allocated if allocated else None,
        "network_bytes": network.allocated,
        "autoencoder_bytes": autoencoder.allocated,
        "reserved_bytes": reserved,
        # The driver's context and libraries, for which, with what is lost between blocks, there is a reserve.
        "context_bytes": context,
        "fits": reserved + context <= limit,
    }


def _stage_peaks(
    setting: Setting,
    precision: str,
    offload: str,
    window: tuple[int, int, int],
    picture: tuple[int, int, int],
    shared: bool,
) -> tuple[Peaks, Peaks, int]:
    """Of the network, of the autoencoder, and what is in use beside torch's allocator."""
    model = loaded_star(setting, precision, offload=offload)
    with Peaks(setting) as network, model.at_work("network"):
        inputs = Inputs(
            model.network, model.spec.context_tokens, window, setting.device, DTYPES[precision]
        )
        inputs.both(share=shared).float().cpu()
        del inputs
    _, rows, columns = picture
    coder = model.autoencoder
    with Peaks(setting) as autoencoder, model.at_work("autoencoder"):
        coder.encode(torch.randn(1, 3, 1, rows * coder.factor, columns * coder.factor)).cpu()
        coder.decode(torch.randn(1, coder.latent_channels, *picture)).cpu()
    return network, autoencoder, _outside_torch(setting)


def _outside_torch(setting: Setting) -> int:
    """What is in use on the device beside torch's allocator; other processes would be in it too."""
    if setting.device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(setting.device)
    return total - free - torch.cuda.memory_reserved(setting.device)


@torch.inference_mode()
def _scarce(setting: Setting) -> Mapping[str, Any]:
    """A run whose network finds half of the memory that its windows take."""
    model = loaded_star(setting, "fp16")
    rows, columns = setting.pick((180, 320), (8, 12))
    frames = torch.rand(setting.pick(32, 5), 3, rows, columns)
    restorer = Restorer(model, SamplingOptions(steps=setting.pick(4, 1), cfg=1.0))
    size = (4 * rows, 4 * columns)
    layout = fitted_layout(
        model.spec,
        restorer.settings,
        size,
        len(frames),
        DeviceOptions(),
        bytes_per_element=2,
        limit_bytes=None,
    )
    restorer.layout = layout
    with scarce(setting, model.network, layout.peak_bytes):
        made = sum(len(run) for run in restorer.restore(frames * 2 - 1, size))
    window = largest_window(model.spec, restorer.layout)
    return {
        "frames": made,
        "planned_window": "x".join(map(str, largest_window(model.spec, layout))),
        "window": "x".join(map(str, window)),
        "smaller": restorer.layout != layout,
    }


@contextmanager
def scarce(setting: Setting, network: torch.nn.Module, peak: int) -> Iterator[None]:
    """The allocator may take the weights and half of the rest of `peak`; on a CPU the first call finds no memory."""
    if setting.device.type == "cuda":
        held = torch.cuda.memory_allocated(setting.device)
        _, total = torch.cuda.mem_get_info(setting.device)
        share = (held + max(peak - held, 0) / 2) / total
        torch.cuda.empty_cache()
        torch.cuda.set_per_process_memory_fraction(share, setting.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, setting.device)
        return
    failed: list[bool] = []

    def refuse(*_: object) -> None:
        if not failed:
            failed.append(True)
            raise RuntimeError("out of memory (as the dry run makes it)")

    handle = network.register_forward_pre_hook(refuse)
    try:
        yield
    finally:
        handle.remove()
