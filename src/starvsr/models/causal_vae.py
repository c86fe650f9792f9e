"""CogVideoX's autoencoder: four frames per latent frame, causal in time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from starvsr.models.autoencoder import DiffusersVAE, check_frames, check_latent
from starvsr.plan.windows import frames_of

_DECODED_TOGETHER = 2
"""Latent frames per call, one more first if their number is odd; state is carried over between calls."""


class CausalVAE(DiffusersVAE):
    """The 3D causal autoencoder of CogVideoX (Yang et al., 2024).

    A call is a whole run of frames: the encoder's norms see all of them, the decoder's two latent frames at a time, as
    published.
    """

    library_class = "AutoencoderKLCogVideoX"

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: as `build` gives it."""
        super().__init__(module, scaling_factor)
        self.time_factor = int(module.config.temporal_compression_ratio)
        module.num_latent_frames_batch_size = _DECODED_TOGETHER

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 fk+1 h w -> b c k+1 h/8 w/8` for the time factor f; see `Autoencoder`.

        Raises ValueError for sizes that do not divide.
        """
        check_frames(frames, self.factor)
        if frames.shape[2] % self.time_factor != 1:
            raise ValueError(
                f"{frames.shape[2]} frames are not 1 more than a multiple of {self.time_factor}"
            )
        # All at once: the library's groups of 8 would be normalised separately.
        self.module.num_sample_frames_batch_size = frames.shape[2]
        posterior = self._finite(lambda x: self.module.encode(x).latent_dist.parameters, frames)
        mean, log_variance = posterior.chunk(2, dim=1)
        z = mean
        if noise is not None:
            # Clamped as in the library's distribution.
            z = z + torch.exp(0.5 * log_variance.clamp(-30, 20)) * noise.to(z)
        return z * self.scaling_factor

    def decode(self, latent: Tensor) -> Tensor:
        """`b c k+1 h w -> b 3 fk+1 8h 8w`; see `Autoencoder`. Raises ValueError for other shapes."""
        check_latent(latent, self.latent_channels)
        frames = frames_of(latent.shape[2], self.time_factor)
        if latent.shape[2] % _DECODED_TOGETHER == 0:
            # The first latent frame is a single image only if their number is odd; later frames affect earlier ones
            # only through the norms of their pair.
            latent = torch.cat([latent, latent[:, :, -1:]], dim=2)
        pictures = self._finite(
            lambda z: self.module.decode(z).sample, latent / self.scaling_factor
        )
        return pictures[:, :, :frames]
