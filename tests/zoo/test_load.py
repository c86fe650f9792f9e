"""Model files: written, read back, chosen, and refused with the reason."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from starvsr.errors import UsageError, WeightsError
from starvsr.models.unet import StarUNet
from starvsr.specs import NANO, SPECS, spec_to_json
from starvsr.types import AutoencoderSpec, DeviceInfo, ModelSpec
from starvsr.zoo.load import (
    METADATA_KEY,
    choose_model,
    device_info,
    load_choice,
    load_model,
    read_spec,
    save_model,
)
from tests.conftest import CPU, TOY
from tests.golden.seeded_init import fill_module

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return dict(fill_module(StarUNet(TOY.network), 0).state_dict())


def write(path: Path, state: State, spec: ModelSpec | str | None = TOY) -> Path:
    """A model file that nobody has checked."""
    text = spec_to_json(spec) if isinstance(spec, ModelSpec) else spec
    metadata = {"format": "pt"} if text is None else {"format": "pt", METADATA_KEY: text}
    contiguous = {key: value.contiguous() for key, value in state.items()}
    save_file(contiguous, path, metadata=metadata)
    return path


def test_saved_and_loaded_weights_are_equal_to_the_bit(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, TOY, state)
    model = load_model(str(path), device="cpu")
    loaded = model.network.state_dict()
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(loaded[key], value), key
    assert model.spec == TOY
    assert model.device == torch.device("cpu")
    assert not model.network.training
    assert not any(parameter.requires_grad for parameter in model.network.parameters())
    assert not any(parameter.is_meta for parameter in model.network.parameters())
    assert model.context.shape == (1, TOY.context_tokens, TOY.network.context_width)
    assert model.autoencoder.factor == TOY.autoencoder.factor


def test_a_loaded_network_computes_what_the_saved_one_did(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, TOY, state)
    ours = fill_module(StarUNet(TOY.network), 0).eval()
    theirs = load_model(str(path), device="cpu").network
    x, hint = torch.randn(2, 1, 12, 2, 4, 6)
    inputs = (x, torch.tensor([500]), torch.randn(1, 1, 16), hint)
    with torch.inference_mode():
        torch.testing.assert_close(theirs(*inputs), ours(*inputs), rtol=1e-5, atol=1e-5)


def test_half_precision_files_run_in_single_precision(tmp_path: Path, state: State) -> None:
    path = write(tmp_path / "half.safetensors", {key: value.half() for key, value in state.items()})
    loaded = load_model(str(path), device="cpu").network.state_dict()
    for key, value in state.items():
        assert torch.equal(loaded[key], value.half().float())


def test_a_model_file_is_complete_and_readable_as_any_other(tmp_path: Path, state: State) -> None:
    path = tmp_path / "model.safetensors"
    save_model(path, TOY, state)
    assert read_spec(path) == TOY
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == set(state)
        assert json.loads(file.metadata()[METADATA_KEY])["name"] == "seeded-toy"
    (tmp_path / "other").touch()
    assert path.stat().st_mode == (tmp_path / "other").stat().st_mode
    assert {each.name for each in tmp_path.iterdir()} == {"model.safetensors", "other"}


def test_saving_replaces_and_a_failure_keeps_the_old_file(
    tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"old")

    def full(_state: State, filename: Path, **_: object) -> None:
        filename.write_bytes(b"half of")
        raise OSError("no space left")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr("starvsr.zoo.load.save_file", full)
        save_model(path, TOY, state)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
    save_model(path, TOY, state)
    assert read_spec(path) == TOY


FIRST = "head.norm.weight"


def without_a_key(state: State) -> State:
    return {key: value for key, value in state.items() if key != FIRST}


def with_a_stranger(state: State) -> State:
    return {**state, "stranger": torch.zeros(2)}


def of_another_shape(state: State) -> State:
    return {**state, FIRST: torch.zeros(3)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_a_key, f"in 1 tensors: {FIRST} is missing"),
        (with_a_stranger, "in 1 tensors: stranger is unexpected"),
        (of_another_shape, f"in 1 tensors: {FIRST} is (3,) instead of (32,)"),
        (
            lambda state: with_a_stranger(without_a_key(state)),
            f"in 2 tensors: {FIRST} is missing; stranger is unexpected",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(
    tmp_path: Path, state: State, change: Callable[[State], State], words: str
) -> None:
    assert FIRST in state
    path = write(tmp_path / "model.safetensors", change(state))
    with pytest.raises(WeightsError) as caught:
        load_model(str(path), device="cpu")
    assert str(caught.value) == f"{path} does not fit its own description {words}"
    with pytest.raises(WeightsError, match=str(words.split(":")[0])):
        save_model(tmp_path / "new.safetensors", TOY, change(state))
    assert list(tmp_path.iterdir()) == [path]


def test_of_many_tensors_that_do_not_fit_some_are_named(tmp_path: Path, state: State) -> None:
    path = write(tmp_path / "model.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(WeightsError) as caught:
        load_model(str(path), device="cpu")
    message = str(caught.value)
    assert f"in {len(state) + 1} tensors: a is unexpected; " in message
    assert message.endswith("; ...")
    assert len(message) < 500 + len(str(path))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file(tmp_path: Path, toy_path: Path, share: float) -> None:
    data = toy_path.read_bytes()
    path = tmp_path / "model.safetensors"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError) as caught:
        load_model(str(path), device="cpu")
    assert str(caught.value).startswith(f"{path} cannot be read as a safetensors file: ")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match="cannot be read as a safetensors file"):
        load_model(str(path), device="cpu")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (None, "is not a starvsr model: its metadata has no 'starvsr' entry"),
        ("{", "not one this version understands"),
        ('{"name": "x"}', "not one this version understands ('network')"),
        (
            dataclasses.replace(TOY, autoencoder=AutoencoderSpec(kind="vae", factor=2)),
            "its autoencoder 'vae' is unknown to this version",
        ),
        (
            dataclasses.replace(TOY, autoencoder=AutoencoderSpec(kind="pixel_unshuffle", factor=4)),
            "its network takes latents of 12 channels, and its autoencoder makes 48",
        ),
        (
            dataclasses.replace(TOY, network=dataclasses.replace(TOY.network, width=33)),
            "its network cannot be built: UNet width 33",
        ),
        (
            dataclasses.replace(TOY, network=dataclasses.replace(TOY.network, width=64)),
            "does not fit its own description in ",
        ),
    ],
)
def test_a_description_that_does_not_hold(
    tmp_path: Path, state: State, spec: ModelSpec | str | None, words: str
) -> None:
    path = write(tmp_path / "model.safetensors", state, spec)
    with pytest.raises(WeightsError) as caught:
        load_model(str(path), device="cpu")
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_nano_is_what_its_spec_says() -> None:
    model = load_model("nano", device="cpu")
    assert model.spec == NANO
    assert model.autoencoder.latent_channels == NANO.network.latent_channels
    assert all(bool(value.isfinite().all()) for value in model.network.state_dict().values())


@pytest.mark.parametrize("name", list(SPECS))
def test_what_auto_says_in_a_plan_is_what_is_loaded(name: str) -> None:
    choice = choose_model(name, CPU)
    assert load_choice(choice, CPU).spec == choice.spec


def test_choices_have_reasons(toy_path: Path) -> None:
    auto = choose_model("auto", CPU)
    assert (auto.spec, auto.path) == (NANO, None)
    assert auto.reason == "nano, the embedded model, because there is no GPU"
    gpu = choose_model("auto", DeviceInfo("cuda:0", "card", 1, 1))
    assert gpu.spec == NANO
    assert "cuda:0" in gpu.reason
    assert choose_model("nano", CPU).reason == "nano, as asked"
    path = choose_model(str(toy_path), CPU)
    assert (path.spec, path.path) == (TOY, toy_path)
    assert path.reason == f"{toy_path}, as asked"


@pytest.mark.parametrize("name", ["star-huge", "", "no/such.safetensors", "x" * 300, "."])
def test_models_that_are_not_there(name: str) -> None:
    with pytest.raises(WeightsError) as caught:
        choose_model(name, CPU)
    assert str(caught.value).startswith(f"--model {name} ")


def test_a_name_is_a_name_even_where_a_file_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").write_text("not a model")
    assert choose_model("nano", CPU).path is None
    with pytest.raises(WeightsError, match=r"nano cannot be read as a safetensors file"):
        choose_model(f".{os.sep}nano", CPU)


def test_the_cpu() -> None:
    info = device_info("cpu")
    assert (info.name, info.description) == ("cpu", "processor")
    assert info.threads == torch.get_num_threads()
    assert info.memory_bytes > 1 << 20


def test_auto_without_a_gpu_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_info("auto").name == "cpu"


@dataclasses.dataclass(frozen=True)
class _Card:
    name: str = "Some Card"
    total_memory: int = 8 << 30


def test_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: _Card())
    for name, wanted in (("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1")):
        info = device_info(name)
        assert (info.name, info.description, info.memory_bytes) == (wanted, "Some Card", 8 << 30)
    with pytest.raises(UsageError, match="--device cuda:2 is not there: torch finds 2 CUDA"):
        device_info("cuda:2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cuda", "--device cuda is not there: torch finds 0 CUDA devices; give --device cpu"),
        ("cuda:1", "--device cuda:1 is not there"),
        ("mps", "--device mps is not there"),
        ("gpu", "--device 'gpu' is not allowed"),
        ("cuda:x", "--device 'cuda:x' is not allowed"),
        ("", "--device '' is not allowed"),
    ],
)
def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch, name: str, words: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError) as caught:
        device_info(name)
    assert str(caught.value).startswith(words)


def test_an_attention_backend_that_is_not_there(toy_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--attention: .*xformers"):
        load_model(str(toy_path), device="cpu", attention="xformers")
    with pytest.raises(UsageError, match=r"--attention"):
        load_model(str(toy_path), device="cpu", attention="flash")
