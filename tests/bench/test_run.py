"""What is measured where nothing is asked for."""

from __future__ import annotations

import pytest

from starvsr.bench.run import usual_latent
from starvsr.specs import NANO, SPECS
from starvsr.types import ModelSpec


@pytest.mark.parametrize("spec", SPECS.values(), ids=lambda spec: spec.name)
def test_every_model_takes_its_usual_latent(spec: ModelSpec) -> None:
    frames, rows, columns = usual_latent(spec)
    assert frames == 4
    rule = spec.size_rule
    assert rows % rule.multiple == rule.height_remainder % rule.multiple
    assert columns % rule.multiple == 0
    assert 432 <= rows * spec.autoencoder.factor < 432 + rule.multiple * spec.autoencoder.factor


def test_that_of_nano_is_four_frames_of_768x432() -> None:
    assert usual_latent(NANO) == (4, 108, 192)
