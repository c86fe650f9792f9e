"""What a person sees: the screen of a real pseudo-terminal, at the start, in the middle, after Ctrl-C, at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pyte = pytest.importorskip("pyte")
pty = pytest.importorskip("pty")
termios = pytest.importorskip("termios")

ROWS = 20
# Standard input becomes the terminal that a program is run in, whose keys send it signals.
LOG_IN = "import os, sys; os.login_tty(0); os.execv(sys.argv[1], sys.argv[1:])"
COMMAND = (sys.executable, "-m", "starvsr", "upscale", "clip.mp4", "out.mp4", "--overwrite")


class Terminal:
    """A program in a terminal of a given width."""

    def __init__(self, arguments: list[str], folder: Path, columns: int) -> None:
        self.screen = pyte.Screen(columns, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._end, program_end = pty.openpty()
        termios.tcsetwinsize(program_end, (ROWS, columns))
        environment = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", LOG_IN, *arguments],
            cwd=folder,
            env={name: each for name, each in environment.items() if name != "COLUMNS"},
            stdin=program_end,
        )
        os.close(program_end)

    def until(self, seen: Callable[[str], bool]) -> str:
        """The screen once it looks like this; fails if the program ends before."""
        while not seen(self.text()):
            assert self._read(), f"the program ended with:\n{self.text()}"
        return self.text()

    def rest(self) -> str:
        """The screen after the end."""
        while self._read():
            pass
        os.close(self._end)
        self.process.wait()
        return self.text()

    def type(self, keys: bytes) -> None:
        """As a person does: the terminal shows keys, and sends signals for some."""
        os.write(self._end, keys)

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def _read(self) -> bool:
        try:
            data = os.read(self._end, 1 << 16)
        except OSError:
            # The program has closed its end.
            return False
        self._stream.feed(data)
        return bool(data)


def bars(screen: str) -> list[str]:
    return [line for line in screen.splitlines() if "━" in line]


def messages(screen: str) -> str:
    return " ".join(line for line in screen.splitlines() if "━" not in line)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_messages_above_the_bars_are_whole(clip: Path, toy_path: Path) -> None:
    model = ["--model", str(toy_path), "--scale", "1", "--steps", "1"]
    terminal = Terminal([*COMMAND, *model], clip.parent, 80)
    screen = terminal.rest()
    assert terminal.process.returncode == 0, screen
    assert "12 frames, 32x24 -> 32x24, model" in screen.splitlines()[0]
    names = [line.split()[0] for line in bars(screen)]
    assert names == ["reading", "loading", "restoring", "joining"]
    for line in bars(screen):
        assert line.startswith(line.split()[0]), "nothing is before a bar"
        assert "…" not in line
    assert "12/12" in bars(screen)[2] and "left" in bars(screen)[2]
    assert "out.mp4: 12 frames in " in messages(screen)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_narrow_terminal_and_an_interrupt(clip: Path, toy_path: Path) -> None:
    endless = ["--model", str(toy_path), "--steps", "1000", "--solver-mode", "normal"]
    terminal = Terminal([*COMMAND, *endless, "--segment-frames", "8"], clip.parent, 60)
    screen = terminal.until(lambda text: "segment 1/" in text)
    assert max(map(len, screen.splitlines())) <= 60
    assert "…" not in screen
    assert "0:00:0" not in screen and " fps" not in screen, "elapsed time and rate are left out"
    time.sleep(0.2)
    terminal.type(b"\x03\x03")
    screen = terminal.rest()
    assert terminal.process.returncode == 130
    assert screen.splitlines()[-1] == "interrupted; nothing was written: no segment was finished"
    shown = [line.split()[0] for line in bars(screen)]
    assert shown == ["reading", "loading", "restoring", "segment"], "no bar stands there twice"
    assert "^C" not in screen
