"""What is advised for which measurements."""

from __future__ import annotations

from dataclasses import replace

import pytest

from starvsr.options import UpscaleOptions
from starvsr.specs import SPECS
from starvsr.tune.measure import Footage
from starvsr.tune.rules import MODELS, RULES, Machine, advise, alternatives
from starvsr.tune.run import option_text, with_fields
from tests.conftest import CPU

PLAIN = Footage(
    width=640,
    height=480,
    frames=100,
    duration_s=4.0,
    bit_depth=8,
    hdr=False,
    flagged=0.0,
    film=0.0,
    equal=0.0,
    held=0.0,
    noise=0.5,
    blocks=1.0,
    detail=1.0,
    combing=0.0,
    combing_most=0.0,
    moving=9,
)
MACHINE = Machine(CPU, ("nano",))
GPU = Machine(
    replace(CPU, name="cuda:0", description="a GPU"), ("star-heavy", "star-light", "nano")
)


def advised(footage: Footage, machine: Machine = MACHINE) -> str:
    return " ".join(option_text(each) for each in advise(footage, machine))


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({}, "--model nano --scale 4"),
        ({"width": 1440, "height": 1080, "noise": None}, "--model nano --resolution 2160"),
        ({"width": 3840, "height": 2160}, "--model nano --scale 1"),
        ({"detail": 2.0}, "--model nano --scale 2"),
        ({"detail": 1.8}, "--model nano --scale 2"),
        ({"detail": 4.0}, "--model nano --scale 1"),
        ({"width": 1920, "height": 1080, "detail": 2.0}, "--model nano --scale 2"),
        ({"combing": 0.2}, "--model nano --scale 4 --deinterlace on"),
        ({"combing": 0.2, "combing_most": 0.3, "flagged": 1.0}, "--model nano --scale 4"),
        ({"flagged": 1.0}, "--model nano --scale 4 --deinterlace off"),
        ({"flagged": 1.0, "combing_most": 0.2}, "--model nano --scale 4"),
        ({"flagged": 1.0, "moving": 1}, "--model nano --scale 4"),
        ({"flagged": 1.0, "film": 0.9}, "--model nano --scale 4"),
        ({"combing": 0.2, "film": 0.9}, "--model nano --scale 4"),
        ({"held": 0.5}, "--model nano --scale 4 --repeats near"),
        ({"held": 0.5, "equal": 0.5}, "--model nano --scale 4"),
    ],
)
def test_settings_follow_measurements(changes: dict[str, float], options: str) -> None:
    assert advised(replace(PLAIN, **changes)) == options  # type: ignore[arg-type]


def test_models_follow_the_device_and_what_is_installed() -> None:
    bad = replace(PLAIN, noise=5.0, blocks=1.4)
    assert advised(PLAIN, GPU).startswith("--model star-light ")
    assert advised(bad, GPU).startswith("--model star-heavy ")
    assert advised(bad, replace(GPU, installed=("star-light", "nano"))).startswith(
        "--model star-light "
    )
    assert advised(bad, replace(GPU, installed=("nano",))).startswith("--model nano ")
    assert {rule.name for rule in MODELS} <= set(SPECS)


def test_what_is_fixed_is_kept_with_its_size() -> None:
    found = advise(replace(PLAIN, detail=2.0), MACHINE, {"resolution": 720})
    assert [(each.field, each.value) for each in found] == [("model", "nano"), ("resolution", 720)]
    assert found[-1].reason == "as asked for"


def test_alternatives_differ_in_one_setting() -> None:
    def tried(footage: Footage, machine: Machine, most: int = 2) -> list[str]:
        settings = advise(footage, machine)
        return [option_text(each) for each in alternatives(footage, machine, settings, most)]

    noisy = replace(PLAIN, noise=5.0)
    assert tried(PLAIN, MACHINE) == ["--sharpen 0.4"]
    assert tried(noisy, MACHINE) == ["--sharpen -0.3"]
    assert tried(replace(PLAIN, noise=None, blocks=None), MACHINE) == []
    assert tried(PLAIN, GPU) == ["--model nano", "--speed balanced"]
    assert tried(PLAIN, GPU, most=1) == ["--model nano"]


def test_every_setting_has_a_reason_with_numbers_and_is_an_option() -> None:
    whole = replace(PLAIN, noise=5.0, blocks=1.4, detail=2.0, combing=0.2, held=0.5)
    for machine in (MACHINE, GPU):
        settings = advise(whole, machine)
        others = alternatives(whole, machine, settings, 9)
        assert all(each.reason and "{" not in each.reason for each in (*settings, *others))
        for each in (*settings, *others):
            with_fields(UpscaleOptions(), {each.field: each.value})
    for rule in RULES:
        assert rule.reason.format(f=whole, m=GPU)
