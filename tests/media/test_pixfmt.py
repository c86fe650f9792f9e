"""Which encoder and pixel format an output gets: the source's, or what players decode, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from starvsr.errors import OutputError
from starvsr.job.plan_job import plan_video
from starvsr.media.encoder import check_encoder, with_codec
from starvsr.media.pixfmt import choose_pix_fmt, encode_notes
from starvsr.media.probe import probe
from starvsr.options import EncodeOptions, SizeOptions, StreamOptions, UpscaleOptions
from starvsr.types import ColorInfo, VideoInfo
from tests.media.clips import Clip, make
from tests.media.jobs import upscale
from tests.media.test_color import facts

PQ = 16


def hdr(info: VideoInfo) -> VideoInfo:
    return replace(info, color=ColorInfo(9, 1, 9, PQ))


@pytest.mark.parametrize(
    ("kind", "codec", "source", "container", "chosen"),
    [
        # What is not 4:2:0 becomes so in files for players, and keeps its depth.
        ("auto", "libx264", "pal8", "mp4", "yuv420p"),
        ("auto", "libx264", "bgra", "mov", "yuv420p"),
        ("auto", "libx264", "rgb24", "mp4", "yuv420p"),
        ("auto", "libx264", "yuvj422p", "mp4", "yuv420p"),
        ("auto", "libx264", "yuv444p", "mov", "yuv420p"),
        ("auto", "libx265", "yuv444p10le", "mp4", "yuv420p10le"),
        ("auto", "libx264", "yuv420p10le", "mp4", "yuv420p10le"),
        ("auto", "libvpx-vp9", "yuv444p", "webm", "yuv420p"),
        ("auto", "libvpx-vp9", "rgba", "webm", "yuva420p"),
        # Elsewhere, and in codecs for editing, it stays.
        ("auto", "libx264", "pal8", "matroska", "yuv444p"),
        ("auto", "libx264", "yuv422p", "nut", "yuv422p"),
        ("auto", "libx264rgb", "rgb24", "mp4", "bgr0"),
        ("auto", "prores_ks", "yuv444p", "mov", "yuv444p10le"),
        ("auto", "mjpeg", "yuv444p", "mov", "yuv444p"),
        ("auto", "ffv1", "rgb24", "mov", "bgr0"),
        ("source", "libx264", "pal8", "mp4", "yuv444p"),
        ("source", "libx264", "yuv422p10le", "mov", "yuv422p10le"),
        ("source", "libvpx-vp9", "yuv444p", "webm", "yuv444p"),
        ("compatible", "libx264", "yuv422p10le", "matroska", "yuv420p"),
        ("compatible", "libx264", "yuv420p", "mp4", "yuv420p"),
        ("compatible", "libx265", "yuv444p12le", "matroska", "yuv420p10le"),
        ("compatible", "libsvtav1", "yuv444p", "matroska", "yuv420p"),
        ("compatible", "mpeg4", "yuv444p", "mp4", "yuv420p"),
        ("compatible", "ffv1", "yuv444p10le", "matroska", "yuv420p"),
    ],
)
def test_kinds_of_pixel_formats(
    kind: str, codec: str, source: str, container: str, chosen: str
) -> None:
    options = EncodeOptions(codec=codec, pix_fmt=kind)
    assert choose_pix_fmt(options, facts(source), container) == chosen


@pytest.mark.parametrize("codec", ["prores_ks", "png", "libx264rgb"])
def test_encoders_without_a_compatible_format(codec: str) -> None:
    options = EncodeOptions(codec=codec, pix_fmt="compatible")
    with pytest.raises(OutputError, match=f"4:2:0, which the encoder {codec} .*--pix-fmt source"):
        choose_pix_fmt(options, facts("yuv420p"))


@pytest.mark.parametrize(
    ("target", "codec"),
    [
        ("o.mp4", "libx265"),
        ("o.m4v", "libx265"),
        ("o.mov", "libx265"),
        ("o.mkv", "libx265"),
        ("o.webm", "libsvtav1"),
        ("o.nut", "libx264"),
    ],
)
def test_the_usual_codec_of_hdr(target: str, codec: str) -> None:
    info = hdr(facts("yuv420p10le"))
    assert with_codec(EncodeOptions(), Path(target), info).codec == codec
    assert with_codec(EncodeOptions(codec="libx264"), Path(target), info).codec == "libx264"


@pytest.mark.parametrize(
    ("asked", "info", "chosen", "said"),
    [
        (EncodeOptions(), facts("yuv420p"), "libx264 yuv420p mp4", []),
        (EncodeOptions(), facts("gray"), "libx264 yuv420p mp4", []),
        (
            EncodeOptions(),
            hdr(facts("yuv420p10le")),
            "libx265 yuv420p10le mp4",
            ["HDR is encoded in HEVC (libx265 yuv420p10le)"],
        ),
        (EncodeOptions(codec="libx265"), hdr(facts("yuv420p10le")), "libx265 yuv420p10le mp4", []),
        (
            EncodeOptions(),
            facts("yuv422p10le"),
            "libx265 yuv420p10le mov",
            ["depth (10 bits) is encoded in HEVC", "--pix-fmt source keeps yuv422p10le"],
        ),
        (
            EncodeOptions(),
            facts("pal8"),
            "libx264 yuv420p mp4",
            ["chroma becomes 4:2:0 (yuv420p), which browsers and phones decode"],
        ),
        (
            EncodeOptions(),
            facts("pal8"),
            "libx264 yuv444p matroska",
            ["do not decode libx264 yuv444p: --pix-fmt compatible"],
        ),
        (
            EncodeOptions(),
            facts("yuv420p10le"),
            "libx264 yuv420p10le matroska",
            ["do not decode libx264 yuv420p10le"],
        ),
        (EncodeOptions(codec="libx264"), facts("yuv420p10le"), "libx264 yuv420p10le mp4", []),
        (
            EncodeOptions(codec="libsvtav1"),
            facts("yuv444p"),
            "libsvtav1 yuv420p matroska",
            ["libsvtav1 supports no more; --codec ffv1"],
        ),
        (EncodeOptions(codec="ffv1"), facts("yuv444p"), "ffv1 yuv444p matroska", []),
        (
            EncodeOptions(codec="libx264", pix_fmt="yuv420p"),
            facts("yuv444p"),
            "libx264 yuv420p mp4",
            [],
        ),
    ],
)
def test_what_is_said(asked: EncodeOptions, info: VideoInfo, chosen: str, said: list[str]) -> None:
    codec, pix_fmt, container = chosen.split()
    notes = encode_notes(asked, info, codec, pix_fmt, container)
    assert len(notes) == len(said)
    assert all(part in note for part, note in zip(said, notes, strict=True))


def test_an_odd_palette_video_in_mp4(tmp_path: Path) -> None:
    clip = Clip(width=63, height=47, frames=3, codec="gif", pix_fmt="rgb8")
    source = make(tmp_path / "a.gif", replace(clip, time_base=Fraction(1, 100)))
    options = UpscaleOptions(model="nano", size=SizeOptions(scale=1))
    job = plan_video(source, tmp_path / "o.mp4", options)
    assert job.settings.pix_fmt == "yuv420p" and (job.plan.width, job.plan.height) == (62, 46)
    assert job.notes[0] == (
        "the size is 62x46, not 63x47, since yuv420p has even sides only: --pix-fmt yuv444p keeps odd ones"
    )
    assert any("--pix-fmt source keeps yuv444p" in note for note in job.notes)
    kept = plan_video(
        source, tmp_path / "o.mp4", replace(options, encode=EncodeOptions(pix_fmt="source"))
    )
    assert kept.settings.pix_fmt == "yuv444p" and (kept.plan.width, kept.plan.height) == (63, 47)


def test_hdr_is_hevc_that_players_take(tmp_path: Path) -> None:
    tags = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": PQ}
    clip = Clip(frames=3, codec="ffv1", pix_fmt="yuv420p10le", color=tags)
    source = make(tmp_path / "a.mkv", clip)
    made = upscale(source, tmp_path / "o.mp4", codec="auto")
    with av.open(str(made)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.codec_tag, stream.codec_context.profile) == ("hvc1", "Main 10")
    assert (probe(made).pix_fmt, probe(made).color.transfer) == ("yuv420p10le", PQ)


def boxes(path: Path) -> list[bytes]:
    """The outermost boxes of an mp4, by name."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        found.append(data[at + 4 : at + 8])
        at += int.from_bytes(data[at : at + 4], "big")
    return found


@pytest.mark.parametrize("target", ["o.mp4", "o.mov"])
def test_the_index_is_in_front(tmp_path: Path, target: str) -> None:
    source = make(tmp_path / "a.mkv")
    front = upscale(source, tmp_path / target, codec="mpeg4")
    behind = upscale(
        source, tmp_path / f"b{target}", codec="mpeg4", streams=StreamOptions(faststart=False)
    )
    assert boxes(front).index(b"moov") < boxes(front).index(b"mdat")
    assert boxes(behind).index(b"moov") > boxes(behind).index(b"mdat")
    assert sorted(boxes(front)) == sorted(boxes(behind))


def test_images_are_not_for_players(tmp_path: Path) -> None:
    info = facts("yuv444p10le")
    settings = check_encoder(EncodeOptions(), tmp_path / "%d.png", info, 64, 48)
    assert settings.pix_fmt == "rgb48be"
    assert encode_notes(EncodeOptions(), info, "png", "rgb48be", settings.container) == []
