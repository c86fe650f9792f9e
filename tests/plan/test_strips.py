"""Large pictures in strips."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from starvsr.models.build import build_network
from starvsr.options import LookOptions, UpscaleOptions
from starvsr.plan.plan import make_plan
from starvsr.plan.settings import resolve
from starvsr.plan.strips import STRIP_ELEMENTS, network_reach, strip_margin, strips
from starvsr.specs import NANO, STAR_LIGHT
from starvsr.types import RecurrentConfig
from tests.conftest import CPU, TOY, video_index, video_info
from tests.peak_memory import seeded


@given(
    st.integers(1, 8192).map(lambda half: 2 * half),
    st.integers(1, 8192).map(lambda half: 2 * half),
    st.integers(1, 12).map(lambda eighth: 8 * eighth),
)
def test_strips_cover_every_row_once(rows: int, columns: int, margin: int) -> None:
    found = strips((rows, columns), margin)
    assert found[0].rows[0] == 0 and found[-1].rows[1] == rows
    assert all(a.rows[1] == b.rows[0] for a, b in itertools.pairwise(found))
    for strip in found:
        assert strip.outer == (max(0, strip.rows[0] - margin), min(rows, strip.rows[1] + margin))
        # Dither and the network's halves begin where they do in the whole.
        assert len(found) == 1 or (strip.rows[0] % 8, strip.outer[0] % 8) == (0, 0)
        held = (strip.outer[1] - strip.outer[0]) * columns
        assert len(found) == 1 or held <= max(STRIP_ELEMENTS, (2 * margin + 32) * columns)


@pytest.mark.parametrize(
    "config",
    [
        RecurrentConfig(latent_channels=4, stem_width=4, width=4, deep_width=4, liem=False),
        RecurrentConfig(
            latent_channels=4, stem_width=4, width=4, deep_width=4, blocks_before=2, deep_blocks=1
        ),
        RecurrentConfig(latent_channels=12, stem_width=4, width=4, deep_width=4, full_width=4),
        RecurrentConfig(latent_channels=48, stem_width=4, width=4, deep_width=4, full_width=4),
    ],
)
def test_no_result_depends_on_what_is_further_away(config: RecurrentConfig) -> None:
    """And on what is that far it does."""
    network = seeded(build_network(config), torch.float64)
    for parameter in network.parameters():
        # Or what comes from far is lost in rounding.
        parameter.uniform_(-0.3, 0.3)
    reach, side = network_reach(config), 2 * network_reach(config) + 20
    x = torch.randn(1, config.latent_channels, 1, side, 8, dtype=torch.float64)
    context = torch.zeros(1, 1, config.context_width, dtype=torch.float64)
    found = []
    for middle in (side // 2, side // 2 + 1):
        other = x.clone()
        other[..., middle, :] += 10
        change = network(other, torch.tensor([100]), context) != network(
            x, torch.tensor([100]), context
        )
        rows = change.any(-1)[0].any(0)[0].nonzero().flatten()
        found += [middle - int(rows[0]), int(rows[-1]) - middle]
    assert max(found) == reach


def test_only_local_networks_have_strips() -> None:
    latent = (3000, 4000)
    look = LookOptions()
    assert strip_margin(NANO, resolve(NANO), look, latent, 4) == 40
    assert strip_margin(NANO, resolve(NANO), look, (750, 1000), 4) == 0
    for spec in (TOY, STAR_LIGHT):
        assert strip_margin(spec, resolve(spec), look, latent, 4) == 0
    # Its statistics are those of the whole picture.
    adain = LookOptions(color_fix="adain")
    assert strip_margin(NANO, resolve(NANO, look=adain), adain, latent, 4) == 0
    sharp = LookOptions(color_fix="wavelet", sharpen=1.0)
    assert strip_margin(NANO, resolve(NANO, look=sharp), sharp, latent, 16) == 56


def test_a_plan_counts_strips_for_pictures_alone() -> None:
    info, index = video_info(width=4000, height=3000), video_index(1)
    video, still = (
        make_plan(info, index, NANO, CPU, UpscaleOptions(), even=False, still=still)
        for still in (False, True)
    )
    assert (video.latent, still.latent) == ((3000, 4000), (3000, 4000))
    assert video.layout.margin == 0 and len(video.rows) == 1
    count = len(still.layout.strips)
    assert count > 10 and still.network_calls == count
    assert still.rows[0][0] == 0 and still.rows[-1][1] == 3000
    assert 1.2 < still.overlap_cost < 1.6
    assert still.memory_bytes < video.memory_bytes / 8
    assert still.layout.peak_bytes < video.layout.peak_bytes / 3
