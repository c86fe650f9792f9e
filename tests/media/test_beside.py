"""Crop, 3D packing, projection and the light of HDR: applied, kept by what can hold them, otherwise said."""

from __future__ import annotations

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from starvsr.media.beside import PROJECTION, STEREO, crop_of, value_of
from starvsr.media.boxes import boxed
from starvsr.media.encoder import check_encoder
from starvsr.media.hdr import hdr_options
from starvsr.media.index import build_index
from starvsr.media.notes import picture_notes
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import EncodeOptions, StreamOptions, UpscaleOptions
from starvsr.types import HdrInfo, VideoInfo
from tests.media.clips import Audio, Clip, make, payloads
from tests.media.jobs import upscale
from tests.media.marked import cropped, with_box, with_elements
from tests.media.test_hdr import DISPLAY, LIGHT

CLIP = Clip(frames=4, options={"preset": "ultrafast"})
# Matroska's elements: packing, and projection with kind, details and three angles.
SIDE_BY_SIDE = (0x53B8, b"\1")


def sphere(kind: int, *details: int, yaw: float = 0.0) -> tuple[int, bytes]:
    """A projection element."""
    packed = struct.pack(f">{len(details)}I", *details)
    content = b"\x76\x71\x81" + bytes([kind]) + b"\x76\x72" + bytes([0x80 | len(packed)]) + packed
    return 0x7670, content + b"\x76\x73\x88" + struct.pack(">d", yaw)


def notes(info: VideoInfo, target: Path, codec: str = "libx264") -> str:
    settings = check_encoder(EncodeOptions(codec=codec), target, info, 128, 96)
    return " | ".join(picture_notes(info, build_index(info), settings, UpscaleOptions()))


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_hidden_rows_and_columns_are_cut_off(suffix: str, tmp_path: Path) -> None:
    plain = make(tmp_path / f"plain{suffix}", CLIP)
    source = cropped(make(tmp_path / f"a{suffix}", CLIP), 4, 6, 12, 10)
    info, whole = probe(source), probe(plain)
    assert (info.width, info.height, info.crop) == (54, 26, (4, 6, 12, 10))
    frames = zip(
        read_frames(info, build_index(info), 0, 4),
        read_frames(whole, build_index(whole), 0, 4),
        strict=True,
    )
    for frame, full in frames:
        assert np.array_equal(frame, full[12:38, 4:58])
    assert "is cut off: 4 columns left, 6 right, 12 rows above, 10 below" in notes(
        info, tmp_path / "o.mp4"
    )
    made = probe(upscale(source, tmp_path / "o.mkv"))
    assert (made.width, made.height, made.crop) == (108, 52, (0, 0, 0, 0))


def test_a_turned_frame_is_cropped_before_it_is_turned(tmp_path: Path) -> None:
    clip = replace(CLIP, rotation=(90, False, False))
    plain, source = (
        make(tmp_path / "b.mp4", clip),
        cropped(make(tmp_path / "a.mp4", clip), 8, 0, 0, 4),
    )
    info, whole = probe(source), probe(plain)
    assert (info.width, info.height) == (44, 56)
    (frame,), (full,) = (read_frames(each, build_index(each), 0, 1) for each in (info, whole))
    assert any(
        np.array_equal(frame, full[rows, columns])
        for columns in (slice(4, None), slice(None, 44))
        for rows in (slice(8, None), slice(None, 56))
    )


@pytest.mark.parametrize("text", ["1/2/3", "a/0/0/0", "40/24/0/0", "0/0/24/24", ""])
def test_a_crop_that_makes_no_sense_is_ignored(text: str) -> None:
    assert crop_of({"Frame Cropping": text}, 64, 48) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        ("libx264", ".mkv"),
        ("libx264", ".mp4"),
        ("libx265", ".mp4"),
        ("libx264", ".mov"),
        ("prores_ks", ".mov"),
        ("ffv1", ".mkv"),
    ],
)
@pytest.mark.parametrize(
    ("element", "kind", "value"),
    [
        (SIDE_BY_SIDE, STEREO, "left_right"),
        ((0x53B8, b"\3"), STEREO, "top_bottom"),
        (sphere(1, 0, 0, 0, 0, 0), PROJECTION, "equirectangular"),
        (
            sphere(1, 0, 1 << 30, 0, 0, 0),
            PROJECTION,
            "tiled equirectangular at 0 0 0 0 1073741824 0 0 0",
        ),
        # Padding is in pixels, which become twice as many.
        (sphere(2, 0, 0, 4, yaw=-90.0), PROJECTION, "cubemap at -90 0 0 0 0 0 0 4"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_views_and_projections_are_kept(
    element: tuple[int, bytes], kind: str, value: str, suffix: str, codec: str, tmp_path: Path
) -> None:
    source = with_elements(make(tmp_path / "a.mkv", CLIP), element)
    info = probe(source)
    assert value_of(info, kind) == value
    target = tmp_path / f"o{suffix}"
    assert kind not in notes(info, target, codec)
    made = upscale(source, target, codec=codec)
    assert value_of(probe(made), kind) == value.replace("0 4", "0 8")


@pytest.mark.parametrize(
    ("mode", "value", "holding"),
    [
        (2, "bottom_top", (".mkv", ".webm")),
        (9, "col_interleaved_lr", (".mkv",)),
        (1, "left_right", (".mkv", ".mp4", ".mov", ".webm")),
    ],
)
def test_each_container_holds_some_packings(
    mode: int, value: str, holding: tuple[str, ...], tmp_path: Path
) -> None:
    source = with_elements(make(tmp_path / "a.mkv", CLIP), (0x53B8, bytes([mode])))
    for suffix in (".mkv", ".mp4", ".mov", ".webm"):
        target = tmp_path / f"o{suffix}"
        codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
        said = f"the 3D packing ({value}) is left out" in notes(probe(source), target, codec)
        assert said == (suffix not in holding)
        made = probe(upscale(source, target, codec=codec))
        assert value_of(made, STEREO) == (value if suffix in holding else "")


@pytest.mark.parametrize(
    ("width", "mode", "shown"), [(64, 1, b"\x40"), (200, 1, b"\xc8"), (64, 3, b"\x40")]
)
def test_views_keep_their_sample_aspect(
    width: int, mode: int, shown: bytes, tmp_path: Path
) -> None:
    """Matroska's shown size is that of one view; twice 100 does not fit into the byte that 200 has."""
    clip = replace(CLIP, width=width)
    source = with_elements(
        make(tmp_path / "a.mkv", clip),
        (0x53B8, bytes([mode])),
        (0x54B0, shown),
        (0x54BA, b"\x30"),
        (0x54B2, b"\0"),
    )
    aspect = probe(source).sample_aspect
    assert aspect == (2 if mode == 1 else Fraction(1, 2))
    made = probe(upscale(source, tmp_path / "o.mkv"))
    assert (made.sample_aspect, value_of(made, STEREO)) == (aspect, value_of(probe(source), STEREO))


@pytest.mark.parametrize("element", [SIDE_BY_SIDE, sphere(1, 0, 0, 0, 0, 0)])
def test_what_a_container_cannot_hold_is_said(element: tuple[int, bytes], tmp_path: Path) -> None:
    info = probe(with_elements(make(tmp_path / "a.mkv", CLIP), element))
    ((kind, value),) = info.beside
    said = f"the {kind} ({value}) is left out: the output cannot hold it; .mp4, .mov and .mkv can hold it"
    assert said in notes(info, tmp_path / "o.nut")


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
@pytest.mark.parametrize(
    "said",
    [
        StreamOptions(),
        StreamOptions(metadata=False, faststart=False),
    ],
)
def test_boxes_of_both_move_nothing_else(suffix: str, said: StreamOptions, tmp_path: Path) -> None:
    """The tracks' names, sizes, and the places of all packets stay."""
    clip = replace(CLIP, audio=(Audio(seconds=0.2),), video_tags={"handler_name": "Größe"})
    elements = (SIDE_BY_SIDE, sphere(1, 0, 0, 0, 0, 0, yaw=30.0))
    plain = upscale(make(tmp_path / "a.mov", clip), tmp_path / f"p{suffix}", streams=said)
    source = with_elements(make(tmp_path / "a.mkv", clip), *elements)
    made = upscale(source, tmp_path / f"o{suffix}", streams=said)
    assert probe(made).beside == probe(source).beside and probe(plain).beside == ()
    with av.open(str(made)) as opened:
        names = [each.metadata["handler_name"] for each in opened.streams]
    assert names == ["Größe" if said.metadata else "VideoHandler", "SoundHandler"]
    for kind in ("video", "audio"):
        (ours,), (theirs,) = payloads(made, kind), payloads(plain, kind)
        assert [each.data for each in ours] == [each.data for each in theirs]


def test_a_name_too_long_for_a_mov_gives_way_to_boxes(tmp_path: Path) -> None:
    clip = replace(CLIP, metadata={"title": "a"}, video_tags={"handler_name": "n" * 250})
    source = with_elements(make(tmp_path / "a.mkv", clip), SIDE_BY_SIDE)
    made = upscale(source, tmp_path / "o.mov")
    assert value_of(probe(made), STEREO) == "left_right"
    with av.open(str(made)) as opened:
        assert opened.streams.video[0].metadata["handler_name"] == "VideoHandler"


@pytest.mark.parametrize(
    ("kind", "value"),
    [(b"hequ", "half equirectangular"), (b"fish", "fisheye"), (b"prim", "immersive")],
)
def test_apples_projections(kind: bytes, value: str, tmp_path: Path) -> None:
    projection = boxed(b"proj", boxed(b"prji", bytes(4) + kind))
    source = with_box(make(tmp_path / "a.mov", CLIP), b"vexu", projection)
    info = probe(source)
    assert value_of(info, PROJECTION) == value
    for suffix in (".mp4", ".mov"):
        made = upscale(source, tmp_path / f"o{suffix}")
        assert value_of(probe(made), PROJECTION) == value
        assert PROJECTION not in notes(info, made)
    made = upscale(source, tmp_path / "o.mkv")
    if kind == b"hequ":
        said = "tiled equirectangular at 0 0 0 1073741824 0 1073741824 0 0"
        assert value_of(probe(made), PROJECTION) == said and PROJECTION not in notes(info, made)
    else:
        assert value_of(probe(made), PROJECTION) == ""
        said = f"the projection ({value}) is left out: the output cannot hold it; .mp4 and .mov can"
        assert said in notes(info, made)


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_boxes_of_a_source_are_kept(suffix: str, tmp_path: Path) -> None:
    source = with_box(make(tmp_path / f"a{suffix}", CLIP), b"st3d", bytes(4) + b"\1")
    head = boxed(b"prhd", struct.pack(">I3i", 0, -90 << 16, 45 << 16, 0))
    tile = boxed(b"equi", struct.pack(">5I", 0, 0, 1 << 30, 0, 1 << 29))
    with_box(source, b"sv3d", boxed(b"svhd", bytes(5)) + boxed(b"proj", head + tile))
    info = probe(source)
    assert value_of(info, STEREO) == "top_bottom"
    assert (
        value_of(info, PROJECTION) == "tiled equirectangular at -90 45 0 0 0 536870912 1073741824 0"
    )
    for target in (".mp4", ".mov", ".mkv"):
        assert probe(upscale(source, tmp_path / f"o{target}")).beside == info.beside


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_views_in_separate_frames_are_said(suffix: str, tmp_path: Path) -> None:
    """Only one of two views of MVC is decoded, and alternating ones are no packing that a container knows."""
    alternating = make(
        tmp_path / "a.mp4", replace(CLIP, options={"x264-params": "frame-packing=5"})
    )
    both = with_elements(make(tmp_path / "b.mkv", CLIP), (0x53B8, b"\x0d"))
    for source in (alternating, both):
        assert value_of(probe(source), STEREO) == "separate views"
        assert "3D packing (separate views) is left out: the output cannot hold it" in notes(
            probe(source), tmp_path / f"o{suffix}"
        )
        made = upscale(source, tmp_path / f"o{suffix}")
        assert value_of(probe(made), STEREO) == ""


@pytest.mark.parametrize(
    ("rotation", "value"),
    [
        ((90, False, False), "bottom_top"),
        ((-90, False, False), "top_bottom"),
        ((180, False, False), "right_left"),
        ((0, True, False), "right_left"),
        ((0, False, True), "left_right"),
    ],
)
def test_views_of_a_turned_picture(
    rotation: tuple[float, bool, bool], value: str, tmp_path: Path
) -> None:
    """The left view is where the pixels of the left half are in the upright picture."""

    def halves(frame: av.VideoFrame, number: int) -> None:
        levels = np.full((48, 64), 200, np.uint8)
        levels[:, :32] = 50
        fill = np.full((24, 32), 128, np.uint8)
        pixels = np.concatenate([levels.reshape(-1), fill.reshape(-1), fill.reshape(-1)])
        made = av.VideoFrame.from_ndarray(pixels.reshape(72, 64), "yuv420p")
        for plane, source_plane in zip(frame.planes, made.planes, strict=True):
            plane.update(bytes(source_plane))

    clip = replace(CLIP, rotation=rotation, fill=halves)
    source = with_box(make(tmp_path / "a.mp4", clip), b"st3d", bytes(4) + b"\2")
    info = probe(source)
    assert value_of(info, STEREO) == value
    (frame,) = read_frames(info, build_index(info), 0, 1)
    rows, columns = frame.shape[:2]
    left = {
        "left_right": frame[:, : columns // 2],
        "right_left": frame[:, columns // 2 :],
        "top_bottom": frame[: rows // 2],
        "bottom_top": frame[rows // 2 :],
    }
    assert left[value].mean() < frame.mean() / 1.3
    made = probe(upscale(source, tmp_path / "o.mkv"))
    assert (value_of(made, STEREO), made.rotation) == (value, 0)


@pytest.mark.parametrize(
    ("elements", "crop", "said"),
    [
        # Eighths of the whole, and of the half that a tile shows.
        (
            [sphere(1, 0, 0, 0, 0, 0)],
            (8, 0, 0, 12),
            "tiled equirectangular at 0 0 0 536870912 0 0 1073741824 0",
        ),
        (
            [sphere(1, 0, 0, 0, 1 << 30, 1 << 30, yaw=45.0)],
            (8, 8, 0, 0),
            "tiled equirectangular at 45 0 0 1342177280 0 1342177280 0 0",
        ),
        ([sphere(2, 0, 0, 0)], (8, 8, 8, 8), ""),
        ([sphere(1, 0, 0, 0, 0, 0), SIDE_BY_SIDE], (8, 8, 0, 0), "left_right"),
        ([SIDE_BY_SIDE], (8, 8, 4, 4), "left_right"),
        ([SIDE_BY_SIDE], (8, 8, 0, 12), "left_right"),
        ([SIDE_BY_SIDE], (8, 0, 0, 0), ""),
        ([(0x53B8, b"\x03")], (8, 0, 4, 4), "top_bottom"),
        ([(0x53B8, b"\x03")], (0, 0, 4, 0), ""),
        ([(0x53B8, b"\x09")], (8, 8, 0, 0), ""),
    ],
)
def test_what_is_cut_off_of_views_and_projections(
    elements: list[tuple[int, bytes]],
    crop: tuple[int, int, int, int],
    said: str,
    tmp_path: Path,
) -> None:
    source = with_elements(cropped(make(tmp_path / "a.mkv", CLIP), *crop), *elements)
    info = probe(source)
    for suffix in (".mkv", ".mp4"):
        made = probe(upscale(source, tmp_path / f"o{suffix}"))
        assert [value for _, value in made.beside] == ([said] if said else [])
        told = notes(info, tmp_path / f"o{suffix}").count("of which a part is cut off) is left out")
        assert told == len(elements) - bool(said)


def test_a_turned_projection_is_left_out(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", replace(CLIP, rotation=(180, False, False)))
    projection = boxed(b"proj", boxed(b"prji", bytes(4) + b"equi"))
    info = probe(with_box(source, b"vexu", projection))
    assert value_of(info, PROJECTION) == "equirectangular, turned"
    said = "the projection (equirectangular, turned) is left out: the output cannot hold it"
    assert said in notes(info, tmp_path / "o.mp4")
    assert probe(upscale(source, tmp_path / "o.mp4")).beside == ()


def test_a_packing_in_the_picture_stream_is_kept(tmp_path: Path) -> None:
    clip = replace(CLIP, options={"x264-params": "frame-packing=4"})
    made = upscale(make(tmp_path / "a.mkv", clip), tmp_path / "o.mp4")
    assert value_of(probe(made), STEREO) == "top_bottom"


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_the_light_of_hdr_is_kept_by_the_container(suffix: str, tmp_path: Path) -> None:
    """Where the codec has no place for it."""
    codec = "ffv1" if suffix == ".mkv" else "prores_ks"
    params = (
        "log-level=error:master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50):"
        "max-cll=1000,400"
    )
    clip = Clip(4, codec="libx265", pix_fmt="yuv420p10le", options={"x265-params": params})
    source = make(tmp_path / "a.mkv", clip)
    assert probe(source).hdr == HdrInfo(DISPLAY, LIGHT)
    assert hdr_options(codec, probe(source).hdr) == {}
    assert "mastering display" not in notes(probe(source), tmp_path / f"o{suffix}", codec)
    made = probe(upscale(source, tmp_path / f"o{suffix}", codec=codec))
    assert made.hdr == HdrInfo(DISPLAY, LIGHT) and made.bit_depth == 10


def test_the_light_of_h264_is_in_the_container_too(tmp_path: Path) -> None:
    """Many readers do not look for it in the stream."""
    source = make(tmp_path / "a.mov", CLIP)
    with_box(source, b"clli", struct.pack(">2H", *LIGHT))
    red, green, blue, white, levels = (DISPLAY[at : at + 2] for at in range(0, 10, 2))
    numbers = (*green, *blue, *red, *white, *reversed(levels))
    with_box(source, b"mdcv", struct.pack(">8H2I", *numbers))
    made = upscale(source, tmp_path / "o.mp4")
    assert probe(source).hdr == probe(made).hdr == HdrInfo(DISPLAY, LIGHT)
    data = made.read_bytes()
    assert struct.pack(">4s2H", b"clli", *LIGHT) in data and b"mdcv" in data


def test_what_no_output_can_hold_is_said(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", replace(CLIP, color={"colorspace": 1}))
    profile = bytes(4) + b"none" + bytes(120)
    info = probe(with_box(source, b"colr", b"prof" + profile))
    assert info.beside == (("ICC profile", "yes"),)
    assert "no output can hold the source's ICC profile: left out" in notes(
        info, tmp_path / "o.mkv"
    )


def test_a_plain_file_says_nothing(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", CLIP)
    assert probe(source).beside == () and notes(probe(source), tmp_path / "o.mp4") == ""
