"""A headless Chromium, driven through a pair of pipes by the DevTools protocol."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))),
    None,
)
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *(
        "--autoplay-policy=no-user-gesture-required",
        "--remote-debugging-pipe",
        "--window-size=1000,900",
    ),
)
_PATIENCE_S = 60.0
_MOST_TABS = 60


class Browser:
    """One page; a `with` block, at whose end the browser is gone."""

    def __init__(self, profile: Path) -> None:
        """profile: an empty folder for the browser's own files."""
        assert CHROMIUM is not None
        self._profile = profile
        self._numbers = itertools.count(1)
        self.events: list[dict[str, Any]] = []
        """Everything that the browser told without being asked."""

    def __enter__(self) -> Browser:
        in_read, self._write = os.pipe()
        self._read, out_write = os.pipe()
        # The protocol's pipes are descriptors 3 and 4; a shell puts them there.
        shell = f'exec "$0" "$@" 3<&{in_read} 4>&{out_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", shell, str(CHROMIUM), *_FLAGS, f"--user-data-dir={self._profile}"],
            pass_fds=(in_read, out_write),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(in_read)
        os.close(out_write)
        self._answers: dict[int, dict[str, Any]] = {}
        self._news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()
        target = self._call("Target.createTarget", {"url": "about:blank"}, session=None)
        attached = self._call(
            "Target.attachToTarget", {"targetId": target["targetId"], "flatten": True}, session=None
        )
        self._session: str | None = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)

    def _listen(self) -> None:
        with os.fdopen(self._read, "rb") as pipe:
            rest = b""
            while piece := pipe.read1(1 << 16):
                *messages, rest = (rest + piece).split(b"\0")
                with self._news:
                    for message in map(json.loads, messages):
                        if "id" in message:
                            self._answers[message["id"]] = message
                        else:
                            self.events.append(message)
                    self._news.notify_all()

    def call(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the page."""
        return self._call(method, parameters or {}, self._session)

    def _call(self, method: str, parameters: dict[str, Any], session: str | None) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        with self._news:
            assert self._news.wait_for(lambda: number in self._answers, _PATIENCE_S), method
            answer = self._answers.pop(number)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, page: Path | str) -> None:
        """Load a page from a file or an address."""
        url = page if isinstance(page, str) else page.resolve().as_uri()
        self.call("Page.navigate", {"url": url})

    def value(self, script: str) -> Any:
        """What an expression gives in the page."""
        answer = self.call("Runtime.evaluate", {"expression": script, "returnByValue": True})
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, script: str) -> Any:
        """The value of an expression once it is true."""
        until = time.monotonic() + _PATIENCE_S
        while not (value := self.value(script)):
            assert time.monotonic() < until, (script, self.complaints(), self.events[-5:])
            time.sleep(0.05)
        return value

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width, height of an element that is brought into view."""
        box = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            " e.scrollIntoView({block: 'center'});"
            " const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]; })()"
        )
        left, top, width, height = box
        return left, top, width, height

    def click(self, selector: str) -> None:
        """Press and let go in the middle of an element."""
        left, top, width, height = self.box(selector)
        self.drag((left + width / 2, top + height / 2))

    def drag(self, start: tuple[float, float], end: tuple[float, float] | None = None) -> None:
        """Press the mouse at one place and let go at another, in pixels of the window."""
        for kind, (x, y) in (
            ("mousePressed", start),
            ("mouseMoved", end or start),
            ("mouseReleased", end or start),
        ):
            parameters = {
                "type": kind,
                "x": x,
                "y": y,
                "button": "left",
                "buttons": 1,
                "clickCount": 1,
            }
            self.call("Input.dispatchMouseEvent", parameters)

    def press(self, key: str, code: str, number: int, text: str = "") -> None:
        """Press and let go of a key."""
        for kind in ("keyDown", "keyUp"):
            parameters = {"type": kind, "key": key, "code": code, "windowsVirtualKeyCode": number}
            if text and kind == "keyDown":
                parameters["text"] = text
            self.call("Input.dispatchKeyEvent", parameters)

    def key(self, kind: str, key: str) -> None:
        """`keyDown` or `keyUp` of a letter."""
        code = {"key": key, "code": f"Key{key.upper()}", "windowsVirtualKeyCode": ord(key.upper())}
        self.call("Input.dispatchKeyEvent", {"type": kind, **code})

    def wheel(self, x: float, y: float, down: float, *, ctrl: bool = False) -> None:
        """Turn the wheel over a place in the window, by pixels."""
        place = {"type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": down}
        self.call("Input.dispatchMouseEvent", {**place, "modifiers": 2 if ctrl else 0})

    def tab_to(self, selector: str) -> None:
        """Press Tab until an element has the focus, as somebody without a mouse does."""
        for _ in range(_MOST_TABS):
            if self.value(f"document.activeElement.matches({json.dumps(selector)})"):
                return
            self.press("Tab", "Tab", 9)
        raise AssertionError(f"{selector} is not reached by Tab")

    def enter(self) -> None:
        """Press Enter."""
        self.press("Enter", "Enter", 13, "\r")

    def resize(self, width: int, height: int) -> None:
        """Make the window this large, in pixels."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", size)

    def complaints(self) -> list[str]:
        """Everything on the console, and every exception."""
        kinds = ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(e["params"]) for e in self.events if e["method"] in kinds]

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        asked = (e for e in self.events if e["method"] == "Network.requestWillBeSent")
        return [event["params"]["request"]["url"] for event in asked]
