"""A STAR small enough to train in minutes on a processor: what `toy_components.py` and `ablations.py` work on."""

from starvsr.types import (
    AutoencoderSpec,
    ModelSpec,
    SizeRule,
    TextSpec,
    UNetConfig,
    WindowSpec,
)

TOY = ModelSpec(
    name="toy",
    summary="STAR at toy size",
    licence="MIT",
    network=UNetConfig(
        latent_channels=8,
        width=32,
        multipliers=(1, 1),
        residual_blocks=1,
        head_width=32,
        first_heads=1,
        context_width=32,
        attention_scales=(0.5,),
    ),
    autoencoder=AutoencoderSpec(
        kind="temporal_vae",
        factor=4,
        weights="toy-vae",
        scaling_factor=1.0,
        chunk_frames=8,
        chunk_overlap=2,
        tile=96,
        tile_overlap=8,
    ),
    size_rule=SizeRule(multiple=2, height_remainder=0),
    min_size=(8, 8),
    start="noised",
    solver="dpmpp_2m_sde",
    noise_level=900,
    steps=15,
    cfg=3.0,
    cfg_rescale=0.2,
    upsampling="bilinear",
    color_fix="adain",
    windows=WindowSpec(
        chunk_frames=8, chunk_overlap=4, tile_height=48, tile_width=48, tile_overlap=12
    ),
    segment_frames=32,
    context_frames=2,
    context_tokens=32,
    text=TextSpec(
        weights="toy-text",
        prompt="a good video",
        prompt_suffix="",
        negative_prompt="blurry, low quality",
    ),
)
