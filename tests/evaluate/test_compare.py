"""The page that compares two videos: its file, its HTML, and what it does in a browser."""

from __future__ import annotations

import base64
import errno
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from starvsr.errors import InputError, OutputError
from starvsr.evaluate.compare import compare
from starvsr.metrics.niqe import niqe
from tests.evaluate.browser import CHROMIUM, Browser
from tests.evaluate.videos import clip, write
from tests.media.clips import Clip, make, showing
from tests.metrics.pictures import Picture, blurred, frame

METRICS = ("psnr_y", "niqe", "tof")
VOID = {"meta", "link", "input", "br", "img"}


def solid(color: tuple[int, int, int], level: int, height: int, width: int) -> Picture:
    return np.full((height, width, 3), np.array(color) * level // 255, np.uint8)


def movie_of(page: Path) -> bytes:
    found = re.search(r'<script type="text/plain" id="movie">([^<]+)</script>', page.read_text())
    assert found is not None
    return base64.b64decode(found[1], validate=True)


class Checker(HTMLParser):
    """Every element is closed in order, every id is used once, every reference leads somewhere inside."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.wanted: list[str] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        assert len(given) == len(attrs), f"<{tag}> says something twice"
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.wanted += [value for name, value in attrs if name == "for" and value]
        self.addresses += [value for name, value in attrs if name in ("src", "href") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"


@pytest.fixture
def videos(tmp_path: Path) -> tuple[Path, Path]:
    pictures = clip(8)
    a = write(tmp_path / "a <&> b.mkv", [blurred(each) for each in pictures])
    return a, write(tmp_path / "after.mkv", pictures)


def test_page_is_whole_and_asks_for_nothing(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    page = tmp_path / "page.html"
    compare(*videos, page, METRICS)
    text = page.read_text(encoding="utf-8")
    checker = Checker()
    checker.feed(text)
    checker.close()
    assert checker.open == []
    assert len(checker.ids) == len(set(checker.ids))
    assert set(checker.wanted) <= set(checker.ids)
    assert {"main", "h1", "title", "canvas", "svg", "table", "caption", "label"} <= checker.tags
    assert checker.addresses == ["data:,"]
    assert "{{" not in text.replace("${", "") and "http://" not in text and "https://" not in text
    assert "<title>a &lt;&amp;&gt; b.mkv and after.mkv</title>" in text
    assert '<html lang="en">' in text


def test_movie_holds_a_above_b(tmp_path: Path) -> None:
    height, width = 45, 33
    levels = (100, 150, 200)
    a = write(
        tmp_path / "a.mkv", [solid((255, 0, 0), level, height, width) for level in levels], rate=10
    )
    b = write(
        tmp_path / "b.mkv", [solid((0, 0, 255), level, height, width) for level in levels], rate=10
    )
    page = tmp_path / "page.html"
    compare(a, b, page, ["psnr_y"])
    found = re.search(r'id="facts">([^<]+)<', page.read_text())
    assert found is not None
    facts = json.loads(found[1])
    assert facts == {
        "width": 33,
        "height": 45,
        "stride": 48,
        "frames": 3,
        "total": 3,
        "rate": 10.0,
        "times": [0.0, 0.1, 0.2],
    }
    with av.open(io.BytesIO(movie_of(page)), "r") as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        frames = [each.to_ndarray(format="rgb24") for each in container.decode(stream)]
    assert len(frames) == 3
    for picture, level in zip(frames, levels, strict=True):
        top, bottom = picture[:45, :33].astype(int), picture[48 : 48 + 45, :33].astype(int)
        assert np.abs(top - (level, 0, 0)).max() <= 20
        assert np.abs(bottom - (0, 0, level)).max() <= 20


def test_figures_of_both(tmp_path: Path) -> None:
    pictures = clip(2, 96, 192)
    a = write(tmp_path / "a.mkv", [blurred(each) for each in pictures])
    b = write(tmp_path / "b.mkv", pictures)
    found = compare(a, b, tmp_path / "page.html", METRICS)
    assert found.a_curves["niqe"] == pytest.approx(
        [niqe(frame(blurred(each))) for each in pictures]
    )
    assert found.b.curves["niqe"] == pytest.approx([niqe(frame(each)) for each in pictures])
    data = json.loads(json.dumps(found.to_json()))
    assert (data["a"], data["b"], data["frames"]) == (str(a), str(b), 2)
    assert data["mean_of_a"] == {"niqe": pytest.approx(found.a_mean("niqe"))}
    text = (tmp_path / "page.html").read_text()
    assert f"<td>{found.a_mean('niqe'):.3f}</td><td>{found.b.mean('niqe'):.3f}</td>" in text
    # Two lines where both have figures, one where they are compared.
    assert text.count('class="a" points=') == 1
    assert text.count('class="b" points=') == 3


def test_before_and_after_of_different_size(tmp_path: Path) -> None:
    small = write(tmp_path / "small.mkv", [each[::2, ::2] for each in clip(3)])
    large = write(tmp_path / "large.mkv", clip(3))
    page = tmp_path / "page.html"
    with pytest.raises(InputError, match="the same size"):
        compare(small, large, page, METRICS)
    assert not page.exists()
    compare(small, large, page, METRICS, resize=True)
    assert "A is scaled from 32x24 by bicubic interpolation." in page.read_text()
    assert "stretched" not in page.read_text()


def test_an_excerpt_is_compared_with_its_place_in_the_whole(tmp_path: Path) -> None:
    pictures = clip(8)
    whole = write(tmp_path / "whole.mkv", pictures, rate=10)
    excerpt = write(tmp_path / "excerpt.mkv", pictures[3:6], rate=10)
    page = tmp_path / "page.html"
    with pytest.raises(InputError, match=r"has 3 frames and .* has 8: .*--start TIME"):
        compare(whole, excerpt, page, ["psnr_y"])
    found = compare(whole, excerpt, page, ["psnr_y"], start_s=0.3)
    assert (found.b.frames, found.page_frames) == (3, 3)
    # Lossless: at the right place they are the same.
    assert min(value or 0.0 for value in found.b.curves["psnr_y"]) > 90
    found = compare(whole, excerpt, page, ["psnr_y"], start_s=0.6, overwrite=True)
    assert found.b.frames == 2
    found = compare(whole, excerpt, page, ["psnr_y"], start_s=0.3, frames=1, overwrite=True)
    assert found.b.frames == 1
    # Off the frames' times it is the next one, as with `upscale --start`.
    found = compare(whole, excerpt, page, ["psnr_y"], start_s=0.23, overwrite=True)
    assert min(value or 0.0 for value in found.b.curves["psnr_y"]) > 90
    with pytest.raises(InputError, match=r"no frame at 5 s: its last one is at 0\.70 s"):
        compare(whole, excerpt, page, ["psnr_y"], start_s=5, overwrite=True)


def test_an_excerpt_from_within_a_held_picture(tmp_path: Path) -> None:
    """Frame 2 is shown for 3.1 s."""
    times = [0, 512, 1024, 40960, 41472, 41984]
    lossless = Clip(frames=6, codec="ffv1", pix_fmt="bgr0")
    whole = make(tmp_path / "whole.mkv", replace(lossless, pts=times))
    shown = replace(lossless, frames=3, fill=showing(2, 3, 4))
    excerpt = make(tmp_path / "excerpt.mkv", shown)
    page = tmp_path / "page.html"
    found = compare(whole, excerpt, page, ["psnr_y"], start_s=1.5)
    assert found.b.frames == 3
    assert min(value or 0.0 for value in found.b.curves["psnr_y"]) > 90
    with pytest.raises(InputError, match=r"no frame at 4\.5 s: its last one is at 3\.28 s"):
        compare(whole, excerpt, page, ["psnr_y"], start_s=4.5, overwrite=True)


def test_the_smallest_video(tmp_path: Path) -> None:
    dot = write(tmp_path / "dot.mkv", [each[:1, :1] for each in clip(2)])
    found = compare(dot, dot, tmp_path / "page.html", ("psnr_y", "niqe", "brisque"))
    assert (set(found.b.curves), found.a_curves) == ({"psnr_y"}, {})


def test_another_shape_is_told(tmp_path: Path) -> None:
    wide = write(tmp_path / "wide.mkv", [each[::2] for each in clip(3)])
    page = tmp_path / "page.html"
    found = compare(wide, write(tmp_path / "b.mkv", clip(3)), page, METRICS, resize=True)
    told = "A is 64x24 and has another aspect ratio than B: it is stretched"
    assert told in found.b.warnings
    assert f"Warning: {told}." in page.read_text()


def test_long_videos_are_shown_in_part_and_said_so(
    tmp_path: Path, videos: tuple[Path, Path]
) -> None:
    page = tmp_path / "page.html"
    found = compare(*videos, page, METRICS, page_frames=3)
    assert (found.page_frames, found.b.frames) == (3, 8)
    assert "The page shows the first 3 frames; the metrics cover all." in page.read_text()
    with av.open(io.BytesIO(movie_of(page)), "r") as container:
        assert len(list(container.decode(video=0))) == 3


def test_what_is_there_is_kept(tmp_path: Path, videos: tuple[Path, Path]) -> None:
    page = tmp_path / "page.html"
    page.write_text("mine")
    with pytest.raises(OutputError, match=r"page\.html exists already: give --overwrite"):
        compare(*videos, page, METRICS)
    assert page.read_text() == "mine"
    compare(*videos, page, METRICS, overwrite=True)
    assert page.read_text() != "mine"
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match="is a folder"):
        compare(*videos, tmp_path, METRICS)
    with pytest.raises(OutputError, match=r"the folder .*none does not exist"):
        compare(*videos, tmp_path / "none" / "page.html", METRICS)
    assert sorted(tmp_path.iterdir()) == before


def test_a_full_disk_is_told_by_the_name_of_the_page(
    tmp_path: Path, videos: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.html"
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        if "x" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, **options)

    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(OutputError, match=r"/page\.html cannot be written: no space left"):
            compare(*videos, page, ("psnr_y",))
    assert sorted(tmp_path.iterdir()) == before


PIXEL = """(() => {
  const c = document.getElementById('picture'), copy = document.createElement('canvas');
  copy.width = c.width; copy.height = c.height;
  const pen = copy.getContext('2d', {willReadFrequently: true});
  pen.drawImage(c, 0, 0);
  return Array.from(pen.getImageData(%d, %d, 1, 1).data);
})()"""
FRAME = "document.getElementById('frame-shown').textContent.split(' /')[0]"
SPLIT = "document.getElementById('split').value"
ZOOM = "document.getElementById('zoom-shown').textContent"


def check_layout(browser: Browser) -> None:
    """The picture and its controls fit a laptop's and a phone's window, and scroll with the page."""
    sizes = "[...document.querySelectorAll('.controls button')].map(e => e.getBoundingClientRect())"
    for width, height in ((1280, 900), (390, 844)):
        browser.resize(width, height)
        browser.value("scrollTo(0, 0)")
        bottom = f"document.getElementById('frame').getBoundingClientRect().bottom <= {height}"
        browser.wait_for(bottom)
        assert browser.value("document.documentElement.scrollWidth") <= width
        assert browser.value(f"new Set({sizes}.map(b => b.top)).size") == 1
        left, top, across, down = browser.box("#picture")
        # A wheel over the picture scrolls the page; with Ctrl it zooms.
        before = browser.value("scrollY"), browser.value(ZOOM)
        browser.wheel(left + across / 2, top + down / 2, 200)
        browser.wait_for(f"scrollY > {before[0]}")
        assert browser.value(ZOOM) == before[1]
        left, top, across, down = browser.box("#picture")
        browser.wheel(left + across / 2, top + down / 2, -200, ctrl=True)
        browser.wait_for(f"{ZOOM} !== '{before[1]}'")
        browser.press("-", "Minus", 189, "-")
        browser.wait_for(f"{ZOOM} === '{before[1]}'")
    browser.click("#actual")
    assert browser.value("document.getElementById('picture').getBoundingClientRect().width") == 80
    browser.click("#actual")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_in_a_browser(tmp_path: Path) -> None:
    height, width = 60, 80
    # Each frame is told by its brightness, each video by its colour.
    levels = range(60, 260, 20)
    a = write(
        tmp_path / "a.mkv", [solid((255, 0, 0), min(level, 255), height, width) for level in levels]
    )
    b = write(
        tmp_path / "b.mkv", [solid((0, 0, 255), min(level, 255), height, width) for level in levels]
    )
    page = tmp_path / "page.html"
    compare(a, b, page, ["psnr_y", "tof"])
    profile = tmp_path / "profile"
    profile.mkdir()
    with Browser(profile) as browser:
        browser.open(page)
        browser.wait_for(f"document.readyState === 'complete' && {PIXEL % (5, 5)}[3] === 255")

        def wait_for_colour(x: int, red: int, blue: int) -> None:
            """A seek has ended a little before its frame is there to be drawn."""
            near = f"Math.abs(p[0] - {red}) <= 10 && Math.abs(p[2] - {blue}) <= 10"
            browser.wait_for(f"((p) => {near})({PIXEL % (x, height // 2)})")

        wait_for_colour(5, 60, 0)
        wait_for_colour(75, 0, 60)
        for number in range(1, 4):
            browser.click("#next")
            browser.wait_for(f"{FRAME} === '{number + 1}'")
            wait_for_colour(5, 60 + 20 * number, 0)
            wait_for_colour(75, 0, 60 + 20 * number)
        assert browser.value("document.getElementById('frame-shown').textContent").endswith(
            " / 10, 0:00.12"
        )
        browser.click("#previous")
        browser.wait_for(f"{FRAME} === '3'")
        browser.press(".", "Period", 190, ".")
        browser.wait_for(f"{FRAME} === '4'")
        browser.value("document.activeElement.blur()")
        browser.press("ArrowRight", "ArrowRight", 39)
        browser.wait_for(f"{FRAME} === '5'")
        browser.press("ArrowLeft", "ArrowLeft", 37)
        browser.wait_for(f"{FRAME} === '4'")

        # While a key is held, one video alone, without the divider.
        for key, red, blue in (("a", 120, 0), ("b", 0, 120)):
            browser.key("keyDown", key)
            wait_for_colour(5, red, blue)
            wait_for_colour(75, red, blue)
            browser.key("keyUp", key)
            wait_for_colour(5, 120, 0)
            wait_for_colour(75, 0, 120)

        left, top, shown_width, shown_height = browser.box("#picture")
        middle = top + shown_height / 2
        browser.drag((left + shown_width / 2, middle), (left + shown_width / 10, middle))
        assert int(browser.value(SPLIT)) == pytest.approx(100, abs=5)
        # What was A's is B's now.
        wait_for_colour(30, 0, 120)

        browser.click("#play")
        browser.wait_for("document.getElementById('play').getAttribute('aria-pressed') === 'true'")
        seen = {browser.wait_for(FRAME)}
        while len(seen) < 4:
            seen.add(browser.wait_for(f"!{json.dumps(sorted(seen))}.includes({FRAME}) && {FRAME}"))
        browser.click("#play")
        browser.wait_for("document.getElementById('play').textContent.trim() === 'Play'")

        browser.click("#closer")
        assert browser.value(ZOOM) == "2×"
        browser.press("-", "Minus", 189, "-")
        assert browser.value(ZOOM) == "1×"
        browser.click("figure svg")
        # Ten frames: the middle of the chart is the fifth or the sixth.
        browser.wait_for(f"['5', '6'].includes({FRAME})")
        cursor = float(browser.value("document.querySelector('.cursor').getAttribute('x1')"))
        assert cursor == pytest.approx(500, abs=60)
        check_layout(browser)
        unlabelled = "[...document.querySelectorAll('input')].filter(e => !e.labels.length).length"
        assert browser.value(unlabelled) == 0
        assert browser.complaints() == []
        assert [url.split(":")[0] for url in browser.requests()] in (["file"], ["file", "blob"])
