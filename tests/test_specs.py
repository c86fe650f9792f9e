"""Model specs as JSON: there and back, and strangers refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from starvsr.errors import WeightsError
from starvsr.restore.colorfix import COLOR_FIXES
from starvsr.restore.sampling import SOLVERS
from starvsr.specs import NANO, SPECS
from starvsr.types import (
    CogVideoXConfig,
    ModelSpec,
    RecurrentConfig,
    SizeRule,
    UNetConfig,
    WindowSpec,
)
from starvsr.zoo.spec_json import spec_from_json, spec_to_json
from tests.conftest import TOY

RECURRENT = dataclasses.replace(
    NANO, name="recurrent", network=RecurrentConfig(), size_rule=SizeRule(2, 0)
)


@pytest.mark.parametrize("spec", [*SPECS.values(), TOY, RECURRENT], ids=lambda spec: spec.name)
def test_there_and_back(spec: ModelSpec) -> None:
    found = spec_from_json(spec_to_json(spec))
    assert found == spec
    assert hash(found) == hash(spec)


def test_json_is_the_same_every_time() -> None:
    fields = json.loads(spec_to_json(NANO))
    assert list(fields) == sorted(fields)
    assert spec_to_json(spec_from_json(spec_to_json(NANO))) == spec_to_json(NANO)


def test_fields_with_defaults_may_be_left_out() -> None:
    # As in a file that an older version wrote.
    fields = json.loads(spec_to_json(TOY))
    del (
        fields["context_tokens"],
        fields["windows"]["whole_tiles"],
        fields["windows"]["call_elements"],
    )
    assert spec_from_json(json.dumps(fields)) == TOY


def test_fields_that_are_gone_may_be_there() -> None:
    fields = json.loads(spec_to_json(TOY))
    fields["windows"]["tiles_bound"] = "network"
    assert spec_from_json(json.dumps(fields)) == TOY


def test_a_recurrent_network_makes_one_step() -> None:
    several = dataclasses.replace(RECURRENT, solver="dpmpp_2m_sde", steps=3)
    with pytest.raises(WeightsError, match="in one step"):
        spec_from_json(spec_to_json(several))


def test_noise_alone_goes_with_its_levels() -> None:
    noise = dataclasses.replace(
        TOY, start="noise", schedule="scaled_linear_zero_snr", solver="vpsde_dpmpp_2m"
    )
    assert spec_from_json(spec_to_json(noise)) == noise
    for other in ({"start": "noised"}, {"schedule": "logsnr_cosine_interp"}):
        spec = dataclasses.replace(noise, **other)  # type: ignore[arg-type]
        with pytest.raises(WeightsError, match="does not go with"):
            spec_from_json(spec_to_json(spec))


def test_networks_of_every_kind() -> None:
    for network in (RecurrentConfig(), CogVideoXConfig(layers=3), UNetConfig(width=64)):
        spec = dataclasses.replace(TOY, network=network, solver="one_step", steps=1)
        assert spec_from_json(spec_to_json(spec)).network == network


@pytest.mark.parametrize("name", list(SPECS))
def test_names_are_keys(name: str) -> None:
    assert SPECS[name].name == name


def changed(path: str, value: Any) -> str:
    """The toy's JSON with one value replaced; `...` removes it."""
    fields = json.loads(spec_to_json(TOY))
    *groups, name = path.split(".")
    place = fields
    for group in groups:
        place = place[group]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return json.dumps(fields)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("name", 3),
        ("name", ...),
        ("network", ...),
        ("network", []),
        ("network", "wide"),
        ("network.width", "32"),
        ("network.width", 0),
        ("network.width", -32),
        ("network.width", 32.5),
        ("network.width", True),
        ("network.multipliers", 4),
        ("network.multipliers", [1, "2"]),
        ("network.multipliers", [1, 0]),
        ("network.control", 1),
        ("network.depth", 3),
        ("windows.tile_height", "all"),
        ("windows.tile_height", 0),
        ("windows.chunk_frames", 0),
        ("windows.chunk_overlap", -1),
        ("windows.tiles_bound", "nothing"),
        ("size_rule.multiple", 0),
        ("autoencoder.factor", 0),
        ("min_size", [4]),
        ("min_size", [4, 4, 4]),
        ("min_size", 4),
        ("start", "warm"),
        ("solver", "euler"),
        ("upsampling", "lanczos"),
        ("color_fix", "gray"),
        ("steps", 0),
        ("steps", None),
        ("cfg", "7.5"),
        ("segment_frames", 0),
        ("new_field", 1),
    ],
)
def test_what_this_version_does_not_understand(path: str, value: Any) -> None:
    with pytest.raises(WeightsError, match="not one this version understands") as caught:
        spec_from_json(changed(path, value))
    assert path.split(".")[-1] in str(caught.value) or path == "network"


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"nano"', "{}"])
def test_what_is_no_spec(text: str) -> None:
    with pytest.raises(WeightsError, match="not one this version understands"):
        spec_from_json(text)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("solver", tuple(SOLVERS)),
        ("color_fix", COLOR_FIXES),
        ("schedule", ("logsnr_cosine_interp",)),
        ("upsampling", ("bicubic", "bilinear")),
    ],
)
def test_everything_that_the_pipeline_can_do_is_understood(
    field: str, names: tuple[str, ...]
) -> None:
    for name in names:
        spec = dataclasses.replace(TOY, **{field: name})  # type: ignore[arg-type]
        assert spec_from_json(spec_to_json(spec)) == spec


def test_a_clean_start_goes_with_one_step() -> None:
    for start in ("noised", "clean"):
        spec = dataclasses.replace(TOY, start=start, solver="one_step")
        assert spec_from_json(spec_to_json(spec)) == spec
    with pytest.raises(WeightsError, match="a start of clean goes with one_step, not with dpmpp"):
        spec_from_json(spec_to_json(dataclasses.replace(TOY, start="clean")))


def test_tiles_may_be_absent() -> None:
    windows = WindowSpec(
        chunk_frames=1, chunk_overlap=0, tile_height=None, tile_width=None, tile_overlap=0
    )
    spec = dataclasses.replace(TOY, windows=windows)
    assert spec_from_json(spec_to_json(spec)).windows == windows
