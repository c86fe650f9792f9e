"""Image sequences as source and target."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from starvsr.errors import InputError, OutputError, UsageError
from starvsr.media.color import FromRgb
from starvsr.media.encoder import check_encoder, container_of
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.media.sequence import image_path, is_sequence, numbers_of
from starvsr.options import EncodeOptions
from starvsr.types import ColorInfo
from tests.media.clips import Clip, make, picture
from tests.media.jobs import opened, upscale


def images(folder: Path, name: str, numbers: range, codec: str = "png", fmt: str = "rgb24") -> Path:
    """Pictures by number, each a file; gives the pattern."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        context = av.CodecContext.create(codec, "w")
        assert isinstance(context, av.VideoCodecContext)
        context.width, context.height, context.pix_fmt = 64, 48, fmt
        context.time_base = Fraction(1, 25)
        pixels = picture(number).astype(np.uint16) * 257
        frame = FromRgb(64, 48, fmt, ColorInfo(0, 2))(pixels)
        (packet,) = [*context.encode(frame), *context.encode(None)]
        image_path(folder / name, number).write_bytes(bytes(packet))
    return folder / name


def test_names() -> None:
    assert is_sequence(Path("a/%06d.png")) and is_sequence(Path("x%d.JPG"))
    for name in ("a.png", "%06d.mkv", "%d-%d.png", "%s.png", "a%06d/b.png"):
        assert not is_sequence(Path(name))
    assert image_path(Path("a%/f %03d.png"), 12) == Path("a%/f 012.png")
    assert image_path(Path("%d.png"), 12) == Path("12.png")
    assert container_of(Path("a/%06d.tif")) == "image2"
    assert container_of(Path("a.png")) == "still"


def test_numbers_are_those_of_the_pattern(tmp_path: Path) -> None:
    for name in (
        "0007.png",
        "0008.png",
        "9.png",
        "00010.png",
        "0011.jpg",
        "x0012.png",
        "12345.png",
    ):
        (tmp_path / name).touch()
    assert numbers_of(tmp_path / "%04d.png") == [7, 8, 12345]
    assert numbers_of(tmp_path / "no folder" / "%04d.png") == []


def test_images_are_frames(tmp_path: Path) -> None:
    """Also in a folder whose name libav would take for a pattern."""
    pattern = images(tmp_path / "100%d 50%", "f%04d.png", range(7, 19))
    info, index = opened(pattern)
    assert info.frame_rate == Fraction(25)
    assert (info.header_frames, info.pix_fmt) == (12, "rgb24")
    assert probe(pattern, Fraction(24000, 1001)).time_base == Fraction(1001, 24000)
    for first in (0, 5, 11):
        for number, frame in enumerate(read_frames(info, index, first, 12), start=7 + first):
            assert np.array_equal(frame, picture(number).astype(np.uint16) * 257)


def test_gaps_and_nothing_are_refused(tmp_path: Path) -> None:
    pattern = images(tmp_path, "%03d.png", range(3))
    (tmp_path / "001.png").unlink()
    with pytest.raises(InputError, match=r"001\.png is missing"):
        probe(pattern)
    with pytest.raises(InputError, match="no image has a name of this form"):
        probe(tmp_path / "%04d.png")


def test_a_rate_is_for_sequences(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--fps is for image sequences"):
        probe(make(tmp_path / "a.mkv"), Fraction(25))


@pytest.mark.parametrize(
    ("source", "name", "pix_fmt", "most"),
    [
        (("png", "rgb24"), "%d.png", "rgb24", 0),
        (("png", "rgb48be"), "f-%05d.png", "rgb48be", 0),
        (("png", "rgba"), "%d.tif", "rgba", 0),
        (("png", "rgb48be"), "%d.tiff", "rgb48le", 0),
        (("png", "rgb24"), "%d.jpg", "yuvj444p", 12),
    ],
)
def test_every_image_is_a_file(
    tmp_path: Path, source: tuple[str, str], name: str, pix_fmt: str, most: int
) -> None:
    pattern = images(tmp_path / "in", "%02d.png", range(5, 15), *source)
    folder = tmp_path / "out"
    folder.mkdir()
    upscale(pattern, folder / name, codec="auto")
    # Numbered as the source's, and nothing else is there.
    assert sorted(folder.iterdir()) == sorted(
        image_path(folder / name, number) for number in range(5, 15)
    )
    info, index = opened(folder / name)
    assert (info.pix_fmt, info.width, index.frames) == (pix_fmt, 128, 10)
    for number, frame in enumerate(read_frames(info, index, 0, 10), start=5):
        wanted = picture(number).repeat(2, axis=0).repeat(2, axis=1).astype(int)
        assert np.abs(frame // 257 - wanted).mean() <= most
    with av.open(str(image_path(folder / name, 7))) as container:
        (frame_7,) = container.decode(video=0)
        assert frame_7.width == 128


def test_images_of_a_video_begin_with_1(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Clip(frames=4))
    upscale(source, tmp_path / "%02d.png", codec="auto", span=(2, 4))
    assert numbers_of(tmp_path / "%02d.png") == [1, 2]


def test_images_have_the_encoder_of_their_ending(tmp_path: Path) -> None:
    info = probe(make(tmp_path / "a.mkv"))
    for options in (EncodeOptions(), EncodeOptions(codec="png")):
        assert check_encoder(options, Path("%d.png"), info, 64, 48).codec == "png"
    with pytest.raises(OutputError, match=r"--codec libx264 is not for \.png images"):
        check_encoder(EncodeOptions(codec="libx264"), Path("%d.png"), info, 64, 48)
    with pytest.raises(OutputError, match="--crf 3 is not an option of the encoder png"):
        check_encoder(EncodeOptions(crf=3), Path("%d.png"), info, 64, 48)
