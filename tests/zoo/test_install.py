"""Filling a weights folder from a hub, from files copied by hand, and from what is on the machine already."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from starvsr.errors import OutputError, WeightsError
from starvsr.specs import COMPONENTS, Component
from starvsr.types import Progress
from starvsr.zoo.checkpoint import read_safetensors
from starvsr.zoo.hashes import RECORD_NAME, read_hashes
from starvsr.zoo.install import ensure, install
from starvsr.zoo.places import LOCKS
from starvsr.zoo.planning import InstallPlan, plan_install
from starvsr.zoo.text import contexts_are_known
from starvsr.zoo.verify import verify
from tests.zoo.hub_server import Fault, HubServer, use_hub
from tests.zoo.published import SMALL_COMPONENTS, SMALL_STAR, small_models

ALL = tuple(SMALL_COMPONENTS.values())
STAR, VAE, CLIP = ALL
NETWORK = "I2VGen-XL-based/light_deg.pt"


def leftovers(folder: Path) -> list[str]:
    """What is in a weights folder beside components, the record, locks and embeddings."""
    own = {RECORD_NAME, *(f"{name}.safetensors" for name in COMPONENTS)}
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name not in own and path.relative_to(folder).parts[0] not in (LOCKS, "text")
    ]


def states(folder: Path, components: tuple[Component, ...] = ALL) -> list[str]:
    return [found.state for found in verify(folder, components)]


def test_fresh_folder_is_filled_and_recorded(
    hub: HubServer, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[Progress] = []
    plans: list[InstallPlan] = []
    install(ALL, folder, progress=seen.append, announce=plans.append)
    assert states(folder) == ["ok", "ok", "ok"]
    assert leftovers(folder) == []
    assert contexts_are_known(SMALL_STAR, [folder])
    downloads = [report for report in seen if report.stage == "download"]
    size = sum(len(content) for content in hub.files.values())
    assert downloads[-1].done == downloads[-1].total == size == plans[0].download_bytes
    assert [report.done for report in downloads] == sorted(report.done for report in downloads)
    known = read_hashes(folder).sources
    assert len(known) == len(hub.files)
    for (repository, path), content in hub.files.items():
        record = known[f"{repository}/{path}@main"]
        assert record.sha256 == hashlib.sha256(content).hexdigest()
    said = [r.getMessage() for r in caplog.records if "trusted on this first use" in r.getMessage()]
    assert [text.partition(":")[0] for text in said] == ["small-star", "small-vae", "small-clip"]
    for path in (path for _, path in hub.files):
        assert sum(path in text for text in said) >= 1


def test_second_run_asks_nothing(hub: HubServer, folder: Path) -> None:
    install(ALL, folder)
    asked = len(hub.asked)
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    plan = install(ALL, folder)
    assert (plan.wanted, plan.present, plan.needed_bytes) == ((), ALL, 0)
    assert len(hub.asked) == asked
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_plan_writes_nothing_and_fetches_no_contents(hub: HubServer, folder: Path) -> None:
    plan = plan_install(ALL, folder)
    assert plan.wanted == ALL
    assert plan.download_bytes == sum(len(content) for content in hub.files.values())
    assert plan.free_bytes == pytest.approx(shutil.disk_usage("/").free, rel=0.5) or plan.free_bytes
    assert not folder.exists()
    assert not any(asked.method == "GET" for asked in hub.asked)


def test_interrupted_download_goes_on(hub: HubServer, folder: Path) -> None:
    hub.fail("GET", NETWORK, Fault(cut_after=1000), *[Fault(status=503)] * 5)
    with pytest.raises(WeightsError, match="run the same command later"):
        install([STAR], folder)
    assert states(folder, (STAR,)) == ["missing"]
    plan = plan_install([STAR], folder)
    assert plan.download_bytes == plan.all_files[0].size_bytes - 1000
    install([STAR], folder)
    assert hub.bodies(NETWORK)[-1] == "bytes=1000-"
    assert states(folder, (STAR,)) == ["ok"]


def test_gated_repository_stops_before_the_first_byte(hub: HubServer, folder: Path) -> None:
    hub.gated["small/video-diffusion"] = 403
    with pytest.raises(WeightsError, match="accept its licence"):
        install(ALL, folder)
    assert not folder.exists()
    assert not any(asked.method == "GET" for asked in hub.asked)


def test_complete_folder_needs_no_network(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(ALL, folder)
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    assert install(ALL, folder).wanted == ()


def test_too_little_space_is_said_before_the_first_byte(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder.parent)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WeightsError, match=r"1\.00 kB of free space, and up to .* are needed"):
        install(ALL, folder)
    assert not folder.exists()
    assert not any(asked.method == "GET" for asked in hub.asked)


def test_disk_that_fills_while_converting(
    hub: HubServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OutputError("x cannot be written: no space left in y")

    with monkeypatch.context() as patch:
        patch.setattr("starvsr.zoo.components.write_tensors", full)
        with pytest.raises(WeightsError, match="no space left"):
            install([STAR], folder)
    asked = len(hub.bodies(NETWORK))
    install([STAR], folder)
    # What was fetched is still there.
    assert len(hub.bodies(NETWORK)) == asked
    assert states(folder, (STAR,)) == ["ok"]


def test_originals_are_kept_when_asked(hub: HubServer, folder: Path, published: Path) -> None:
    install([VAE], folder, keep_original=True)
    for source in VAE.sources:
        kept = folder / "originals" / source.repository / source.path
        assert kept.read_bytes() == (published / source.repository / source.path).read_bytes()
    assert not (folder / ".downloads").exists()


def test_leftovers_of_other_versions_and_kills_go(hub: HubServer, folder: Path) -> None:
    old = folder / ".downloads" / "small/STAR" / "0123456789abcdef" / NETWORK
    old.parent.mkdir(parents=True)
    old.write_bytes(b"begun")
    half = folder / ".downloads" / ".made" / "small-star" / ".starvsr-0.partial"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half made")
    install([STAR], folder)
    assert hub.bodies(NETWORK) == [""]
    assert leftovers(folder) == []


def test_leftovers_of_a_kill_behind_the_last_rename_go(hub: HubServer, folder: Path) -> None:
    install(ALL, folder)
    fetched = folder / ".downloads" / "small" / "STAR" / "0123456789abcdef" / NETWORK
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(b"all of it")
    (folder / ".downloads" / "small" / "CLIP" / "0123456789abcdef").mkdir(parents=True)
    (folder / ".downloads" / ".made" / "small-vae").mkdir(parents=True)
    (folder / ".downloads" / ".made" / "small-vae" / ".half").write_bytes(b"half")
    install(ALL, folder)
    assert leftovers(folder) == []
    assert states(folder) == ["ok", "ok", "ok"]


@pytest.mark.parametrize("damage", ["cut", "empty", "other", "half"])
def test_damaged_component_is_made_again(hub: HubServer, folder: Path, damage: str) -> None:
    install([STAR, VAE], folder)
    path = folder / "small-star.safetensors"
    whole = path.read_bytes()
    if damage == "other":
        shutil.copy(folder / "small-vae.safetensors", path)
    elif damage == "half":
        # Whole in itself, and not what was recorded.
        install([STAR], folder.parent / "half", dtype="fp16")
        shutil.copy(folder.parent / "half" / path.name, path)
    else:
        path.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"")
    assert states(folder, (STAR,)) == ["corrupt"]
    if damage in ("cut", "empty"):
        # What a run would say of it names the command that does what follows.
        again = f"`starvsr download-weights small-star --dir {folder}` makes it again"
        with pytest.raises(WeightsError, match=f"as a safetensors file .*: {again}"):
            read_safetensors(path)
    assert install([STAR, VAE], folder).wanted == (STAR,)
    assert path.read_bytes() == whole


def test_corrupt_record_is_said(folder: Path) -> None:
    folder.mkdir()
    (folder / RECORD_NAME).write_text(json.dumps({"version": 99}))
    with pytest.raises(WeightsError, match=r"hashes\.json is not a record .*; delete it"):
        plan_install(ALL, folder)


def test_folder_that_cannot_be_written_is_said(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WeightsError, match=r"hashes\.json cannot be read: Not a directory"):
        install([VAE], tmp_path / "file" / "weights")


def test_ensure_installs_what_is_missing(hub: HubServer, folder: Path) -> None:
    ensure(SMALL_STAR, folder, ("small-star", "small-vae", "small-clip"))
    assert states(folder) == ["ok", "ok", "ok"]


def test_ensure_offline_names_files_and_command(folder: Path) -> None:
    with small_models(), pytest.raises(WeightsError) as caught:
        ensure(SMALL_STAR, folder, ("small-star", "small-vae"), offline=True)
    assert caught.value.args == (
        f"the model small-star lacks small-star.safetensors, small-vae.safetensors in {folder}",
        "downloads are off (--offline, or `download` of the node)",
        f"run `starvsr download-weights small-star` where there is a network and copy these files to {folder}, or give "
        "the published files by --source FOLDER (`starvsr download-weights small-star --dry-run` lists them)",
    )


def test_ensure_without_network_names_files_and_command(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path / "home")
    with small_models(), pytest.raises(WeightsError) as caught:
        ensure(SMALL_STAR, folder, ("small-star",))
    lacks, why, way = caught.value.args
    assert "lacks small-star.safetensors" in lacks
    assert "no answer from" in why
    assert "missing are" not in str(caught.value)
    assert "run `starvsr download-weights small-star`" in way


def test_ensure_of_an_unknown_component_says_where_to_copy_it(folder: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"for which no source is known: copy my-vae.safetensors"
    ):
        ensure(SMALL_STAR, folder, ("my-vae",))


def test_malicious_pickle_is_refused_and_not_run(
    hub: HubServer, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    proof = tmp_path / "proof"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (proof,))

    torch.save({"state_dict": Attack()}, tmp_path / "attack.pt")
    hub.files["small/STAR", NETWORK] = (tmp_path / "attack.pt").read_bytes()
    with pytest.raises(WeightsError):
        install([STAR], folder)
    assert not proof.exists()
    assert states(folder, (STAR,)) == ["missing"]
