"""How long the index of a long 1080p video takes, here and in another checkout, in turns.

    python benchmarks/index_speed.py [--against CHECKOUT] [--minutes 120] [--runs 3] [--containers mp4 ts mkv]

The file repeats the packets of 16 seconds of a still picture and a tone: hours are written in seconds, and decoding is
as cheap as it can be: what the index does besides shows most. It has 24 frames a second in H.264, AAC and, where the
container allows it, a line of text every 4 seconds. Each run is a process of its own; prints medians, and the median of
the ratios of each round.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.packet import Packet
from av.stream import Stream

HERE = Path(__file__).resolve().parents[1]
RATE, SOUND_RATE, SOUND_FRAME = 24, 48_000, 1024
SECONDS = 16
"""Of what is repeated: a whole number of frames of both kinds."""
TEXTS = {"mp4": "mov_text", "mkv": "subrip"}
TEXT_EVERY_S = 4
TIMED = """
import json, sys, time
from pathlib import Path
from starvsr.media.index import build_index
from starvsr.media.probe import probe
info = probe(Path(sys.argv[1]))
began = time.perf_counter(), time.process_time()
index = build_index(info)
print(json.dumps([time.perf_counter() - began[0], time.process_time() - began[1], len(index.pts)]))
"""


def write_short(path: Path) -> None:
    """Encode what is repeated."""
    levels = np.random.default_rng(0).integers(0, 256, (34, 60, 3), np.uint8)
    picture = np.repeat(np.repeat(levels, 32, 0), 32, 1)[:1080]
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    frame = frame.reformat(format="yuv420p")
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = 1920, 1080, "yuv420p"
        sound = output.add_stream("aac", rate=SOUND_RATE)
        for number in range(SECONDS * RATE):
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(video.encode(frame))
        output.mux(video.encode())
        time = np.arange(SECONDS * SOUND_RATE) / SOUND_RATE
        wave = np.sin(440 * 2 * np.pi * time).astype(np.float32)[None] / 4
        block = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
        block.sample_rate, block.pts, block.time_base = SOUND_RATE, 0, Fraction(1, SOUND_RATE)
        output.mux(sound.encode(block))
        output.mux(sound.encode())


def write_long(path: Path, short: Path, seconds: int) -> None:
    """Repeat the packets of a short file."""
    with av.open(str(short)) as source, av.open(str(path), "w") as output:
        counts = {"video": SECONDS * RATE, "audio": SECONDS * SOUND_RATE // SOUND_FRAME}
        copies = {each: output.add_stream_from_template(each) for each in source.streams}
        text = TEXTS.get(path.suffix[1:])
        subtitles = output.add_mux_stream(text) if text else None
        repeated = [
            packet
            for stream in source.streams
            for packet in _packets(short, stream)[: counts[stream.type]]
        ]
        repeated.sort(key=lambda each: (each.dts or 0) * each.time_base)
        for start in range(0, seconds, SECONDS):
            for packet in repeated:
                stream = source.streams[packet.stream_index]
                output.mux(_moved(packet, start, copies[stream]))
            if subtitles is not None:
                for at in range(start, start + SECONDS, TEXT_EVERY_S):
                    output.mux(_line(at, subtitles, is_mp4=text == TEXTS["mp4"]))


def _packets(path: Path, stream: Stream) -> list[Packet[Any]]:
    with av.open(str(path)) as source:
        return [each for each in source.demux(source.streams[stream.index]) if each.size]


def _moved(packet: Packet[Any], seconds: int, stream: Stream) -> Packet[Any]:
    assert packet.pts is not None and packet.dts is not None
    moved: Packet[Any] = Packet(bytes(packet))
    ticks = round(seconds / packet.time_base)
    moved.stream, moved.time_base, moved.is_keyframe = stream, packet.time_base, packet.is_keyframe
    moved.pts, moved.dts, moved.duration = packet.pts + ticks, packet.dts + ticks, packet.duration
    return moved


def _line(seconds: int, stream: Stream, *, is_mp4: bool) -> Packet[Any]:
    data = f"Line {seconds // TEXT_EVERY_S}".encode()
    if is_mp4:
        data = len(data).to_bytes(2, "big") + data
    packet: Packet[Any] = Packet(data)
    packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 1000), True
    packet.pts = packet.dts = 1000 * seconds
    packet.duration = 2000
    return packet


def measure(checkout: Path, video: Path) -> tuple[float, float, int]:
    """Wall and CPU seconds of a checkout's index of a file, and its frames."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
    done = subprocess.run(
        [sys.executable, "-c", TIMED, str(video)],
        check=True,
        stdout=subprocess.PIPE,
        env=environment,
    )
    wall, cpu, frames = json.loads(done.stdout)
    return wall, cpu, frames


def main() -> None:
    """Print a line for each container and checkout, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--against", type=Path, metavar="CHECKOUT")
    parser.add_argument("--minutes", type=int, default=120)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--containers", nargs="*", default=["mp4", "ts", "mkv"])
    arguments = parser.parse_args()
    checkouts = {"here": HERE} | ({"there": arguments.against} if arguments.against else {})
    with tempfile.TemporaryDirectory() as folder:
        short = Path(folder, "short.mkv")
        write_short(short)
        for container in arguments.containers:
            video = Path(folder, f"long.{container}")
            write_long(video, short, 60 * arguments.minutes)
            # Each goes first in turn.
            orders = (list(checkouts.items()), list(checkouts.items())[::-1])
            rounds = [
                {name: measure(place, video) for name, place in orders[number % 2]}
                for number in range(arguments.runs)
            ]
            video.unlink()
            for name in checkouts:
                wall, cpu = (statistics.median(each[name][i] for each in rounds) for i in (0, 1))
                frames = rounds[0][name][2]
                print(f"{container:4} {name:6} {frames} frames: {wall:.1f} s wall, {cpu:.1f} s CPU")
            if arguments.against:
                ratios = [
                    statistics.median(each["here"][i] / each["there"][i] for each in rounds)
                    for i in (0, 1)
                ]
                print(
                    f"{container:4} here / there: {ratios[0]:.3f} wall, {ratios[1]:.3f} CPU",
                    flush=True,
                )


if __name__ == "__main__":
    main()
