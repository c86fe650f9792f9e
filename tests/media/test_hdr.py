"""High dynamic range: curve, colours and static metadata come through, and fewer than 10 bits are refused."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import pytest

from starvsr.errors import InputError, OutputError
from starvsr.media.encoder import check_encoder
from starvsr.media.hdr import _display, _profile_of
from starvsr.media.index import build_index
from starvsr.media.notes import picture_notes
from starvsr.media.pixfmt import choose_pix_fmt
from starvsr.media.probe import probe
from starvsr.options import EncodeOptions, UpscaleOptions
from starvsr.types import ColorInfo, HdrInfo, VideoInfo
from tests.media.clips import Clip, make
from tests.media.jobs import upscale
from tests.media.marked import dolby_vision
from tests.media.test_color import facts

PQ, HLG = 16, 18
DISPLAY = (34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 50, 10_000_000)
LIGHT = (1000, 400)
_TEXT = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
HDR10 = Clip(
    frames=10,
    codec="libx265",
    pix_fmt="yuv420p10le",
    options={"x265-params": f"log-level=error:master-display={_TEXT}:max-cll=1000,400"},
    color={"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": PQ},
)


def hdr(transfer: int = PQ, pix_fmt: str = "yuv420p10le") -> VideoInfo:
    return facts(pix_fmt, color=ColorInfo(9, 1, 9, transfer))


def test_the_probe_reads_static_metadata(tmp_path: Path) -> None:
    assert probe(make(tmp_path / "a.mp4", HDR10)).hdr == HdrInfo(DISPLAY, LIGHT, ())
    assert probe(make(tmp_path / "b.mp4")).hdr == HdrInfo()


def test_metadata_without_sense_is_none() -> None:
    """A damaged file must not give the encoder numbers that it refuses."""
    ten = [f for number in DISPLAY[:8] for f in (number, 50_000)] + [50, 10_000, 10_000_000, 10_000]
    whole = struct.pack("=22i", *ten, 1, 1)
    assert _display(whole) == DISPLAY
    for place, value in ((0, -5), (0, 60_000), (1, 0), (16, 2_000_000_000), (20, 0), (21, 0)):
        numbers = list(struct.unpack("=22i", whole))
        numbers[place] = value
        assert _display(struct.pack("=22i", *numbers)) == ()


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("libx265", ".mp4"), ("libx265", ".mkv"), ("libx264", ".mov"), ("libsvtav1", ".mkv")],
)
def test_static_metadata_comes_through(tmp_path: Path, codec: str, suffix: str) -> None:
    source = make(tmp_path / "a.mp4", HDR10)
    target = tmp_path / f"b{suffix}"
    upscale(source, target, codec=codec)
    made = probe(target)
    assert (made.color.transfer, made.color.primaries, made.color.matrix) == (PQ, 9, 9)
    assert made.bit_depth == 10
    assert made.hdr.light == LIGHT
    # SVT-AV1 stores binary fractions.
    for number, wanted in zip(made.hdr.display, DISPLAY, strict=True):
        assert abs(number - wanted) <= (1 if codec == "libsvtav1" else 0)


def test_encoder_options_of_ones_own_stand_beside_it(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mp4", HDR10)
    options = EncodeOptions(codec="libx265", extra=(("x265-params", "aq-mode=1"),))
    settings = check_encoder(options, source, probe(source), 64, 48)
    params = dict(settings.options)["x265-params"]
    assert f"master-display={_TEXT}:max-cll=1000,400:aq-mode=1" in params


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_fewer_than_10_bits_are_refused(transfer: int) -> None:
    target = Path("out.mkv")
    for options, advice in (
        (EncodeOptions(pix_fmt="yuv420p"), "leave --pix-fmt out"),
        (EncodeOptions(codec="libx265", pix_fmt="yuv420p"), "leave --pix-fmt out"),
        (EncodeOptions(codec="libvpx-vp9"), "--codec libx265"),
        (EncodeOptions(codec="mjpeg"), "--codec libx265"),
    ):
        with pytest.raises(OutputError, match=advice):
            check_encoder(options, target, hdr(transfer), 64, 48)
    assert check_encoder(EncodeOptions(), target, hdr(transfer), 64, 48).pix_fmt == "yuv420p10le"


def test_8_bit_hdr_gets_10() -> None:
    assert choose_pix_fmt(EncodeOptions(codec="libx265"), hdr(HLG, "yuv420p")) == "yuv420p10le"
    assert choose_pix_fmt(EncodeOptions(codec="libx265"), hdr(1, "yuv420p")) == "yuv420p"


def _with_hdr10_plus(path: Path) -> Path:
    """A raw HEVC stream whose first picture has an SEI message of HDR10+ (SMPTE ST 2094-40), all zeros."""
    make(path, Clip(**{**HDR10.__dict__, "frames": 2}))
    # One window (2 bits), the rest of its fields and flags.
    bits = "01" + "0" * (27 + 1 + 3 * 17 + 17 + 4 + 10 + 1 + 1 + 1)
    fields = int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")
    message = b"\xb5\x00\x3c\x00\x01\x04\x01" + fields
    payload = bytes([4, len(message)]) + message + b"\x80"
    # Start codes inside are kept apart by a 3.
    escaped, zeros = bytearray(), 0
    for byte in payload:
        if zeros == 2 and byte <= 3:
            escaped.append(3)
            zeros = 0
        escaped.append(byte)
        zeros = zeros + 1 if byte == 0 else 0
    data = path.read_bytes()
    # In front of the first slice of a random access picture (types 19 to 21).
    at = min(
        found
        for kind in (19, 20, 21)
        if (found := data.find(b"\0\0\x01" + bytes([kind << 1, 1]))) >= 0
    )
    path.write_bytes(data[:at] + b"\0\0\x01\x4e\x01" + bytes(escaped) + data[at:])
    return path


def test_what_cannot_be_carried_is_said(tmp_path: Path) -> None:
    source = _with_hdr10_plus(tmp_path / "a.hevc")
    info = probe(source)
    assert info.hdr == HdrInfo(DISPLAY, LIGHT, ("HDR10+",))
    index = build_index(info, scene_detect=False)

    def said(codec: str, name: str = "b.mkv") -> list[str]:
        settings = check_encoder(EncodeOptions(codec=codec), tmp_path / name, info, 64, 48)
        return [
            note.split(":")[0] for note in picture_notes(info, index, settings, UpscaleOptions())
        ]

    assert said("libx265") == ["HDR10+ is left out"]
    display = "the mastering display and content light metadata is left out"
    # Matroska has a place for what the codec has none for.
    assert said("ffv1") == ["HDR10+ is left out"]
    assert said("ffv1", "b.nut") == [display, "HDR10+ is left out"]


def test_the_file_with_hdr10_plus_is_read_by_libav(tmp_path: Path) -> None:
    with av.open(str(_with_hdr10_plus(tmp_path / "a.hevc"))) as container:
        assert len(list(container.decode(video=0))) == 2


@pytest.mark.parametrize(
    ("profile", "compatible", "said"),
    [
        (5, 0, "refused"),
        (7, 6, "profile 7"),
        (8, 1, "profile 8"),
        (8, 4, "profile 8"),
        (10, 0, "refused"),
        (10, 4, "profile 10"),
    ],
)
def test_dolby_vision_by_its_profile(
    profile: int, compatible: int, said: str, tmp_path: Path
) -> None:
    clip = Clip(4, pix_fmt="yuv420p10le", options={"preset": "ultrafast"})
    source = dolby_vision(make(tmp_path / "a.mp4", clip), profile, compatible)
    info = probe(source)
    assert info.hdr.dynamic == ("Dolby Vision",) and info.hdr.dolby_vision == (profile, compatible)
    if said == "refused":
        with pytest.raises(InputError, match=f"Dolby Vision profile {profile} is not supported: "):
            check_encoder(EncodeOptions(codec="libx264"), tmp_path / "o.mkv", info, 128, 96)
        return
    settings = check_encoder(EncodeOptions(codec="libx264"), tmp_path / "o.mkv", info, 128, 96)
    (note,) = picture_notes(info, build_index(info), settings, UpscaleOptions())
    assert note.startswith(f"Dolby Vision ({said}) is left out: ")


@pytest.mark.parametrize(
    ("profile", "full", "depth", "enhanced", "residual_off", "wanted"),
    [
        (0, 1, 12, 0, 1, (5, 0)),
        (0, 0, 12, 0, 1, ()),
        (1, 0, 12, 1, 0, (7, 6)),
        (1, 0, 10, 1, 0, (4, 2)),
        (1, 0, 12, 0, 1, (8, 1)),
    ],
)
def test_the_profile_of_a_frame_s_own_metadata(
    profile: int, full: int, depth: int, enhanced: int, residual_off: int, wanted: tuple[int, ...]
) -> None:
    header = bytearray(17)
    header[4], header[10], header[13], header[15], header[16] = (
        profile,
        full,
        depth,
        enhanced,
        residual_off,
    )
    assert _profile_of(struct.pack("=Q", 48) + bytes(40) + bytes(header)) == wanted
    assert _profile_of(struct.pack("=Q", 48)) == ()
