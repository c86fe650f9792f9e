"""Still pictures as output."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from starvsr.errors import OutputError
from starvsr.media.encoder import container_of
from starvsr.media.index import build_index
from starvsr.media.join import join
from starvsr.media.notes import picture_notes
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.still import STILL
from starvsr.media.still_writer import OF_SUFFIX, StillPart, levels_of, still_settings
from starvsr.options import EncodeOptions, StreamOptions, UpscaleOptions
from starvsr.types import ColorInfo
from tests.media.clips import Audio, Clip, make
from tests.media.stills import (
    EXIF,
    GPS,
    HAS_AVIF,
    LATITUDE,
    MAKER,
    SIDES,
    TAKEN,
    deep,
    exif,
    profile,
    samples,
    save,
)

SUFFIXES = [each for each in OF_SUFFIX if each != ".avif" or HAS_AVIF]
LOSSLESS = (".png", ".tif", ".tiff", ".bmp")


def enlarged(
    source: Path,
    target: Path,
    encode: EncodeOptions | None = None,
    streams: StreamOptions | None = None,
    provenance: str = "",
) -> npt.NDArray[np.uint16]:
    """What a job does around its network: every pixel becomes four. Gives these, with alpha."""
    info = probe(source)
    index = build_index(info)
    settings = still_settings(
        encode or EncodeOptions(), target, info, 2 * info.width, 2 * info.height
    )
    (frame,) = read_frames(info, index, 0, 1, alpha=settings.alpha)
    large = np.ascontiguousarray(frame.repeat(2, axis=0).repeat(2, axis=1))
    part = target.with_name("part.raw")
    with StillPart(part, settings) as writer:
        writer.write(large[:8], 0, 1)
        writer.write(large[8:], 0, 1)
    streams = streams or StreamOptions()
    join([part], info, index, target, settings, streams, 0, 1, provenance=provenance)
    part.unlink()
    return large


def written(path: Path, *, alpha: bool = False) -> npt.NDArray[np.uint16]:
    info = probe(path)
    assert info.container == STILL
    (frame,) = read_frames(info, build_index(info), 0, 1, alpha=alpha)
    return frame


def notes(source: Path, target: Path, options: UpscaleOptions | None = None) -> str:
    info = probe(source)
    settings = still_settings(EncodeOptions(), target, info, info.width, info.height)
    return "\n".join(picture_notes(info, build_index(info), settings, options or UpscaleOptions()))


def test_names() -> None:
    for suffix in OF_SUFFIX:
        assert container_of(Path(f"a{suffix.upper()}")) == STILL
    assert container_of(Path("a-%d.png")) == "image2"
    with pytest.raises(OutputError, match=r"the extension \.webp is not supported"):
        container_of(Path("a-%d.webp"))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("source", ["RGB", "RGBA", "L", "LA", "deep 1", "deep 3", "deep 4"])
def test_every_format(tmp_path: Path, source: str, suffix: str) -> None:
    """Lossless formats give what they got, others nearly so; alpha and grey stay where there is a place for them."""
    path = tmp_path / "in.png"
    path = deep(path, int(source[-1])) if "deep" in source else save(path, source)
    target = tmp_path / f"out{suffix}"
    large = enlarged(path, target)
    form, info, before = OF_SUFFIX[suffix], probe(target), probe(path)
    has_alpha, is_gray = source in ("RGBA", "LA", "deep 4"), source in ("L", "LA", "deep 1")
    assert ("a" in info.pix_fmt.removeprefix("gray")) == (has_alpha and form.alpha)
    assert ("gray" in info.pix_fmt or "ya" in info.pix_fmt) == (
        is_gray and (form.gray or (suffix == ".avif" and "ya" in info.pix_fmt))
    )
    assert info.bit_depth == (before.bit_depth if form.deep else 8)
    found = written(target, alpha=large.shape[2] == 4)
    if suffix in LOSSLESS:
        most = 0 if info.bit_depth == before.bit_depth else 257
        assert np.abs(found.astype(int) - large.astype(int)).max() <= most
    else:
        assert np.abs(found / 257 - large / 257).mean() < 4


def test_16_bits_are_dithered_to_8(tmp_path: Path) -> None:
    """A grey between two levels becomes both; the pattern does not depend on where rows begin to be written."""
    source = tmp_path / "in.png"
    Image.fromarray(np.full((16, 64), 100 * 257 + 128, np.uint16)).save(source)
    enlarged(source, tmp_path / "out.bmp")
    with Image.open(tmp_path / "out.bmp") as image:
        found = np.asarray(image)
    assert set(np.unique(found)) == {100, 101} and abs(found.mean() - 100.5) < 0.02
    assert np.array_equal(found[8:16], found[:8])


def test_grey_levels_are_the_luma() -> None:
    pixels = np.array([[[65535, 0, 0], [0, 65535, 0], [0, 0, 65535]]], np.uint16)
    levels = levels_of(pixels, "gray16le")[0, :, 0]
    assert levels.tolist() == pytest.approx([0.2126 * 65535, 0.7152 * 65535, 0.0722 * 65535], abs=1)


@pytest.mark.parametrize(
    ("suffix", "is_deep"),
    [
        *((suffix, False) for suffix in SUFFIXES if OF_SUFFIX[suffix].tags),
        *((suffix, True) for suffix in SUFFIXES if OF_SUFFIX[suffix].deep),
    ],
)
def test_what_is_said_beside_the_pixels(tmp_path: Path, suffix: str, is_deep: bool) -> None:
    source = tmp_path / ("in.png" if is_deep else "in.jpg")
    save(source, exif=exif(6), icc_profile=profile(), dpi=(300, 300))
    if is_deep:
        tags = source.read_bytes()
        end = tags.index(b"IDAT") - 4
        plain = deep(tmp_path / "plain.png", 3).read_bytes()
        source.write_bytes(plain[:33] + tags[33:end] + plain[33:])
    target = tmp_path / f"out{suffix}"
    enlarged(source, target, provenance="starvsr 1 nano: by a test")
    with Image.open(target) as image:
        assert image.size == (96, 128)
        assert image.info["icc_profile"] == profile()
        said = image.getexif()
        assert said[MAKER] == "Maker" and said[0x0131] == "starvsr 1 nano: by a test"
        assert said.get(0x0112, 1) == 1
        taken = said.get_ifd(EXIF)
        assert taken[TAKEN] == "2020:01:01 00:00:00"
        assert [taken[side] for side in SIDES] == [96, 128]
        assert said.get_ifd(GPS)[LATITUDE] == "N"
        if suffix in (".png", ".jpg", ".tif"):
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
    assert "left out" not in notes(source, target)
    assert "turned upright" in notes(source, target)


def test_metadata_is_left_out_on_request(tmp_path: Path) -> None:
    """All but the profile, without which the colours would be others."""
    source = save(tmp_path / "in.jpg", exif=exif(6), icc_profile=profile())
    enlarged(source, tmp_path / "out.jpg", streams=StreamOptions(metadata=False))
    with Image.open(tmp_path / "out.jpg") as image:
        assert not image.getexif() and image.info["icc_profile"] == profile()


def test_a_thumbnail_of_the_old_picture_is_not_kept(tmp_path: Path) -> None:
    said = exif()
    said.get_ifd(0x8769)
    thumbnail = Image.Exif()
    thumbnail.load(said.tobytes())
    thumbnail[0x0201], thumbnail[0x0202] = 8, 5
    enlarged(save(tmp_path / "in.jpg", exif=thumbnail), tmp_path / "out.jpg")
    with Image.open(tmp_path / "out.jpg") as image:
        assert not {0x0201, 0x0202} & set(image.getexif())


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_nothing_is_said_that_the_source_does_not_say(tmp_path: Path, suffix: str) -> None:
    source = tmp_path / "source.tif"
    Image.new("RGB", (8, 8)).save(source)
    target = tmp_path / f"target{suffix}"
    enlarged(source, target, provenance="starvsr")
    with Image.open(target) as image:
        said = image.getexif()
        assert EXIF not in said
        assert GPS not in said
        # Pillow's own, of a TIFF file that says none.
        assert image.info.get("dpi") == {".png": None, ".tif": (1, 1)}[suffix]


def exif_of(*tags: tuple[int, int, int, bytes]) -> bytes:
    """Exif of number, type, count and value of each tag, as a careless editor writes them."""
    front = 8 + 2 + 12 * len(tags) + 4
    directory, data = struct.pack("<H", len(tags)), b""
    for number, kind, count, value in tags:
        place = value.ljust(4, b"\0")
        if len(value) > 4:
            place = struct.pack("<I", front + len(data))
            data += value
        directory += struct.pack("<HHI", number, kind, count) + place
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + directory + bytes(4) + data


# Pillow's, of the tags themselves.
ODD = pytest.mark.filterwarnings("ignore:.*(Metadata Warning|EXIF data|Truncated):UserWarning")

BROKEN_TAGS = {
    "a resolution in letters": (282, 2, 4, b"300\0"),
    "a negative resolution": (282, 10, 1, struct.pack("<ii", -72, 1)),
    "XMP in letters": (700, 2, 5, b"<x/>\0"),
    "a date that is a number": (306, 3, 1, b"\1\0"),
    "a place outside the file": (34665, 4, 1, struct.pack("<I", 0xFFFFFFF0)),
}


@ODD
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("broken", BROKEN_TAGS)
def test_tags_that_cannot_be_written(tmp_path: Path, broken: str, suffix: str) -> None:
    """The picture is made, with the tags that can be."""
    source, target = tmp_path / "in.jpg", tmp_path / f"out{suffix}"
    maker = (271, 2, 5, b"Some\0")
    content = exif_of(maker, *sorted([BROKEN_TAGS[broken], (305, 2, 5, b"Tool\0")]))
    Image.fromarray(samples(3)).save(source, exif=content)
    enlarged(source, target)
    with Image.open(target) as image:
        assert image.getexif()[271] == "Some"
    if "letters" in broken:
        assert "damaged Exif in the file is left out" in notes(source, target)


@ODD
def test_tags_of_any_kind(tmp_path: Path) -> None:
    random_ = random.Random(0)
    numbers = [271, 274, 282, 296, 306, 700, 33432, 34665, 34853, 37500, 59932]
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 99: 1}
    for number in range(60):
        tags = []
        for tag in sorted(random_.sample(numbers, random_.randint(1, 5))):
            kind, count = random_.choice([*sizes]), random_.choice([0, 1, 1, 2, 5])
            value = bytes(random_.choice([0, 1, 6, 255, 65]) for _ in range(sizes[kind] * count))
            tags.append((tag, kind, count, value))
        source, target = tmp_path / f"{number}.jpg", tmp_path / f"{number}-out.jpg"
        Image.fromarray(samples(3)).save(source, exif=exif_of(*tags))
        enlarged(source, target)
        assert written(target).shape[2] == 3


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    said = {"exif": exif(), "icc_profile": profile()}
    source = save(tmp_path / "in.png", "RGBA", **said)
    found = notes(source, tmp_path / "out.bmp")
    for words in (
        "colour profile is left out",
        "Exif in the file is left out",
        "alpha is left out",
    ):
        assert words in found
    assert not notes(source, tmp_path / "out.png")
    found = notes(deep(tmp_path / "deep.png", 3), tmp_path / "out.jpg")
    assert found == "16 bits become 8: .png and .tif keep up to 16"
    grey = save(tmp_path / "l.png", "L", icc_profile=profile())
    assert "colour profile is left out" in notes(grey, tmp_path / "out.png")
    inks = save(tmp_path / "c.jpg", "CMYK")
    assert "CMYK colours become sRGB" in notes(inks, tmp_path / "out.png")
    pages = [Image.fromarray(samples(3))] * 3
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    assert "the first of 3 pictures" in notes(tmp_path / "p.tif", tmp_path / "out.png")
    commented = save(tmp_path / "t.jpg", comment=b"hello")
    assert "comments in the file is left out" in notes(commented, tmp_path / "out.png")


def test_a_frame_of_a_video(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Clip(audio=(Audio(),)))
    found = notes(source, tmp_path / "out.png")
    assert "a picture contains no audio: left out" in found
    info = replace(probe(source), color=ColorInfo(9, 1, 9, 16, 1))
    with pytest.raises(OutputError, match=r"one picture of HDR is not written: give out-%06d\.png"):
        still_settings(EncodeOptions(), tmp_path / "out.png", info, 64, 48)
    info = replace(probe(source), color=ColorInfo(9, 1, 9, 1, 1), sample_aspect=Fraction(4, 3))
    settings = still_settings(EncodeOptions(), tmp_path / "out.png", info, 64, 48)
    found = "\n".join(picture_notes(info, build_index(info), settings, UpscaleOptions()))
    assert "primaries of code 9" in found and "the sample aspect 4/3 is left out" in found


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.jpg", EncodeOptions(crf=20), r"--crf would have no effect on a picture.*-e quality=90"),
        ("a.png", EncodeOptions(codec="libx264", preset="slow"), "--codec and --preset would"),
        ("a.png", EncodeOptions(pix_fmt="rgb24"), "--pix-fmt would have no effect"),
        (
            "a.png",
            EncodeOptions(extra=(("quality", "9"),)),
            "is not an option of PNG: leave it out",
        ),
        ("a.jpg", EncodeOptions(extra=(("q", "9"),)), "-e q=9 is not an option of JPEG: give -e"),
        ("a.jpg", EncodeOptions(extra=(("quality", "101"),)), "quality=101 is not allowed"),
    ],
)
def test_options_that_no_picture_has(
    tmp_path: Path, name: str, options: EncodeOptions, words: str
) -> None:
    info = probe(save(tmp_path / "in.png"))
    with pytest.raises(OutputError, match=words):
        still_settings(options, tmp_path / name, info, 64, 48)


@pytest.mark.parametrize("suffix", [each for each in SUFFIXES if OF_SUFFIX[each].quality])
def test_quality(tmp_path: Path, suffix: str) -> None:
    source, sizes = save(tmp_path / "in.png"), []
    for quality in ("30", "100"):
        target = tmp_path / f"{quality}{suffix}"
        enlarged(source, target, EncodeOptions(extra=(("quality", quality),)))
        sizes.append(target.stat().st_size)
    assert sizes[0] < sizes[1]


def test_a_side_that_is_too_long(tmp_path: Path) -> None:
    info = probe(save(tmp_path / "in.png"))
    with pytest.raises(OutputError, match=r"WEBP has at most 16383 pixels.*--max-resolution 16383"):
        still_settings(EncodeOptions(), tmp_path / "a.webp", info, 16384, 48)


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    source, target = save(tmp_path / "in.png"), tmp_path / "out.png"
    info = probe(source)
    settings = still_settings(EncodeOptions(), target, info, 64, 48)
    row = np.zeros((1, 64, 3), np.uint16)
    with (
        pytest.raises(ValueError, match="1 rows of 48"),
        StillPart(tmp_path / "p", settings) as part,
    ):
        part.write(row, 0, 1)
    with pytest.raises(KeyError), StillPart(tmp_path / "p", settings) as part:
        part.write(row, 0, 1)
        raise KeyError
    assert list(tmp_path.iterdir()) == [source]


def test_a_failed_encoder_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "out.jpg"
    target.write_bytes(b"precious")

    def fail(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OutputError, match="no space left"):
        enlarged(deep(tmp_path / "in.png", 3), target)
    assert target.read_bytes() == b"precious"
    assert {each.name for each in tmp_path.iterdir()} == {"in.png", "out.jpg", "part.raw"}
