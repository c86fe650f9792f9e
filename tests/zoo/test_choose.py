"""Which model a name means, what it needs, and what of that is missing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from starvsr.errors import UsageError, WeightsError
from starvsr.options import WeightsOptions
from starvsr.specs import EMBEDDED, NANO, SPECS, STAR_LIGHT, fetched_components
from starvsr.types import DeviceInfo
from starvsr.zoo.choose import choose_model
from starvsr.zoo.folder import component_file
from tests.conftest import CPU, TOY
from tests.zoo.published import SMALL_STAR

GPU = DeviceInfo("cuda:0", "card", 1, 1)
ALL = ("star-light", "svd-temporal-vae", "clip-vit-h-14")


def have(folder: Path, *names: str) -> WeightsOptions:
    """Options for a weights folder with components of these names, whatever is in them."""
    folder.mkdir(exist_ok=True)
    for name in names:
        component_file(name, folder).touch()
    return WeightsOptions(folder)


@pytest.mark.parametrize("name", list(SPECS))
def test_every_model_can_be_planned_without_weights(tmp_path: Path, name: str) -> None:
    choice = choose_model(name, CPU, WeightsOptions(tmp_path))
    assert choice.spec == SPECS[name]
    assert choice.path is None
    assert choice.reason == f"{name}, as requested"
    assert choice.missing == fetched_components(name)
    assert len(choice.missing) == (0 if name in EMBEDDED else 3)
    assert choice.folders == (tmp_path,)


def test_what_is_missing_is_said_the_network_first(tmp_path: Path) -> None:
    assert choose_model("star-light", CPU, have(tmp_path)).missing == ALL
    choice = choose_model("star-light", CPU, have(tmp_path, "star-light"))
    assert choice.path == tmp_path / "star-light.safetensors"
    assert choice.missing == ALL[1:]
    assert choose_model("star-light", CPU, have(tmp_path, *ALL)).missing == ()


def test_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    have(tmp_path, "star-light")
    monkeypatch.setenv("STARVSR_WEIGHTS", str(tmp_path))
    assert choose_model("star-light", CPU).path == tmp_path / "star-light.safetensors"


def test_auto_without_a_gpu_is_nano(tmp_path: Path) -> None:
    choice = choose_model("auto", CPU, have(tmp_path, *ALL))
    assert (choice.spec, choice.path, choice.missing) == (NANO, None, ())
    assert choice.reason == "nano, the embedded model, because there is no GPU"


def test_auto_with_a_gpu_goes_by_the_weights(tmp_path: Path) -> None:
    for number in range(len(ALL)):
        choice = choose_model("auto", GPU, have(tmp_path, *ALL[:number]))
        assert (choice.spec, choice.path, choice.missing) == (NANO, None, ())
        assert f"star-light's weights are not complete in {tmp_path}" in choice.reason
        assert "`starvsr download-weights star-light`" in choice.reason
    choice = choose_model("auto", GPU, have(tmp_path, *ALL))
    assert (choice.spec, choice.missing) == (STAR_LIGHT, ())
    assert choice.path == tmp_path / "star-light.safetensors"
    assert choice.reason == "star-light, because there is a GPU and its weights are installed"


def test_a_path(toy_path: Path) -> None:
    choice = choose_model(str(toy_path), CPU)
    assert (choice.spec, choice.path, choice.missing) == (TOY, toy_path, ())
    assert choice.reason == f"{toy_path}, as requested"


def test_a_path_has_its_components_beside_it_or_in_the_weights_folder(
    tmp_path: Path, small_weights: Path
) -> None:
    beside, folder = tmp_path / "beside", tmp_path / "folder"
    options = have(folder, "small-clip")
    have(beside, "small-vae")
    path = Path(shutil.copy(small_weights / "small-star.safetensors", beside / "mine.safetensors"))
    choice = choose_model(str(path), CPU, options)
    assert choice.spec == SMALL_STAR
    assert choice.folders == (beside, folder)
    assert choice.missing == ()
    component_file("small-vae", beside).unlink()
    assert choose_model(str(path), CPU, options).missing == ("small-vae",)


@pytest.mark.parametrize("name", ["star-huge", "", "no/such.safetensors", "x" * 300, "."])
def test_models_that_are_not_there(name: str) -> None:
    with pytest.raises((UsageError, WeightsError)) as caught:
        choose_model(name, CPU)
    assert str(caught.value).startswith(f"--model {name} ")


def test_a_component_that_is_no_network(small_weights: Path) -> None:
    path = small_weights / "small-vae.safetensors"
    with pytest.raises(WeightsError, match="is an autoencoder; it is a part of models, not one"):
        choose_model(str(path), CPU)


def test_a_name_is_a_name_even_where_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").write_text("not a model")
    assert choose_model("nano", CPU).path is None
    with pytest.raises(
        WeightsError, match=r"nano is neither a checkpoint of torch.save nor a safe"
    ):
        choose_model(f".{os.sep}nano", CPU)
