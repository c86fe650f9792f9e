"""Sound that is encoded anew keeps every sample's time: priming, offsets, ranges, gaps, changes in mid-stream."""

from __future__ import annotations

import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from shutil import which
from subprocess import run

import av
import numpy as np
import pytest

from starvsr.errors import OutputError
from starvsr.media.audio import audio_settings
from starvsr.media.passage import check_streams
from starvsr.media.probe import probe
from starvsr.options import StreamOptions
from tests.media.clips import Audio, Clip, Samples, heard, make, tone
from tests.media.jobs import times, upscale

MS = Fraction(1, 1000)
# Sample exact in the mp4 that they come from.
EXACT = {"movie_timescale": "48000"}


def place_of(wave: Samples, samples: Samples) -> int:
    """Where a wave begins in samples (channels, count)."""
    mixed = samples.mean(axis=0)
    size = 1 << (len(mixed) + len(wave)).bit_length()
    spectrum = np.fft.rfft(mixed, size) * np.conj(np.fft.rfft(wave, size))
    place = int(np.argmax(np.fft.irfft(spectrum, size)))
    return place - size if place > size // 2 else place


def begins(path: Path, wave: Samples) -> float:
    """When a wave begins in the sound, seconds after the first frame of the video."""
    start, rate, samples = heard(path)
    return float(start - times(path)[0]) + place_of(wave, samples) / rate


def encoded(source: Path, target: Path, codec: str, span: tuple[int, int] | None = None) -> Path:
    video = "libvpx-vp9" if target.suffix == ".webm" else "mpeg4"
    return upscale(source, target, codec=video, span=span, streams=StreamOptions(audio=codec))


@pytest.mark.parametrize(
    ("codec", "target"),
    [
        ("aac", "o.mp4"),
        ("aac", "o.mkv"),
        ("libopus", "o.mkv"),
        ("libopus", "o.webm"),
        ("libmp3lame", "o.mp4"),
        ("ac3", "o.mkv"),
        ("flac", "o.mkv"),
        ("alac", "o.mov"),
        ("pcm_s16le", "o.mov"),
    ],
)
@pytest.mark.parametrize("start", [Fraction(0), Fraction(1, 7)])
def test_every_encoder_keeps_the_time(
    tmp_path: Path, codec: str, target: str, start: Fraction
) -> None:
    audio = Audio("aac", start, rate=44100, seconds=0.5)
    source = make(tmp_path / "a.mp4", Clip(audio=(audio,), muxer={"movie_timescale": "44100"}))
    made = encoded(source, tmp_path / target, codec)
    rate = heard(made)[1]
    before = begins(source, tone(0.5, 44100))
    assert abs(begins(made, tone(0.5, rate)) - before) <= MS
    assert rate == (48000 if codec == "libopus" else 44100)


@pytest.mark.parametrize("codec", ["flac", "pcm_s16le"])
def test_lossless_is_the_same_to_the_sample(tmp_path: Path, codec: str) -> None:
    source = make(tmp_path / "a.mkv", Clip(audio=(Audio("flac", layout="5.1", seconds=0.3),)))
    made = encoded(source, tmp_path / "o.mkv", codec)
    old, new = heard(source), heard(made)
    assert np.array_equal(new[2], old[2])
    # Matroska does not say where channels of PCM belong.
    assert (
        probe(made).streams[1].detail == ("5.1" if codec == "flac" else "6 channels") + " 48000 Hz"
    )


@pytest.mark.skipif(which("ffmpeg") is None, reason="PyAV's wheel has no encoder of Vorbis")
def test_frames_of_vorbis_with_wrong_times_stay_in_line(tmp_path: Path) -> None:
    """Of those between long and short blocks, which clicks make, libav says a later time."""
    path = tmp_path / "a.ogv"
    clicks = "aevalsrc=if(lt(mod(t\\,0.5)\\,0.002)\\,0.6*sin(18000*t)\\,0.0001):d=2.7:s=48000"
    inputs = ["-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2.7", "-f", "lavfi", "-i", clicks]
    codecs = ["-c:v", "libtheora", "-c:a", "libvorbis"]
    run(["ffmpeg", "-v", "error", *inputs, *codecs, str(path)], check=True, timeout=60)
    start, _, samples = heard(encoded(path, tmp_path / "o.mkv", "flac"))
    with av.open(str(path)) as container:
        wave = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert abs(start) <= MS and samples.shape == (1, len(wave))
    assert np.abs(samples[0] - wave).max() < 0.001


@pytest.mark.parametrize(("codec", "target"), [("aac", "o.mp4"), ("libopus", "o.webm")])
def test_no_sample_more_or_less(tmp_path: Path, codec: str, target: str) -> None:
    """Neither what primes an encoder nor what fills its last frame is heard."""
    clip = Clip(audio=(Audio("flac", seconds=0.4321, layout="stereo"),))
    made = encoded(make(tmp_path / "a.mkv", clip), tmp_path / target, codec)
    start, rate, samples = heard(made)
    assert abs(start) <= MS and samples.shape[0] == 2
    with av.open(str(made)) as container:
        length = container.streams.audio[0].duration
    # libav itself plays an mp4's last frame to its end.
    assert abs((length or samples.shape[1]) - 0.4321 * rate) <= rate / 1000
    error = samples[:, :20000] - tone(0.4321, rate)[:20000]
    assert np.abs(error).max() < 0.1


@pytest.mark.parametrize(
    ("codec", "target", "layout"),
    [("aac", "o.mp4", "mono"), ("aac", "o.mp4", "7.1"), ("libopus", "o.mkv", "7.1")],
)
def test_a_range_is_cut_to_the_sample(tmp_path: Path, codec: str, target: str, layout: str) -> None:
    sound = Audio("flac", seconds=2, layout=layout)
    source = make(tmp_path / "a.mkv", Clip(frames=50, audio=(sound,)))
    made = encoded(source, tmp_path / target, codec, span=(10, 20))
    assert probe(made).streams[1].detail == f"{layout} 48000 Hz"
    _, rate, samples = heard(made)
    wave = tone(2, rate)[round(0.4 * rate) : round(0.8 * rate)]
    assert abs(begins(made, wave)) <= MS
    assert abs(samples.shape[1] - len(wave)) <= rate / 40


def joined_ts(tmp_path: Path, *pieces: tuple[Fraction, Audio]) -> Path:
    """A transport stream with sound at several times, each piece with parameters of its own."""
    data = b""
    for number, (start, audio) in enumerate(pieces):
        frames = 5
        base = Fraction(1, 25)
        clip = Clip(
            frames=frames,
            pts=[round(start * 25) + i for i in range(frames)],
            time_base=base,
            codec="mpeg2video",
            audio=(audio,),
            muxer={"muxdelay": "0", "output_ts_offset": "10"},
        )
        data += make(tmp_path / f"piece{number}.ts", clip).read_bytes()
    path = tmp_path / "a.ts"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "second",
    [
        Audio("aac", Fraction(1), 0.2),
        Audio("aac", Fraction(1), 0.2, rate=44100, layout="stereo"),
    ],
)
def test_gaps_and_changes_in_mid_stream(tmp_path: Path, second: Audio) -> None:
    """What comes after a gap, at another rate and with more channels, is still heard at its time."""
    source = joined_ts(tmp_path, (Fraction(0), Audio("aac", seconds=0.2)), (Fraction(1), second))
    made = encoded(source, tmp_path / "o.mp4", "aac")
    _, rate, samples = heard(made)
    wave, half = tone(0.2, rate), rate // 2
    first, again = place_of(wave, samples[:, :half]), half + place_of(wave, samples[:, half:])
    assert abs((again - first) / rate - 1) <= MS
    assert np.abs(samples[:, first + half : again - half // 2]).max() < 0.01


def moved(source: Path, target: Path, by: Callable[[int], int]) -> Path:
    """Each packet of sound moved by so many milliseconds, from its number."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        streams = [new.add_stream_from_template(each, opaque=True) for each in old.streams]
        number = 0
        for packet in old.demux():
            if packet.size:
                if packet.stream.type == "audio" and packet.pts is not None:
                    packet.pts = packet.dts = packet.pts + by(number)
                    number += 1
                packet.stream = streams[packet.stream_index]
                new.mux(packet)
    return target


def test_times_that_vary_make_no_gaps(tmp_path: Path) -> None:
    source = make(tmp_path / "a.mkv", Clip(frames=50, audio=(Audio("flac", seconds=2),)))
    _, rate, plain = heard(encoded(source, tmp_path / "p.mkv", "flac"))
    for most, seed in ((4, 1), (8, 2), (8, 3), (20, 4)):
        random_ = random.Random(seed)
        name = f"{most}-{seed}.mkv"
        late = [20 + random_.randint(-most, most) for _ in range(1000)]
        varied = moved(source, tmp_path / name, late.__getitem__)
        start, _, samples = heard(encoded(varied, tmp_path / f"o{name}", "flac"))
        assert float(start) == pytest.approx(0.02, abs=most / 1000)
        assert np.array_equal(samples, plain)
    # A step that lasts is a gap, however small.
    gap = moved(source, tmp_path / "c.mkv", lambda number: 12 * (number > 8))
    _, _, samples = heard(encoded(gap, tmp_path / "q.mkv", "flac"))
    assert samples.shape[1] - plain.shape[1] == pytest.approx(0.012 * rate, abs=0.001 * rate)


def test_clock_that_is_set_anew(tmp_path: Path) -> None:
    """After a step far back, sound goes on behind what there was."""
    pieces = (
        (Fraction(40), Audio("mp2", Fraction(40), 0.3)),
        (Fraction(0), Audio("mp2", seconds=0.3)),
    )
    made = encoded(joined_ts(tmp_path, *pieces), tmp_path / "o.mp4", "aac")
    _, rate, samples = heard(made)
    assert 0.55 < samples.shape[1] / rate < 0.7


@pytest.mark.parametrize(
    ("source_codec", "layout", "container", "codec", "expected"),
    [
        ("ac3", "5.1(side)", "webm", "libopus", (48000, "5.1", "flt")),
        # What AAC says of it, few decoders know.
        ("ac3", "5.1(side)", "mp4", "aac", (48000, "5.1", "fltp")),
        ("ac3", "5.1(side)", "matroska", "flac", (48000, "5.1(side)", "s32")),
        ("flac", "stereo", "webm", "libopus", (48000, "stereo", "s16")),
        ("aac", "stereo", "mp4", "flac", (48000, "stereo", "s32")),
        ("aac", "5.1", "mp4", "libmp3lame", None),
        ("aac", "mono", "mp4", "vorbis", None),
        ("aac", "mono", "webm", "aac", None),
    ],
)
def test_settings(
    tmp_path: Path,
    source_codec: str,
    layout: str,
    container: str,
    codec: str,
    expected: tuple[int, str, str] | None,
) -> None:
    path = make(tmp_path / "a.mkv", Clip(audio=(Audio(source_codec, seconds=0.1, layout=layout),)))
    with av.open(str(path)) as source:
        made = audio_settings(codec, source.streams.audio[0], container)
    assert (made and (made.rate, made.layout, made.sample_format)) == expected


def test_encoders_that_do_not_exist(tmp_path: Path) -> None:
    silent = probe(make(tmp_path / "a.mkv", Clip(frames=2)))
    for name, says in (
        ("acc", "--audio acc is not an audio encoder"),
        ("libx264", "encodes video"),
    ):
        with pytest.raises(OutputError, match=says):
            check_streams(silent, tmp_path / "o.mkv", StreamOptions(audio=name))
    info = probe(make(tmp_path / "b.mkv", Clip(frames=2, audio=(Audio(),))))
    with pytest.raises(OutputError, match=r"--audio aac cannot encode .*\.webm.*--audio libopus"):
        check_streams(info, tmp_path / "o.webm", StreamOptions(audio="aac"))
