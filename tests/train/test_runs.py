"""A run's folder: nothing of the user's is lost in it, nothing of its own becomes data, and each sample has a file."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import NoReturn

import filelock
import pytest

from starvsr.errors import OutputError, StarvsrError
from starvsr.train.config import BankConfig, FolderConfig, ValidationConfig
from starvsr.train.teacher import TeacherConfig
from starvsr.train.trainer import MODEL_NAME, train
from tests.train.toys import config_of, data_config, log_of, options, texture, write_still


def test_a_model_without_checkpoints_is_not_replaced(root: Path) -> None:
    """It is the user's, or the result of a run whose large folders were removed."""
    config = dataclasses.replace(config_of(root), steps=2)
    train(config, options(root))
    for checkpoint in (root / "run").glob("checkpoint-*"):
        shutil.rmtree(checkpoint)
    log, model = log_of(root), (root / "run" / MODEL_NAME).read_bytes()
    longer = dataclasses.replace(config, steps=3)
    with pytest.raises(OutputError, match=r"exists already, and .*run has no checkpoint"):
        train(longer, options(root))
    assert (log_of(root), (root / "run" / MODEL_NAME).read_bytes()) == (log, model)
    assert train(longer, options(root, resume=False)).resumed_from == 0


def test_a_run_that_cannot_begin_anew_keeps_what_there_is(root: Path) -> None:
    data = data_config(frames=2, bank=BankConfig(clips=2, frames=2, crop=(24, 24)))
    config = config_of(root, data=data, steps=2)
    train(config, options(root))
    log = log_of(root)
    (root / "bad.safetensors").write_bytes(b"no tensors")
    teacher = TeacherConfig("bad.safetensors", real=False, target=1.0)
    with pytest.raises(StarvsrError, match=r"bad\.safetensors"):
        train(dataclasses.replace(config, teacher=teacher), options(root, resume=False, base=root))
    assert log_of(root) == log
    assert train(config, options(root)).resumed_from == 2


def test_samples_inside_the_data_are_no_data(root: Path) -> None:
    """Neither those of this run nor of another; pictures of the user's in a folder of that name are."""
    write_still(root / "run/samples/mine.png", texture(5)[0])
    config = config_of(
        root,
        data=data_config(folders=(FolderConfig(".", held_out=("sources/clip1.mkv",)),)),
        validation=ValidationConfig(interval=1, frames=2, degradations=("clean",), samples=1),
    )
    train(dataclasses.replace(config, steps=2), options(root))
    assert list((root / "run/samples").rglob("*.png"))
    assert train(config, options(root)).resumed_from == 2
    train(dataclasses.replace(config, steps=2), options(root, resume=False))
    train(dataclasses.replace(config, steps=1), options(root, "other"))
    for name in ("run", "other"):
        found = (root / name / "files.json").read_text()
        assert "/run/samples/mine.png" in found
        assert "step-0" not in found


def test_every_sample_has_a_file_of_its_own(root: Path) -> None:
    """Sources of one name in two folders, and one as long as a file system has names."""
    long = "n" * 251 + ".png"
    for folder, name in (("a", "x.png"), ("b", "x.png"), ("b", long)):
        write_still(root / folder / name, texture(len(name))[0])
        write_still(root / folder / "trained.png", texture(7)[0])
    folders = (FolderConfig("a", held_out=("x.png",)), FolderConfig("b", held_out=("x.png", long)))
    config = config_of(
        root,
        data=data_config(folders=folders),
        validation=ValidationConfig(interval=1, frames=2, degradations=("clean",), samples=8),
    )
    train(dataclasses.replace(config, steps=1), options(root))
    samples = sorted(path.name for path in (root / "run/samples/step-00000001").iterdir())
    assert samples == [
        "001-x.png-clean.png",
        f"002-{long[:200]}-clean.png",
        "003-x.png-clean.png",
    ]


def test_a_folder_that_cannot_be_locked_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with pytest.raises(OutputError, match=r"run.*\.lock cannot be written: no permission in"):
        train(config_of(root), options(root))
