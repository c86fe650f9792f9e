"""Configurations of whoever published a model are bounded before a module is built of them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from starvsr.errors import WeightsError
from starvsr.models.autoencoder import TemporalVAE
from starvsr.models.text import ClipTokenizer
from starvsr.zoo.components import COMPONENT_KEY, make_component, read_component_info
from starvsr.zoo.configs import check_config, read_bytes, read_config, read_text
from starvsr.zoo.folder import embedded_file
from tests.zoo.published import SMALL_COMPONENTS

SIZES = {"num_layers": 24, "hidden_size": 1024, "block_out_channels": [128, 256], "act_fn": "silu"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_layers", 10**9),
        ("num_layers", -1),
        ("num_layers", 0),
        ("num_hidden_layers", 65),
        ("layers_per_block", 17),
        ("hidden_size", 1 << 21),
        ("hidden_size", 0),
        ("scaling_factor", float("nan")),
        ("scaling_factor", float("inf")),
        ("block_out_channels", [128] * 9),
        ("block_out_channels", [0, 1]),
        ("block_out_channels", [[1]]),
        ("act_fn", "x" * 1001),
    ],
)
def test_values_of_no_module(name: str, value: object) -> None:
    check_config(SIZES)
    with pytest.raises(ValueError, match=f"'{name}' is "):
        check_config({**SIZES, name: value})


def test_too_many_fields() -> None:
    with pytest.raises(ValueError, match="it has 201 fields"):
        check_config({str(number): 1 for number in range(201)})


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 9999, "is not JSON: it is nested"),
        (b"[1]", "contains no configuration"),
        (b"\xff", "is not text"),
        (b'{"a": NaN}', "is not JSON: NaN"),
        (b'{"a": ' + b"1" * 5000 + b"}", "a number has 5000 digits"),
        (b'{"a": "' + b"x" * (1 << 18) + b'"}', "more than the 262,144 bytes"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(WeightsError, match=words):
        read_config(tmp_path / "config.json")


def test_files_of_words_have_a_size(tmp_path: Path) -> None:
    (tmp_path / "merges.txt").write_text("12345")
    assert read_text(tmp_path / "merges.txt", 5) == "12345"
    with pytest.raises(WeightsError, match="more than the 4 bytes"):
        read_bytes(tmp_path / "merges.txt", 4)
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_bytes(tmp_path / "not-there", 4)


def _sources(name: str, published: Path) -> dict[str, Path]:
    return {
        source.path: published / source.repository / source.path
        for source in SMALL_COMPONENTS[name].sources
    }


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("small-vae", {"layers_per_block": 10**9}, "'layers_per_block' is 1000000000"),
        ("small-vae", {"block_out_channels": [10**9] * 4}, "'block_out_channels' is "),
        ("small-vae", {"block_out_channels": None}, "do not fit together"),
        ("small-vae", {"act_fn": 3}, "do not fit together"),
        ("small-clip", {"text_config": [1]}, r"text_config is \[1\]"),
        ("small-clip", {"text_config": {"num_hidden_layers": 10**9}}, "'num_hidden_layers' is 10"),
        ("small-clip", {"text_config": {"hidden_size": 10**12}}, "'hidden_size' is 10"),
    ],
)
def test_a_component_of_a_changed_configuration(
    published: Path, tmp_path: Path, name: str, changes: dict[str, Any], words: str
) -> None:
    sources = _sources(name, published)
    path = next(path for path in sources if path.endswith("config.json"))
    changed = tmp_path / "config.json"
    changed.write_text(json.dumps({**json.loads(sources[path].read_text()), **changes}))
    with pytest.raises(WeightsError, match=words) as caught:
        make_component(
            SMALL_COMPONENTS[name],
            {**sources, path: changed},
            tmp_path / "made.safetensors",
            source_sha256="a" * 64,
        )
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "made.safetensors").exists()


@pytest.mark.parametrize(
    "about",
    [
        "[" * 9999,
        "[]",
        json.dumps({"name": "a/b", "kind": "network", "source_sha256": "", "config": {}}),
        json.dumps({"name": "a", "kind": "network", "source_sha256": "\x1b", "config": {}}),
        json.dumps({"name": "a", "kind": "x", "source_sha256": "", "config": {"num_layers": 1e9}}),
    ],
)
def test_a_component_that_says_nothing(tmp_path: Path, about: str) -> None:
    path = with_metadata(tmp_path, "toy-vae", {COMPONENT_KEY: about})
    with pytest.raises(WeightsError, match="is not a component of a starvsr model"):
        read_component_info(path)


def with_metadata(folder: Path, name: str, changes: dict[str, str]) -> Path:
    content = embedded_file(name).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    header["__metadata__"] |= changes
    text = json.dumps(header).encode()
    path = folder / f"{name}.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    return path


@pytest.mark.parametrize("vocabulary", ["[" * 9999, '{"a": -1}', '{"a": 1e3}', '{"a": 9999999999}'])
def test_a_vocabulary_that_is_none(vocabulary: str) -> None:
    with pytest.raises(ValueError, match="the vocabulary "):
        ClipTokenizer(vocabulary, "")


def test_a_library_that_stumbles_says_so_shortly() -> None:
    import torch

    config = {"block_out_channels": 3, "latent_channels": base64.b64encode(b"x").decode()}
    with pytest.raises(ValueError, match="does not fit its configuration") as caught:
        TemporalVAE.from_state(config, {}, 1.0, torch.device("cpu"), torch.float32)
    assert len(str(caught.value)) < 400
