"""Autoencoders: between pixels and the latent that the network works on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

logger = logging.getLogger(__name__)

# The published encoder works in this whatever the rest does: its activations overflow half precision.
_ENCODER_DTYPE = torch.float32


class Autoencoder(Protocol):
    """What `restore` asks of an autoencoder. Frames are `b c t h w` RGB in [-1, 1], latents `b c t h w`."""

    @property
    def factor(self) -> int:
        """Pixels per latent element, each way."""

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""

    @property
    def module(self) -> nn.Module | None:
        """What holds its weights, if it has any."""

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b latent_channels t h/factor w/factor`, float32; h and w must be multiples of `factor`.

        noise: unit normal, of the latent's shape, by which an autoencoder that encodes to a distribution draws
        from it; None takes its mean.
        """

    def decode(self, latent: Tensor) -> Tensor:
        """`b latent_channels t h w -> b 3 t h*factor w*factor`, float32, not clamped."""


class PixelUnshuffle:
    """Lossless: every `factor` x `factor` square of pixels becomes one latent element.

    Channels run colour, row, column, as in `torch.nn.functional.pixel_unshuffle`.
    """

    module = None

    def __init__(self, factor: int = 4) -> None:
        if factor < 1:
            raise ValueError(f"factor {factor} must be at least 1")
        self.factor = factor
        self.latent_channels = 3 * factor**2

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b 3*factor^2 t h/factor w/factor`; `ValueError` where the sizes do not divide."""
        _check_frames(frames, self.factor)
        latent = F.pixel_unshuffle(rearrange(frames, "b c t h w -> (b t) c h w"), self.factor)
        return rearrange(latent, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b 3*factor^2 t h w -> b 3 t h*factor w*factor`, exactly what was encoded."""
        _check_latent(latent, self.latent_channels)
        frames = F.pixel_shuffle(rearrange(latent, "b c t h w -> (b t) c h w"), self.factor)
        return rearrange(frames, "(b t) c h w -> b c t h w", b=latent.shape[0])


class TemporalVAE:
    """Stable Video Diffusion's autoencoder (Blattmann et al., 2023), as diffusers builds it.

    The encoder sees every frame alone; the decoder mixes the frames that it gets at once. Inputs may be on any
    device and of any dtype; they are brought to where the weights are.
    """

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: diffusers' `AutoencoderKLTemporalDecoder`."""
        self.module = module
        self.scaling_factor = scaling_factor
        self.factor: int = 2 ** (len(module.config.block_out_channels) - 1)
        self.latent_channels: int = module.config.latent_channels

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        scaling_factor: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> TemporalVAE:
        """From diffusers' configuration and parameters. The decoder works in `dtype`, the encoder in float32.

        Raises ValueError where the parameters are not those of the configuration.
        """
        with torch.device("meta"):
            module = _built("AutoencoderKLTemporalDecoder", config)
        _fill(module, state)
        module.to(device).requires_grad_(False).eval()
        for part in (module.encoder, module.quant_conv):
            part.to(_ENCODER_DTYPE)
        module.decoder.to(dtype)
        return cls(module, scaling_factor)

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b c t h/8 w/8`; see `Autoencoder`. Raises ValueError for sizes that do not divide."""
        _check_frames(frames, self.factor)
        pictures = rearrange(frames, "b c t h w -> (b t) c h w")
        posterior = self.module.encode(pictures.to(self._device, _ENCODER_DTYPE)).latent_dist
        z: Tensor = posterior.mean
        if noise is not None:
            unit = rearrange(noise, "b c t h w -> (b t) c h w")
            z = z + posterior.std * unit.to(z)
        return rearrange(z * self.scaling_factor, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b c t h w -> b 3 t 8h 8w`; the frames of a call are decoded together. Raises ValueError for other shapes.

        Where half precision overflows the decoder goes over to float32 for good, and says so.
        """
        _check_latent(latent, self.latent_channels)
        z = rearrange(latent, "b c t h w -> (b t) c h w") / self.scaling_factor
        pictures = self._decode(z, latent.shape[2])
        if self._dtype != torch.float32 and not bool(pictures.isfinite().all()):
            logger.warning("the decoder overflows %s; it goes on in float32", self._dtype)
            self.module.decoder.to(torch.float32)
            pictures = self._decode(z, latent.shape[2])
        return rearrange(pictures, "(b t) c h w -> b c t h w", b=latent.shape[0])

    def _decode(self, z: Tensor, frames: int) -> Tensor:
        pictures: Tensor = self.module.decode(z.to(self._device, self._dtype), frames).sample
        return pictures.float()

    @property
    def _device(self) -> torch.device:
        device: torch.device = self.module.decoder.conv_in.weight.device
        return device

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.module.decoder.conv_in.weight.dtype
        return dtype


class TinyVAE:
    """The small autoencoder without norms that is known as TAESD (Bohan, 2023), as diffusers builds it.

    Every frame is encoded and decoded alone, and a picture's parts do not depend on the rest of it.
    """

    def __init__(self, module: Any, scaling_factor: float) -> None:
        """module: diffusers' `AutoencoderTiny`."""
        self.module = module
        self.scaling_factor = scaling_factor
        self.factor: int = 2 ** (len(module.config.encoder_block_out_channels) - 1)
        self.latent_channels: int = module.config.latent_channels

    @classmethod
    def from_state(
        cls,
        config: Mapping[str, Any],
        state: Mapping[str, Tensor],
        scaling_factor: float,
        device: torch.device,
        dtype: torch.dtype,
    ) -> TinyVAE:
        """From diffusers' configuration and parameters; works in `dtype`.

        Raises ValueError where the parameters are not those of the configuration.
        """
        with torch.device("meta"):
            module = _built("AutoencoderTiny", config)
        _fill(module, state)
        return cls(module.to(device, dtype).requires_grad_(False).eval(), scaling_factor)

    def encode(self, frames: Tensor, noise: Tensor | None = None) -> Tensor:
        """`b 3 t h w -> b c t h/factor w/factor`; it encodes to no distribution. Raises ValueError as `Autoencoder`."""
        _check_frames(frames, self.factor)
        pictures = rearrange(frames, "b c t h w -> (b t) c h w").to(self._parameter)
        z: Tensor = self.module.encode(pictures).latents.float() * self.scaling_factor
        return rearrange(z, "(b t) c h w -> b c t h w", b=len(frames))

    def decode(self, latent: Tensor) -> Tensor:
        """`b c t h w -> b 3 t h*factor w*factor`. Raises ValueError for other shapes."""
        _check_latent(latent, self.latent_channels)
        z = rearrange(latent, "b c t h w -> (b t) c h w") / self.scaling_factor
        pictures: Tensor = self.module.decode(z.to(self._parameter)).sample.float()
        return rearrange(pictures, "(b t) c h w -> b c t h w", b=latent.shape[0])

    @property
    def _parameter(self) -> Tensor:
        parameter: Tensor = next(self.module.parameters())
        return parameter


def temporal_decoder_class() -> Any:
    """diffusers' class of Stable Video Diffusion's autoencoder."""
    return diffusers_class("AutoencoderKLTemporalDecoder")


def diffusers_class(name: str) -> Any:
    """A class of diffusers, imported so that diffusers does not import xformers: where that was built for another torch
    it complains at length, and nothing here would use it."""
    from diffusers.utils import import_utils

    import_utils._xformers_available = False
    import diffusers

    return getattr(diffusers, name)


def _built(name: str, config: Mapping[str, Any]) -> Any:
    own = {name: value for name, value in config.items() if not name.startswith("_")}
    try:
        return diffusers_class(name)(**own)
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"the autoencoder does not fit its configuration: {error}") from error


def _fill(module: Any, state: Mapping[str, Tensor]) -> None:
    try:
        module.load_state_dict(dict(state), assign=True)
    except RuntimeError as error:
        raise ValueError(f"the autoencoder does not fit its configuration: {error}") from error


def _check_frames(frames: Tensor, factor: int) -> None:
    if frames.ndim != 5 or frames.shape[1] != 3:
        raise ValueError(f"frames must be b 3 t h w, and are {tuple(frames.shape)}")
    h, w = frames.shape[-2:]
    if h % factor or w % factor:
        raise ValueError(f"frames of {h}x{w} (rows x columns) must be multiples of {factor}")


def _check_latent(latent: Tensor, channels: int) -> None:
    if latent.ndim != 5 or latent.shape[1] != channels:
        raise ValueError(f"a latent must be b {channels} t h w, and is {tuple(latent.shape)}")
