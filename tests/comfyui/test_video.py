"""The node over files: all streams stay, an interrupted run resumes, and what VIDEO may be."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import av
import pytest

from starvsr.errors import InputError, OutputError, UsageError
from starvsr.media.probe import probe
from tests.comfyui.conftest import HEIGHT, WIDTH, Comfy, clip_of
from tests.media.clips import Audio

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    audio, subtitles = (Audio("aac"), Audio("flac", language="fra")), (("srt", 0.1, 0.4, "Hello"),)
    return clip_of(folder / "in.mkv", 30, 10, audio=audio, subtitles=subtitles)


class Video:
    """As ComfyUI's VIDEO of a file."""

    def __init__(self, source: str | io.BytesIO, trim: tuple[float, float] = (0.0, 0.0)) -> None:
        self.source, self.trim = source, trim

    def get_stream_source(self) -> str | io.BytesIO:
        return self.source

    def get_active_trim_window(self) -> tuple[float, float]:
        return self.trim


INPUTS = {
    "scale": 2.0,
    "resolution": 0,
    "filename_prefix": "video/starvsr",
    "format": "mkv",
    "codec": "auto",
    "crf": -1,
}


def upscaled(comfy: Comfy, **inputs: Any) -> Path:
    """The result's path."""
    _, path = comfy.run("UpscaleVideo", **{**INPUTS, "model": comfy.model(), **inputs})
    return Path(path)


def packets(path: Path) -> list[tuple[int, bytes]]:
    """What a file carries, but for the random number that Matroska gives each."""
    with av.open(str(path)) as file:
        return [(packet.stream_index, bytes(packet)) for packet in file.demux() if packet.size]


def test_every_stream_is_kept(comfy: Comfy, clip: Path) -> None:
    from comfy_api.input_impl import VideoFromFile

    # By a name in ComfyUI's input folder.
    shutil.copy(clip, comfy.folder / "input" / "my film.mkv")
    video, path = comfy.run("UpscaleVideo", **INPUTS, model=comfy.model(), path="my film.mkv")
    assert isinstance(video, VideoFromFile)
    assert Path(path) == comfy.folder / "output" / "video" / "starvsr_00001_.mkv"
    made = probe(Path(path))
    assert (made.width, made.height) == (2 * WIDTH, 2 * HEIGHT)
    kinds = [(stream.kind, stream.codec) for stream in made.streams]
    assert kinds == [
        ("video", "h264"),
        ("audio", "aac"),
        ("audio", "flac"),
        ("subtitle", "subrip"),
    ]
    assert comfy.shown == sorted(comfy.shown)
    assert comfy.shown[-1] == 1
    # Another run makes another file, here without a loader and with the quotes of Windows' "copy as path".
    (other,) = comfy.run("UpscaleVideo", **INPUTS, path=f'"{clip}"')[1:]
    assert Path(other).name == "starvsr_00002_.mkv"


def test_the_page_shows_the_result(comfy: Comfy, clip: Path) -> None:
    node = comfy.runtime.create_node_instance("StarvsrUpscaleVideo")
    shown = node.upscale(**INPUTS, model=comfy.model(), path=str(clip))["ui"]
    file = {"filename": "starvsr_00001_.mkv", "subfolder": "video", "type": "output"}
    assert shown == {"images": [file], "animated": (True,)}
    assert node.OUTPUT_NODE


def test_an_interrupted_run_resumes(
    comfy: Comfy, clip: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from comfy import model_management

    model = comfy.model()
    whole = upscaled(comfy, path=str(clip), model=model, filename_prefix="whole")
    began = sum(each < 0.6 for each in comfy.shown)
    comfy.shown.clear()
    comfy.interrupt(after=began)
    with pytest.raises(model_management.InterruptProcessingException):
        upscaled(comfy, path=str(clip), model=model)
    folder = comfy.folder / "output" / "video"
    assert [path.name for path in folder.iterdir()] == ["starvsr_00001_.mkv.starvsr"]
    # Another job takes another name and leaves what is there.
    other = upscaled(comfy, path=str(clip), model=model, sharpen=0.5)
    assert other.name == "starvsr_00002_.mkv"
    caplog.set_level("INFO")
    resumed = upscaled(comfy, path=str(clip), model=model)
    assert resumed.name == "starvsr_00001_.mkv"
    assert "resuming: 1 segments already done" in caplog.text
    assert packets(resumed) == packets(whole)
    assert sorted(path.name for path in folder.iterdir()) == [resumed.name, other.name]


def test_videos(comfy: Comfy, clip: Path) -> None:
    whole = upscaled(comfy, video=Video(str(clip)))
    # From another node, in memory.
    content = io.BytesIO(clip.read_bytes())
    for _ in range(2):
        assert packets(upscaled(comfy, video=Video(content))) == packets(whole)
    assert len(list((comfy.folder / "temp").iterdir())) == 1
    trimmed = upscaled(comfy, video=Video(str(clip), (0.2, 0.4)))
    assert [stream for stream, _ in packets(trimmed)].count(0) == 10


def test_videos_that_are_no_files(comfy: Comfy, clip: Path) -> None:
    from comfy_api.input_impl import VideoFromComponents

    with pytest.raises(InputError, match="in memory and not a file as it is: save it"):
        upscaled(comfy, video=VideoFromComponents())
    edited = Video(str(clip))
    edited.has_pending_frame_edits = lambda: True  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="in memory and not a file as it is: save it"):
        upscaled(comfy, video=edited)


def test_wrong_inputs(comfy: Comfy, clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"give either video or path$"):
        upscaled(comfy)
    with pytest.raises(ValueError, match="give either video or path, not both"):
        upscaled(comfy, video=Video(str(clip)), path=str(clip))
    with pytest.raises(InputError, match=r"input/no\.mp4 does not exist"):
        upscaled(comfy, path="no.mp4")
    with pytest.raises(UsageError, match="--steps would have no effect on the model nano"):
        upscaled(comfy, path=str(clip), steps=3)
    with pytest.raises(OutputError, match="webm"):
        upscaled(comfy, path=str(clip), format="webm", codec="libx264")
    # ComfyUI's own.
    with pytest.raises(Exception, match="outside the output folder"):
        upscaled(comfy, path=str(clip), filename_prefix="../elsewhere")
    assert not (tmp_path / "elsewhere_00001_.mkv").exists()


def test_encoding(comfy: Comfy, clip: Path) -> None:
    made = upscaled(comfy, path=str(clip), format="mov", codec="prores_ks", resolution=20)
    info = probe(made)
    assert (info.container.split(",")[0], info.codec) == ("mov", "prores")
    assert (info.width, info.height) == (32, 20)
    small, large = (upscaled(comfy, path=str(clip), crf=crf).stat().st_size for crf in (50, 10))
    assert small < large


def test_a_file_that_changed_is_restored_anew(comfy: Comfy, clip: Path) -> None:
    node = comfy.runtime.get_node_class("StarvsrUpscaleVideo")
    copy = Path(shutil.copy(clip, comfy.folder / "input" / "a.mkv"))
    inputs = {**INPUTS, "path": "a.mkv"}
    first = node.IS_CHANGED(**inputs)
    for path in ("a.mkv", f' "{copy}" '):
        assert node.IS_CHANGED(**{**inputs, "path": path}) == first
    copy.write_bytes(b"another")
    assert node.IS_CHANGED(**inputs) != first
    assert node.IS_CHANGED(**{**inputs, "path": "no.mkv"}) == "missing"
    assert node.IS_CHANGED(**{**INPUTS, "path": None}) == ""
