"""The contract of all velocity networks, and settings for all of their modules at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from starvsr.models.attention import Backend
from starvsr.models.compiled import Compiler
from starvsr.models.layers import Branch, ResidualBlock
from starvsr.models.transformers import SpatialBlock, TemporalBlock


class VideoNetwork(nn.Module):
    """A network `v(x, t, context, hint)`; x and the result are `b c f h w`, t is `b`, context `b n k`.

    The context comes from `embed`, the hint from `see`. Networks that
    carry something from call to call (`config.recurrent`) take a `memory` besides.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_load_state_dict_post_hook(_after_load)  # type: ignore[no-untyped-call]

    def embed(self, context: Tensor) -> Tensor:
        """The context of calls, `b n k`: everything that can be computed from the text's once for all of them."""
        return context

    def see(self, hint: Tensor) -> Tensor:
        """The hint of calls on a window: computed once from its degraded latent `b c f h w`; here itself."""
        return hint

    def use_channels_last(self) -> None:
        """Convert kernels to channels-last order."""
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def use_attention(self, backend: Backend) -> None:
        """Compute all attention with `backend` (see `select_backend`)."""
        for module in self.modules():
            if isinstance(getattr(module, "backend", None), Backend):
                module.backend = backend  # type: ignore[assignment]

    def use_compiler(self, compiled: Compiler) -> None:
        """Compile the repeated parts that do most of the work with `compiled`.

        Compiling them one by one takes a fraction of the time of the whole network.
        """
        for module in self.modules():
            if isinstance(module, (ResidualBlock, SpatialBlock, TemporalBlock)):
                module.forward = compiled(module.forward)  # type: ignore[method-assign]
            if isinstance(module, SpatialBlock):
                module.see_itself = compiled(module.see_itself)  # type: ignore[method-assign]

    def skip_identity_branches(self) -> int:
        """Skip residual branches whose last layer is exactly zero; returns their number.

        The result stays the same to the bit, and with autograd everything is computed as before. Loading other weights
        undoes it; call this again after changing them by hand.
        """
        skipped = 0
        for module in self.modules():
            if isinstance(module, Branch):
                module.left_out = module.is_identity()
                skipped += module.left_out
        return skipped


def _after_load(module: VideoNetwork, _: object) -> None:
    """Convert newly assigned kernels to channels-last order, and reenable every branch."""
    module.use_channels_last()
    for part in module.modules():
        if isinstance(part, Branch):
            part.left_out = False


def check_latent(
    latent: Tensor, channels: int, multiple: int, row_remainder: int = 0, name: str = "x"
) -> None:
    """Raise ValueError unless it is `b channels f h w` with legal sizes.

    h is `row_remainder` modulo `multiple`, w a multiple of it, and there is at least one frame.
    """
    if latent.ndim != 5 or latent.shape[1] != channels:
        raise ValueError(f"{name} must be b {channels} f h w, and is {shape_of(latent)}")
    f, h, w = latent.shape[2:]
    if min(f, h, w) < 1 or h % multiple != row_remainder or w % multiple:
        rows = f"rows {row_remainder} modulo {multiple}, columns a multiple of {multiple}"
        raise ValueError(
            f"a latent of {f} frames of {h}x{w} (rows x columns) does not fit this network: at least one frame, "
            f"{rows if row_remainder else f'rows and columns multiples of {multiple}'}; pad it first"
        )


def shape_of(x: Tensor) -> tuple[int, ...]:
    """For messages."""
    return tuple(x.shape)
