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
from starvsr.train.clips import Clip
from starvsr.train.config import BankConfig, PixelLossConfig, TrainConfig, config_from_toml
from starvsr.train.data import TrainingClips, stack_clips
from starvsr.train.objective import Objective
from starvsr.train.sources import find_sources
from starvsr.train.tables import to_toml
from starvsr.train.teacher import Teacher, TeacherConfig
from starvsr.train.trainer import train
from starvsr.zoo.load import load_model
from tests.train.ncnn_files import tagged, write_enlarger, write_ncnn
from tests.train.test_data import pair_config, upright_pair
from tests.train.toys import assert_same_run, config_of, data_config, log_of, options

BANK = BankConfig(clips=3, frames=2, crop=(24, 24), turns=True)


def taught(root: Path, teacher: TeacherConfig, **changes: Any) -> TrainConfig:
    data = data_config(frames=2, bank=BANK)
    return config_of(root, data=data, teacher=teacher, **changes)


def teacher_of(root: Path, path: str = "up.param", **changes: Any) -> Teacher:
    return Teacher(TeacherConfig(path, **changes), root, 2)


def clips_of(root: Path, teacher: Teacher | None, **changes: Any) -> TrainingClips:
    config = data_config(**{"frames": 2, "bank": BANK, **changes})
    return TrainingClips(config, find_sources(config.made, root), 0, root / "run", teacher)


def test_a_clip_has_the_teachers_picture_cut_and_turned_alike(root: Path) -> None:
    write_enlarger(root / "up.param", 2)
    clips = clips_of(root, pickle.loads(pickle.dumps(teacher_of(root))))
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
        clips = clips_of(root, teacher_of(write_enlarger(root / "up.param", 2, mode).parent))
        assert clips.bank is not None
        folders.add(clips.bank.folder)
    alone = clips_of(root, None)
    assert alone.bank is not None
    assert len(folders | {alone.bank.folder}) == 3
    clip = alone[0]
    assert not isinstance(clip, Exception)
    assert clip.taught is None


def test_only_clips_of_its_degradations_are_taught(root: Path) -> None:
    write_enlarger(root / "up.param", 2)
    changes = {
        "bank": dataclasses.replace(BANK, clips=8),
        "degradations": {"light": 0.5, "clean": 0.5},
    }
    some = clips_of(root, teacher_of(root, degradations=("light",)), **changes)
    all_of_them = clips_of(root, teacher_of(root), **changes)
    assert some.bank is not None and all_of_them.bank is not None
    assert some.bank.folder != all_of_them.bank.folder
    clips = [some[number] for number in range(8)]
    assert {clip.taught is None for clip in clips if isinstance(clip, Clip)} == {True, False}
    stacked = stack_clips(clips)
    assert isinstance(stacked, Clip) and stacked.taught is not None
    assert stacked.is_taught == tuple(c.taught is not None for c in clips if isinstance(c, Clip))
    for number, is_taught in enumerate(stacked.is_taught):
        assert torch.equal(stacked.taught[number], stacked.truth[number]) is not is_taught


def test_a_model_file_teaches_what_it_restores(root: Path) -> None:
    teacher = teacher_of(root, "tiny.safetensors")
    frames = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = Restorer.from_name(str(root / "tiny.safetensors"))(frames, scale=2)
    assert torch.equal(teacher(frames), expected)


def test_a_model_file_computes_in_the_precision_that_is_said(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever `auto` is on the machine."""
    teachers = [teacher_of(root, "tiny.safetensors", precision=each) for each in ("fp32", "bf16")]
    frames = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    before = [teacher(frames) for teacher in teachers]
    monkeypatch.setenv("STARVSR_PRECISION", "bf16")
    again = [teacher_of(root, "tiny.safetensors", precision=each) for each in ("fp32", "bf16")]
    assert [torch.equal(a(frames), b) for a, b in zip(again, before, strict=True)] == [True, True]


def test_half_precision_is_another_bank_with_nearly_the_same_pictures(root: Path) -> None:
    write_enlarger(root / "up.param", 2)
    whole, half = (teacher_of(root, precision=each) for each in ("fp32", "bf16"))
    frames = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert whole.digest != half.digest
    assert half(frames).dtype == torch.float32
    torch.testing.assert_close(half(frames), whole(frames), atol=0.01, rtol=0)


def test_its_pictures_are_the_target_in_part_and_what_is_called_real(root: Path) -> None:
    model = load_model(str(root / "tiny.safetensors"), device="cpu")
    truth, pictures = torch.zeros(2, 3, 2, 16, 16), torch.full((2, 2, 3, 16, 16), 1.0)

    def targets(teacher: TeacherConfig | None, *, first: bool = True) -> tuple[float, float]:
        """Of two clips, of which the second is taught and the first may be."""
        adversary = AdversaryConfig(frames=2)
        data = data_config(frames=2, bank=BANK)
        config = TrainConfig(
            data=data, teacher=teacher, adversary=adversary, pixel_loss=PixelLossConfig()
        )
        clip = Clip(truth, truth, ("", ""), (0, 1), pictures, (first, True))
        found = Objective(model, config, lambda _: model.context)._targets(truth, clip)
        return float(found[0].mean()), float(found[1].mean())

    path = "up.param"
    assert targets(None) == (0, 0)
    assert targets(TeacherConfig(path)) == (0, 1)
    assert targets(TeacherConfig(path, target=0.25)) == (0.25, 1)
    assert targets(TeacherConfig(path, real=False, target=1.0)) == (1, 0)
    assert targets(TeacherConfig(path, target=0.5), first=False) == (0.25, 0.5)


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
    with pytest.raises(UsageError, match=r"restores 16x16 to 48x48: give .* enlarges 2x"):
        train(config, options(root, base=root))


@pytest.mark.parametrize(("channels", "said"), [(1, "RGB pictures"), (3, "gives pictures of 2")])
def test_a_teacher_of_other_pictures_is_refused(root: Path, channels: int, said: str) -> None:
    lines = ["Input in 0 1 data", f"Convolution c 1 1 data out 0=2 1=1 5=0 6={2 * channels}"]
    write_ncnn(root / "up.param", lines, tagged(torch.zeros(2 * channels)))
    with pytest.raises(UsageError, match=rf"\[teacher\] path = .*up\.param.* {said}"):
        teacher_of(root)(torch.zeros(1, 3, 8, 8))


def test_a_teacher_of_no_clip_is_refused(root: Path) -> None:
    write_enlarger(root / "up.param", 2)
    upright_pair(root)
    teacher = TeacherConfig("up.param", real=False, target=1.0, degradations=("clean",))
    bank = dataclasses.replace(BANK, crop=(16, 16))
    data = pair_config(frames=2, bank=bank)
    with pytest.raises(UsageError, match=r"degradations has no effect: all clips .* came degraded"):
        train(config_of(root, data=data, teacher=teacher), options(root, base=root))


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("path = 'net.pth'", ["[teacher]", "net.pth", ".param or .safetensors"]),
        ("path = 'a.param'\ntarget = 1.5", ["target 1.5", "0 to 1"]),
        ("path = 'a.param'\nreal = false", ["no effect"]),
        ("path = 'a.param'", ["[teacher] real", "[adversary]"]),
        ("path = 'a.param'\nprecision = 'fp16'", ["precision 'fp16'", "fp32, bf16"]),
        (
            "path = 'a.param'\nreal = false\ntarget = 1.0\ndegradations = ['dvd']",
            ["[teacher] degradations", "dvd", "light, heavy"],
        ),
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
        teacher_of(root)
    config = taught(root, TeacherConfig("up.param", real=False, target=1.0))
    assert config_from_toml(to_toml(config)) == config
