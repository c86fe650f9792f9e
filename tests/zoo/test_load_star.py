"""Loading a model that is several files, in the layout of the published ones."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from starvsr.errors import WeightsError
from starvsr.models.autoencoder import TemporalVAE
from starvsr.options import WeightsOptions
from starvsr.zoo.choose import choose_model
from starvsr.zoo.components import read_component_info
from starvsr.zoo.convert import to_published
from starvsr.zoo.load import load_choice, load_model
from tests.conftest import CPU
from tests.zoo.published import SMALL_STAR, published_network

pytestmark = pytest.mark.usefixtures("small_known")


def test_by_name_and_by_path(small_weights: Path) -> None:
    options = WeightsOptions(small_weights)
    named = load_model("small-star", device="cpu", weights=options)
    by_path = load_model(str(small_weights / "small-star.safetensors"), device="cpu")
    for model in (named, by_path):
        assert model.spec == SMALL_STAR
        assert isinstance(model.autoencoder, TemporalVAE)
        assert model.autoencoder.scaling_factor == SMALL_STAR.autoencoder.scaling_factor
        assert model.context.shape == model.negative_context.shape == (1, 77, 32)
        assert not torch.equal(model.context, model.negative_context)
    assert torch.equal(named.context, by_path.context)
    state = to_published(named.network.state_dict())
    assert state.keys() == published_network().keys()
    assert all(torch.equal(state[name], value) for name, value in published_network().items())


def test_prompts(small_weights: Path) -> None:
    choice = choose_model("small-star", CPU, WeightsOptions(small_weights))
    plain = load_choice(choice, CPU)
    other = load_choice(choice, CPU, prompt="a cat")
    opposite = load_choice(choice, CPU, negative_prompt="a cat")
    assert not torch.equal(plain.context, other.context)
    assert torch.equal(plain.negative_context, other.negative_context)
    assert torch.equal(plain.context, opposite.context)
    assert not torch.equal(plain.negative_context, opposite.negative_context)


def test_every_offload_gives_the_same_bits(
    small_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    plain = torch.nn.Module.to

    def to(module: torch.nn.Module, *args: Any, **options: Any) -> torch.nn.Module:
        if type(module).__name__ == "AutoencoderKLTemporalDecoder" and args:
            moved.append(str(args[0]))
        return plain(module, *args, **options)

    monkeypatch.setattr(torch.nn.Module, "to", to)
    x, hint = torch.randn(2, 1, 4, 3, 8, 6)
    results = {}
    for offload in ("none", "model", "block"):
        model = load_model(
            "small-star", device="cpu", offload=offload, weights=WeightsOptions(small_weights)
        )
        moved.clear()
        with torch.inference_mode():
            with model.at_work("network"):
                v = model.network(x, torch.tensor([500]), model.context, hint)
            with model.at_work("autoencoder"):
                results[offload] = v, model.autoencoder.decode(v)
        assert moved == ([] if offload == "none" else ["cpu", "cpu"])
    for offload in ("model", "block"):
        assert all(map(torch.equal, results[offload], results["none"]))


@pytest.mark.parametrize("absent", ["small-star", "small-vae"])
def test_a_component_that_is_not_there(tmp_path: Path, small_weights: Path, absent: str) -> None:
    for name in {"small-star", "small-vae", "small-clip"} - {absent}:
        shutil.copy(small_weights / f"{name}.safetensors", tmp_path)
    choice = choose_model("small-star", CPU, WeightsOptions(tmp_path))
    assert choice.missing == (absent,)
    with pytest.raises(WeightsError) as caught:
        load_choice(choice, CPU)
    assert str(caught.value) == (
        f"{absent}.safetensors, which the model small-star needs, is not in {tmp_path}: run "
        f"`starvsr download-weights {absent}`, or give the folder that has it by --weights-dir or STARVSR_WEIGHTS"
    )


@pytest.mark.parametrize("name", ["small-star", "small-vae"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.9])
def test_a_truncated_component(
    tmp_path: Path, small_weights: Path, name: str, share: float
) -> None:
    for path in small_weights.glob("small-*.safetensors"):
        shutil.copy(path, tmp_path)
    path = tmp_path / f"{name}.safetensors"
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(WeightsError) as caught:
        load_model("small-star", device="cpu", weights=WeightsOptions(tmp_path))
    assert str(caught.value).startswith(f"{path} cannot be read as a safetensors file (")
    assert str(caught.value).endswith(
        f": `starvsr download-weights {name} --dir {tmp_path}` makes it again"
    )


def test_an_autoencoder_that_is_another(tmp_path: Path, small_weights: Path) -> None:
    folder = Path(shutil.copytree(small_weights, tmp_path / "weights"))
    path = folder / "small-vae.safetensors"
    state, about = load_file(path), read_component_info(path)
    shapes = {"encoder.conv_in.bias": torch.zeros(5)}
    save_file({**state, **shapes}, path, about.metadata)
    with pytest.raises(WeightsError, match=r"small-vae\.safetensors: .*does not fit"):
        load_model("small-star", device="cpu", weights=WeightsOptions(folder))
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"small-vae\.safetensors is not a component"):
        load_model("small-star", device="cpu", weights=WeightsOptions(folder))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"factor": 4},
            "it requires 4 pixels per latent element, and its autoencoder has 8",
        )
    ],
)
def test_an_autoencoder_of_another_size(
    small_weights: Path, changes: dict[str, Any], words: str
) -> None:
    choice = choose_model("small-star", CPU, WeightsOptions(small_weights))
    spec = choice.spec
    autoencoder = dataclasses.replace(spec.autoencoder, **changes)
    spec = dataclasses.replace(spec, autoencoder=autoencoder)
    with pytest.raises(WeightsError, match=words):
        load_choice(dataclasses.replace(choice, spec=spec), CPU)
