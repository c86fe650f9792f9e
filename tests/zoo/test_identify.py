"""A network is told from its tensors, whatever its file's name and layout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from starvsr.errors import WeightsError
from starvsr.zoo.convert import from_published, to_published
from starvsr.zoo.foreign import about_bytes, about_names
from starvsr.zoo.identify import identify, network_tensors
from tests.zoo.people import MODELS, star, two_models, write_star
from tests.zoo.published import SMALL_STAR
from tests.zoo.published_cogvideox import (
    SMALL_2B,
    SMALL_COGVIDEOX,
    sat_checkpoint,
    small_cogvideox,
)
from tests.zoo.test_base import venhancer_of

LAYOUTS = ("state_dict", "bare", "module.", "state_dict module.", "fp32", "fp16", "bf16")


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    with two_models(), small_cogvideox():
        yield


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stars_network(tmp_path: Path, layout: str) -> None:
    found = identify(write_star(tmp_path / "any.thing", layout))
    assert found.models == MODELS
    assert found.is_usable_in_place == (layout in ("fp32", "fp16", "bf16"))
    back = to_published(found.tensors)
    assert back.keys() == star().keys()
    assert all(
        torch.equal(back[name], tensor.to(back[name].dtype)) for name, tensor in star().items()
    )


def test_our_own_names_without_a_description(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_file(from_published(star()), path)
    found = identify(path)
    assert (found.models, found.is_usable_in_place) == (MODELS, True)
    assert found.tensors.keys() == network_tensors(path, SMALL_STAR)[1].keys()


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_network_of_sat_is_not_used_in_place(tmp_path: Path, suffix: str) -> None:
    path, content = tmp_path / f"states.{suffix}", sat_checkpoint()
    torch.save(content, path) if suffix == "pt" else save_file(content["module"], path)
    found = identify(path)
    assert found.models == ("small-cogvideox",)
    assert not found.is_usable_in_place


def test_a_network_of_sat_has_the_sizes_of_its_tensors(tmp_path: Path) -> None:
    path = tmp_path / "states.pt"
    torch.save(sat_checkpoint(SMALL_2B), path)
    found = identify(path)
    assert (found.models, found.config) == (("small-cogvideox",), SMALL_2B)
    spec, tensors = network_tensors(path, SMALL_COGVIDEOX)
    assert spec.network == SMALL_2B
    assert tensors.keys() == found.tensors.keys()


def test_a_network_of_sat_with_other_shapes(tmp_path: Path) -> None:
    content = sat_checkpoint()["module"]
    name = "model.diffusion_model.mixins.patch_embed.text_proj.weight"
    content[name] = torch.zeros(32, 7)
    torch.save({"module": content}, tmp_path / "states.pt")
    with pytest.raises(
        WeightsError, match=r"cogvideox, in 1 tensors: .*text_proj.weight is \(32, 7\) instead of"
    ):
        identify(tmp_path / "states.pt")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["lora_unet_down.lora_up.weight"], "a LoRA"),
        (["lora_te.hada_w1_a"], "a LoRA"),
        (["transformer.resblocks.0.ln_1.weight", "visual.conv1.weight"], "names of open_clip"),
        (["text_model.final_layer_norm.weight"], "names of transformers"),
        (["encoder.block.0.layer.0.SelfAttention.q.weight"], "T5"),
        (["double_blocks.0.img_attn.qkv.weight"], "FLUX"),
        (["model.diffusion_model.joint_blocks.0.x.weight"], "Stable Diffusion 3"),
        (["input_blocks.1.0.temopral_conv.conv1.0.weight"], "without STAR's control branch"),
        (["VideoControlNet.scale_cond.0.weight", "out.2.bias"], "from which STAR was trained"),
        (["input_blocks.1.0.in_layers.0.weight"], "a UNet of Stable Diffusion"),
        (["down_blocks.0.resnets.0.conv1.weight"], "names of diffusers"),
        (["transformer_blocks.0.attn1.to_q.weight"], "a diffusion transformer"),
        (["blocks.0.self_attn.q.weight"], "such as Wan"),
        (["decoder.up_blocks.0.resnets.0.conv1.weight"], "an autoencoder"),
        (["first_stage_model.encoder.down.0.block.0.conv1.weight"], "an autoencoder"),
        (["model.1.sub.0.RDB1.conv1.0.weight"], "an ESRGAN"),
        (["body.0.weight", "body.1.weight"], "a compact Real-ESRGAN"),
        (["x.input_blocks.1.weight", "conv.weight"], ""),
        (
            [
                "cond_stage_model.model.transformer.resblocks.0.ln_1.weight",
                "model.diffusion_model.input_blocks.0.0.weight",
                "first_stage_model.encoder.down.0",
            ],
            "a UNet of Stable Diffusion",
        ),
        (["unet.up_blocks.0.to_q.lora.down.weight"], "a LoRA"),
    ],
)
def test_what_names_tell(names: list[str], words: str) -> None:
    found = about_names(names)
    assert words in found
    assert bool(found) == bool(words)


def test_the_base_of_stars_training_is_told_as_that(tmp_path: Path) -> None:
    torch.save({"state_dict": venhancer_of()}, tmp_path / "venhancer_v2.pt")
    with pytest.raises(WeightsError, match=r"without LIEM; `starvsr train` starts from it"):
        identify(tmp_path / "venhancer_v2.pt")


def test_own_networks_are_nothing_foreign() -> None:
    assert about_names(star()) == "a network with the layout of STAR's"


@pytest.mark.parametrize("layout", ["state_dict", "fp16"])
def test_whole_files_have_no_diagnosis(tmp_path: Path, layout: str) -> None:
    assert about_bytes(write_star(tmp_path / "a", layout)) == ""


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "text")
    with pytest.raises(WeightsError, match="an archive and not a checkpoint"):
        identify(path)


def test_a_network_of_another_kind_under_another_key(tmp_path: Path) -> None:
    torch.save({"params": {"layers.0.weight": torch.ones(2)}}, tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"is not a known model: it has 1 tensor \(layers.0.weight, "
    ):
        identify(tmp_path / "a.pth")


def test_integers_are_no_weights(tmp_path: Path) -> None:
    state = {**star(), "out.2.bias": torch.zeros(4, dtype=torch.int64)}
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(
        WeightsError, match=r"plain floating point numbers, in 1 tensors: out.2.bias is torch.int64"
    ):
        identify(tmp_path / "a.pt")
