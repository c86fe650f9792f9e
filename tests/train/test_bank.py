"""Clips made once: what is cut out of them, that each comes equally often, and that how they came changes nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from starvsr.errors import UsageError
from starvsr.train.bank import Bank
from starvsr.train.clips import Clip
from starvsr.train.config import BankConfig, DataConfig
from starvsr.train.data import TrainingClips
from starvsr.train.sources import find_sources
from tests.train.toys import data_config, texture, write_sources, write_still

DATA = "digest"
BANK = BankConfig(clips=5, frames=5, crop=(24, 20))
CONFIG = data_config(frames=2, crop=(16, 16), flip=False, bank=BANK)


class Numbered:
    """Makes clips whose samples tell item, frame and place, and counts."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, item: int) -> Clip:
        self.made.append(item)
        frames, rows, columns = torch.meshgrid(
            torch.arange(5), torch.arange(24), torch.arange(20), indexing="ij"
        )
        truth = torch.stack([10 * frames + item, rows, columns], dim=1) / 255
        return Clip(truth, truth[..., ::2, ::2].clone(), (f"item {item}",), (item,))


def bank_at(folder: Path, config: DataConfig = CONFIG) -> tuple[Bank, Numbered]:
    make = Numbered()
    return Bank(config, folder, 0, DATA, make), make


def cut(bank: Bank, number: int) -> Clip:
    return bank.cut(number, np.random.default_rng([7, number]))


def test_every_item_comes_once_before_any_comes_again(tmp_path: Path) -> None:
    bank, make = bank_at(tmp_path)
    rounds = [
        [cut(bank, number).texts[0] for number in range(5 * turn, 5 * turn + 5)]
        for turn in (0, 1, 2)
    ]
    assert all(sorted(map(str, turn)) == [f"item {i}" for i in range(5)] for turn in rounds)
    assert rounds[0] != rounds[1] or rounds[1] != rounds[2]
    assert sorted(make.made) == list(range(5))


def test_a_cut_is_a_part_of_the_item_and_the_pair_fits(tmp_path: Path) -> None:
    bank, _ = bank_at(tmp_path)
    places = set()
    for number in range(40):
        clip = cut(bank, number)
        levels = (clip.truth * 255).round().int()
        assert clip.truth.shape == (2, 3, 16, 16)
        assert clip.degraded.shape == (2, 3, 8, 8)
        assert torch.equal(clip.truth[..., ::2, ::2], clip.degraded)
        frames = levels[:, 0, 0, 0] // 10
        assert frames.tolist() == [int(frames[0]), int(frames[0]) + 1]
        top, left = int(levels[0, 1, 0, 0]), int(levels[0, 2, 0, 0])
        assert torch.equal(levels[0, 1, :, 0], torch.arange(top, top + 16).int())
        assert clip.numbers == (number,)
        places.add((int(frames[0]), top, left))
    assert {place[0] for place in places} == {0, 1, 2, 3}
    assert len({place[1:] for place in places}) > 5
    assert all(top % 2 == 0 and left % 2 == 0 for _, top, left in places)


def test_skipping_takes_every_second_frame(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, frames=3, bank=dataclasses.replace(BANK, skips=0.5))
    bank, _ = bank_at(tmp_path, config)
    steps = set()
    for number in range(30):
        frames = (cut(bank, number).truth * 255).round().int()[:, 0, 0, 0] // 10
        steps |= set(frames.diff().tolist())
        assert len(frames) == 3
    assert steps == {1, 2}


def test_half_are_mirrored(tmp_path: Path) -> None:
    bank, _ = bank_at(tmp_path, dataclasses.replace(CONFIG, flip=True))
    mirrored = [bool(cut(bank, n).truth[0, 2, 0].diff()[0] < 0) for n in range(40)]
    assert 8 < sum(mirrored) < 32


def test_turned_clips_are_all_symmetries_of_a_square(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, flip=True, bank=dataclasses.replace(BANK, turns=True))
    bank, _ = bank_at(tmp_path, config)
    seen = set()
    for number in range(80):
        clip = cut(bank, number)
        # The signs in which the source's row and column numbers grow, down and to the right.
        truth, degraded = (
            tuple(
                int((level[0, channel, -1, -1] - corner).sign())
                for channel in (1, 2)
                for corner in (level[0, channel, 0, -1], level[0, channel, -1, 0])
            )
            for level in (clip.truth, clip.degraded)
        )
        assert truth == degraded
        seen.add(truth)
    assert len(seen) == 8


def test_only_squares_are_turned() -> None:
    bank = dataclasses.replace(BANK, turns=True)
    with pytest.raises(UsageError, match=r"\[data\] crop"):
        dataclasses.replace(CONFIG, crop=(16, 12), bank=bank)


def test_what_is_on_disk_already_changes_nothing(tmp_path: Path) -> None:
    first, _ = bank_at(tmp_path / "one")
    ahead = [cut(first, number) for number in range(5)]
    second, make = bank_at(tmp_path / "two")
    for number in (4, 2):
        assert torch.equal(cut(second, number).truth, ahead[number].truth)
    again, none = bank_at(tmp_path / "two")
    assert torch.equal(cut(again, 4).truth, ahead[4].truth)
    assert (len(make.made), none.made) == (2, [])


def test_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    bank, _ = bank_at(tmp_path)
    before = cut(bank, 3)
    (file,) = bank.folder.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    again, make = bank_at(tmp_path)
    assert torch.equal(cut(again, 3).truth, before.truth)
    assert len(make.made) == 1


def test_another_configuration_or_other_data_have_another_folder(tmp_path: Path) -> None:
    folders = {
        Bank(config, tmp_path, seed, data, Numbered()).folder
        for config, seed, data in (
            (CONFIG, 0, DATA),
            (CONFIG, 1, DATA),
            (CONFIG, 0, "others"),
            (dataclasses.replace(CONFIG, motion=2.0), 0, DATA),
            (dataclasses.replace(CONFIG, bank=dataclasses.replace(BANK, frames=6)), 0, DATA),
        )
    }
    assert len(folders) == 5
    # What is only cut differently is the same bank.
    longer = dataclasses.replace(CONFIG, frames=3, cache_mb=7)
    assert Bank(longer, tmp_path, 0, DATA, Numbered()).folder in folders


def test_training_clips_come_out_of_the_bank(tmp_path: Path) -> None:
    write_sources(tmp_path / "sources", frames=6)
    bank = BankConfig(clips=3, frames=5, crop=(24, 24))
    config = data_config(frames=2, bank=bank)
    clips = TrainingClips(config, find_sources(config.made, tmp_path), 0, tmp_path / "run")
    made = [clips[number] for number in range(6)]
    assert len(list((tmp_path / "run").rglob("*.safetensors"))) == 3
    again = TrainingClips(config, find_sources(config.made, tmp_path), 0, tmp_path / "run")
    for number, clip in enumerate(made):
        other = again[number]
        assert isinstance(clip, Clip)
        assert isinstance(other, Clip)
        assert clip.truth.shape == (2, 3, 16, 16)
        assert torch.equal(clip.truth, other.truth)
        assert torch.equal(clip.degraded, other.degraded)
    # Begun anew with other files, a run does not get the old ones' clips.
    for path in (tmp_path / "sources").iterdir():
        path.unlink()
    write_still(tmp_path / "sources/still9.png", texture(9)[0])
    others = TrainingClips(config, find_sources(config.made, tmp_path), 0, tmp_path / "run")
    for number, clip in enumerate(made):
        other = others[number]
        assert isinstance(clip, Clip)
        assert isinstance(other, Clip)
        assert not torch.equal(clip.truth, other.truth)


@pytest.mark.parametrize(
    ("bank", "match"),
    [
        ({"frames": 1}, "frames"),
        ({"crop": (14, 16)}, "crop"),
        ({"crop": (17, 17)}, "crop"),
        ({"clips": 0}, "clips"),
        ({"skips": 1.5}, "skips"),
        ({"skips": 0.5, "frames": 2}, "twice"),
    ],
)
def test_impossible_banks_are_refused(bank: dict[str, object], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        dataclasses.replace(CONFIG, bank=dataclasses.replace(BANK, **bank))  # type: ignore[arg-type]
