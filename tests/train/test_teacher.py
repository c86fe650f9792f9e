"""The teacher: what it restores lies in the bank beside the truth, and is what is learned from."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from starvsr.errors import UsageError
from starvsr.restore.restorer import Restorer
from starvsr.train.adversary import AdversaryConfig
from starvsr.train.config import BankConfig, PixelLossConfig, TrainConfig, config_from_toml
from starvsr.train.data import TrainingClips, stack_clips
from starvsr.train.objective import Objective
from starvsr.train.sources import find_sources
from starvsr.train.tables import to_toml
from starvsr.train.teacher import Teacher, TeacherConfig
from starvsr.train.trainer import train
from starvsr.zoo.load import load_model
from tests.train.ncnn_files import write_enlarger
from tests.train.toys import assert_same_run, config_of, data_config, log_of, options

BANK = BankConfig(clips=3, frames=2, crop=(24, 24), turns=True)


def taught(root: Path, teacher: TeacherConfig, **changes: Any) -> TrainConfig:
    data = data_config(frames=2, bank=BANK)
    return config_of(root, data=data, teacher=teacher, **changes)


def clips_of(root: Path, teacher: Teacher | None) -> TrainingClips:
    config = data_config(frames=2, bank=BANK)
    return TrainingClips(config, find_sources(config.made, root), 0, root / "run", teacher)


def test_a_clip_has_the_teachers_picture_cut_and_turned_alike(root: Path) -> None:
    write_enlarger(root / "up.param", 2)
    clips = clips_of(root, pickle.loads(pickle.dumps(Teacher(root / "up.param", 2))))
    for number in range(8):
        clip = clips[number]
        assert not isinstance(clip, Exception)
        assert clip.taught is not None
        expected = F.interpolate(clip.degraded, scale_factor=2, mode="nearest")
        torch.testing.assert_close(clip.taught, expected)
    stacked = stack_clips([clips[0], clips[1]])
    assert not isinstance(stacked, Exception)
    assert stacked.taught is not None
    assert stacked.taught.shape == stacked.truth.shape


def test_clips_of_other_teachers_are_not_taken_for_its_own(root: Path) -> None:
    folders = set()
    for mode in (1, 2):
        clips = clips_of(root, Teacher(write_enlarger(root / "up.param", 2, mode), 2))
        assert clips.bank is not None
        folders.add(clips.bank.folder)
    alone = clips_of(root, None)
    assert alone.bank is not None
    assert len(folders | {alone.bank.folder}) == 3
    clip = alone[0]
    assert not isinstance(clip, Exception)
    assert clip.taught is None


def test_a_model_file_teaches_what_it_restores(root: Path) -> None:
    teacher = Teacher(root / "tiny.safetensors", 2)
    frames = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = Restorer.from_name(str(root / "tiny.safetensors"))(frames, scale=2)
    assert torch.equal(teacher(frames), expected)


def test_its_pictures_are_the_target_in_part_and_what_is_called_real(root: Path) -> None:
    model = load_model(str(root / "tiny.safetensors"), device="cpu")
    truth, pictures = torch.zeros(1, 3, 2, 16, 16), torch.ones(1, 3, 2, 16, 16)

    def targets(teacher: TeacherConfig | None) -> tuple[float, float]:
        adversary = AdversaryConfig(frames=2)
        data = data_config(frames=2, bank=BANK)
        config = TrainConfig(
            data=data, teacher=teacher, adversary=adversary, pixel_loss=PixelLossConfig()
        )
        found = Objective(model, config, lambda _: model.context)._targets(truth, pictures)
        return float(found[0].mean()), float(found[1].mean())

    path = "up.param"
    assert targets(None) == (0, 0)
    assert targets(TeacherConfig(path)) == (0, 1)
    assert targets(TeacherConfig(path, target=0.25)) == (0.25, 1)
    assert targets(TeacherConfig(path, real=False, target=1.0)) == (1, 0)


def test_a_run_learns_from_it_and_resumes(root: Path) -> None:
    write_enlarger(root / "up.param", 2)
    config = taught(root, TeacherConfig("up.param", real=False, target=1.0), steps=4)
    at = {"base": root}
    train(config, options(root, "whole", **at))
    for steps in (2, 4):
        train(dataclasses.replace(config, steps=steps), options(root, "parts", **at))
    assert_same_run(root, "whole", "parts")
    train(dataclasses.replace(config, teacher=None), options(root, "without", **at))
    assert log_of(root, "without")[0]["pixel"] != log_of(root, "whole")[0]["pixel"]


def test_a_teacher_of_another_scale_is_refused(root: Path) -> None:
    write_enlarger(root / "up.param", 3)
    config = taught(root, TeacherConfig("up.param", real=False, target=1.0))
    with pytest.raises(UsageError, match=r"restores 12x12 to 36x36: give .* enlarges 2x"):
        train(config, options(root, base=root))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("path = 'net.pth'", ["[teacher]", "net.pth", ".param or .safetensors"]),
        ("path = 'a.param'\ntarget = 1.5", ["target 1.5", "0 to 1"]),
        ("path = 'a.param'\nreal = false", ["no effect"]),
        ("path = 'a.param'", ["[teacher] real", "[adversary]"]),
    ],
)
def test_impossible_teachers_are_refused(text: str, named: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        config_from_toml(f"[data.bank]\n[teacher]\n{text}")
    assert all(each in str(caught.value) for each in named)


def test_what_a_teacher_needs_is_said(root: Path) -> None:
    with pytest.raises(UsageError, match=r"\[data\.bank\].*for \[teacher\]"):
        config_from_toml("[teacher]\npath = 'a.param'\nreal = false\ntarget = 1.0")
    with pytest.raises(UsageError, match=r"\[teacher\] path: .*up\.param is not a file"):
        Teacher(root / "up.param", 2)
    config = taught(root, TeacherConfig("up.param", real=False, target=1.0))
    assert config_from_toml(to_toml(config)) == config
