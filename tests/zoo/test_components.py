"""Components are made whole from published files, and from nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from starvsr.errors import OutputError, WeightsError
from starvsr.zoo.components import (
    COMPONENT_KEY,
    MERGES_KEY,
    VOCAB_KEY,
    make_component,
    read_component_info,
)
from starvsr.zoo.convert import to_published
from starvsr.zoo.metadata import METADATA_KEY
from starvsr.zoo.spec_json import spec_from_json
from tests.zoo.published import (
    SMALL_COMPONENTS,
    SMALL_STAR,
    VAE_CONFIG,
    published_network,
    sources_of,
)

pytestmark = pytest.mark.usefixtures("small_known")

NET, VAE, CLIP = (SMALL_COMPONENTS[name] for name in ("small-star", "small-vae", "small-clip"))
State = dict[str, Tensor]


@pytest.fixture
def files(tmp_path: Path, published: Path) -> Path:
    """A copy of the published files, to be changed."""
    return Path(shutil.copytree(published, tmp_path / "published"))


def make(name: str, files: Path, target: Path, dtype: torch.dtype | None = None) -> State:
    """Make a component and read its tensors."""
    component = SMALL_COMPONENTS[name]
    make_component(
        component, sources_of(component, files), target, dtype=dtype, source_sha256="ab" * 32
    )
    return load_file(target)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("dtype", [None, torch.float16])
def test_a_network(files: Path, tmp_path: Path, wrapped: bool, dtype: torch.dtype | None) -> None:
    state = published_network()
    checkpoint = sources_of(NET, files)[NET.sources[0].path]
    torch.save({"state_dict": state} if wrapped else state, checkpoint)
    path = tmp_path / "made.safetensors"
    made = to_published(make("small-star", files, path, dtype))
    assert made.keys() == state.keys()
    for name, tensor in state.items():
        assert torch.equal(made[name], tensor if dtype is None else tensor.to(dtype)), name
    info = read_component_info(path)
    assert (info.name, info.kind, info.source_sha256) == ("small-star", "network", "ab" * 32)
    assert spec_from_json(info.metadata[METADATA_KEY]) == SMALL_STAR
    # The pickle can go: nothing of it is needed any more.
    checkpoint.unlink()
    assert torch.isfinite(load_file(path)["head.conv.weight"]).all()


def test_an_autoencoder(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    made = make("small-vae", files, path)
    given = load_file(sources_of(VAE, files)[VAE.sources[0].path])
    assert made.keys() == given.keys()
    assert all(torch.equal(made[name], given[name]) for name in given)
    assert {tensor.dtype for tensor in made.values()} == {torch.float16}
    info = read_component_info(path)
    assert (info.kind, info.config) == ("autoencoder", VAE_CONFIG)


def test_a_text_encoder_is_the_tower_without_its_last_layer(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    made = make("small-clip", files, path)
    sources = sources_of(CLIP, files)
    given = load_file(sources["model.safetensors"])
    kept = {
        name
        for name in given
        if name.startswith("text_model.")
        and ".layers.2." not in name
        and not name.endswith("position_ids")
    }
    assert made.keys() == kept
    assert all(torch.equal(made[name], given[name]) for name in kept)
    info = read_component_info(path)
    assert info.kind == "text_encoder"
    assert (info.config["num_hidden_layers"], info.config["hidden_size"]) == (2, 32)
    assert info.metadata[VOCAB_KEY] == sources["vocab.json"].read_text("utf-8")
    assert info.metadata[MERGES_KEY] == sources["merges.txt"].read_text("utf-8")


def test_what_a_text_configuration_leaves_out_has_clips_values(files: Path, tmp_path: Path) -> None:
    path = sources_of(CLIP, files)["config.json"]
    config = json.loads(path.read_text())
    for name in ("layer_norm_eps", "max_position_embeddings", "bos_token_id"):
        del config["text_config"][name]
    # Older files say some of it twice.
    config["text_config"]["hidden_act"] = "quick_gelu"
    config["text_config_dict"] = {"hidden_act": "gelu"}
    path.write_text(json.dumps(config))
    target = tmp_path / "made.safetensors"
    make("small-clip", files, target)
    made = read_component_info(target).config
    assert made["layer_norm_eps"] == 1e-5
    assert made["max_position_embeddings"] == 77
    assert made["hidden_act"] == "gelu"


Change = Callable[[State], object]


def refused(files: Path, name: str, tmp_path: Path) -> str:
    """The message of a refusal that leaves nothing behind."""
    target = tmp_path / "target" / "made.safetensors"
    target.parent.mkdir()
    with pytest.raises(WeightsError) as caught:
        make(name, files, target)
    assert list(target.parent.iterdir()) == []
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("out.2.bias"), "in 1 tensors: out.2.bias is missing"),
        (
            lambda s: s.pop("input_blocks.1.0.in_layers.0.weight"),
            "in 1 tensors: input_blocks.1.0.in_layers.0.weight is missing",
        ),
        (lambda s: s.update(ema=torch.zeros(1)), "in 1 tensors: ema is unexpected"),
        (
            lambda s: s.update({"out.2.bias": torch.zeros(5)}),
            "in 1 tensors: out.2.bias is (5,) instead of (4,)",
        ),
        (
            lambda s: s.update({"out.2.bias": torch.zeros(4, dtype=torch.int64)}),
            "does not contain plain floating point numbers, in 1 tensors: out.2.bias is torch.int64 (torch.strided)",
        ),
        (
            lambda s: s.update({"out.2.bias": torch.zeros(4).to_sparse()}),
            "numbers, in 1 tensors: out.2.bias is torch.float32 (torch.sparse_coo)",
        ),
        (lambda s: s.update(epoch=3), "contains entries that are not tensors: epoch"),
        (lambda s: s.clear(), "is missing; "),
    ],
)
def test_every_key_of_a_network_is_accounted_for(
    files: Path, tmp_path: Path, change: Change, words: str
) -> None:
    state = published_network()
    change(state)
    path = sources_of(NET, files)[NET.sources[0].path]
    torch.save({"state_dict": state}, path)
    message = refused(files, "small-star", tmp_path)
    assert words in message
    assert str(path) in message


def test_a_network_of_another_size(files: Path, tmp_path: Path) -> None:
    other = dataclasses.replace(
        SMALL_STAR, network=dataclasses.replace(SMALL_STAR.network, context_width=16)
    )
    torch.save(published_network(other), sources_of(NET, files)[NET.sources[0].path])
    message = refused(files, "small-star", tmp_path)
    assert "is not the network of small-star, in " in message
    assert "attn2.to_k.weight is (32, 16) instead of (32, 32)" in message


def rewrite(path: Path, change: Change) -> None:
    """Change a safetensors file."""
    state = load_file(path)
    change(state)
    save_file(state, path)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("encoder.conv_in.bias"),
        lambda s: s.update(stranger=torch.zeros(1)),
        lambda s: s.update({"encoder.conv_in.bias": torch.zeros(5)}),
    ],
)
def test_every_key_of_an_autoencoder_is_accounted_for(
    files: Path, tmp_path: Path, change: Change
) -> None:
    rewrite(sources_of(VAE, files)[VAE.sources[0].path], change)
    assert "do not fit together" in refused(files, "small-vae", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda s: s.pop("text_model.final_layer_norm.bias"),
            "text_model.final_layer_norm.bias is missing",
        ),
        # Also of the layer that is dropped: the file is not what it says it is.
        (
            lambda s: s.pop("text_model.encoder.layers.2.mlp.fc1.bias"),
            "text_model.encoder.layers.2.mlp.fc1.bias is missing",
        ),
        (
            lambda s: s.update({"text_model.adapter": torch.zeros(1)}),
            "text_model.adapter is unexpected",
        ),
        (
            lambda s: s.update({"text_model.final_layer_norm.bias": torch.zeros(5)}),
            "text_model.final_layer_norm.bias is (5,) instead of (32,)",
        ),
    ],
)
def test_every_key_of_a_text_tower_is_accounted_for(
    files: Path, tmp_path: Path, change: Change, words: str
) -> None:
    rewrite(sources_of(CLIP, files)["model.safetensors"], change)
    assert words in refused(files, "small-clip", tmp_path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"hidden_size": "32"}, "hidden_size of the text tower is '32'"),
        ({"num_hidden_layers": -1}, "num_hidden_layers of the text tower is -1"),
        ({"num_hidden_layers": 1}, "a text tower of one layer has none before its last"),
        ({"num_hidden_layers": 4}, "text_model.encoder.layers.3.layer_norm1.bias is missing"),
    ],
)
def test_configurations_of_a_text_tower_that_do_not_hold(
    files: Path, tmp_path: Path, fields: dict[str, Any], words: str
) -> None:
    path = sources_of(CLIP, files)["config.json"]
    config = json.loads(path.read_text())
    config["text_config"].update(fields)
    path.write_text(json.dumps(config))
    assert words in refused(files, "small-clip", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "data", "words"),
    [
        ("small-vae", "vae/config.json", b"{", "is not JSON"),
        ("small-vae", "vae/config.json", b"[1]", "contains no configuration"),
        ("small-vae", "vae/config.json", b'{"latent_channels": 16}', "do not fit together"),
        ("small-vae", "vae/config.json", b'{"odd": 1}', "do not fit together"),
        ("small-vae", "vae/config.json", b"\xff\xfe", "is not text"),
        ("small-clip", "vocab.json", b"\xff", "is not text"),
        ("small-clip", "vocab.json", b"{", "are not CLIP's: the vocabulary is not JSON"),
        ("small-clip", "vocab.json", b'{"a": 0}', "are not CLIP's: the vocabulary lacks"),
        ("small-clip", "merges.txt", b"a b c", "the merges contain 'a b c', which is not a pair"),
        ("small-clip", "merges.txt", b"q q", "are not CLIP's: the merges do not fit"),
        ("small-clip", "model.safetensors", b"<html>", "cannot be read as a safetensors file"),
        ("small-star", "I2VGen-XL-based/light_deg.pt", b"<html>", "it is a web page"),
    ],
)
def test_damaged_files(
    files: Path, tmp_path: Path, name: str, file: str, data: bytes, words: str
) -> None:
    path = sources_of(SMALL_COMPONENTS[name], files)[file]
    path.write_bytes(data)
    message = refused(files, name, tmp_path)
    assert words in message
    assert str(path) in message


def test_words_that_the_encoder_has_no_place_for(files: Path, tmp_path: Path) -> None:
    path = sources_of(CLIP, files)["vocab.json"]
    words = json.loads(path.read_text("utf-8"))
    words["one more"] = len(words)
    path.write_text(json.dumps(words))
    size = len(words) - 1
    assert f"the encoder has {size} tokens, and {size} is a word's number" in refused(
        files, "small-clip", tmp_path
    )


def test_a_file_that_is_no_component(tmp_path: Path) -> None:
    path = tmp_path / "made.safetensors"
    for text in (
        None,
        "{",
        "{}",
        "[]",
        '{"name": 1, "kind": "", "source_sha256": "", "config": {}}',
    ):
        save_file({"a": torch.zeros(1)}, path, None if text is None else {COMPONENT_KEY: text})
        with pytest.raises(WeightsError, match="is not a component of a starvsr model"):
            read_component_info(path)
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        read_component_info(tmp_path / "absent")


def test_an_unwritable_folder(files: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        make("small-star", files, tmp_path / "absent" / "made.safetensors")
