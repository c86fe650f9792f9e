"""CogVideoX's autoencoder: four frames a latent frame, and no frame is told by what comes after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from starvsr.models.attention import hide_xformers
from starvsr.models.autoencoder import check_frames, check_latent, loaded_module
from starvsr.plan.windows import frames_of

logger = logging.getLogger(__name__)

_DECODED_TOGETHER = 2
"""Latent frames, one more at the beginning of an odd number; what they need of those before is carried over."""


class CausalVAE:
    """The 3D causal autoencoder of CogVideoX (Yang et al., 2024), as diffusers builds it.

    A call is a whole run of frames: the encoder's norms see all of them, the decoder's two latent frames at a time, as
    published. Inputs may be on any device and of any dtype; they are brought to where the weights are.
    """

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: diffusers' `AutoencoderKLCogVideoX`."""
        self.module = module
        self.scaling_factor = scaling_factor
        self.factor: int = 2 ** (len(module.config.block_out_channels) - 1)
        self.time_factor = int(module.config.temporal_compression_ratio)
        self.latent_channels: int = module.config.latent_channels
        module.num_latent_frames_batch_size = _DECODED_TOGETHER

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        scaling_factor: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> CausalVAE:
        """From diffusers' configuration and parameters; works in `dtype`.

        Raises ValueError where the parameters are not those of the configuration.
        """
        module = loaded_module(build_causal_vae, config, state)
        vae = cls(module.to(device), scaling_factor)
        vae._use(dtype)
        return vae

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 fk+1 h w -> b c k+1 h/8 w/8` for the time factor f; see `Autoencoder`.

        Raises ValueError for sizes that do not divide.
        """
        check_frames(frames, self.factor)
        if frames.shape[2] % self.time_factor != 1:
            raise ValueError(
                f"{frames.shape[2]} frames are not 1 more than a multiple of {self.time_factor}"
            )
        # All at once: the library's groups of 8 have norms of their own.
        self.module.num_sample_frames_batch_size = frames.shape[2]
        posterior = self._finite(lambda x: self.module.encode(x).latent_dist.parameters, frames)
        mean, log_variance = posterior.chunk(2, dim=1)
        z = mean
        if noise is not None:
            # Bounded as the library's distribution is.
            z = z + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise.to(z)
        return z * self.scaling_factor

    def decode(self, latent: Tensor) -> Tensor:
        """`b c k+1 h w -> b 3 fk+1 8h 8w`; see `Autoencoder`. Raises ValueError for other shapes."""
        check_latent(latent, self.latent_channels)
        frames = frames_of(latent.shape[2], self.time_factor)
        if latent.shape[2] % _DECODED_TOGETHER == 0:
            # Only in an odd number of them is the first one picture; what comes later changes what was before no more
            # than the norms of their pair do.
            latent = torch.cat([latent, latent[:, :, -1:]], dim=2)
        pictures = self._finite(
            lambda z: self.module.decode(z).sample, latent / self.scaling_factor
        )
        return pictures[:, :, :frames]

    def _finite(self, call: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """What `call` makes of `x`, float32. Where half precision overflows it goes over to float32 for good."""
        result = call(x.to(self._weight.device, self._weight.dtype)).float()
        if self._weight.dtype != torch.float32 and not bool(result.isfinite().all()):
            logger.warning(
                "the autoencoder overflows %s; it goes on in float32", self._weight.dtype
            )
            self._use(torch.float32)
            result = call(x.to(self._weight.device, torch.float32))
        return result

    def _use(self, dtype: torch.dtype) -> None:
        # Its parts, since the whole warns of any cast.
        for part in self.module.children():
            part.to(dtype)

    @property
    def _weight(self) -> Tensor:
        weight: Tensor = self.module.decoder.conv_in.conv.weight
        return weight


def build_causal_vae(config: Mapping[str, Any]) -> Any:
    """diffusers' `AutoencoderKLCogVideoX` of a configuration. Raises TypeError for a setting that it does not have."""
    hide_xformers()
    from diffusers import AutoencoderKLCogVideoX

    build: Any = AutoencoderKLCogVideoX
    return build(**{name: value for name, value in config.items() if not name.startswith("_")})
