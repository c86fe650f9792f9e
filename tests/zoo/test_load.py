"""Model files: written, read back, chosen, and refused with the reason."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from starvsr.errors import OutputError, UsageError, WeightsError
from starvsr.models.unet import StarUNet
from starvsr.options import Precision
from starvsr.specs import EMBEDDED, NANO
from starvsr.types import AutoencoderSpec, ModelSpec
from starvsr.zoo import tensorfile
from starvsr.zoo.choose import choose_model, read_spec
from starvsr.zoo.load import load_choice, load_model, save_model
from starvsr.zoo.metadata import METADATA_KEY
from starvsr.zoo.spec_json import spec_to_json
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

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OutputError, match="no space left in"):
        patch.setattr(tensorfile, "_write", full)
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


def of_another_type(state: State) -> State:
    return {**state, FIRST: state[FIRST].to(torch.float8_e4m3fn)}


def of_another_shape(state: State) -> State:
    return {**state, FIRST: torch.zeros(3)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_a_key, f"in 1 tensors: {FIRST} is missing"),
        (with_a_stranger, "in 1 tensors: stranger is unexpected"),
        (of_another_type, f"in 1 tensors: {FIRST} is torch.float8_e4m3fn (torch.strided)"),
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
    assert str(caught.value) == f"{path} does not match its own description {words}"
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
    assert str(caught.value).startswith(f"{path} cannot be read as a safetensors file (")
    assert str(caught.value).endswith(": get the file again from its publisher")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(WeightsError, match=r"is not a known model: it has 1 tensor \(weight, "):
        load_model(str(path), device="cpu")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (None, "is a starvsr network without its description: its metadata has no 'starvsr' entry"),
        ("{", "not one this version understands"),
        ('{"name": "x"}', "not one this version understands ('network')"),
        (
            dataclasses.replace(TOY, autoencoder=AutoencoderSpec(kind="vae", factor=2)),
            "its autoencoder 'vae' is unknown to this version",
        ),
        (
            dataclasses.replace(TOY, autoencoder=AutoencoderSpec(kind="pixel_unshuffle", factor=4)),
            "it requires 12 channels of a latent, and its autoencoder has 48",
        ),
        (
            dataclasses.replace(TOY, network=dataclasses.replace(TOY.network, width=33)),
            "its network cannot be built: UNet width 33",
        ),
        (
            dataclasses.replace(TOY, network=dataclasses.replace(TOY.network, width=64)),
            "does not match its own description in ",
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


@pytest.mark.parametrize("name", EMBEDDED)
def test_what_is_embedded_is_what_is_chosen(name: str) -> None:
    choice = choose_model(name, CPU)
    assert choice.missing == ()
    assert load_choice(choice, CPU).spec == choice.spec


def test_an_attention_backend_that_is_not_there(toy_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--attention: .*xformers"):
        load_model(str(toy_path), device="cpu", attention="xformers")
    with pytest.raises(UsageError, match=r"--attention"):
        load_model(str(toy_path), device="cpu", attention="flash")  # type: ignore[arg-type]


@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("precision", ["auto", "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("offload", ["none", "model", "block"])
def test_precision_is_of_the_network_whatever_the_file_holds(
    tmp_path: Path, state: State, stored: torch.dtype, precision: Precision, offload: str
) -> None:
    path = write(tmp_path / "model.safetensors", {k: v.to(stored) for k, v in state.items()})
    model = load_model(str(path), device="cpu", precision=precision, offload=offload)
    wanted = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
    assert model.dtype == model.context.dtype == wanted
    x, hint = torch.randn(2, 1, 12, 2, 4, 6).to(wanted)
    with torch.inference_mode(), model.at_work("network"):
        out = model.network(x, torch.tensor([500]), model.context, hint)
    assert out.dtype == wanted
    reference = StarUNet(TOY.network).eval()
    reference.load_state_dict({k: v.to(stored).to(wanted) for k, v in state.items()}, assign=True)
    with torch.inference_mode():
        assert torch.equal(out, reference(x, torch.tensor([500]), model.context, hint))


def test_single_precision_stays_in_the_file_but_for_kernels(toy_path: Path) -> None:
    file = Path("/proc/self/maps")
    if not file.exists():
        pytest.skip("reads Linux's /proc")
    model = load_model(str(toy_path), device="cpu")
    ranges = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in file.read_text().splitlines()
        if line.endswith(str(toy_path))
    ]
    for name, parameter in model.network.named_parameters():
        mapped = any(begin <= parameter.data_ptr() < end for begin, end in ranges)
        is_kernel = parameter.ndim == 4 and not parameter.is_contiguous()
        assert mapped is not is_kernel, name
        if parameter.ndim == 4:
            assert parameter.is_contiguous(memory_format=torch.channels_last)


def test_parts_and_modes_that_do_not_exist(toy_path: Path) -> None:
    with pytest.raises(ValueError, match="not 'text'"):
        load_model(str(toy_path), device="cpu").at_work("text")
    with pytest.raises(ValueError, match="offload 'disk' is not one of none, model, block"):
        load_model(str(toy_path), device="cpu", offload="disk")
    with pytest.raises(ValueError, match="compiled parts"):
        load_model(str(toy_path), device="cpu", offload="block", compile=True)
