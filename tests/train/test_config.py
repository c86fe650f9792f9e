"""Configurations: TOML there and back, and refusals that name the table and the key."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from starvsr.errors import UsageError
from starvsr.specs import SPECS
from starvsr.train.config import (
    DataConfig,
    FolderConfig,
    ModelConfig,
    OptimizerConfig,
    PixelLossConfig,
    TrainConfig,
    config_from_toml,
    read_config,
)
from starvsr.train.losses import LossConfig
from starvsr.train.model import changed_spec, check_crop
from starvsr.train.objective import check_losses
from starvsr.train.tables import to_toml

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


def test_defaults_are_an_empty_file() -> None:
    assert config_from_toml("") == TrainConfig()


def test_there_and_back() -> None:
    config = TrainConfig(
        model=ModelConfig("a/b.safetensors", False, 'say "x"\n', {"network": {"width": 64}}),
        data=DataConfig(
            folders=(
                FolderConfig("a \\ b", 2.0, (0.5, 1.0), ("*.mp4", "x/é.png"), 10),
                FolderConfig("c"),
            ),
            degradations={"clean": 0.25, "heavy": 1.0},
        ),
        optimizer=OptimizerConfig(lr=1e-7, betas=(0.8, 0.95)),
        loss=LossConfig(split="magnitude", through_decoder=False),
        pixel_loss=PixelLossConfig(temporal=0.5),
    )
    text = to_toml(config)
    assert config_from_toml(text) == config
    assert to_toml(config_from_toml(text)) == text


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_fit_their_models(path: Path) -> None:
    config = read_config(path)
    spec = changed_spec(SPECS[config.model.base], config.model)
    check_crop(spec, config.data)
    check_losses(spec, config)
    assert config.data.folders
    for folder in config.data.folders:
        assert not Path(folder.path).is_absolute()


def test_shipped_configurations_are_there() -> None:
    assert [path.stem for path in SHIPPED] == ["nano-more", "nano", "star", "toy", "vivid"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("stepps = 3", ["no key stepps", "steps"]),
        ("[data]\nframe = 3", ["[data] has no key frame", "frames"]),
        ("[[data.folders]]\npath = 'x'\nwheight = 1", ["[data.folders]", "wheight"]),
        ("steps = 1.5", ["steps = 1.5", "whole number"]),
        ("steps = true", ["steps = True", "whole number"]),
        ("steps = 0", ["steps = 0", "1 to 1000000000"]),
        ("batch = 1000000000", ["batch = 1000000000", "1 to 65536"]),
        ("[data]\nframes = 1000000000", ["[data] frames", "1 to 1000"]),
        ("[data]\ncrop = [4000000000, 4]", ["[data] crop", "at most 16384"]),
        ("seed = -1", ["seed = -1", "0 or more"]),
        ("[data]\ncrop = [8, 8, 8]", ["data.crop", "2 values"]),
        ("[data]\ncrop = 8", ["data.crop = 8", "a list"]),
        ("[data]\ncrop = [9, 8]", ["[data] crop = [9, 8]", "multiples of the scale 4"]),
        ("[data]\nflip = 1", ["data.flip = 1", "true or false"]),
        ("data = 3", ["data = 3", "table"]),
        ("[data.degradations]\nmild = 1", ["mild", "light", "heavy", "clean"]),
        ("[data.degradations]\nlight = 0", ["light = 0", "above 0"]),
        ("[data.degradations]\nlight = 'x'", ["data.degradations.light", "a number"]),
        ("[[data.folders]]\npath = ''", ["path = ''", "a folder"]),
        ("[[data.folders]]\npath = 'x'\nresize = [1.0, 2.0]", ["resize", "<= 1"]),
        ("[[data.folders]]\npath = 'x'\nheld_out_every = 1", ["held_out_every = 1"]),
        ("parts = 'unet'", ["parts = 'unet'", "control+liem"]),
        ("precision = 'int8'", ["precision = 'int8'", "bf16"]),
        ("log = 'wandb'", ["log = 'wandb'", "jsonl"]),
        ("[optimizer]\nlr = 0", ["[optimizer] lr = 0", "above 0"]),
        ("[optimizer]\nema_decay = 1", ["ema_decay = 1"]),
        ("[optimizer]\nlr = inf", ["optimizer.lr = inf", "a finite number"]),
        ("[[data.folders]]\npath = 'x'\nweight = nan", ["weight = nan", "a finite number"]),
        ("[data]\nmotion = -inf", ["data.motion = -inf", "a finite number"]),
        ("[loss]\nalpha = -1", ["[loss]", "alpha -1.0", "0 or more"]),
        ("[loss]\nsplit = 'odd'", ["[loss]", "radial"]),
        ("[pixel_loss]\nkind = 'gan'", ["kind = 'gan'", "charbonnier"]),
        ("[checkpoints]\nkeep = 0", ["keep = 0", "1 or more"]),
        ("[validation]\ndegradations = ['odd']", ["odd", "light"]),
        ("steps = ", ["TOML"]),
    ],
)
def test_what_means_nothing_is_refused_by_name(text: str, named: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        config_from_toml(text)
    for each in named:
        assert each in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing\.toml cannot be read"):
        read_config(tmp_path / "missing.toml")
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"broken\.toml"):
        read_config(broken)
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("steps = -3")
    with pytest.raises(UsageError, match=r"wrong\.toml: steps = -3"):
        read_config(wrong)


def test_changes_of_a_model_are_checked() -> None:
    nano = SPECS["nano"]
    config = ModelConfig(name="mine", spec={"network": {"width": 64}, "min_size": [10, 8]})
    changed = changed_spec(nano, config)
    assert (changed.name, changed.network.width, changed.min_size) == ("mine", 64, (10, 8))
    assert changed.network.deep_width == nano.network.deep_width
    with pytest.raises(UsageError, match=r"\[model\.spec\.network\] has no key depth"):
        changed_spec(nano, ModelConfig(spec={"network": {"depth": 3}}))
    with pytest.raises(UsageError, match="start"):
        changed_spec(nano, ModelConfig(spec={"start": "somewhere"}))
    for value in (date(2026, 11, 30), [date(2026, 11, 30)]):
        with pytest.raises(UsageError, match=r"\[model\.spec\] contains a date or a time"):
            changed_spec(nano, ModelConfig(spec={"name": value}))


def test_crops_that_the_network_cannot_take_are_refused() -> None:
    check_crop(SPECS["nano"], DataConfig(crop=(200, 192)))
    for crop in ((196, 192), (200, 196)):
        with pytest.raises(UsageError, match="multiple of 8"):
            check_crop(SPECS["nano"], DataConfig(crop=crop))
    check_crop(SPECS["star-light"], DataConfig(crop=(720, 1280)))
    with pytest.raises(UsageError, match="rows must be 16 more than a multiple of 64"):
        check_crop(SPECS["star-light"], DataConfig(crop=(704, 1280)))


@pytest.mark.parametrize("key", ["temporal", "motion"])
def test_losses_over_frames_need_frames(key: str) -> None:
    loss = PixelLossConfig(**{key: 0.5})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=rf"\[pixel_loss\] {key} = 0.5 has no effect on single"):
        check_losses(SPECS["nano"], TrainConfig(pixel_loss=loss))
    check_losses(SPECS["nano"], TrainConfig(pixel_loss=loss, data=DataConfig(frames=2)))


def test_layers_over_frames_need_frames() -> None:
    with pytest.raises(UsageError, match="parts = 'temporal' trains nothing of the model nano"):
        check_losses(SPECS["nano"], TrainConfig(parts="temporal"))
    check_losses(SPECS["nano"], TrainConfig(parts="temporal", data=DataConfig(frames=2)))
    check_losses(SPECS["star-light"], TrainConfig(parts="temporal"))


def test_a_last_learning_rate_needs_a_schedule() -> None:
    with pytest.raises(UsageError, match=r"final_lr = 0.1 .* give it with schedule = 'cosine'"):
        OptimizerConfig(final_lr=0.1)
    assert OptimizerConfig(final_lr=0.1, schedule="cosine").final_lr == 0.1


def test_losses_without_effect_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\[loss\] has no effect"):
        check_losses(SPECS["nano"], TrainConfig(loss=LossConfig()))
    with pytest.raises(UsageError, match=r"\[pixel_loss\] has no effect"):
        check_losses(SPECS["star-light"], TrainConfig(pixel_loss=PixelLossConfig()))
    with pytest.raises(UsageError, match=r"\[loss\] t_max = 998 .* times go up to 999"):
        check_losses(SPECS["star-light"], TrainConfig(loss=LossConfig(t_max=998)))
