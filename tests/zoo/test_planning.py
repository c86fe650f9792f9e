"""Components in another type: converted where nothing is lost, fetched again where something would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from starvsr.errors import WeightsError
from starvsr.specs import Component
from starvsr.zoo.components import TYPES
from starvsr.zoo.hashes import RECORD_NAME, file_sha256, read_hashes
from starvsr.zoo.install import install
from starvsr.zoo.metadata import read_metadata
from starvsr.zoo.verify import verify
from tests.zoo.hub_server import HubServer
from tests.zoo.published import SMALL_COMPONENTS

ALL = tuple(SMALL_COMPONENTS.values())
STAR, VAE, CLIP = ALL
NETWORK = "I2VGen-XL-based/light_deg.pt"


def states(folder: Path, components: tuple[Component, ...] = ALL) -> list[str]:
    return [found.state for found in verify(folder, components)]


def test_dtype_halves_the_network_only(hub: HubServer, folder: Path, tmp_path: Path) -> None:
    install(ALL, folder)
    plain = {path.name: file_sha256(path) for path in folder.glob("*.safetensors")}
    plan = install(ALL, folder, dtype="fp16")
    assert [component.name for component in plan.wanted] == ["small-star"]
    with safe_open(folder / "small-star.safetensors", framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float16}  # noqa: SIM118
    for name, sha256 in plain.items():
        assert (file_sha256(folder / name) == sha256) == (name != "small-star.safetensors")
    assert states(folder) == ["ok", "ok", "ok"]
    assert install(ALL, folder).wanted == ()
    assert install(ALL, folder, dtype="fp16").wanted == ()


def types(folder: Path) -> set[torch.dtype]:
    return {tensor.dtype for tensor in load_file(folder / "small-star.safetensors").values()}


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_narrower_type_is_made_of_what_is_installed(
    hub: HubServer, folder: Path, tmp_path: Path, dtype: str
) -> None:
    install([STAR], folder)
    asked = len(hub.asked)
    plan = install([STAR], folder, dtype=dtype)
    assert (plan.wanted, plan.converted, plan.download_bytes) == ((STAR,), (STAR,), 0)
    assert len(hub.asked) == asked
    assert states(folder, (STAR,)) == ["ok"]
    assert not (folder / ".downloads").exists()
    assert read_hashes(folder).components["small-star"].dtype == dtype
    install([STAR], tmp_path / "fetched", dtype=dtype)
    path, same = (place / "small-star.safetensors" for place in (folder, tmp_path / "fetched"))
    converted, fetched = load_file(path), load_file(same)
    assert converted.keys() == fetched.keys()
    assert all(torch.equal(converted[name], fetched[name]) for name in fetched)
    assert read_metadata(path) == read_metadata(same)


def test_type_that_is_stored_already_needs_nothing(hub: HubServer, folder: Path) -> None:
    install([STAR], folder)
    assert read_hashes(folder).components["small-star"].dtype == "fp32"
    assert install([STAR], folder, dtype="fp32").wanted == ()
    # Also where nothing was recorded.
    (folder / RECORD_NAME).unlink()
    assert install([STAR], folder, dtype="fp32").wanted == ()


@pytest.mark.parametrize(("first", "then"), [("fp16", "fp32"), ("fp16", "bf16"), ("bf16", "fp16")])
def test_lost_digits_are_fetched_again(
    hub: HubServer, folder: Path, caplog: pytest.LogCaptureFixture, first: str, then: str
) -> None:
    install([STAR], folder, dtype=first)
    caplog.clear()
    install([STAR], folder, dtype=then)
    assert len(hub.bodies(NETWORK)) == 2
    assert types(folder) == {TYPES[then]}
    said = f"contains {first} numbers, which cannot be converted to {then} without loss: they are fetched again"
    assert sum(said in record.getMessage() for record in caplog.records) == 1


def test_damaged_component_is_not_converted(hub: HubServer, folder: Path) -> None:
    install([STAR], folder)
    path = folder / "small-star.safetensors"
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="is corrupt, so it is not converted: delete it, and"):
        install([STAR], folder, dtype="fp16")
    assert path.read_bytes() == content
    path.unlink()
    install([STAR], folder, dtype="fp16")
    assert (states(folder, (STAR,)), types(folder)) == (["ok"], {torch.float16})
