"""The page in a real browser, by the keyboard alone."""

from __future__ import annotations

import json
import os
import time
from importlib.util import find_spec
from pathlib import Path

import av
import pytest

from tests.evaluate.browser import CHROMIUM, Browser
from tests.media.clips import Clip, make
from tests.ui.conftest import served

SHOTS, SHOT_FRAMES = 4, 20
ACTIVE = (
    "(document.getElementById(document.activeElement.getAttribute('aria-activedescendant'))"
    "?.ariaLabel ?? null)"
)
"""The name in a list that Enter would take."""


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder with a clip of several shots, each of which is a segment."""

    def fill(frame: av.VideoFrame, number: int) -> None:
        shot, at = divmod(number, SHOT_FRAMES)
        for plane, level in zip(frame.planes, (40 + 50 * shot, 90 + 20 * shot, 128), strict=True):
            line = bytes((level + at + column % 16) % 256 for column in range(plane.line_size))
            plane.update(line * (plane.buffer_size // plane.line_size))

    folder = tmp_path / "videos"
    folder.mkdir()
    make(folder / "sample.mp4", Clip(frames=SHOTS * SHOT_FRAMES, width=128, height=96, fill=fill))
    return folder


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.skipif(find_spec("gradio") is None, reason="the extra ui is not installed")
def test_from_a_file_to_its_result(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STARVSR_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("GRADIO_ALLOWED_PATHS", "/")
    result = videos / "sample-256x192.mp4"
    with served(videos) as (address, _), Browser(tmp_path / "profile") as browser:
        browser.resize(1400, 1000)
        browser.open(address)
        choose(browser)
        check_preview(browser)
        browser.tab_to("#start")
        browser.enter()
        browser.wait_for("document.querySelector('#job input').value.includes('running')")
        browser.tab_to("#stop")
        # Finished segments are what a stopped job keeps and shows; the first is recorded before the second is there.
        while len(list(videos.glob("*.starvsr/*-core.*"))) < 2:
            time.sleep(0.05)
        browser.enter()
        browser.wait_for("!!document.querySelector('[data-state=stopped] img')")
        assert not result.exists()
        check_quiet(browser, address)
        browser.open(address)
        browser.wait_for("!!document.querySelector('[data-state=stopped]')")
        # The page that was left complains of the requests that it could not finish.
        browser.events.clear()
        browser.wait_for("document.querySelector('#job input')?.value.includes('sample-256x192')")
        check_question(browser)
        browser.tab_to("#resume")
        browser.enter()
        browser.wait_for("document.querySelectorAll('[data-state=done]').length === 2")
        messages = "[...document.querySelectorAll('.sv-job pre')].at(-1).textContent"
        assert "resuming: " in browser.value(messages)
        check_narrow(browser)
        check_quiet(browser, address)
    with av.open(os.fspath(result)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.frames) == (256, 192, SHOTS * SHOT_FRAMES)


def check_question(browser: Browser) -> None:
    """Before anything is discarded the page asks, by the job's name."""
    browser.value("window.confirm = text => { window.asked = text; return false }; 0")
    browser.tab_to("#discard")
    browser.enter()
    browser.wait_for("window.asked?.includes('sample-256x192')")


def check_quiet(browser: Browser, address: str) -> None:
    """Nothing on the console, and no request to anybody else."""
    assert browser.complaints() == []
    own = (address, "data:", "about:blank")
    assert [url for url in browser.requests() if not url.startswith(own)] == []


def choose(browser: Browser) -> None:
    """Choose the sample, 2x and .mp4; the plan and the command follow."""
    browser.wait_for("!!document.querySelector('#entry input')")
    browser.wait_for("document.querySelector('#folder textarea, #folder input')?.value !== ''")
    pick(browser, "#entry input", "sample.mp4")
    browser.wait_for("!!document.querySelector('#plan dl')")
    pick(browser, "#size input", "2x")
    pick(browser, "#container input", "mp4")
    command = "document.querySelector('#command textarea').value"
    browser.wait_for(f"{command}.endsWith('sample-256x192.mp4 --scale 2')")
    assert "256x192" in browser.value("document.querySelector('#plan').innerText")
    assert browser.value("document.querySelectorAll('.sv-strip img').length") == 6
    assert "128x96" in browser.value("document.querySelector('#told pre').textContent")


def pick(browser: Browser, selector: str, name: str) -> None:
    """Choose from a list by the arrow keys."""
    browser.tab_to(selector)
    for _ in range(20):
        before = json.dumps(browser.value(ACTIVE))
        browser.press("ArrowDown", "ArrowDown", 40)
        browser.wait_for(f"{ACTIVE} !== {before}")
        if browser.value(ACTIVE) == name:
            browser.enter()
            browser.wait_for(f"document.querySelector({selector!r}).value === {name!r}")
            return
    raise AssertionError(f"{name} is not in the list")


def check_preview(browser: Browser) -> None:
    """Some frames, and a slider over input and result that the arrow keys move."""
    browser.tab_to("#preview")
    browser.enter()
    browser.wait_for("!!document.querySelector('.sv-pair input')")
    browser.tab_to(".sv-pair input")
    before = browser.value("document.querySelector('.sv-pair input').value")
    browser.press("ArrowLeft", "ArrowLeft", 37)
    assert int(browser.value("document.querySelector('.sv-pair input').value")) == int(before) - 1
    clip = "getComputedStyle(document.querySelectorAll('.sv-pair img')[1]).clipPath"
    assert f"{100 - int(before) + 1}%" in browser.value(clip)
    sizes = "[...document.querySelectorAll('.sv-pair img')].map(i => i.naturalWidth).join()"
    assert browser.value(sizes) == "256,256"


def check_narrow(browser: Browser) -> None:
    """On a telephone nothing is wider than the screen."""
    for width in (390, 1400):
        browser.resize(width, 900)
        browser.wait_for(f"document.documentElement.clientWidth <= {width}")
        assert browser.value("document.documentElement.scrollWidth") <= width
