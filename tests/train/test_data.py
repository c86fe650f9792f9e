"""Training data: the same clips whatever reads them, pairs that fit, and files that cannot be used."""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from starvsr.errors import InputError, StarvsrError
from starvsr.media.deadline import VARIABLE
from starvsr.train import scan
from starvsr.train.clips import Clip, ClipMaker, _span, validation_clip
from starvsr.train.config import DataConfig, FolderConfig, ValidationConfig
from starvsr.train.data import StepSampler, TrainingClips, load_clips, stack_clips
from starvsr.train.scan import Media
from starvsr.train.sources import Source, SourceFolder, data_digest, find_sources
from starvsr.types import VideoIndex
from tests.conftest import video_info
from tests.media.stills import HAS_AVIF
from tests.train.toys import (
    data_config,
    texture,
    write_damaged_video,
    write_sources,
    write_still,
    write_video,
)


def clips_of(config: DataConfig, root: Path, seed: int = 0) -> TrainingClips:
    return TrainingClips(config, find_sources(config, root), seed)


def clip(clips: TrainingClips, number: int) -> Clip:
    made = clips[number]
    assert isinstance(made, Clip), made
    return made


def same(first: Clip, second: Clip) -> bool:
    return (
        torch.equal(first.truth, second.truth)
        and torch.equal(first.degraded, second.degraded)
        and (first.texts, first.numbers) == (second.texts, second.numbers)
    )


def names(sources: Sequence[Source]) -> list[str]:
    return [source.name for source in sources]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_sources(tmp_path / "sources")
    return tmp_path


MOVING = data_config(frames=3, foregrounds=0.5, degradations={"clean": 1.0, "light": 1.0})


@pytest.mark.parametrize("config", [data_config(), MOVING], ids=["frames", "clips"])
def test_a_clip_is_a_function_of_seed_and_number(config: DataConfig, root: Path) -> None:
    clips, again = clips_of(config, root), clips_of(config, root)
    order = [3, 11, 0, 7, 3]
    made = {number: clip(clips, number) for number in sorted(order)}
    for number in order:
        assert same(clip(again, number), made[number])
    assert not same(made[3], made[7])
    other = clip(clips_of(config, root, seed=1), 3)
    assert not torch.equal(other.truth, made[3].truth)
    for each in made.values():
        assert each.truth.shape == (config.frames, 3, 16, 16)
        assert each.degraded.shape == (config.frames, 3, 8, 8)
        for tensor in (each.truth, each.degraded):
            assert tensor.dtype == torch.float32
            assert 0 <= float(tensor.min()) < float(tensor.max()) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_data(root: Path, workers: int) -> None:
    clips = clips_of(MOVING, root)
    sampler = StepSampler(range(2, 5), batch=4, micro_batch=3)
    alone = list(load_clips(clips, sampler, 0))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        shared = list(load_clips(clips, sampler, workers))
    finally:
        torch.set_num_threads(threads)
    assert [each.numbers for each in alone] == [
        (8, 9, 10), (11,), (12, 13, 14), (15,), (16, 17, 18), (19,)
    ]  # fmt: skip
    assert len(alone) == len(shared) == len(sampler)
    assert all(same(a, b) for a, b in zip(alone, shared, strict=True))


@pytest.mark.parametrize("processes", [1, 2, 4])
def test_processes_share_each_step(processes: int) -> None:
    taken = [
        [list(StepSampler(range(s, s + 1), 8, 3, p, processes)) for p in range(processes)]
        for s in (0, 1)
    ]
    for step, shares in enumerate(taken):
        numbers = [number for share in shares for micro in share for number in micro]
        assert numbers == list(range(8 * step, 8 * step + 8))
        assert all(len(micro) <= 3 for share in shares for micro in share)


def upright_pair(root: Path, frames: int = 5) -> Path:
    """A pair whose truth shows every degraded pixel as a square of four."""
    small = texture(5, frames, 24)
    write_video(root / "pairs/lq/a.mkv", small)
    write_video(root / "pairs/gt/a.mkv", small.repeat(2, axis=1).repeat(2, axis=2))
    return root


def pair_config(**changes: Any) -> DataConfig:
    return data_config(folders=(FolderConfig("pairs"),), **changes)


def test_pairs_are_cut_at_the_same_place_and_time(tmp_path: Path) -> None:
    clips = clips_of(pair_config(frames=2), upright_pair(tmp_path))
    places = set()
    for number in range(12):
        made = clip(clips, number)
        assert torch.equal(made.truth[..., ::2, ::2], made.degraded)
        assert torch.equal(made.truth[..., 1::2, 1::2], made.degraded)
        places.add(made.degraded.numpy().tobytes())
    assert len(places) > 8


def test_texts_are_read_and_dropped(tmp_path: Path) -> None:
    upright_pair(tmp_path)
    assert clip(clips_of(pair_config(), tmp_path), 0).texts == (None,)
    (tmp_path / "pairs/text").mkdir()
    (tmp_path / "pairs/text/a.txt").write_text(" a moving pattern\n")
    assert clip(clips_of(pair_config(), tmp_path), 0).texts == ("a moving pattern",)
    clips = clips_of(pair_config(text_drop=0.5), tmp_path)
    texts = [clip(clips, number).texts[0] for number in range(60)]
    assert set(texts) == {"", "a moving pattern"}
    assert 15 < texts.count("") < 45


def test_a_missing_pair_is_named(tmp_path: Path) -> None:
    upright_pair(tmp_path)
    alone = write_video(tmp_path / "pairs/gt/b.mkv", texture(1, 5, 48))
    with pytest.raises(InputError, match=r"gt/b\.mkv has no pair: .*lq/b"):
        find_sources(pair_config(), tmp_path)
    alone.rename(tmp_path / "pairs/lq/b.mkv")
    with pytest.raises(InputError, match=r"lq/b\.mkv has no pair in .*gt"):
        find_sources(pair_config(), tmp_path)


@pytest.mark.parametrize("where", ["gt", "lq"])
def test_two_files_of_one_name_are_no_pair(tmp_path: Path, where: str) -> None:
    upright_pair(tmp_path)
    write_video(tmp_path / "pairs" / where / "a.avi", texture(1, 5, 48))
    with pytest.raises(InputError, match=rf"{where}/a\.avi and .*{where}/a\.mkv would form one"):
        find_sources(pair_config(), tmp_path)


def test_pairs_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    upright_pair(tmp_path)
    write_video(tmp_path / "pairs/lq/a.mkv", texture(5, 4, 24))
    with pytest.raises(InputError, match=r"lq/a\.mkv has 4 frames and .*gt/a\.mkv has 5"):
        find_sources(pair_config(), tmp_path)
    write_video(tmp_path / "pairs/lq/a.mkv", texture(5, 5, 20))
    with pytest.raises(InputError, match=r"lq/a\.mkv is 20x20 and .*at scale 2 .*must be 40x40"):
        find_sources(pair_config(), tmp_path)


def test_pairs_inside_a_folder_of_sources_are_told(tmp_path: Path) -> None:
    upright_pair(tmp_path)
    write_still(tmp_path / "still.png", texture(9)[0])
    for path in (".", "pairs/.."):
        with pytest.raises(InputError, match=r"pairs contains pairs, but .* folder of sources"):
            find_sources(data_config(folders=(FolderConfig(path),)), tmp_path)


def test_the_digest_follows_what_is_trained_on(root: Path, tmp_path: Path) -> None:
    def digest() -> str:
        return data_digest(find_sources(data_config(), root))

    first = digest()
    for path in (root / "sources").iterdir():
        os.utime(path, ns=(1, 1))
    assert digest() == first
    added = write_still(root / "sources/zz.png", texture(9)[0])
    digests = {first, digest()}
    write_still(added, texture(9)[0] // 2)
    digests.add(digest())
    added.rename(root / "sources/zzz.png")
    digests.add(digest())
    assert len(digests) == 4
    (root / "sources/zzz.png").unlink()
    assert digest() == first
    shutil.copytree(root / "sources", tmp_path / "copy/sources")
    assert data_digest(find_sources(data_config(), tmp_path / "copy")) == first


def test_the_digest_follows_an_edit_that_keeps_the_size(tmp_path: Path) -> None:
    (tmp_path / "sources").mkdir()
    digests = set()
    for seed in (1, 2):
        still = write_still(tmp_path / "sources/a.bmp", texture(seed)[0])
        folders = find_sources(data_config(), tmp_path, cache=tmp_path / "files.json")
        digests.add((still.stat().st_size, data_digest(folders)))
    assert len(digests) == 2
    assert len({size for size, _ in digests}) == 1


def test_the_digest_follows_texts(tmp_path: Path) -> None:
    upright_pair(tmp_path)
    first = data_digest(find_sources(pair_config(), tmp_path))
    (tmp_path / "pairs/text").mkdir()
    (tmp_path / "pairs/text/a.txt").write_text("a pattern")
    assert data_digest(find_sources(pair_config(), tmp_path)) != first


def test_what_cannot_be_used_is_counted_and_named_once(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = find_sources(data_config(frames=4), root)[0].training
    broken = write_still(root / "sources/broken.png", texture(9)[0])
    broken.write_bytes(broken.read_bytes()[:-200])
    cut = write_video(root / "sources/cut.mkv", texture(8, 6))
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    (root / "sources/text.mp4").write_text("not a video")
    write_still(root / "sources/small.png", texture(9, side=15)[0])
    write_video(root / "sources/short.mkv", texture(9, 3))
    (root / "sources/notes.txt").write_text("not counted")
    write_still(root / "sources/.hidden.png", texture(9)[0])
    with caplog.at_level(logging.WARNING):
        found = find_sources(data_config(frames=4), root)
    assert names(found[0].training) == names(good)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert messages[0].startswith("5 of 9 training files are left out: ")
    for name in ("broken.png", "cut.mkv", "text.mp4", "small.png", "short.mkv"):
        assert name in messages[0]
    assert "15x15 is smaller than the crop of 16x16" in messages[0]
    assert "longest shot has 3 frames of 4" in messages[0]


def test_frames_that_the_decoder_guessed_are_not_trained_on(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = find_sources(data_config(), root)[0].training
    write_damaged_video(root / "sources/scratched.mkv", texture(8, 6, 64))
    with caplog.at_level(logging.WARNING):
        found = find_sources(data_config(), root)
    assert names(found[0].training) == names(good)
    message = caplog.records[-1].getMessage()
    assert message.startswith("1 of 5 training files are left out: ")
    assert "scratched.mkv (damaged frames: 1)" in message


def test_nothing_left_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="64x64 pixels and 1 frames"):
        find_sources(data_config(crop=(64, 64)), root)
    with pytest.raises(InputError, match="other is not a folder"):
        find_sources(data_config(folders=(FolderConfig("other"),)), root)
    with pytest.raises(InputError, match="at least one"):
        find_sources(data_config(folders=()), root)


@pytest.mark.parametrize(
    ("folder", "held_out"),
    [
        ({"held_out": ("clip1.*",)}, ["clip1.mkv"]),
        ({"held_out": ("*/deep.png",)}, ["inner/deep.png"]),
        ({"held_out_every": 2}, ["clip1.mkv", "inner/deep.png", "still2.png"]),
    ],
)
def test_validation_files_are_kept_out(
    root: Path, folder: dict[str, Any], held_out: list[str]
) -> None:
    write_still(root / "sources/inner/deep.png", texture(7)[0])
    config = data_config(folders=(FolderConfig("sources", **folder),))
    found = find_sources(config, root)[0]
    assert names(found.held_out) == held_out
    assert len(found.training) + len(held_out) == 5
    assert not set(names(found.training)) & set(held_out)


@pytest.mark.parametrize(
    ("pattern", "named"), [("still0.png", ""), ("*.mkv", ""), ("still0", "contains clip1.mkv, ")]
)
def test_a_pattern_that_holds_nothing_out_is_told(
    root: Path, caplog: pytest.LogCaptureFixture, pattern: str, named: str
) -> None:
    folder = FolderConfig("sources", held_out=(pattern,))
    with caplog.at_level(logging.WARNING):
        find_sources(data_config(folders=(folder,)), root)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == bool(named)
    assert all(f"held_out {pattern!r} matches no file" in each and named in each for each in said)


def test_folders_weigh_as_told(root: Path) -> None:
    write_sources(root / "more", 1)
    folders = (FolderConfig("sources", weight=1), FolderConfig("more", weight=4))
    clips = clips_of(data_config(folders=folders), root)
    rare = clips_of(data_config(folders=folders[::-1]), root)
    assert clips.shares.tolist() == [0.2, 0.8]
    assert rare.shares.tolist() == [0.8, 0.2]
    # The second folder has the still of seed 0 alone.
    still = torch.from_numpy(texture(0)[0]).permute(2, 0, 1) / 255
    shown = sum(is_cut_of(clip(clips, number).truth[0], still) for number in range(40))
    assert 26 <= shown <= 40


def is_cut_of(cut: Tensor, still: Tensor) -> bool:
    height, width = cut.shape[1:]
    for mirrored in (cut, cut.flip(-1)):
        views = still.unfold(1, height, 1).unfold(2, width, 1)
        distance = (views - mirrored[:, None, None]).abs().amax(dim=(0, 3, 4))
        if float(distance.min()) < 1e-3:
            return True
    return False


def test_findings_are_kept_and_used_again(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "sources/text.mp4").write_text("not a video")
    cache = root / "files.json"
    first = find_sources(data_config(), root, cache=cache)

    def refuse(*_: object) -> None:
        raise AssertionError("decoded again")

    with monkeypatch.context() as patched:
        patched.setattr(scan, "build_index", refuse)
        patched.setattr(scan, "open_still", refuse)
        caplog.clear()
        assert find_sources(data_config(), root, cache=cache) == first
        assert "text.mp4" in caplog.text
        write_still(root / "sources/still0.png", texture(3)[0])
        with pytest.raises(AssertionError, match="decoded again"):
            find_sources(data_config(), root, cache=cache)
    cache.write_text("{broken")
    assert names(find_sources(data_config(), root, cache=cache)[0].training) == names(
        first[0].training
    )


def test_a_file_that_changes_while_training_is_named(root: Path) -> None:
    clips = clips_of(data_config(), root)
    for path in (root / "sources").iterdir():
        path.unlink()
    made = clips[0]
    assert isinstance(made, StarvsrError)
    assert str(root / "sources") in str(made)
    with pytest.raises(StarvsrError, match="sources"):
        list(load_clips(clips, StepSampler(range(1), 2, 2), 0))
    assert isinstance(stack_clips([made]), StarvsrError)


def test_spans_stay_within_shots() -> None:
    index = VideoIndex(tuple(range(20)), (1,) * 20, (0,), cuts=(3, 10, 12))
    media = Media(Path("x"), 8, 8, 20, "", (video_info(), index))
    assert media.shots == [(0, 3), (3, 10), (10, 12), (12, 20)]
    rng = np.random.default_rng(0)
    starts = {_span(media, 4, rng) for _ in range(400)}
    assert starts == {(s, s + 4) for s in (3, 4, 5, 6, 12, 13, 14, 15, 16)}
    assert {_span(media, 8, rng) for _ in range(9)} == {(12, 20)}


def test_sources_are_reduced_before_they_are_cut(root: Path) -> None:
    folders = (FolderConfig("sources", resize=(0.5, 0.5)),)
    config = data_config(folders=folders, flip=False)
    still = next(s for s in find_sources(config, root)[0].training if s.truth.video is None)
    truth, *_ = ClipMaker(config)(still, (0.5, 0.5), np.random.default_rng(0))
    # Half of 32 pixels is all that a crop of 16 can show.
    picture = torch.from_numpy(texture(int(still.name[5]))[0]).permute(2, 0, 1).float() / 255
    whole = torch.nn.functional.interpolate(
        picture[None], size=(16, 16), mode="bicubic", antialias=True
    )
    torch.testing.assert_close(truth, whole.clamp(0, 1))


def test_half_of_the_clips_are_mirrored(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 32).astype(np.uint8)[None, :, None], (32, 32, 3))
    write_still(tmp_path / "sources/ramp.png", np.ascontiguousarray(ramp))
    clips = clips_of(data_config(), tmp_path)
    made = [clip(clips, number) for number in range(40)]
    falls = [bool(each.truth[0, 0, 0, 0] > each.truth[0, 0, 0, -1]) for each in made]
    assert 10 < sum(falls) < 30
    for each, fall in zip(made, falls, strict=True):
        assert bool(each.degraded[0, 0, 0, 0] > each.degraded[0, 0, 0, -1]) == fall
    plain = clips_of(data_config(flip=False), tmp_path)
    assert not any(
        clip(plain, n).truth[0, 0, 0, 0] > clip(plain, n).truth[0, 0, 0, -1] for n in range(12)
    )


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_of_16_bits_keeps_its_levels(tmp_path: Path, suffix: str) -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    path = tmp_path / f"grey{suffix}"
    Image.fromarray(levels * 257).save(path)
    assert np.array_equal(np.asarray(scan.open_still(path)), np.stack([levels] * 3, axis=-1))


def test_a_still_that_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "0.4")
    end = threading.Event()
    monkeypatch.setattr(Image, "open", lambda _: end.wait())
    with pytest.raises(InputError, match=r"a\.png cannot be read: .* 0\.4 seconds"):
        scan.open_still(tmp_path / "a.png")
    end.set()


def test_a_still_without_a_range_is_not_guessed_at(tmp_path: Path) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(np.zeros((4, 4), np.float32)).save(path)
    with pytest.raises(InputError, match=r"float\.tif: cannot be decoded \(its floating-point"):
        scan.open_still(path)


def test_stills_are_kept_within_their_memory(tmp_path: Path) -> None:
    folder = write_sources(tmp_path / "sources", 1)
    for number in range(3):
        write_still(folder / f"large{number}.png", texture(number, side=600)[0])
    clips = clips_of(data_config(cache_mb=2), tmp_path)
    for number in range(20):
        clip(clips, number)
    stills = clips.maker.stills
    assert 0 < stills.bytes <= 2e6
    assert stills.bytes == sum(samples.nbytes for samples in stills.kept.values())


@pytest.mark.parametrize("frames", [1, 3])
def test_validation_clips_are_the_middle_and_always_the_same(root: Path, frames: int) -> None:
    config = data_config()
    (folder,) = find_sources(config, root)
    validation = ValidationConfig(frames=frames, crop=(21, 0))
    for source in folder.training:
        first, again = (
            validation_clip(source, config, validation, "light", seed=4) for _ in range(2)
        )
        assert same(first, again)
        assert first.truth.shape == (frames, 3, 20, 32)
        assert first.degraded.shape == (frames, 3, 10, 16)
        other = validation_clip(source, config, validation, "clean", seed=4)
        assert torch.equal(other.truth, first.truth)
        assert not torch.equal(other.degraded, first.degraded)


def test_every_validation_clip_has_a_draw_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_still(tmp_path / f"sources/{name}.png", texture(3)[0])
    (folder,) = find_sources(data_config(), tmp_path)
    one, two = (
        validation_clip(source, data_config(), ValidationConfig(), "heavy", seed=4)
        for source in folder.training
    )
    assert torch.equal(one.truth, two.truth)
    assert not torch.equal(one.degraded, two.degraded)


def test_validation_pairs_are_not_degraded_again(tmp_path: Path) -> None:
    config = pair_config()
    (folder,) = find_sources(config, upright_pair(tmp_path))
    made = validation_clip(
        folder.training[0], config, ValidationConfig(frames=3, crop=(20, 20)), "pair", seed=0
    )
    assert made.truth.shape == (3, 3, 20, 20)
    assert torch.equal(made.truth[..., ::2, ::2], made.degraded)


def test_a_source_folder_is_plain_data(root: Path) -> None:
    (folder,) = find_sources(data_config(), root)
    assert isinstance(folder, SourceFolder)
    assert dataclasses.replace(folder) == folder
    assert hash(folder.training[0].truth)


def test_linked_folders_are_data_each_once(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    for number, folder in enumerate((tmp_path / "data", elsewhere)):
        write_still(folder / f"{number}.png", texture(number)[0])
    (tmp_path / "data" / "link").symlink_to(elsewhere)
    (tmp_path / "data" / "link2").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(tmp_path / "data")
    (found,) = find_sources(data_config(folders=(FolderConfig("data"),)), tmp_path)
    assert names(found.training) == ["0.png", "link/1.png"]


def test_pictures_of_other_kinds(tmp_path: Path) -> None:
    kinds = [*(["avif"] if HAS_AVIF else []), "jfif", "jp2", "ppm", "tga"]
    for kind in kinds:
        picture = Image.fromarray(texture(1)[0])
        (tmp_path / "data").mkdir(exist_ok=True)
        picture.save(tmp_path / "data" / f"a.{kind}", format={"jfif": "JPEG"}.get(kind))
    (found,) = find_sources(data_config(folders=(FolderConfig("data"),)), tmp_path)
    assert names(found.training) == [f"a.{kind}" for kind in kinds]


def test_what_the_system_refused_to_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that cannot be decoded stays so; one on a disk that was away does not."""
    path = write_still(tmp_path / "a.png", texture(1)[0])
    (tmp_path / "b.png").write_bytes(b"no picture")
    cache = tmp_path / "files.json"

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", refuse)
        first = scan.Scan(cache)
        assert "Permission denied" in str(first(path))
        first.save()
    again = scan.Scan(cache)
    assert isinstance(again(path), Media)
    assert "cannot identify" in str(again(tmp_path / "b.png"))
    again.save()
    with monkeypatch.context() as patched:
        patched.setattr(Image, "open", refuse)
        assert "cannot identify" in str(scan.Scan(cache)(tmp_path / "b.png"))


@pytest.mark.parametrize("content", ['{"a.png": 3}', '{"a.png": {}}', "[]", "{"])
def test_findings_that_are_none_are_made_again(tmp_path: Path, content: str) -> None:
    path = write_still(tmp_path / "a.png", texture(1)[0])
    (tmp_path / "files.json").write_text(content.replace("a.png", str(path)))
    assert isinstance(scan.Scan(tmp_path / "files.json")(path), Media)
