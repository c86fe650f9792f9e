"""`--detail`: a line from the weights of a faithful model to those of a detailed one."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from starvsr.errors import UsageError, WeightsError
from starvsr.models.recurrent import deepened
from starvsr.options import LookOptions
from starvsr.restore.restorer import Restorer
from starvsr.specs import NANO, SPECS
from starvsr.train.model import new_weights
from starvsr.types import RecurrentConfig
from starvsr.zoo.choose import read_spec
from starvsr.zoo.load import load_model, save_model
from starvsr.zoo.spec_json import spec_to_json
from tests.cli.conftest import Cli, cli
from tests.zoo.test_load import write

__all__ = ["cli"]

DEEPER = dataclasses.replace(
    NANO, name="sharp", network=RecurrentConfig(deep_blocks=3), faithful="nano"
)


def frames(seed: int = 0) -> Tensor:
    return torch.rand(2, 3, 12, 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def sharp(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model of nano's kind, a block deeper, whose weights are a little beside nano's."""
    path = tmp_path_factory.mktemp("models") / "sharp.safetensors"
    fresh = new_weights(DEEPER, 0)
    beside = deepened(fresh, load_model("nano", device="cpu").network.state_dict())
    state = {name: value.float() + 0.05 * fresh[name] for name, value in beside.items()}
    save_model(path, DEEPER, state)
    return str(path)


def restored(name: str, detail: float | None = None) -> Tensor:
    return Restorer.from_name(name, device="cpu", look=LookOptions(detail=detail))(frames())


def test_its_ends_are_the_pictures_of_both_models(sharp: str) -> None:
    assert torch.equal(restored(sharp, 0.0), restored("nano"))
    assert torch.equal(restored(sharp, 1.0), restored(sharp))
    assert not torch.equal(restored(sharp), restored("nano"))


def test_between_them_are_the_weights_between(sharp: str) -> None:
    faithful, middle, detailed = (
        load_model(sharp, device="cpu", detail=detail).network.state_dict()
        for detail in (0.0, 0.25, None)
    )
    for name, weight in middle.items():
        torch.testing.assert_close(weight, 0.75 * faithful[name] + 0.25 * detailed[name])


def test_the_description_survives_its_file(sharp: str) -> None:
    assert read_spec(Path(sharp)).faithful == "nano"


def test_a_model_of_one_picture_refuses_it(cli: Cli, tmp_path: Path) -> None:
    picture = tmp_path / "in.png"
    from PIL import Image

    Image.new("RGB", (16, 12)).save(picture)
    for command in ("upscale", "plan"):
        output = [tmp_path / "out.png"] if command == "upscale" else []
        result = cli(command, picture, *output, "--model", "nano", "--detail", "0.5")
        assert result.code == 2
        assert "--detail 0.5 is not for nano" in result.error
        for name in re.findall(r"--model (\S+)", result.error):
            assert SPECS[name].faithful
    with pytest.raises(UsageError, match=r"--detail 0.5 is not for nano"):
        load_model("nano", device="cpu", detail=0.5)
    result = cli("upscale", picture, tmp_path / "out.png", "--detail", "1.5")
    assert (result.code, "--detail 1.5 is not allowed: give a fraction" in result.error) == (
        2,
        True,
    )
    assert not (tmp_path / "out.png").exists()


def test_a_job_with_another_is_another_job(cli: Cli, sharp: str, tmp_path: Path) -> None:
    picture, output = tmp_path / "in.png", tmp_path / "out.png"
    from PIL import Image

    Image.effect_noise((32, 24), 60).convert("RGB").save(picture)
    pictures = []
    for detail in ("0", "0.5", "1"):
        result = cli(
            "upscale", picture, output, "--overwrite", "--model", sharp, "--detail", detail
        )
        assert result.code == 0, result.err
        pictures.append(Image.open(output).tobytes())
    assert len(set(pictures)) == 3


def test_a_loaded_model_is_not_taken_for_one_of_another_detail(sharp: str) -> None:
    model = load_model(sharp, device="cpu", detail=0.5)
    assert Restorer(model, look=LookOptions(detail=0.5)).model is model
    for other in (0.0, 1.0):
        with pytest.raises(UsageError, match=f"--detail {other:g}: the model was loaded with 0.5"):
            Restorer(model, look=LookOptions(detail=other))


def test_what_is_no_faithful_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    fields = json.loads(spec_to_json(DEEPER)) | {"faithful": "star-light"}
    with pytest.raises(WeightsError, match="faithful is 'star-light', not one of nano"):
        load_model(str(write(path, new_weights(DEEPER, 0), json.dumps(fields))), device="cpu")
    wider = dataclasses.replace(DEEPER, network=RecurrentConfig(width=64))
    save_model(path, wider, new_weights(wider, 0))
    with pytest.raises(WeightsError, match=r"--detail 0.5: nano is no part of sharp: "):
        load_model(str(path), device="cpu", detail=0.5)
