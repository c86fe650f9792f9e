"""A stream without frames: the message says why."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from starvsr.errors import InputError
from starvsr.media.probe import probe
from tests.media.clips import Clip, make, picture


def test_an_animated_webp(tmp_path: Path) -> None:
    first, *others = (Image.fromarray(picture(number)) for number in range(3))
    path = tmp_path / "a.webp"
    first.save(path, save_all=True, append_images=others, duration=40)
    with pytest.raises(InputError, match=r"a\.webp is an animated WebP, .*anim_dump .*--fps"):
        probe(path)
    first.save(path)
    assert probe(path).codec == "webp"


def test_an_init_segment(tmp_path: Path) -> None:
    clip = Clip(frames=3, muxer={"movflags": "frag_keyframe+empty_moov"})
    path = make(tmp_path / "a.mp4", clip)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moof") - 4])
    with pytest.raises(InputError, match=r"\(h264\) has no packets, as in the init segment"):
        probe(path)


def test_noise_of_a_known_codec(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(1, 255, 4000, np.uint8).tobytes()
    path, memory = tmp_path / "a.mkv", io.BytesIO()
    with av.open(memory, "w", format="matroska") as output:
        stream = output.add_mux_stream("vp9", width=64, height=48)
        output.start_encoding()
        packet: av.Packet[Any] = av.Packet(noise)
        packet.stream, packet.pts, packet.dts = stream, 0, 0
        output.mux(packet)
    path.write_bytes(memory.getvalue())
    with pytest.raises(InputError, match=r"\(vp9\) cannot be decoded: it is damaged, encrypted"):
        probe(path)


@pytest.mark.parametrize(
    ("share", "said"), [(0.05, "truncated"), (0.3, "truncated"), (0.9, "truncated"), (1, "damaged")]
)
def test_a_picture_that_is_not_whole(share: float, said: str, tmp_path: Path) -> None:
    """libav says the same of a recording without its index."""
    path = tmp_path / "a.avif"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libsvtav1", options={"preset": "12"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(0), "rgb24")))
        output.mux(stream.encode(None))
    # By libav where this Pillow has no AVIF.
    assert probe(path).codec in ("avif", "av1")
    data = path.read_bytes()
    # Its data is of another codec, or missing.
    payload = data.index(b"mdat") + 4
    whole = data[:payload] + bytes(len(data) - payload)
    path.write_bytes(whole[: int(len(data) * share)])
    with pytest.raises(InputError, match=f"AVIF or HEIF picture.*{said}|{said} AVIF or HEIF"):
        probe(path)
