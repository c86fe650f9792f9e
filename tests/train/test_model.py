"""What training starts from, which parameters it changes, and their average."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from starvsr.errors import UsageError, WeightsError
from starvsr.models.device import device_info
from starvsr.models.recurrent import is_deeper
from starvsr.models.unet import StarUNet
from starvsr.options import WeightsOptions
from starvsr.train.config import (
    CheckpointConfig,
    ModelConfig,
    OptimizerConfig,
)
from starvsr.train.model import (
    INITIAL_NAME,
    WeightAverage,
    new_weights,
    start_model,
    trained_parameters,
)
from starvsr.train.trainer import train
from starvsr.types import RecurrentConfig
from starvsr.zoo.choose import choose_model
from starvsr.zoo.convert import to_published
from tests.conftest import TOY
from tests.golden.seeded_init import fill_module
from tests.train.toys import (
    TINY,
    config_of,
    data_config,
    options,
    train_config,
    weights_of,
    write_model,
    write_sources,
)
from tests.zoo.people import star, two_models, write_star
from tests.zoo.published import install_small, small_models
from tests.zoo.test_base import venhancer_of
from tests.zoo.test_base import write as write_base


@pytest.mark.parametrize("parts", ["control+liem", "liem", "temporal", "all"])
def test_only_the_named_parts_change(tmp_path: Path, parts: str) -> None:
    write_sources(tmp_path / "sources")
    base = write_model(tmp_path / "toy.safetensors", TOY)
    config = train_config(
        base,
        parts=parts,
        data=data_config(frames=2),
        optimizer=OptimizerConfig(lr=1e-2, weight_decay=0.0, ema_decay=0.0),
        steps=2,
    )
    train(config, options(tmp_path))
    before, after = load_file(base), weights_of(tmp_path)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    gates = {name for name in before if ".gate" in name}
    temporal = {name for name in before if "temporal" in name}
    control = {name for name in before if name.startswith("control.")}
    assert gates and temporal and control
    if parts == "all":
        # Both branches, encoder and decoder; attention to a single token needs no queries and keys.
        assert len(changed) > 0.9 * len(before)
    else:
        allowed = {"control+liem": control | gates, "liem": gates, "temporal": temporal}[parts]
        assert changed <= allowed
        assert len(changed) > 0.8 * len(allowed)


def test_parts_that_are_not_there_are_refused(root: Path) -> None:
    with pytest.raises(UsageError, match="needs a control branch"):
        train(config_of(root, parts="control+liem"), options(root))


def test_a_published_file_is_a_base(tmp_path: Path) -> None:
    weights = install_small(tmp_path / "weights")
    write_star(tmp_path / "model.pt")
    (tmp_path / "run").mkdir()
    with two_models():
        model, folders = start_model(
            ModelConfig(base="small-heavy=model.pt"),
            tmp_path / "run",
            "cpu",
            seed=0,
            folder=tmp_path,
            weights=WeightsOptions(weights),
        )
    assert (model.spec.name, folders) == ("small-heavy", (tmp_path, weights))
    state = to_published(model.network.state_dict())
    assert all(torch.equal(state[name], value) for name, value in star().items())


def test_models_that_start_from_noise_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'star-cogvideox' cannot be trained here"):
        start_model(ModelConfig(base="star-cogvideox"), tmp_path, "cpu", seed=0, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_frozen_parameters_want_no_gradient() -> None:
    network = StarUNet(TOY.network)
    fill_module(network, 0)
    before = {name: p.data_ptr() for name, p in network.named_parameters()}
    trained = trained_parameters(network, "liem")
    for name, parameter in network.named_parameters():
        assert parameter.requires_grad == (name in trained)
        # A trained one does not share memory with the file that it was mapped from.
        assert (parameter.data_ptr() == before[name]) == (name not in trained)


def test_the_average_is_the_result(root: Path) -> None:
    def run(name: str, decay: float, steps: int) -> dict[str, Tensor]:
        settings = OptimizerConfig(lr=1e-2, ema_decay=decay)
        train(config_of(root, optimizer=settings, steps=steps), options(root, name))
        return weights_of(root, name)

    start = load_file(root / "tiny.safetensors")
    first, second = run("one", 0.0, 1), run("two", 0.0, 2)
    averaged = run("average", 0.999, 2)
    for name, value in averaged.items():
        # Decays of 1/10 and 2/11 in the first two steps.
        after_first = start[name].lerp(first[name], 0.9)
        torch.testing.assert_close(value, after_first.lerp(second[name], 9 / 11))


def test_exchanging_parameters_and_averages_is_exact() -> None:
    network = StarUNet(TINY.network)
    fill_module(network, 0)
    average = WeightAverage(trained_parameters(network, "all"), 0.5)
    before = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    with average.in_place():
        assert all(torch.equal(v, before[n]) for n, v in network.state_dict().items())
    assert all(torch.equal(v, before[n] + 1) for n, v in network.state_dict().items())
    average.update(10**6)
    with average.in_place():
        middle = network.state_dict()
        torch.testing.assert_close(middle, {n: v + 0.5 for n, v in before.items()})


def test_new_weights_are_the_seeds(root: Path) -> None:
    first, again, other = (new_weights(TINY, seed) for seed in (3, 3, 4))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert any(not torch.equal(value, other[name]) for name, value in first.items())


def test_a_changed_network_needs_new_weights(root: Path) -> None:
    model = ModelConfig(str(root / "tiny.safetensors"), spec={"network": {"width": 64}})
    with pytest.raises(UsageError, match="pretrained = false"):
        train(config_of(root, model=model), options(root))
    result = train(
        config_of(root, model=dataclasses.replace(model, pretrained=False), steps=1), options(root)
    )
    spec = choose_model(str(result.model), device_info("cpu")).spec
    assert spec.network.width == 64


def test_a_deeper_network_begins_as_its_base(tmp_path: Path) -> None:
    deeper = {"network": {"deep_blocks": 3, "blocks_behind": 2, "full_width": 8}}
    models = [
        start_model(ModelConfig("nano", spec=spec), tmp_path, "cpu", seed=0, folder=tmp_path)[
            0
        ].network
        for spec in ({}, deeper)
    ]
    x = torch.randn(1, 48, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        base, deep = (network(x, torch.tensor([100]), torch.zeros(1, 1, 1)) for network in models)
    assert torch.equal(base, deep)
    assert len(models[1].state_dict()) > len(models[0].state_dict())
    full_size = RecurrentConfig(full_width=8)
    assert is_deeper(dataclasses.replace(full_size, deep_blocks=5), full_size)
    assert not is_deeper(RecurrentConfig(full_width=4), full_size)
    with pytest.raises(
        UsageError, match=r"pretrained = false, or change no more than to add blocks or full_width"
    ):
        shallower = ModelConfig("nano", spec={"network": {"deep_blocks": 1}})
        start_model(shallower, tmp_path, "cpu", seed=0, folder=tmp_path)


def test_a_name_and_a_description_of_ones_own(root: Path) -> None:
    model = ModelConfig("./tiny.safetensors", name="mine", spec={"segment_frames": 7})
    config = config_of(
        root, model=model, steps=1, checkpoints=CheckpointConfig(interval=1, dtype="fp16")
    )
    result = train(config, options(root, base=root))
    spec = choose_model(str(result.model), device_info("cpu")).spec
    assert (spec.name, spec.segment_frames) == ("mine", 7)
    assert {value.dtype for value in weights_of(root).values()} == {torch.float16}


def test_a_missing_base_is_named(root: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere"):
        train(config_of(root, model=ModelConfig("./nowhere.safetensors")), options(root))


def test_training_starts_from_venhancers_checkpoint(tmp_path: Path) -> None:
    write_sources(tmp_path / "sources", side=64)
    write_base(tmp_path / "venhancer_v2.pt", venhancer_of())
    install_small(tmp_path / "weights")
    config = train_config(
        Path("small-star"),
        parts="control+liem",
        data=data_config(frames=2, crop=(32, 32)),
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.0, ema_decay=0.0),
        steps=2,
    )
    model = ModelConfig(base="small-star", checkpoint="venhancer_v2.pt")
    with small_models():
        weights = WeightsOptions(folder=tmp_path / "weights")
        run_options = options(tmp_path, base=tmp_path, weights=weights)
        train(dataclasses.replace(config, model=model), run_options)
    start, after = load_file(tmp_path / "run" / INITIAL_NAME), weights_of(tmp_path)
    published = venhancer_of()["out.2.bias"]
    assert torch.equal(start["head.conv.bias"], published)
    assert torch.equal(after["head.conv.bias"], published.to(after["head.conv.bias"]))
    changed = {name for name in start if not torch.equal(start[name].float(), after[name].float())}
    assert {name.partition(".")[0] for name in changed} == {
        "control",
        "encoder",
        "decoder",
        "middle",
    }
    assert all(name.startswith("control.") or ".gate" in name for name in changed)


def test_a_checkpoint_is_refused_for_a_network_of_another_kind(tmp_path: Path) -> None:
    config = ModelConfig(base="nano", checkpoint="a.pt")
    with pytest.raises(UsageError, match=r"and base = 'nano' is another: give a base such as star"):
        start_model(config, tmp_path, "cpu", seed=0, folder=tmp_path)


def test_a_checkpoint_and_new_weights_are_refused_together(tmp_path: Path) -> None:
    config = ModelConfig(base="star-light", checkpoint="a.pt", pretrained=False)
    with pytest.raises(UsageError, match="leave out checkpoint"):
        start_model(config, tmp_path, "cpu", seed=0, folder=tmp_path)
