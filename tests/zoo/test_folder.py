"""Where weights are looked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from starvsr.zoo.folder import component_file, find_component, weights_folder

VARIABLES = ("STARVSR_WEIGHTS", "HF_HOME", "XDG_CACHE_HOME")


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, "/home/me/.cache/huggingface/starvsr"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/huggingface/starvsr"),
        ({"XDG_CACHE_HOME": "/cache", "HF_HOME": "~/hf"}, "/home/me/hf/starvsr"),
        ({"HF_HOME": "/hf", "STARVSR_WEIGHTS": "/weights"}, "/weights"),
        ({"HF_HOME": "/hf", "STARVSR_WEIGHTS": "~/weights"}, "/home/me/weights"),
        ({"HF_HOME": "/hf", "STARVSR_WEIGHTS": ""}, "/hf/starvsr"),
        ({"HF_HOME": "", "XDG_CACHE_HOME": ""}, "/home/me/.cache/huggingface/starvsr"),
    ],
)
def test_the_folder_by_default(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], wanted: str
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert weights_folder() == Path(wanted)
    assert weights_folder(Path("~/asked")) == Path("/home/me/asked")


def test_a_component_is_found_in_the_first_folder_that_has_it(tmp_path: Path) -> None:
    first, second, absent = tmp_path / "a", tmp_path / "b", tmp_path / "absent"
    for folder in (first, second):
        folder.mkdir()
    assert find_component("net", [first, second, absent]) is None
    component_file("net", second).touch()
    assert find_component("net", [absent, first, second]) == second / "net.safetensors"
    component_file("net", first).touch()
    assert find_component("net", [absent, first, second]) == first / "net.safetensors"
    # A folder of that name is no component.
    (first / "vae.safetensors").mkdir()
    assert find_component("vae", [first]) is None
