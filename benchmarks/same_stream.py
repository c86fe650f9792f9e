"""Whether an encoder gives the same stream of the same lively frames again: SHA-256 of all packets.

    python benchmarks/same_stream.py [--codec libx264 libx265 ...] [--frames 20] [--size 1280x720] [-e KEY=VALUE ...]

Every row is one encoder with the settings that a job would have. A letter stands for a stream: `a` is the first one.
`again` are runs in one process, with other work on the heap between them; `elsewhere` are processes whose fresh memory
holds other bytes (glibc's MALLOC_PERTURB_); `core` is one that is bound to one core, `threads` have 1, 2 and 8 of them,
and `cpu` may use no AVX-512, no AVX2, and no assembler. A resumed job needs `a` in the first three columns; the number
of threads is the same everywhere; a job that goes on on another machine needs `a` in the last column, as far as its
processor reaches.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from starvsr.bench.job import write_clip
from starvsr.media.encoder import EncoderSettings, check_encoder
from starvsr.media.probe import probe
from starvsr.media.writer import PartWriter
from starvsr.options import EncodeOptions

CODECS = {
    "libx264": ".mp4",
    "libx265": ".mp4",
    "libsvtav1": ".mp4",
    "libvpx-vp9": ".webm",
    "mpeg4": ".mp4",
    "mpeg2video": ".mkv",
    "mjpeg": ".mkv",
    "prores_ks": ".mov",
}
# How each encoder is told which instructions it may use: all, up to AVX2, up to SSE4.2, none.
_PARAMS = {"libx264": "x264-params", "libx265": "x265-params", "libsvtav1": "svtav1-params"}
_LEVELS = {
    "libx264": ("avx2", "sse4.2", "0"),
    "libx265": ("avx2", "sse4.2", "0"),
    "libsvtav1": ("avx2", "sse4_2", "c"),
}
# libvpx reads a mask from its environment: everything to AVX2, to SSE4.1, nothing.
_VPX_MASKS = ("0x1ff", "0x3f", "0x0")
# libav's flags: everything to AVX2 and BMI2, to SSE4.2, nothing.
_AV_FLAGS = (0x6DBFD, 0x3FD, 0)


def lively(frames: int, width: int, height: int) -> Iterator[npt.NDArray[np.uint16]]:
    """Noise, shapes that move in several directions, and changes of light, as uint16 RGB (height, width, 3)."""
    random_ = np.random.default_rng(0)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    for number in range(frames):
        waves = np.stack(
            [
                np.sin((columns + 7 * number) / 23) * np.cos((rows - 5 * number) / 31),
                np.sin((columns * 0.6 + rows + 11 * number) / 17),
                np.cos(np.hypot(columns - width / 2 - 9 * number, rows - height / 2) / 13),
            ],
            axis=-1,
        )
        noise = random_.standard_normal((height, width, 3), np.float32)
        light = 0.5 + 0.1 * np.sin(number / 3)
        yield ((light + 0.3 * waves + 0.08 * noise).clip(0, 1) * 65535).astype(np.uint16)


def settings_of(
    codec: str, width: int, height: int, extra: tuple[tuple[str, str], ...], folder: Path
) -> tuple[EncoderSettings, Path]:
    """The settings of a job with this encoder, and the clip that they are for."""
    source = folder / "in.mp4"
    if not source.exists():
        write_clip(source, (64, 36), 2)
    options = EncodeOptions(codec=codec, extra=extra)
    target = folder / f"out{CODECS[codec]}"
    return check_encoder(options, target, probe(source), width, height), source


def digest(
    settings: EncoderSettings, source: Path, pixels: list[npt.NDArray[np.uint16]]
) -> tuple[str, int, float]:
    """SHA-256 of the packets of one part, their bytes, and the seconds that it took."""
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder, f"part{settings.part_suffix}")
        began = time.perf_counter()
        with PartWriter(part, settings, probe(source), settings.width, settings.height) as writer:
            for number, each in enumerate(pixels):
                writer.write(each, number * 512, 512)
        took = time.perf_counter() - began
        found, size = hashlib.sha256(), 0
        with av.open(str(part)) as container:
            for packet in container.demux(video=0):
                found.update(bytes(packet))
                size += packet.size
    return found.hexdigest()[:12], size, took


def work(task: dict[str, str]) -> None:
    """What a child does: print the digests, bytes and seconds of its runs as JSON."""
    width, height = map(int, task["size"].split("x"))
    if "av" in task:
        (loaded,) = {
            line.split()[-1]
            for line in Path("/proc/self/maps").read_text().splitlines()
            if "libavutil" in line
        }
        ctypes.CDLL(loaded).av_force_cpu_flags(int(task["av"]))
    extra = tuple(tuple(each.split("=", 1)) for each in json.loads(task["extra"]))
    frames = list(lively(int(task["frames"]), width, height))
    random_, kept = random.Random(1), []
    with tempfile.TemporaryDirectory() as folder:
        settings, source = settings_of(task["codec"], width, height, extra, Path(folder))
        settings = replace(settings, threads=int(task.get("threads", settings.threads)))
        found = []
        for _ in range(int(task.get("runs", "1"))):
            found.append(digest(settings, source, frames))
            kept = [os.urandom(random_.randrange(1 << 22)) for _ in range(64)]
    del kept
    print(json.dumps(found))


def ask(task: dict[str, str], **environment: str) -> list[tuple[str, int, float]]:
    """Run `work` in a process of its own."""
    cpus = {int(environment.pop("core"))} if "core" in environment else os.sched_getaffinity(0)
    done = subprocess.run(
        [sys.executable, __file__, "--task", json.dumps(task)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cpus),
    )
    if done.returncode:
        return [(f"failed: {done.stderr.strip().splitlines()[-1]}", 0, 0.0)]
    return [tuple(each) for each in json.loads(done.stdout)]


def with_params(codec: str, extra: list[str], text: str) -> str:
    """The `extra` of a task with one more entry in the encoder's own parameters."""
    key = _PARAMS[codec]
    others = [each for each in extra if not each.startswith(f"{key}=")]
    mine = [each.split("=", 1)[1] for each in extra if each.startswith(f"{key}=")]
    return json.dumps([*others, f"{key}={':'.join([*mine, text])}"])


def row(
    base: dict[str, str], extra: list[str], runs: int
) -> dict[str, list[tuple[str, int, float]]]:
    """All runs of one encoder, by column."""
    codec = base["codec"]
    found = {
        "again": ask({**base, "runs": str(runs)}),
        "elsewhere": [
            each for byte in ("1", "85", "255") for each in ask(base, MALLOC_PERTURB_=byte)
        ],
        "core": ask(base, core=str(min(os.sched_getaffinity(0)))),
        "threads": [each for n in (1, 2, 8) for each in ask({**base, "threads": str(n)})],
    }
    if codec in _LEVELS:
        tasks = [
            {**base, "extra": with_params(codec, extra, f"asm={level}")} for level in _LEVELS[codec]
        ]
        found["cpu"] = [each for task in tasks for each in ask(task)]
    elif codec.startswith("libvpx"):
        found["cpu"] = [each for mask in _VPX_MASKS for each in ask(base, VPX_SIMD_CAPS=mask)]
    else:
        found["cpu"] = [each for flags in _AV_FLAGS for each in ask({**base, "av": str(flags)})]
    return found


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--codec", nargs="*", choices=CODECS, default=list(CODECS))
    parser.add_argument("--frames", default="20")
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("-e", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    if arguments.task:
        work(json.loads(arguments.task))
        return
    for codec in arguments.codec:
        base = {
            "codec": codec,
            "frames": arguments.frames,
            "size": arguments.size,
            "extra": json.dumps(arguments.e),
        }
        found = row(base, arguments.e, arguments.runs)
        names: dict[str, str] = {}
        for digest, _, _ in (each for column in found.values() for each in column):
            names.setdefault(digest, digest if " " in digest else chr(ord("a") + len(names)))
        columns = [
            f"{column} {''.join(names[digest] for digest, _, _ in each)}"
            for column, each in found.items()
        ]
        _, size, took = found["again"][0]
        print(f"{codec:11} {', '.join(columns)}; {size} bytes, {took:.1f} s", flush=True)


if __name__ == "__main__":
    main()
