"""The models, as one dict of frozen specs.

A model file carries its own spec in its metadata, so a path works wherever a name does. To add a model, add
an entry here; nothing else branches on a name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from starvsr.types import (
    AutoencoderSpec,
    CogVideoXConfig,
    ModelSpec,
    RecurrentConfig,
    SizeRule,
    TextSpec,
    UNetConfig,
    WindowSpec,
)


@dataclass(frozen=True)
class SourceFile:
    """One published file."""

    repository: str
    """On the Hugging Face hub, `owner/name`."""
    path: str
    """Inside the repository."""
    revision: str = "main"
    size_bytes: int = 0
    """0 if unknown; then the hub is asked."""
    sha256: str = ""
    """Empty if unknown: then it is recorded at the first download and enforced afterwards."""
    alternatives: tuple[SourceFile, ...] = ()
    """Published files with the same tensors under other names: never fetched, and used where a copy is on disk."""


@dataclass(frozen=True)
class Component:
    """One file of the weights folder, `NAME.safetensors`, and the published files that it is converted from."""

    name: str
    kind: str
    """`network`, `autoencoder` or `text_encoder`."""
    summary: str
    """One line for users."""
    licence: str
    sources: tuple[SourceFile, ...]
    """First the tensors, mostly one file; then small files such as a vocabulary."""
    gated: bool = False
    """Whether the hub requires an account that has accepted the licence."""

    @property
    def tensor_sources(self) -> tuple[SourceFile, ...]:
        """The files that contain tensors."""
        return tuple(s for s in self.sources if s.path.endswith((".pt", ".safetensors")))


NANO = ModelSpec(
    name="nano",
    summary="embedded small recurrent network, one step, made for CPUs",
    licence="MIT",
    network=RecurrentConfig(),
    autoencoder=AutoencoderSpec(kind="pixel_unshuffle", factor=4),
    size_rule=SizeRule(multiple=2, height_remainder=0),
    min_size=(8, 8),
    start="clean",
    solver="one_step",
    noise_level=101,
    steps=1,
    cfg=1.0,
    cfg_rescale=0.0,
    upsampling="bicubic",
    color_fix="none",
    # Frames are sequential anyway, so calls are short enough for small tensors: large ones are new memory each time,
    # which the system has to clear (12 frames of 480x270 took 2.0 s of it in calls of four, 0.8 s of one).
    windows=WindowSpec(
        chunk_frames=8,
        chunk_overlap=0,
        tile_height=None,
        tile_width=None,
        tile_overlap=8,
        call_elements=131_072,
    ),
    segment_frames=96,
    # More frames add little to the memory.
    context_frames=3,
    parameters=665_869,
    largest_unit=665_869,
)

TOY = ModelSpec(
    name="toy",
    summary="embedded STAR at toy size, trained: for trying multi-step options, not for quality",
    licence="MIT",
    network=UNetConfig(
        latent_channels=12,
        width=32,
        multipliers=(1, 1),
        residual_blocks=1,
        head_width=32,
        first_heads=1,
        context_width=32,
        attention_scales=(0.5,),
        norm_groups=4,
    ),
    autoencoder=AutoencoderSpec(
        kind="linear",
        factor=4,
        weights="toy-vae",
        # At 1 the last steps' noise drowned what the first ones had found (docs/training.md).
        scaling_factor=4.0,
        chunk_frames=8,
    ),
    size_rule=SizeRule(multiple=2, height_remainder=0),
    min_size=(8, 8),
    start="noised",
    solver="dpmpp_2m_sde",
    noise_level=900,
    steps=15,
    cfg=1.2,
    cfg_rescale=0.2,
    upsampling="bilinear",
    color_fix="wavelet",
    windows=WindowSpec(
        chunk_frames=8, chunk_overlap=4, tile_height=48, tile_width=48, tile_overlap=12
    ),
    segment_frames=32,
    context_frames=2,
    context_tokens=32,
    parameters=884_440,
    largest_unit=46_784,
    text=TextSpec(
        weights="toy-text",
        prompt="a good video",
        prompt_suffix="",
        negative_prompt="blurry, low quality",
    ),
)

# The published prompt: the weights were tuned with it, down to the double and triple spaces.
_STAR_TEXT = TextSpec(
    weights="clip-vit-h-14",
    prompt="a good video",
    prompt_suffix=(
        "Cinematic, High Contrast, highly detailed, taken using a Canon EOS R camera,   hyper detailed photo - "
        "realistic maximum detail, 32k, Color Grading, ultra HD, extreme meticulous detailing,  "
        "skin pore detailing, hyper sharpness, perfect without deformations."
    ),
    negative_prompt=(
        "painting, oil painting, illustration, drawing, art, sketch, oil painting, cartoon, CG Style, 3D render, "
        "unreal engine, blurring, dirty, messy, worst quality, low quality, frames, watermark, signature, "
        "jpeg artifacts, deformed, lowres, over-smooth"
    ),
)

STAR_LIGHT = ModelSpec(
    name="star-light",
    summary="STAR for lightly degraded video (I2VGen-XL, 2.04 G parameters)",
    licence="MIT",
    network=UNetConfig(),
    autoencoder=AutoencoderSpec(
        kind="temporal_vae",
        factor=8,
        weights="svd-temporal-vae",
        scaling_factor=0.18215,
        posterior="sample",
        chunk_frames=6,
        chunk_overlap=2,
        tile=160,
        tile_overlap=16,
    ),
    size_rule=SizeRule(multiple=8, height_remainder=2),
    min_size=(90, 160),
    trained_size=(1280, 720),
    start="noised",
    solver="dpmpp_2m_sde",
    noise_level=900,
    steps=15,
    cfg=7.5,
    cfg_rescale=0.2,
    upsampling="bilinear",
    color_fix="adain",
    windows=WindowSpec(
        chunk_frames=32, chunk_overlap=16, tile_height=90, tile_width=160, tile_overlap=24
    ),
    segment_frames=160,
    context_frames=8,
    context_tokens=77,
    parameters=2_041_121_910,
    largest_unit=68_840_960,
    text=_STAR_TEXT,
)

STAR_HEAVY = dataclasses.replace(
    STAR_LIGHT,
    name="star-heavy",
    summary="STAR for heavily degraded video (I2VGen-XL, 2.04 G parameters)",
)

STAR_COGVIDEOX = ModelSpec(
    name="star-cogvideox",
    summary="STAR on CogVideoX-5B, 5.57 G parameters; slower, with a larger prior",
    licence="CogVideoX License",
    network=CogVideoXConfig(),
    autoencoder=AutoencoderSpec(
        kind="causal_vae",
        factor=8,
        weights="cogvideox-vae",
        scaling_factor=0.7,
        posterior="sample",
        tile=45,
        tile_overlap=8,
        time_factor=4,
    ),
    size_rule=SizeRule(multiple=2, height_remainder=0),
    # Trained only on 480x720 and 25 frames.
    min_size=(60, 90),
    trained_size=(720, 480),
    start="noise",
    solver="vpsde_dpmpp_2m",
    schedule="scaled_linear_zero_snr",
    noise_level=1000,
    steps=50,
    cfg=6.0,
    cfg_dynamic=True,
    cfg_rescale=0.0,
    half="bf16",
    upsampling="bicubic",
    color_fix="adain",
    windows=WindowSpec(
        chunk_frames=7,
        chunk_overlap=3,
        tile_height=60,
        tile_width=90,
        tile_overlap=12,
        whole_tiles=True,
    ),
    # 11 latent frames: two windows.
    segment_frames=41,
    context_frames=4,
    context_tokens=226,
    parameters=5_570_483_880,
    largest_unit=37_761_024,
    # Trained with a caption per clip, without suffix or negative prompt.
    text=TextSpec(
        weights="t5-v1-1-xxl", prompt="a good video", prompt_suffix="", negative_prompt=None
    ),
)


def of_width(spec: ModelSpec, network: CogVideoXConfig) -> ModelSpec:
    """STAR on CogVideoX with a network of another size, its parameters not counted.

    If positions are added, noise levels, the scale of latents and the type are those of CogVideoX-2B, as in its
    published configurations (THUDM/CogVideo 6a93ac6, `sat/configs`: `cogvideox_2b.yaml`, `inference.yaml`).
    """
    if not network.rotary:
        coder = dataclasses.replace(spec.autoencoder, scaling_factor=1.15258426)
        schedule = "shifted_linear_zero_snr"
        spec = dataclasses.replace(spec, schedule=schedule, autoencoder=coder, half="fp16")
    return dataclasses.replace(spec, network=network, parameters=0, largest_unit=0)


SPECS: dict[str, ModelSpec] = {
    spec.name: spec for spec in (NANO, STAR_LIGHT, STAR_HEAVY, STAR_COGVIDEOX, TOY)
}

EMBEDDED = ("nano", "toy")
"""Models whose files and components are all part of the package."""

_STAR_REPOSITORY = "SherryX/STAR"
_VAE_REPOSITORY = "stabilityai/stable-video-diffusion-img2vid"
_COGVIDEOX_REPOSITORY = "THUDM/CogVideoX-5b"
_CLIP_REPOSITORY = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"


def _network(spec: ModelSpec, path: str, size_bytes: int = 0, sha256: str = "") -> Component:
    """A model's network as STAR publishes it, in one file."""
    source = SourceFile(_STAR_REPOSITORY, path, size_bytes=size_bytes, sha256=sha256)
    return Component(spec.name, "network", spec.summary, spec.licence, (source,))


# Hashes, and sizes to three digits, as the hub's pages of these files state them; the text encoder's as two public
# records of its commit 1c2b8495b281 do, and that of open_clip's pickle as several public scripts that check it do.
# None was fetched here.
COMPONENTS: dict[str, Component] = {
    component.name: component
    for component in (
        _network(
            STAR_LIGHT,
            "I2VGen-XL-based/light_deg.pt",
            size_bytes=8_170_000_000,
            sha256="537881f0276d858fae2cdc932534fcd823468b515ff1d3bf368c2db98792d3d5",
        ),
        _network(
            STAR_HEAVY,
            "I2VGen-XL-based/heavy_deg.pt",
            size_bytes=8_170_000_000,
            sha256="285e7903a561cadcc7426808987c0ac0352b3beb0351df10775bb90e6635a5e5",
        ),
        Component(
            name="svd-temporal-vae",
            kind="autoencoder",
            summary="Stable Video Diffusion's temporal autoencoder",
            licence="Stability AI Community License",
            sources=(
                SourceFile(
                    _VAE_REPOSITORY,
                    "vae/diffusion_pytorch_model.fp16.safetensors",
                    size_bytes=196_000_000,
                    sha256="af602cd0eb4ad6086ec94fbf1438dfb1be5ec9ac03fd0215640854e90d6463a3",
                ),
                SourceFile(_VAE_REPOSITORY, "vae/config.json"),
            ),
            gated=True,
        ),
        Component(
            name="clip-vit-h-14",
            kind="text_encoder",
            summary="text tower of OpenCLIP ViT-H/14",
            licence="MIT",
            sources=(
                SourceFile(
                    _CLIP_REPOSITORY,
                    "model.safetensors",
                    size_bytes=3_944_552_236,
                    sha256="036e6e2bd49697511f4f8b8cb5ee465f93025f7a69a145eadeb9a881ace9b18d",
                    # What open_clip fetches, by which the original reads CLIP.
                    alternatives=(
                        SourceFile(_CLIP_REPOSITORY, "open_clip_model.safetensors"),
                        SourceFile(
                            _CLIP_REPOSITORY,
                            "open_clip_pytorch_model.bin",
                            sha256="9a78ef8e8c73fd0df621682e7a8e8eb36c6916cb3c16b291a082ecd52ab79cc4",
                        ),
                    ),
                ),
                SourceFile(_CLIP_REPOSITORY, "config.json"),
                SourceFile(_CLIP_REPOSITORY, "vocab.json"),
                SourceFile(_CLIP_REPOSITORY, "merges.txt"),
            ),
        ),
        _network(STAR_COGVIDEOX, "CogVideoX-5B-based/1/mp_rank_00_model_states.pt"),
        Component(
            name="cogvideox-vae",
            kind="autoencoder",
            summary="CogVideoX's causal autoencoder",
            licence="CogVideoX License",
            sources=(
                SourceFile(
                    _COGVIDEOX_REPOSITORY,
                    "vae/diffusion_pytorch_model.safetensors",
                    size_bytes=862_000_000,
                ),
                SourceFile(_COGVIDEOX_REPOSITORY, "vae/config.json"),
            ),
        ),
        Component(
            name="t5-v1-1-xxl",
            kind="text_encoder",
            summary="encoder of T5 v1.1 XXL",
            licence="Apache 2.0",
            sources=(
                *(
                    SourceFile(
                        _COGVIDEOX_REPOSITORY,
                        f"text_encoder/model-0000{number}-of-00002.safetensors",
                        size_bytes=size_bytes,
                    )
                    for number, size_bytes in ((1, 4_990_000_000), (2, 4_530_000_000))
                ),
                SourceFile(_COGVIDEOX_REPOSITORY, "text_encoder/config.json"),
                SourceFile(_COGVIDEOX_REPOSITORY, "tokenizer/spiece.model"),
            ),
        ),
    )
}


def components_of(spec: ModelSpec) -> tuple[str, ...]:
    """Names of a model's other components: autoencoder, then text encoder."""
    text = spec.text.weights if spec.text else ""
    return tuple(name for name in (spec.autoencoder.weights, text) if name)


def downloadable(spec: ModelSpec, missing: Sequence[str]) -> str:
    """What `starvsr download-weights` takes for missing components of a model: its name only if its network is one."""
    is_model = spec.name in SPECS and spec.name in missing
    return spec.name if is_model else " ".join(missing)


def fetched_components(name: str) -> tuple[str, ...]:
    """Names of all components of a model of `SPECS`, the network first; none if the package contains them."""
    return () if name in EMBEDDED else (name, *components_of(SPECS[name]))
