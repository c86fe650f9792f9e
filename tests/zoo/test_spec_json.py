"""A spec in a file says whatever its author liked; what no machine could build is refused before anything is built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from starvsr.errors import WeightsError
from starvsr.models.build import build_network
from starvsr.specs import NANO, SPECS, STAR_COGVIDEOX, STAR_LIGHT
from starvsr.types import ModelSpec
from starvsr.zoo.spec_json import spec_from_json, spec_to_json


def with_value(spec: ModelSpec, path: str, value: object) -> str:
    fields: dict[str, Any] = json.loads(spec_to_json(spec))
    *parents, last = path.split(".")
    holder = fields
    for name in parents:
        holder = holder[name]
    holder[last] = value
    return json.dumps(fields)


def numbers(spec: ModelSpec) -> list[str]:
    """Every field of a number, or of several."""
    found = []
    for name, value in json.loads(spec_to_json(spec)).items():
        inner = value.items() if isinstance(value, dict) else [("", value)]
        for key, each in inner:
            first = each[0] if isinstance(each, list) else each
            if type(first) in (int, float):
                found.append(f"{name}.{key}".rstrip("."))
    return found


@pytest.mark.parametrize("spec", SPECS.values(), ids=list(SPECS))
def test_all_of_ours_are_within_the_bounds(spec: ModelSpec) -> None:
    assert spec_from_json(spec_to_json(spec)) == spec


@pytest.mark.parametrize(
    ("spec", "path"),
    [(spec, path) for spec in (NANO, STAR_LIGHT, STAR_COGVIDEOX) for path in numbers(spec)],
)
def test_every_number_has_bounds(spec: ModelSpec, path: str) -> None:
    value = json.loads(spec_to_json(spec))
    for name in path.split("."):
        value = value[name]
    for odd in (10**15, -1, True, "1", None, 1 << 200):
        if odd is None and path in (
            "windows.tile_height",
            "windows.tile_width",
            "autoencoder.tile",
        ):
            continue
        if odd is None and path == "autoencoder.chunk_frames":
            continue
        given = [odd] * len(value) if isinstance(value, list) else odd
        with pytest.raises(WeightsError, match="not one this version understands") as caught:
            spec_from_json(with_value(spec, path, given))
        assert path.rpartition(".")[2] in str(caught.value) or "digits" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("network.multipliers", [1] * 9, "multipliers is"),
        ("network.multipliers", [], "multipliers is"),
        ("network.attention_scales", [0.5] * 9, "attention_scales is"),
        ("network.x", 1, "'x' is not a field of UNetConfig"),
        ("text.prompt", "x" * 10_001, "prompt is 'xxx"),
        ("text.prompt", "\ud800", "surrogates not allowed"),
        ("name", "x" * 201, "name is"),
        ("text.weights", "../../x", "not a component name"),
        ("text.weights", "a/b", "not a component name"),
        ("autoencoder.weights", "/etc/x", "not a component name"),
        ("autoencoder.weights", "x" * 500, "not a component name"),
        ("autoencoder.tile_overlap", 81, "tile_overlap is 81"),
        ("windows.chunk_overlap", 17, "chunk_overlap is 17"),
        ("windows.tile_overlap", 46, "tile_overlap is 46"),
        ("context_frames", 80, "context_frames is 80"),
        ("min_size", [91, 160], "does not follow the size_rule"),
        ("size_rule.height_remainder", 8, "does not follow the size_rule"),
        ("text", [[[1]]], r"\[\[\[1\]\]\] is not a TextSpec"),
    ],
)
def test_what_means_nothing(path: str, value: object, words: str) -> None:
    with pytest.raises(WeightsError, match=words) as caught:
        spec_from_json(with_value(STAR_LIGHT, path, value))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text", ["[]", "1", "null", "[" * 5000, "1" * 5000, '{"name": NaN}', '{"a": 1, "a": 1}', ""]
)
def test_what_is_no_spec(text: str) -> None:
    with pytest.raises(WeightsError, match="not one this version understands"):
        spec_from_json(text)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("spec", [NANO, STAR_LIGHT, STAR_COGVIDEOX], ids=lambda spec: spec.name)
def test_the_most_blocks_are_built_without_memory(spec: ModelSpec) -> None:
    import torch

    from starvsr.zoo.spec_json import _MOST_OF

    fields = json.loads(spec_to_json(spec))
    for name in ("residual_blocks", "layers", "blocks_before", "deep_blocks", "blocks_behind"):
        if name in fields["network"]:
            fields["network"][name] = _MOST_OF[name]
    if "multipliers" in fields["network"]:
        fields["network"]["multipliers"] = [4] * 8
    largest = spec_from_json(json.dumps(fields))
    with torch.device("meta"):
        network = build_network(largest.network)
    assert all(weight.device.type == "meta" for weight in network.parameters())
