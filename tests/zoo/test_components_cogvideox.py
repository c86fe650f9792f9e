"""Components of STAR on CogVideoX, made from published files; and its text contexts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from safetensors.torch import load_file, save_file

from starvsr.errors import WeightsError
from starvsr.models.causal_vae import CausalVAE
from starvsr.models.cogvideox import StarCogVideoX
from starvsr.models.device import network_dtype
from starvsr.options import WeightsOptions
from starvsr.specs import SPECS
from starvsr.types import DeviceInfo
from starvsr.zoo.choose import choose_model
from starvsr.zoo.components import PIECES_KEY, make_component, read_component_info
from starvsr.zoo.load import load_choice
from starvsr.zoo.metadata import read_metadata
from starvsr.zoo.planning import plan_install
from starvsr.zoo.sat import from_sat
from starvsr.zoo.text import contexts, contexts_are_known
from tests.conftest import CPU, TOY
from tests.zoo.published import sources_of
from tests.zoo.published_cogvideox import (
    SMALL_COGVIDEOX,
    SMALL_COMPONENTS,
    T5_CONFIG,
    T5_FILES,
    install_small_cogvideox,
    sat_checkpoint,
    small_cogvideox,
    t5_state,
    write_published_cogvideox,
)


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with small_cogvideox():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install_small_cogvideox(tmp_path_factory.mktemp("weights"))


def test_the_network_is_the_checkpoints(folder: Path) -> None:
    found = load_file(folder / "small-cogvideox.safetensors")
    with torch.device("meta"):
        wanted = StarCogVideoX(SMALL_COGVIDEOX.network).state_dict()
    expected = from_sat(sat_checkpoint(), wanted)
    assert found.keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_the_autoencoder_and_the_text_encoder_keep_what_they_need(folder: Path) -> None:
    assert (
        read_component_info(folder / "small-causal-vae.safetensors").config["_class_name"]
        == "AutoencoderKLCogVideoX"
    )
    info = read_component_info(folder / "small-t5.safetensors")
    assert info.config["d_model"] == 24 and "architectures" not in info.config
    assert len(read_metadata(folder / "small-t5.safetensors")[PIECES_KEY]) > 100
    assert load_file(folder / "small-t5.safetensors").keys() == t5_state().keys()


@pytest.mark.parametrize("offload", ["none", "block"])
def test_a_model_is_loaded(folder: Path, offload: str) -> None:
    choice = choose_model("small-cogvideox", CPU, WeightsOptions(folder=folder))
    assert not choice.missing
    model = load_choice(choice, CPU, offload=offload)
    assert isinstance(model.network, StarCogVideoX)
    assert isinstance(model.autoencoder, CausalVAE)
    assert model.context.shape == (1, 24, 24)
    assert not model.negative_context.any(), "nothing at all"


def test_half_precision_is_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STARVSR_PRECISION")
    device = DeviceInfo("cuda:0", "card", 0, 1)
    assert network_dtype("auto", device, SMALL_COGVIDEOX) == torch.bfloat16
    assert network_dtype("auto", device, TOY) == torch.float16
    assert network_dtype("auto", CPU, SMALL_COGVIDEOX) == torch.float32


def test_a_negative_prompt_may_be_given(folder: Path) -> None:
    context, negative = contexts(SMALL_COGVIDEOX, [folder], negative_prompt="a dog")
    assert negative.any() and not torch.equal(context, negative)
    assert contexts_are_known(SMALL_COGVIDEOX, [folder], negative_prompt="a dog")
    assert contexts_are_known(SMALL_COGVIDEOX, [folder])
    assert not contexts_are_known(SMALL_COGVIDEOX, [folder], negative_prompt="a cat")


def wrong_shape(folder: Path) -> None:
    content = sat_checkpoint()
    content["module"]["model.diffusion_model.time_embed.2.bias"] = torch.zeros(17)
    torch.save(content, next(folder.rglob("mp_rank_00_model_states.pt")))


def whole_numbers(folder: Path) -> None:
    content = sat_checkpoint()
    name = "model.diffusion_model.time_embed.0.bias"
    content["module"][name] = content["module"][name].int()
    torch.save(content, next(folder.rglob("mp_rank_00_model_states.pt")))


def no_module(folder: Path) -> None:
    torch.save({"module": 3}, next(folder.rglob("mp_rank_00_model_states.pt")))


def missing_shard(folder: Path) -> None:
    save_file({"shared.weight": torch.rand(64, 24)}, next(folder.rglob(T5_FILES[0])))


def no_pieces(folder: Path) -> None:
    next(folder.rglob("spiece.model")).write_bytes(b"nothing")


def too_many_pieces(folder: Path) -> None:
    config = json.dumps({**T5_CONFIG, "vocab_size": 8})
    (next(folder.rglob("text_encoder")) / "config.json").write_text(config)


def other_autoencoder(folder: Path) -> None:
    path = next(folder.rglob("vae")) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "latent_channels": 8}))


@pytest.mark.parametrize(
    ("damage", "name", "message"),
    [
        (wrong_shape, "small-cogvideox", "not the network of small-cogvideox, in "),
        (whole_numbers, "small-cogvideox", "torch.int32"),
        (no_module, "small-cogvideox", "module is not a mapping"),
        (missing_shard, "small-t5", "is not T5's encoder as its configuration describes it"),
        (no_pieces, "small-t5", "are not T5's"),
        (too_many_pieces, "small-t5", "the encoder has 8 tokens"),
        (other_autoencoder, "small-causal-vae", "do not fit together"),
    ],
)
def test_damaged_files_are_refused(
    damage: Callable[[Path], None], name: str, message: str, tmp_path: Path
) -> None:
    write_published_cogvideox(tmp_path)
    damage(tmp_path)
    component, target = SMALL_COMPONENTS[name], tmp_path / "made.safetensors"
    with pytest.raises(WeightsError, match=message):
        make_component(component, sources_of(component, tmp_path), target, source_sha256="0")
    assert not target.exists()


def test_an_autoencoder_of_other_frames_is_refused(folder: Path) -> None:
    slower = dataclasses.replace(SMALL_COGVIDEOX.autoencoder, time_factor=2)
    spec = dataclasses.replace(SMALL_COGVIDEOX, autoencoder=slower)
    with patch.dict(SPECS, {spec.name: spec}):
        choice = choose_model(spec.name, CPU, WeightsOptions(folder=folder))
        with pytest.raises(WeightsError, match="2 frames per latent frame"):
            load_choice(choice, CPU)


def test_sizes_of_several_files_add_up(tmp_path: Path) -> None:
    write_published_cogvideox(tmp_path)
    plan = plan_install([SMALL_COMPONENTS["small-t5"]], tmp_path / "w", sources=[str(tmp_path)])
    shards = sum(next(tmp_path.rglob(name)).stat().st_size for name in T5_FILES)
    assert plan.made_bytes == shards
