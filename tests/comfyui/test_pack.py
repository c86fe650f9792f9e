"""The folder as ComfyUI and its registry take it: what is imported, metadata, models' files, example workflows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

import starvsr
from starvsr.errors import StarvsrError, UsageError, WeightsError
from starvsr.train.model import new_weights
from starvsr.zoo.load import save_model
from tests.comfyui.conftest import PACK, Comfy
from tests.zoo.hub_server import hub_server, use_hub
from tests.zoo.published import SMALL_STAR, small_models, write_published
from tests.zoo.test_detail import DEEPER

ROOT = PACK.parent
WORKFLOWS = sorted((PACK / "example_workflows").glob("*.json"))


def test_without_comfyui_it_imports_only_what_is_quick() -> None:
    script = (
        "import sys, comfyui\n"
        "assert list(comfyui.NODE_CLASS_MAPPINGS) == list(comfyui.NODE_DISPLAY_NAME_MAPPINGS)\n"
        "comfyui.NODE_CLASS_MAPPINGS['StarvsrUpscaleVideo'].INPUT_TYPES()\n"
        "slow = {'torch', 'av', 'numpy', 'transformers', 'diffusers', 'comfy', 'comfy_api', 'folder_paths'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert found.stdout.strip() == "[]"


def test_the_registry_and_the_nodes_say_the_same() -> None:
    metadata = tomllib.loads((PACK / "pyproject.toml").read_text())
    project, wanted = metadata["project"], tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["version"] == starvsr.__version__
    assert project["requires-python"] == wanted["project"]["requires-python"]
    requirements = (PACK / "requirements.txt").read_text().split("\n")
    assert project["dependencies"] == [line for line in requirements if line and line[0] != "#"]
    assert project["dependencies"] == [f"starvsr=={starvsr.__version__}"]
    assert set(metadata["tool"]["comfy"]) == {"PublisherId", "DisplayName"}
    assert (PACK / project["readme"]).is_file()


def test_every_input_is_explained(comfy: Comfy) -> None:
    for node in ("LoadModel", "UpscaleVideo", "UpscaleImages"):
        info = comfy.runtime.get_node_info(f"Starvsr{node}")
        assert info["category"] == "video/upscaling"
        for kind in info["input_types"].values():
            for name, (type_, options) in kind.items():
                assert options["tooltip"], name
                if isinstance(type_, list):
                    assert options["default"] in type_
                elif type_ in ("INT", "FLOAT"):
                    assert options["min"] <= options["default"] <= options["max"]


def test_files_of_other_packs(comfy: Comfy, toy_path: Path) -> None:
    for folder in ("STAR", "star"):
        (comfy.folder / "models" / folder).mkdir(parents=True)
    shutil.copy(toy_path, comfy.folder / "models" / "STAR" / "a.safetensors")
    (comfy.folder / "models" / "star" / "light_deg.pt").write_bytes(b"no network")
    (comfy.folder / "models" / "star" / "readme.md").write_text("no model")
    inputs = comfy.runtime.get_node_info("StarvsrLoadModel")["input_types"]["required"]
    assert inputs["file"][0] == ["none", "a.safetensors", "light_deg.pt"]
    model = comfy.model("auto", file="a.safetensors")
    settings = {"images": torch.rand(2, 12, 16, 3), "scale": 1.0, "resolution": 0, "steps": 1}
    (found,) = comfy.run("UpscaleImages", **settings, model=model)
    assert found.shape == (2, 12, 16, 3)
    wrong = comfy.model("auto", file="light_deg.pt")
    with pytest.raises(WeightsError, match=r"star/light_deg\.pt"):
        comfy.run("UpscaleImages", **settings, model=wrong)
    named = comfy.model("star-heavy", file="a.safetensors")
    with pytest.raises(WeightsError, match=r"star-heavy=.*: the file says that it is seeded-toy"):
        comfy.run("UpscaleImages", **settings, model=named)


def test_weights_that_are_missing(comfy: Comfy, tmp_path: Path) -> None:
    images = {"images": torch.rand(1, 12, 16, 3), "scale": 1.0, "resolution": 0}
    folder = str(tmp_path / "weights")
    model = comfy.model("star-light", weights_dir=folder)
    with pytest.raises(WeightsError, match="starvsr download-weights star-light"):
        comfy.run("UpscaleImages", **images, model=model)


def test_weights_are_downloaded_if_that_is_asked_for(
    comfy: Comfy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_published(tmp_path / "published")
    images = {"images": torch.rand(1, 12, 16, 3), "scale": 2.0, "resolution": 0, "steps": 1}
    caplog.set_level("INFO")
    with small_models(), hub_server(tmp_path / "published") as server:
        use_hub(monkeypatch, server.url, tmp_path / "home")
        model = comfy.model(SMALL_STAR.name, weights_dir=str(tmp_path / "weights"), download=True)
        (found,) = comfy.run("UpscaleImages", **images, model=model)
        assert found.shape == (1, 24, 32, 3)
        assert f"to {tmp_path / 'weights'}: {SMALL_STAR.name} (" in caplog.text
    # What is there is not looked for again.
    with small_models():
        assert torch.equal(comfy.run("UpscaleImages", **images, model=model)[0], found)


def test_how_it_runs(comfy: Comfy) -> None:
    images = {"images": torch.rand(1, 12, 16, 3), "scale": 1.0, "resolution": 0}
    # A limit below the weights of the model.
    small = comfy.model("toy", memory_limit_gb=0.001)
    with pytest.raises(StarvsrError, match="memory"):
        comfy.run("UpscaleImages", **images, model=small)
    with pytest.raises(UsageError, match="--device cuda:99"):
        comfy.run("UpscaleImages", **images, model=comfy.model(device="cuda:99"))
    plain, half = (
        comfy.run("UpscaleImages", **images, model=comfy.model(precision=each))[0]
        for each in ("fp32", "bf16")
    )
    assert 0 < (plain - half).abs().max() < 0.1
    first, second = (
        comfy.run("UpscaleImages", **images, steps=1, model=comfy.model("toy", prompt=prompt))[0]
        for prompt in ("", " a cat ")
    )
    assert not torch.equal(first, second)


def test_the_detail_of_a_model_that_has_it(comfy: Comfy, tmp_path: Path) -> None:
    path = tmp_path / "sharp.safetensors"
    save_model(path, DEEPER, new_weights(DEEPER, 0))
    images = {"images": torch.rand(1, 12, 16, 3), "scale": 1.0, "resolution": 0}
    faithful, detailed, nano = (
        comfy.run("UpscaleImages", **images, model=comfy.model(name, detail=share))[0]
        for name, share in ((str(path), 0), (str(path), 1), ("nano", 1))
    )
    assert torch.equal(faithful, nano)
    assert not torch.equal(faithful, detailed)
    with pytest.raises(UsageError, match=r"--detail 0\.5"):
        comfy.run("UpscaleImages", **images, model=comfy.model("nano", detail=0.5))


# ComfyUI's own nodes in the workflows: their sockets and widgets.
COMFYUI = {
    "LoadVideo": ({}, ["VIDEO"], 2),
    "GetVideoComponents": ({"video": "VIDEO"}, ["IMAGE", "AUDIO", "FLOAT"], 0),
    "CreateVideo": ({"images": "IMAGE", "audio": "AUDIO", "fps": "FLOAT"}, ["VIDEO"], 1),
    "SaveVideo": ({"video": "VIDEO"}, [], 3),
}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_example_workflows(comfy: Comfy, path: Path) -> None:
    workflow = json.loads(path.read_text())
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert len(nodes) == len(workflow["nodes"])
    assert any(node["type"] not in COMFYUI for node in nodes.values())
    sockets = {}
    for number, node in nodes.items():
        check = check_ours if node["type"] not in COMFYUI else check_theirs
        sockets[number] = check(comfy, node)
    assert len({link[0] for link in workflow["links"]}) == len(workflow["links"])
    for link, source, output, target, place, kind in workflow["links"]:
        assert link in nodes[source]["outputs"][output]["links"]
        socket = nodes[target]["inputs"][place]
        assert socket["link"] == link
        assert kind == nodes[source]["outputs"][output]["type"] == socket["type"]
        assert sockets[target][socket["name"]] == kind
    assert workflow["last_link_id"] == max(link[0] for link in workflow["links"])
    assert workflow["last_node_id"] == max(nodes)


def check_theirs(comfy: Comfy, node: dict[str, Any]) -> dict[str, str]:
    inputs, outputs, widgets = COMFYUI[node["type"]]
    assert {each["name"] for each in node["inputs"]} <= set(inputs)
    assert [each["type"] for each in node["outputs"]] == outputs
    assert len(node["widgets_values"]) == widgets
    return inputs


def check_ours(comfy: Comfy, node: dict[str, Any]) -> dict[str, str]:
    """The sockets of a node of ours, all of whose values are allowed."""
    info = comfy.runtime.get_node_info(node["type"])
    kinds = info["input_types"]
    inputs = {**kinds["required"], **kinds.get("optional", {})}
    widgets = {
        name: each
        for name, each in inputs.items()
        if isinstance(each[0], list) or each[0] in ("INT", "FLOAT", "STRING", "BOOLEAN")
    }
    sockets = {name: each[0] for name, each in inputs.items() if name not in widgets}
    assert {each["name"] for each in node["inputs"]} == set(sockets)
    assert [each["type"] for each in node["outputs"]] == list(info["return_types"])
    values = zip(node["widgets_values"], widgets.items(), strict=True)
    for value, (name, (kind, options)) in values:
        if isinstance(kind, list):
            assert value in kind, name
        elif kind in ("INT", "FLOAT"):
            assert options["min"] <= value <= options["max"], name
        else:
            assert type(value) is type(options["default"]), name
    return sockets
