"""Still pictures as source."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from starvsr.errors import InputError, UsageError
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.still import STILL, is_still, read_still, still_facts
from tests.media.clips import make
from tests.media.stills import HAS_AVIF, deep, exif, profile, samples, save

needs_avif = pytest.mark.skipif(not HAS_AVIF, reason="this Pillow has no AVIF")


def read(path: Path, *, alpha: bool = False) -> npt.NDArray[np.uint16]:
    info = probe(path)
    index = build_index(info)
    assert (info.container, index.frames, info.header_frames) == (STILL, 1, 1)
    (frame,) = read_frames(info, index, 0, 1, alpha=alpha)
    assert frame.shape == (info.height, info.width, 4 if alpha else 3)
    return frame


def wide(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    return picture.astype(np.uint16) * 257


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.webp", "A.PNG", "png inside.jpg"])
def test_colours_are_exact(tmp_path: Path, name: str) -> None:
    more: dict[str, Any] = {"lossless": True} if name.endswith("webp") else {}
    if "inside" in name:
        more["format"] = "PNG"
    path = save(tmp_path / name, **more)
    assert np.array_equal(read(path), wide(samples(3)))
    assert probe(path).pix_fmt == "rgb24"
    assert (read(path, alpha=True)[..., 3] == 65535).all()


@pytest.mark.parametrize("name", ["a.jpg", pytest.param("a.avif", marks=needs_avif)])
def test_lossy_colours_are_close(tmp_path: Path, name: str) -> None:
    found = read(save(tmp_path / name, quality=95))
    assert np.abs(found / 257 - samples(3)).mean() < 4


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_are_exact(tmp_path: Path, suffix: str, channels: int) -> None:
    path = deep(tmp_path / f"a{suffix}", channels)
    expected = samples(channels, np.uint16)
    found = read(path, alpha=channels == 4)
    assert np.array_equal(found[..., :channels], expected)
    assert channels > 1 or (found == expected).all()
    assert probe(path).bit_depth == 16


@pytest.mark.parametrize(
    ("mode", "pix_fmt"),
    [("L", "gray"), ("1", "gray"), ("LA", "ya8"), ("RGBA", "rgba"), ("P", "rgb24")],
)
def test_kinds_of_pixels(tmp_path: Path, mode: str, pix_fmt: str) -> None:
    path = save(tmp_path / "a.png", mode)
    assert probe(path).pix_fmt == pix_fmt
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGBA"))
    assert np.array_equal(read(path, alpha=True), wide(expected))


def test_a_clear_colour_of_a_palette_is_alpha(tmp_path: Path) -> None:
    image = Image.fromarray(samples(3)).quantize(8)
    image.save(tmp_path / "a.png", transparency=3)
    assert probe(tmp_path / "a.png").pix_fmt == "rgba"
    clear = read(tmp_path / "a.png", alpha=True)[..., 3] == 0
    assert np.array_equal(clear, np.asarray(image) == 3) and clear.any()


def test_inks_become_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", "CMYK", quality=95)
    assert np.abs(read(path) / 257 - samples(3)).mean() < 4
    # A profile that is none of inks is not used.
    again = save(tmp_path / "b.jpg", "CMYK", quality=95, icc_profile=profile())
    assert np.array_equal(read(again), read(path))
    assert still_facts(again).icc == b""


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.png", "a.tif", "deep.png"])
def test_every_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    path = tmp_path / name
    if name == "deep.png":
        chunked = io.BytesIO()
        Image.fromarray(samples(3)).save(chunked, "PNG", exif=exif(orientation))
        start = chunked.getvalue().index(b"eXIf") - 4
        size = 12 + int.from_bytes(chunked.getvalue()[start : start + 4], "big")
        plain = deep(path, 3).read_bytes()
        path.write_bytes(plain[:33] + chunked.getvalue()[start : start + size] + plain[33:])
        stored = samples(3, np.uint16)
    else:
        save(path, exif=exif(orientation))
        stored = wide(samples(3))
    # From the definitions: which side of what is stored the first row and the first column show.
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.transpose(1, 0, 2),
        6: np.rot90(stored, -1),
        7: np.rot90(stored, 2).transpose(1, 0, 2),
        8: np.rot90(stored),
    }[orientation]
    assert np.array_equal(read(path), upright)


def test_further_pictures_are_counted(tmp_path: Path) -> None:
    pages = [Image.fromarray(samples(3)), Image.new("RGB", (64, 48))]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    assert still_facts(tmp_path / "a.tif").pages == 2
    assert np.array_equal(read(tmp_path / "a.tif"), wide(samples(3)))


def test_what_moves_is_a_video(tmp_path: Path) -> None:
    pages = [Image.fromarray(samples(3)), Image.new("RGB", (64, 48))]
    for name in ("a.png", "a.webp", *(["a.avif"] if HAS_AVIF else [])):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        assert not is_still(tmp_path / name)
    assert not is_still(make(tmp_path / "a.mkv"))
    assert not is_still(tmp_path / "no.png")
    (tmp_path / "text.png").write_text("no picture")
    assert not is_still(tmp_path / "text.png")
    make(tmp_path / "b.mkv").rename(tmp_path / "video.jpg")
    assert not is_still(tmp_path / "video.jpg")


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp", "deep.png"])
def test_cut_off_files_are_refused(tmp_path: Path, name: str) -> None:
    path = deep(tmp_path / name, 3) if name == "deep.png" else save(tmp_path / name, quality=100)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(InputError, match=r"cannot be decoded|is not a|cannot be read"):
        read(path)


def test_too_many_pixels_are_refused_before_they_are_read(tmp_path: Path) -> None:
    """A file of some bytes that would fill the memory."""
    path = tmp_path / "a.png"
    Image.new("1", (20_000, 20_000)).save(path)
    with pytest.raises(InputError, match=r"more than 179 million pixels.*cut or reduce"):
        probe(path)


def test_heic_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    with pytest.raises(InputError, match=r"is HEIC, which is not read: convert it"):
        probe(path)


def test_floats_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.ones((48, 64), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="samples of 32 bits: convert it to 16 bits"):
        probe(tmp_path / "a.tif")


def test_options_of_videos_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png")
    with pytest.raises(UsageError, match=r"--fps: .* is one picture"):
        probe(path, probe(path).frame_rate)
    with pytest.raises(UsageError, match=r"--video-stream 1: .* is one picture"):
        probe(path, video_stream=1)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_facts_beside_the_pixels(tmp_path: Path, name: str) -> None:
    path = save(tmp_path / name, exif=exif(6), icc_profile=profile(), dpi=(300, 300))
    facts = still_facts(path)
    assert facts.icc == profile() and facts.turned
    assert facts.exif[0x010F] == "Maker"
    assert facts.dpi is None or facts.dpi == pytest.approx((300, 300), abs=0.1)
    assert still_facts(save(tmp_path / f"b{path.suffix}")).turned is False


@pytest.mark.parametrize("alpha", [False, True])
def test_another_size_is_scaled_to(tmp_path: Path, alpha: bool) -> None:
    """As frames of videos are, for comparing with a result."""
    info = probe(save(tmp_path / "a.png", "RGBA"))
    whole = read_still(info, alpha=alpha)
    half = read_still(replace(info, width=32, height=24), alpha=alpha)
    means = whole.reshape(24, 2, 32, 2, -1).mean((1, 3))
    assert half.shape == means.shape and np.abs(half[1:-1, 1:-1] - means[1:-1, 1:-1]).max() < 300
