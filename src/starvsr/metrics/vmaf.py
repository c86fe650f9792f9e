"""VMAF v0.6.1 and its NEG variant by ffmpeg's libvmaf: frames are piped in, scores read from its log."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack, suppress
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from starvsr.errors import InputError
from starvsr.media.scratch import scratch_folder
from starvsr.metrics.frame import Frame

LEAST_SIDE = 32
"""Pixels; libvmaf halves frames four times and filters the result."""

NAMES = ("vmaf", "vmaf_neg")
_MODELS = "version=vmaf_v0.6.1\\\\:name=vmaf|version=vmaf_v0.6.1neg\\\\:name=vmaf_neg"
_LOG = "vmaf.json"
_THREADS = 2
# Red's and blue's weight in luma by ISO/IEC 23091-2 matrix code.
_SHARES = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


@lru_cache(maxsize=1)
def missing() -> str:
    """Why VMAF is unavailable; empty if it is available."""
    try:
        said = subprocess.run(
            [_ffmpeg(), "-hide_banner", "-filters"],
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except ImportError:
        return "needs the extra metrics (pip install 'starvsr[metrics]')"
    except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
        return f"the ffmpeg of imageio-ffmpeg does not run: {error}"
    if " libvmaf " not in said.stdout:
        return (
            "the ffmpeg that imageio-ffmpeg found has no libvmaf: "
            "set the environment variable IMAGEIO_FFMPEG_EXE to one that has it"
        )
    return ""


def _ffmpeg() -> str:
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


class VmafMeter:
    """VMAF of frames as they come; ffmpeg buffers only a few."""

    def __init__(self, width: int, height: int, matrix: int) -> None:
        """width, height: of the frames, at least `LEAST_SIDE`. matrix: ISO/IEC 23091-2 code of the reference's luma."""
        red, blue = _SHARES.get(matrix, _SHARES[1])
        self._weights = np.array([red, 1 - red - blue, blue]) * (219 / 65535)
        self._size = width, height
        self._chroma = bytes([128]) * (4 * width * height)
        with ExitStack() as held:
            self._folder = held.enter_context(scratch_folder())
            # In a file, since a full pipe that nobody reads would stop ffmpeg.
            self._messages = held.enter_context((self._folder / "messages.txt").open("x+b"))
            self._process = subprocess.Popen(
                self._command(),
                cwd=self._folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._messages,
                # This process handles Ctrl-C; ffmpeg would end first, which would look like a failure.
                start_new_session=True,
            )
            held.callback(self._end)
            self._held = held.pop_all()

    def _command(self) -> list[str]:
        width, height = self._size
        # Both frames are piped as one, stacked: two pipes could deadlock.
        graph = (
            f"[0:v]split[a][b];[a]crop={width}:{height}:0:0[d];[b]crop={width}:{height}:0:{height}[r];"
            f"[d][r]libvmaf=model={_MODELS}:log_fmt=json:log_path={_LOG}:n_threads={_THREADS}"
        )
        source = f"-f rawvideo -pix_fmt yuv444p -s {width}x{2 * height} -r 25 -i pipe:0"
        return [_ffmpeg(), "-v", "error", *source.split(), "-lavfi", graph, "-f", "null", "-"]

    def add(self, result: Frame, reference: Frame | None) -> None:
        """Add the next frame. Raises InputError if ffmpeg has exited."""
        if reference is None:
            raise ValueError("VMAF needs a reference")
        pipe = self._process.stdin
        assert pipe is not None
        try:
            for frame in (result, reference):
                pipe.write(self._luma(frame).tobytes())
            # libvmaf's model uses luma only; grey chroma saves converting it.
            pipe.write(self._chroma)
        except BrokenPipeError as error:
            raise self._failure() from error

    def _luma(self, frame: Frame) -> npt.NDArray[np.uint8]:
        return np.rint(16.0 + frame.pixels @ self._weights).astype(np.uint8)

    def finish(self) -> dict[str, list[float | None]]:
        """Both curves, 0..100. Raises InputError if ffmpeg failed."""
        pipe = self._process.stdin
        assert pipe is not None
        with suppress(BrokenPipeError):
            pipe.close()
        if self._process.wait() != 0:
            raise self._failure()
        log = json.loads((self._folder / _LOG).read_text(encoding="utf-8"))
        frames = [frame["metrics"] for frame in log["frames"]]
        return {name: [float(frame[name]) for frame in frames] for name in NAMES}

    def _failure(self) -> InputError:
        self._process.wait()
        self._messages.seek(0)
        said = self._messages.read().decode("utf-8", "replace").strip().splitlines()
        width, height = self._size
        return InputError(
            f"VMAF of {width}x{height} pixels failed: {said[-1] if said else 'ffmpeg ended early'}"
        )

    def close(self) -> None:
        """End ffmpeg and remove its files."""
        self._held.close()

    def _end(self) -> None:
        with suppress(OSError):
            self._process.kill()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._process.wait()
