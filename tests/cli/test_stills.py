"""Photos by the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from starvsr.media.probe import probe
from starvsr.media.still import read_still
from starvsr.restore.levels import frames_to_tensor, tensor_to_frames
from starvsr.restore.upsample import resized
from tests.cli.conftest import Cli, listing
from tests.media.stills import deep, exif, profile, save


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return save(tmp_path / "photo.jpg", exif=exif(6), icc_profile=profile(), quality=95)


@pytest.mark.parametrize("model", ["nano", "toy"])
def test_a_photo_becomes_a_larger_one(cli: Cli, photo: Path, model: str) -> None:
    """48x64 as it is shown."""
    target = photo.with_name("large.png")
    result = cli("upscale", photo, target, "--model", model, "--json")
    assert result.code == 0, result.err
    assert "note: it is turned upright" in result.err
    done = json.loads(result.out)
    assert (done["event"], done["frames"], done["width"]) == ("done", 1, 192)
    assert sorted(listing(photo.parent)) == ["large.png", "photo.jpg"]
    with Image.open(photo) as before, Image.open(target) as after:
        shown = before.rotate(-90, expand=True).resize((192, 256), Image.Resampling.BICUBIC)
        difference = np.asarray(shown, int) - np.asarray(after, int)
        # The toy draws roughly, in the colours of the input.
        assert np.abs(difference.mean((0, 1))).max() < 3
        assert model == "toy" or np.abs(difference).mean() < 3
        assert after.info["icc_profile"] == profile()
        assert after.getexif()[0x0131].startswith(f"starvsr 0.1.0 {model}: 48x64 to 192x256")
    # Like any output, it is replaced on request alone, and then known as upscaled.
    again = cli("upscale", photo, target, "--model", model)
    assert again.code == 7 and "exists already" in again.error
    if model == "nano":
        twice = cli("upscale", target, photo.with_name("twice.webp"), "--scale", "1")
        assert "was already upscaled by starvsr" in twice.err


def test_16_bits_and_alpha_stay(cli: Cli, tmp_path: Path) -> None:
    source, target = deep(tmp_path / "a.png", 4), tmp_path / "b.tif"
    assert cli("upscale", source, target, "--scale", "2").code == 0
    facts = cli("info", target)
    assert "TIFF, 128x96, rgba64le (16 bit)" in facts.out


def test_plan_and_info_say_what_becomes_of_it(cli: Cli, photo: Path) -> None:
    plan = cli("plan", photo)
    assert f"{photo.with_name('photo-192x256.jpg')}: 192x256, jpeg rgb24" in plan.out
    assert "it is turned upright" in plan.out
    small = cli("plan", photo, "--model", "star-light", "--scale", "2")
    assert "star-light was trained on frames of 1280x720" in small.out
    assert "--model-scale 4 restores larger ones" in small.out
    facts = cli("info", photo)
    for words in ("JPEG, 48x64, rgb24 (8 bit)", "restored upright", "as one frame"):
        assert words in facts.out
    assert json.loads(cli("info", photo, "--json").out)["container"] == "still"


def test_a_folder_of_photos(cli: Cli, tmp_path: Path) -> None:
    """Each on its own, of its own size, with its own extension."""
    folder, large = tmp_path / "in", tmp_path / "large"
    folder.mkdir()
    save(folder / "a.jpg")
    Image.new("L", (20, 30), 99).save(folder / "b.PNG")
    save(folder / "c.jfif", format="JPEG")
    (folder / "notes.txt").write_text("no picture")
    (folder / "d.HEIC").write_bytes(b"no picture that can be read")
    refused = cli("upscale", folder, large, "--scale", "2")
    assert refused.code == 3 and "`starvsr upscale --stills` restores its pictures" in refused.error
    result = cli("upscale", folder, large, "--stills", "--scale", "2")
    assert result.code == 0, result.err
    assert "left out, since HEIC is not read: d.HEIC" in result.err
    sizes = {}
    for path in large.iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
    assert sizes == {"a.jpg": (128, 96), "b.PNG": (40, 60), "c.png": (128, 96)}
    # The rest of an interrupted batch is done by the same command.
    (large / "a.jpg").unlink()
    again = cli("upscale", folder, large, "--stills", "--scale", "2")
    assert again.code == 0 and again.err.count("already exists") == 2
    chosen = tmp_path / "webp"
    named = cli(
        "upscale", folder, chosen, "--stills", "--scale", "1", "--name-template", "{stem}.webp"
    )
    assert named.code == 0 and sorted(listing(chosen)) == ["a.webp", "b.webp", "c.webp"]


def test_stills_is_for_folders(cli: Cli, photo: Path, tmp_path: Path) -> None:
    result = cli("upscale", photo, tmp_path / "a.png", "--stills")
    assert (result.code, result.error) == (
        2,
        "--stills would have no effect on one input: leave it out or give several",
    )
    empty = tmp_path / "empty"
    empty.mkdir()
    result = cli("upscale", empty, tmp_path / "large", "--stills")
    assert result.code == 3 and "contains no picture" in result.error


def test_a_frame_of_a_video_becomes_a_picture(cli: Cli, clip: Path) -> None:
    target = clip.with_name("frame.png")
    result = cli("upscale", clip, target, "--scale", "1")
    assert result.code == 7
    assert "frame.png is one picture, and the input has 12 frames: give --frames 1" in result.error
    assert "frame-%06d.png" in result.error
    result = cli("upscale", clip, target, "--scale", "1", "--frames", "1")
    assert result.code == 0 and target.exists()


def test_what_moves_needs_a_way(cli: Cli, tmp_path: Path) -> None:
    pages = [Image.new("RGB", (64, 48), color) for color in ("red", "blue")]
    source = tmp_path / "a.gif"
    pages[0].save(source, save_all=True, append_images=pages[1:])
    result = cli("upscale", source, tmp_path / "b.png", "--scale", "1")
    assert result.code == 7 and "the input has 2 frames: give --frames 1" in result.error
    result = cli("upscale", source, tmp_path / "b.png", "--scale", "1", "--frames", "1")
    assert result.code == 0
    with Image.open(tmp_path / "b.png") as image:
        assert image.convert("RGB").getpixel((32, 24)) == pytest.approx((255, 0, 0), abs=3)


def test_a_preview_is_of_videos(cli: Cli, photo: Path) -> None:
    result = cli("upscale", photo, photo.with_name("a.png"), "--preview", "1")
    assert result.code == 2
    assert result.error == f"--preview is for videos, and {photo} is one picture: leave it out"


def test_compare_and_evaluate(cli: Cli, photo: Path) -> None:
    target, page = photo.with_name("large.png"), photo.with_name("page.html")
    assert cli("upscale", photo, target, "--scale", "4").code == 0
    result = cli("compare", photo, target, "--resize", "-o", page, "--metrics", "psnr_y,ssim_y")
    assert result.code == 0, result.err
    assert "page.html: 1 frame\n" in result.err and page.stat().st_size > 1000
    result = cli("evaluate", target, target, "--metrics", "psnr_y", "--json")
    assert result.code == 0
    assert json.loads(result.out)["clips"][0]["mean"]["psnr_y"] == 100


def test_a_large_picture_in_strips_is_the_same(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its alpha, to a level: the strips differ from the whole in the last bits of a float."""
    rows, columns = np.mgrid[:300, :24]
    picture = np.stack([rows % 256, columns * 9, (rows * columns) % 256, rows // 2 + 60], -1)
    Image.fromarray(picture.astype(np.uint8)).save(tmp_path / "a.png")
    assert cli("upscale", tmp_path / "a.png", tmp_path / "whole.png").code == 0
    monkeypatch.setattr("starvsr.plan.strips.STRIP_ELEMENTS", 1)
    assert "10 of 24x" in cli("plan", tmp_path / "a.png").out
    assert cli("upscale", tmp_path / "a.png", tmp_path / "strips.png").code == 0
    with Image.open(tmp_path / "whole.png") as whole, Image.open(tmp_path / "strips.png") as strips:
        assert whole.mode == strips.mode == "RGBA"
        difference = np.abs(np.asarray(whole, int) - np.asarray(strips, int))
    assert difference.max() <= 1 and difference.mean() < 0.01


def test_a_model_scale_is_a_larger_job_and_reducing_by_hand(cli: Cli, tmp_path: Path) -> None:
    source = deep(tmp_path / "a.png", 4)
    four, two = tmp_path / "4.png", tmp_path / "2.png"
    assert cli("upscale", source, four).code == 0
    planned = cli("plan", source, two, "--scale", "2", "--model-scale", "4").out
    assert "128x96, png rgba64le" in planned and "restored  at 256x192" in planned
    assert cli("upscale", source, two, "--scale", "2", "--model-scale", "4").code == 0
    large, small = (read_still(probe(path), alpha=True) for path in (four, two))
    (by_hand,) = tensor_to_frames(resized(frames_to_tensor([large[..., :3]]), (96, 128)))
    assert np.abs(small[..., :3].astype(int) - by_hand.astype(int)).max() <= 2
    with Image.open(two) as image:
        assert image.getexif()[0x0131].endswith("64x48 to 128x96, --model-scale 4.0")


def test_formats_of_pictures_are_named(cli: Cli, tmp_path: Path) -> None:
    refused = cli("upscale", save(tmp_path / "photo.png"), tmp_path / "large.heic")
    assert refused.code == 7
    assert refused.error.endswith(
        "%06d.png for images, or for one picture one of .png, .tif, .tiff, .jpg, .jpeg, .webp, .bmp, .avif"
    )
