"""Alpha from a source's frames to an output's: read, chosen a format for, written, joined, said."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest

from starvsr.media.color import FromRgb
from starvsr.media.encoder import check_encoder
from starvsr.media.index import build_index
from starvsr.media.notes import picture_notes
from starvsr.media.pixfmt import choose_pix_fmt, layout_of
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import EncodeOptions, UpscaleOptions
from starvsr.types import ColorInfo
from tests.media.clips import Clip, make
from tests.media.jobs import upscale
from tests.media.marked import with_elements
from tests.media.test_color import facts

Pixels = npt.NDArray[np.uint16]
WIDTH, HEIGHT = 64, 48


def transparent(number: int) -> Pixels:
    """A picture whose alpha is a ramp to the right, in a colour of its own."""
    pixels = np.empty((HEIGHT, WIDTH, 4), np.uint16)
    pixels[..., :3] = 257 * np.array([200, 50, 10 + 12 * number])
    pixels[..., 3] = np.linspace(0, 65535, WIDTH).round()
    return pixels


def fill(frame: av.VideoFrame, number: int) -> None:
    color = ColorInfo(0, 2) if layout_of(frame.format.name).rgb else ColorInfo(6, 1)
    made = FromRgb(WIDTH, HEIGHT, frame.format.name, color)(transparent(number))
    for plane, source in zip(frame.planes, made.planes, strict=True):
        plane.update(bytes(source))


def clip(codec: str, pix_fmt: str) -> Clip:
    return Clip(frames=10, codec=codec, pix_fmt=pix_fmt, fill=fill, color={"colorspace": 6})


def read(path: Path) -> list[Pixels]:
    info = probe(path)
    index = build_index(info, scene_detect=False)
    return list(read_frames(info, index, 0, index.frames, alpha=True))


@pytest.mark.parametrize(
    "pix_fmt",
    ["yuva420p", "yuva444p10le", "yuva422p12le", "yuva444p16le", "bgra", "gbrap12le", "rgba64le"],
)
def test_alpha_is_exact(tmp_path: Path, pix_fmt: str) -> None:
    frames = read(make(tmp_path / "a.mkv", clip("ffv1", pix_fmt)))
    level = 65535 / ((1 << layout_of(pix_fmt).depth) - 1)
    for number, frame in enumerate(frames):
        error = frame.astype(float) - transparent(number)
        assert np.abs(error[..., 3]).max() <= level
        # Dithered luma and chroma are off by up to a level each, and chroma counts up to 1.8 times.
        assert np.abs(error[..., :3]).max() <= 3 * 65535 / 219
    assert (frames[0][:, 0, 3] == 0).all() and (frames[0][:, -1, 3] == 65535).all()


def test_what_has_no_alpha_is_opaque(tmp_path: Path) -> None:
    assert (read(make(tmp_path / "a.mkv"))[0][..., 3] == 65535).all()
    opaque = FromRgb(WIDTH, HEIGHT, "rgba", ColorInfo(0, 2))(transparent(0)[..., :3].copy())
    assert (opaque.to_ndarray()[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("source", "codec", "target", "pix_fmt"),
    [
        (("prores_ks", "yuva444p10le", "a.mov"), "prores_ks", "b.mov", "yuva444p12le"),
        (("png", "rgba", "a.mov"), "ffv1", "b.mkv", "bgra"),
        (("png", "rgba64be", "a.mov"), "png", "b.mov", "rgba64be"),
        (("qtrle", "argb", "a.mov"), "qtrle", "b.mov", "argb"),
        (("libvpx-vp9", "yuva420p", "a.webm"), "libvpx-vp9", "b.webm", "yuva420p"),
        (("libvpx-vp9", "yuva420p", "a.webm"), "ffv1", "b.mkv", "yuva420p"),
        (("apng", "rgba", "a.apng"), "libvpx-vp9", "b.mkv", "yuva420p"),
    ],
)
def test_alpha_comes_through_a_job(
    tmp_path: Path, source: tuple[str, str, str], codec: str, target: str, pix_fmt: str
) -> None:
    """Read, encoded in parts, joined, read again: alpha and colour at twice the size."""
    path = make(tmp_path / source[2], clip(*source[:2]))
    made = tmp_path / target
    upscale(path, made, codec=codec, alpha=True)
    assert probe(made).pix_fmt == pix_fmt
    with av.open(str(path)) as before, av.open(str(made)) as behind:
        same = before.streams.video[0].codec_context.codec_tag
        # Of ProRes' tags the one that says 4444.
        assert codec != "prores_ks" or behind.streams.video[0].codec_context.codec_tag == same
    # Lossy codecs move a ramp by some levels.
    most = 6 * 257 if codec == "libvpx-vp9" or source[0] == "libvpx-vp9" else 1.5 * 257
    frames = read(made)
    assert len(frames) == 10
    for number, frame in enumerate(frames):
        wanted = transparent(number).repeat(2, axis=0).repeat(2, axis=1).astype(float)
        assert np.abs(frame[..., 3] - wanted[..., 3]).max() <= most
        assert np.abs(frame[..., :3] - wanted[..., :3]).mean() <= 4 * 257


def test_every_frame_of_vp9_with_alpha_is_found_by_seeking(tmp_path: Path) -> None:
    path = make(
        tmp_path / "a.webm",
        Clip(frames=12, codec="libvpx-vp9", pix_fmt="yuva420p", fill=fill, options={"g": "4"}),
    )
    info = probe(path)
    index = build_index(info, scene_detect=False)
    assert (info.pix_fmt, len(index.keyframe_pts)) == ("yuva420p", 3)
    whole = list(read_frames(info, index, 0, 12, alpha=True))
    for first in range(12):
        (frame,) = read_frames(info, index, first, first + 1, alpha=True)
        assert np.array_equal(frame, whole[first])


@pytest.mark.parametrize(
    ("codec", "source", "container", "chosen"),
    [
        ("ffv1", "yuva444p10le", "matroska", "yuva444p10le"),
        ("prores_ks", "yuva420p", "mov", "yuva444p10le"),
        ("libvpx-vp9", "rgba", "webm", "yuva420p"),
        ("libvpx-vp9", "yuva420p", "mp4", "yuv420p"),
        ("libx265", "yuva420p10le", "matroska", "yuv420p10le"),
        ("libx264", "rgba", "matroska", "yuv444p"),
        ("png", "pal8", "mov", "rgba"),
        ("ffv1", "rgb24", "matroska", "bgr0"),
        ("qtrle", "yuv420p", "mov", "rgb24"),
    ],
)
def test_formats_with_alpha_are_for_sources_with_alpha(
    codec: str, source: str, container: str, chosen: str
) -> None:
    assert choose_pix_fmt(EncodeOptions(codec=codec), facts(source), container) == chosen


def test_alpha_that_is_left_out_is_said(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", clip("ffv1", "yuva420p"))
    info = probe(path)
    index = build_index(info, scene_detect=False)

    def said(codec: str) -> tuple[str, ...]:
        settings = check_encoder(EncodeOptions(codec=codec), path, info, WIDTH, HEIGHT)
        return picture_notes(info, index, settings, UpscaleOptions())

    assert said("ffv1") == ()
    (note,) = said("libx264")
    assert note.startswith(
        "alpha, if it has any, is left out: libx264 yuv420p in matroska has none"
    )


def test_bits_that_alpha_costs_are_said(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mkv", clip("ffv1", "yuva420p10le"))
    info, target = probe(path), tmp_path / "b.webm"
    index = build_index(info, scene_detect=False)
    settings = check_encoder(EncodeOptions(), target, info, WIDTH, HEIGHT)
    (note,) = picture_notes(info, index, settings, UpscaleOptions())
    assert note.startswith("10 bits become 8: libvpx-vp9 supports no more here")
    asked = UpscaleOptions(encode=EncodeOptions(pix_fmt="yuva420p"))
    assert picture_notes(info, index, settings, asked) == ()


def test_webm_gets_the_encoder_that_keeps_alpha(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mov", clip("prores_ks", "yuva444p10le"))
    info = probe(path)
    assert info.bit_depth > 8
    settings = check_encoder(EncodeOptions(), tmp_path / "b.webm", info, WIDTH, HEIGHT)
    assert (settings.codec, settings.pix_fmt) == ("libvpx-vp9", "yuva420p")


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_what_the_container_says_of_transparent_frames(codec: str, tmp_path: Path) -> None:
    """The decoders for alpha do not pass on its side data."""
    options = {"auto-alt-ref": "0"} if codec == "libvpx" else {}
    made = replace(clip(codec, "yuva420p"), options=options, video_tags={"alpha_mode": "1"})
    plain = make(tmp_path / "plain.webm", made)
    source = tmp_path / "a.webm"
    source.write_bytes(plain.read_bytes())
    roll = b"\x76\x71\x81\0" + b"\x76\x75\x88" + struct.pack(">d", 90.0)
    with_elements(source, (0x7670, roll), (0x53B8, b"\1"))
    info = probe(source)
    assert (info.width, info.height, info.rotation) == (HEIGHT, WIDTH, 270)
    # Turned by 270 degrees, the left view is below.
    assert info.beside == (("3D packing", "bottom_top"),)
    for turned, frame in zip(read(source), read(plain), strict=True):
        assert np.ptp(frame[..., 3]) > 0 and np.array_equal(turned, np.rot90(frame))
