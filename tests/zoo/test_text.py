"""Contexts of prompts: the encoder once, then from disk."""

from __future__ import annotations

import dataclasses
import logging
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from starvsr.errors import WeightsError
from starvsr.models.text import TextEncoder
from starvsr.zoo.checkpoint import read_safetensors
from starvsr.zoo.components import make_component, read_component_info
from starvsr.zoo.tensorfile import write_tensors
from starvsr.zoo.text import contexts, contexts_are_known
from tests.conftest import TOY
from tests.zoo.published import SMALL_COMPONENTS, SMALL_STAR, sources_of, write_published

ENCODER = "small-clip.safetensors"


@pytest.fixture(scope="session")
def encoder_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a seeded text encoder."""
    folder = tmp_path_factory.mktemp("text-encoder")
    write_published(folder)
    component = SMALL_COMPONENTS["small-clip"]
    sources = sources_of(component, folder)
    make_component(component, sources, folder / ENCODER, source_sha256="ab" * 32)
    return folder / ENCODER


@pytest.fixture
def folder(tmp_path: Path, encoder_path: Path) -> Path:
    """A weights folder with the text encoder."""
    shutil.copyfile(encoder_path, tmp_path / ENCODER)
    return tmp_path


def embeddings(folder: Path) -> list[Path]:
    return sorted((folder / "text").iterdir())


def encode(path: Path, text: str) -> Tensor:
    info = read_component_info(path)
    state, words = read_safetensors(path)
    vocabulary, merges = words["starvsr_vocab"], words["starvsr_merges"]
    return TextEncoder.from_state(info.config, state, vocabulary, merges)(text, 77)


def with_hash(path: Path, source_sha256: str) -> None:
    """Make the file one of another published encoder, by what it says."""
    tensors, metadata = read_safetensors(path)
    about = metadata["starvsr_component"].replace("ab" * 32, source_sha256)
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    write_tensors(path, copies, {**metadata, "starvsr_component": about})


def test_contexts_are_the_encoders(folder: Path) -> None:
    context, negative = contexts(SMALL_STAR, [folder])
    assert context.shape == negative.shape == (1, 77, 32)
    assert context.dtype == torch.float32 and context.device.type == "cpu"
    # The suffix follows without a separator, and only the prompt has one.
    whole = encode(folder / ENCODER, "a good videoCinematic,   sharp.")
    assert torch.equal(context, whole)
    assert torch.equal(negative, encode(folder / ENCODER, "painting, blurring"))


def test_given_prompts_replace_the_models(folder: Path) -> None:
    context, negative = contexts(SMALL_STAR, [folder], prompt="a dog", negative_prompt="")
    assert torch.equal(context, encode(folder / ENCODER, "a dogCinematic,   sharp."))
    assert torch.equal(negative, encode(folder / ENCODER, ""))
    alone, _ = contexts(SMALL_STAR, [folder], prompt="")
    assert torch.equal(alone, encode(folder / ENCODER, "Cinematic,   sharp."))


def test_known_prompts_need_no_encoder(folder: Path) -> None:
    first = contexts(SMALL_STAR, [folder])
    assert len(embeddings(folder)) == 2
    with patch("starvsr.zoo.text.TextEncoder.from_state") as load:
        again = contexts(SMALL_STAR, [folder])
        load.assert_not_called()
    (folder / ENCODER).unlink()
    without = contexts(SMALL_STAR, [folder])
    for context, same, also in zip(first, again, without, strict=True):
        assert torch.equal(context, same) and torch.equal(context, also)


def test_only_the_unknown_prompt_is_encoded(folder: Path) -> None:
    contexts(SMALL_STAR, [folder])
    with patch.object(
        TextEncoder, "__call__", autospec=True, side_effect=TextEncoder.__call__
    ) as call:
        contexts(SMALL_STAR, [folder], prompt="a dog")
    assert [arguments.args[1] for arguments in call.call_args_list] == ["a dogCinematic,   sharp."]
    assert len(embeddings(folder)) == 3


def test_an_unknown_prompt_without_encoder_is_refused(folder: Path) -> None:
    contexts(SMALL_STAR, [folder])
    (folder / ENCODER).unlink()
    with pytest.raises(WeightsError, match=r"small-clip is not in .*starvsr download-weights"):
        contexts(SMALL_STAR, [folder], prompt="a dog")


def test_whether_contexts_are_known(folder: Path) -> None:
    assert not contexts_are_known(SMALL_STAR, [folder])
    contexts(SMALL_STAR, [folder])
    assert contexts_are_known(SMALL_STAR, [folder])
    assert not contexts_are_known(SMALL_STAR, [folder], prompt="a dog")
    assert not contexts_are_known(SMALL_STAR, [folder], negative_prompt="a dog")
    (folder / ENCODER).unlink()
    assert contexts_are_known(SMALL_STAR, [folder])
    assert contexts_are_known(TOY, [])


def test_embeddings_say_what_they_are_of(folder: Path) -> None:
    contexts(SMALL_STAR, [folder], negative_prompt="猫")
    said = []
    for path in embeddings(folder):
        with safe_open(path, framework="pt") as file:
            said.append(file.metadata())
    assert {metadata["text"] for metadata in said} == {"a good videoCinematic,   sharp.", "猫"}
    assert {metadata["encoder_sha256"] for metadata in said} == {"ab" * 32}


def test_another_encoder_makes_embeddings_again(folder: Path) -> None:
    contexts(SMALL_STAR, [folder])
    before = {path: path.read_bytes() for path in embeddings(folder)}
    with_hash(folder / ENCODER, "cd" * 32)
    assert not contexts_are_known(SMALL_STAR, [folder])
    contexts(SMALL_STAR, [folder])
    assert set(embeddings(folder)) == set(before)
    assert all(path.read_bytes() != content for path, content in before.items())
    assert contexts_are_known(SMALL_STAR, [folder])


@pytest.mark.parametrize("damage", ["truncated", "shape", "dtype", "nan", "text", "tensor"])
def test_damaged_embeddings_are_made_again(
    folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    context, _ = contexts(SMALL_STAR, [folder])
    for path in embeddings(folder):
        tensors, metadata = read_safetensors(path)
        tensor = tensors["context"].clone()
        if damage == "truncated":
            path.write_bytes(path.read_bytes()[:-1])
            continue
        damaged = {
            "shape": {"context": tensor[:, :76]},
            "dtype": {"context": tensor.half()},
            "nan": {"context": torch.full_like(tensor, torch.nan)},
            "text": {"context": tensor},
            "tensor": {"contexts": tensor},
        }[damage]
        other = {"text": "another"} if damage == "text" else {}
        write_tensors(path, damaged, {**metadata, **other})
    with caplog.at_level(logging.WARNING):
        again, _ = contexts(SMALL_STAR, [folder])
    assert torch.equal(again, context)
    assert caplog.text.count("is rebuilt") == 2
    assert contexts_are_known(SMALL_STAR, [folder])


def test_a_folder_that_cannot_be_written_is_no_hindrance(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "text").write_text("in the way of the folder")
    with caplog.at_level(logging.WARNING):
        context, _ = contexts(SMALL_STAR, [folder])
    assert torch.equal(context, encode(folder / ENCODER, "a good videoCinematic,   sharp."))
    assert "cannot be stored" in caplog.text


def test_folders_are_read_in_order_and_the_last_is_written(folder: Path, tmp_path: Path) -> None:
    beside, weights = tmp_path / "beside", tmp_path / "weights"
    beside.mkdir()
    shutil.move(folder / ENCODER, beside)
    contexts(SMALL_STAR, [beside, weights])
    assert not (beside / "text").exists()
    assert len(embeddings(weights)) == 2
    # Known embeddings that came along with a model are used too.
    shutil.move(weights / "text", beside)
    (beside / ENCODER).unlink()
    contexts(SMALL_STAR, [beside, weights])
    assert not (weights / "text").exists()


def test_a_model_without_words_gets_zeros() -> None:
    context, negative = contexts(TOY, [], prompt="ignored")
    assert context.shape == negative.shape == (1, 1, TOY.network.context_width)
    assert not context.any() and not negative.any()


def test_an_encoder_that_does_not_fit_is_refused(folder: Path) -> None:
    network = dataclasses.replace(SMALL_STAR.network, context_width=64)
    wider = dataclasses.replace(SMALL_STAR, network=network)
    with pytest.raises(
        WeightsError, match="tokens of 32 channels, and the model small-star takes 64"
    ):
        contexts(wider, [folder])
    longer = dataclasses.replace(SMALL_STAR, context_tokens=78)
    with pytest.raises(WeightsError, match="77 positions, the network reads 78"):
        contexts(longer, [folder])
    assert not (folder / "text").exists()


def test_broken_encoders_are_refused(folder: Path) -> None:
    tensors, metadata = read_safetensors(folder / ENCODER)
    whole = {name: tensor.clone() for name, tensor in tensors.items()}
    wordless = {key: value for key, value in metadata.items() if key != "starvsr_vocab"}
    write_tensors(folder / ENCODER, whole, wordless)
    with pytest.raises(WeightsError, match="has no 'starvsr_vocab' in its metadata"):
        contexts(SMALL_STAR, [folder])
    name = "text_model.final_layer_norm.weight"
    write_tensors(folder / ENCODER, {**whole, name: whole[name] * torch.nan}, metadata)
    with pytest.raises(WeightsError, match="NaN or Inf"):
        contexts(SMALL_STAR, [folder])
    del whole[name]
    write_tensors(folder / ENCODER, whole, metadata)
    with pytest.raises(WeightsError, match="cannot be used as a text encoder"):
        contexts(SMALL_STAR, [folder])
    assert not (folder / "text").exists()


def test_prompts_that_are_no_text_are_read_as_far_as_they_are(folder: Path) -> None:
    context, _ = contexts(SMALL_STAR, [folder], prompt="a \udcff dog")
    assert torch.equal(context, encode(folder / ENCODER, "a ? dogCinematic,   sharp."))
    assert contexts_are_known(SMALL_STAR, [folder], prompt="a \udcff dog")
