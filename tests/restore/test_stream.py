"""Frames as they come: bit for bit those of a job on a file, in bounded memory, and what is refused."""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import pytest
import torch

import starvsr
from starvsr.errors import MemoryLimitError, UsageError
from starvsr.job.run import Job, plan_video, run_job
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.reader import read_frames
from starvsr.options import (
    DeviceOptions,
    EncodeOptions,
    SamplingOptions,
    SizeOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.plan.layout import Layout
from starvsr.plan.segments import Segment
from starvsr.restore.levels import Frame, copied, tensor_to_frames
from starvsr.restore.restorer import Restorer
from starvsr.restore.stream import Course, FrameStream
from tests.media.clips import Clip, make

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, CUT = 29, 17
WIDTH, HEIGHT = 20, 12


def _fill(frame: av.VideoFrame, number: int) -> None:
    """A pattern that moves, and another one behind the cut."""
    seed = np.random.default_rng(number >= CUT)
    texture = seed.integers(0, 256, (HEIGHT, WIDTH + FRAMES, 3), dtype=np.uint8)
    shown = texture[:, number : number + WIDTH] // 2 + (128 if number >= CUT else 0)
    for plane, channel in zip(frame.planes, (1, 2, 0), strict=True):
        rows = np.zeros((HEIGHT, plane.line_size // 2), np.uint16)
        rows[:, :WIDTH] = shown[..., channel].astype(np.uint16) * 257
        plane.update(rows.tobytes())


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("stream") / "in.mkv"
    return make(
        path,
        Clip(FRAMES, WIDTH, HEIGHT, codec="ffv1", pix_fmt="gbrp16le", fill=_fill),
    )


@dataclasses.dataclass(frozen=True)
class Case:
    model: str
    sampling: SamplingOptions
    windows: WindowOptions
    scale: float = 2


# Of recurrent runs, of segments that are one run, and of chunks that neither share frames nor pass on a state.
CASES = {
    "nano": Case("nano", SamplingOptions(), WindowOptions(segment_frames=9, chunk_frames=2), 4),
    "nano, resized": Case("nano", SamplingOptions(), WindowOptions(segment_frames=8), 1.5),
    "toy": Case("toy", SamplingOptions(steps=2), WindowOptions(segment_frames=8, chunk_frames=4)),
    "toy, chunks apart": Case(
        "toy",
        SamplingOptions(steps=1, cfg=1.0),
        WindowOptions(segment_frames=8, chunk_frames=3, chunk_overlap=0),
    ),
}


@pytest.fixture(params=[*CASES], scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def job_of(case: Case, source: Path, target: Path) -> Job:
    options = UpscaleOptions(
        model=case.model,
        size=SizeOptions(scale=case.scale),
        sampling=case.sampling,
        windows=case.windows,
        encode=EncodeOptions(codec="ffv1", pix_fmt="gbrp16le"),
        overwrite=True,
    )
    return plan_video(source, target, options)


def frames_of(path: Path) -> list[Frame]:
    info = probe(path)
    index = build_index(info, scene_detect=False)
    return list(read_frames(info, index, 0, index.frames))


def restorer_of(case: Case) -> Restorer:
    return Restorer.from_name(case.model, sampling=case.sampling, windows=case.windows)


@pytest.fixture(scope="module")
def job(case: Case, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Done already."""
    job = job_of(case, clip, tmp_path_factory.mktemp("job") / "out.mkv")
    run_job(job)
    return job


def same(found: list[Frame], wanted: list[Frame]) -> bool:
    return len(found) == len(wanted) and all(map(np.array_equal, found, wanted))


def test_the_same_bits_as_a_file(case: Case, job: Job, clip: Path) -> None:
    assert job.index.cuts == (CUT,)
    assert len(job.plan.segments) >= 4
    assert any(segment.tail for segment in job.plan.segments)
    frames, restorer = frames_of(clip), restorer_of(case)
    found = list(restorer.stream(frames, scale=case.scale, cuts=job.index.cuts))
    assert same(found, frames_of(job.target))
    assert found[0].dtype == np.uint16


@pytest.mark.parametrize("pushed", [1, 3, 8, FRAMES])
def test_frames_may_be_pushed_in_any_number(case: Case, job: Job, clip: Path, pushed: int) -> None:
    frames = frames_of(clip)
    stream = restorer_of(case).open_stream(scale=case.scale, cuts=[CUT], length=FRAMES)
    found: list[Frame] = []
    for first in range(0, FRAMES, pushed):
        found += stream.push(frames[first : first + pushed])
    found += stream.flush()
    assert same(found, frames_of(job.target))


def test_frames_of_unknown_number_are_those_of_a_job_with_such_segments(
    case: Case, job: Job, clip: Path
) -> None:
    # Segments as long as they may be, and at the end of a shot what is left.
    context = job.plan.segments[0].tail
    stride = (case.windows.segment_frames or 0) - context
    segments: list[Segment] = []
    for first, last in ((0, CUT), (CUT, FRAMES)):
        starts = range(first, max(first + 1, last - context), stride)
        for start in starts:
            end = min(last, start + stride + context)
            head, tail = (context if more else 0 for more in (start > first, end < last))
            segments.append(
                dataclasses.replace(
                    job.plan.segments[0],
                    index=len(segments),
                    first=start,
                    last=end,
                    head=head,
                    tail=tail,
                    picture=start,
                    pictures=end - start,
                )
            )
    assert tuple(segments) != job.plan.segments
    other = dataclasses.replace(job.plan, segments=tuple(segments))
    target = job.target.with_name("open.mkv")
    run_job(dataclasses.replace(job, plan=other, target=target))
    wanted, frames, restorer = frames_of(target), frames_of(clip), restorer_of(case)

    # A cut that the caller tells when it comes.
    stream = restorer.open_stream(scale=case.scale)
    found = [
        restored
        for number, frame in enumerate(frames)
        for restored in stream.push(frame, cut=number == CUT)
    ]
    assert same([*found, *stream.flush()], wanted)


def as_tensor(frame: Any) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(frame.transpose(2, 0, 1)))


FORMS: dict[str, Callable[[Frame], Any]] = {
    "uint8 array": lambda frame: (frame // 257).astype(np.uint8),
    "big-endian array": lambda frame: frame.astype(">u2"),
    "float array": lambda frame: frame / 65535,
    "float32 array": lambda frame: frame.astype(np.float32) / np.float32(65535),
    "uint8 tensor": lambda frame: as_tensor((frame // 257).astype(np.uint8)),
    "uint16 tensor": as_tensor,
    "float32 tensor": lambda frame: as_tensor(frame.astype(np.float32) / np.float32(65535)),
    "float64 tensor": lambda frame: as_tensor(frame / 65535).requires_grad_(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_frames_gives_the_same_picture_in_that_form(clip: Path, form: str) -> None:
    case = CASES["nano"]
    frames, restorer = frames_of(clip)[:5], restorer_of(case)
    wanted = list(restorer.stream(frames, scale=4))
    found = list(restorer.stream([FORMS[form](frame) for frame in frames], scale=4))
    for ours, plain in zip(found, wanted, strict=True):
        if "tensor" in form:
            assert isinstance(ours, torch.Tensor)
            assert tuple(ours.shape) == (3, 4 * HEIGHT, 4 * WIDTH)
            ours = ours.permute(1, 2, 0).numpy()
        if "uint8" in form:
            assert ours.dtype == np.uint8
            assert np.array_equal(ours, np.floor(plain / 257 + 0.5).astype(np.uint8))
        elif "float" in form:
            assert ours.dtype == np.float32
            assert np.array_equal(ours, plain.astype(np.float32) / np.float32(65535))
        else:
            assert ours.dtype == np.uint16
            assert np.array_equal(ours, plain)


def test_half_precision_is_taken(clip: Path) -> None:
    frames = [as_tensor(frame / 65535).to(torch.bfloat16) for frame in frames_of(clip)[:2]]
    (first, _) = restorer_of(CASES["nano"]).stream(frames, scale=2)
    assert first.dtype == torch.float32


def test_a_whole_clip_is_the_same_as_a_stream_of_it(clip: Path) -> None:
    frames = torch.stack([as_tensor(frame / 65535).float() for frame in frames_of(clip)[:7]])
    restorer = restorer_of(CASES["nano"])
    streamed = torch.stack(list(restorer.stream(frames, scale=4)))
    assert (streamed - restorer(frames, scale=4)).abs().max() <= 0.51 / 65535


T = TypeVar("T")


class Live:
    """Counts arrays that are alive."""

    def __init__(self) -> None:
        self.references: list[weakref.ref[Any]] = []

    def __call__(self, array: T) -> T:
        self.references.append(weakref.ref(array))
        return array

    def count(self) -> int:
        self.references = [each for each in self.references if each() is not None]
        return len(self.references)


@pytest.mark.parametrize(("name", "held"), [("nano", 2 + 3), ("toy", 8 + 2)])
@pytest.mark.parametrize("is_long", [False, True])
def test_memory_is_bounded(
    monkeypatch: pytest.MonkeyPatch, name: str, held: int, is_long: bool
) -> None:
    """Copies of frames that come in, and restored ones that wait, however many there were."""
    came, went, case = Live(), Live(), CASES[name]

    def counted(frame: object) -> Any:
        levels, kind = copied(frame)
        return came(levels), kind

    def counted_frames(pictures: torch.Tensor) -> Iterator[Frame]:
        return map(went, tensor_to_frames(pictures))

    monkeypatch.setattr("starvsr.restore.stream.copied", counted)
    monkeypatch.setattr("starvsr.restore.stream.tensor_to_frames", counted_frames)
    taken = given = late = most_came = most_went = 0
    total = 40 if is_long else 20

    def source() -> Iterator[Frame]:
        nonlocal taken, late, most_came, most_went
        for number in range(total):
            late = max(late, number - given)
            most_came, most_went = max(most_came, came.count()), max(most_went, went.count())
            taken = number + 1
            yield np.full((HEIGHT, WIDTH, 3), number * 257, np.uint16)

    for _ in restorer_of(case).stream(source(), scale=2):
        given += 1
    assert taken == given == total
    context = 3 if name == "nano" else 2
    assert most_came <= held
    # The last frames of a segment, which wait for the next one's.
    assert most_went <= context + 1
    assert late <= held + context
    assert came.count() == 0


def course(**changes: Any) -> Callable[[int, int], Course]:
    """That copies frames."""
    usual = Course(7, 2, True, lambda a, b: ((a, b),), lambda frames, *_: iter(frames))
    return lambda rows, columns: dataclasses.replace(usual, **changes)


def gray(value: int = 0, size: tuple[int, int] = (2, 3)) -> Frame:
    return np.full((*size, 3), value, np.uint16)


def test_a_frame_is_copied_so_that_its_memory_can_be_used_again() -> None:
    stream, buffer, found = FrameStream(course()), gray(), []
    for number in range(20):
        buffer[:] = number
        found += stream.push(buffer)
    found += stream.flush()
    assert [int(frame[0, 0, 0]) for frame in found] == list(range(20))


@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("length", [None, "true"])
@pytest.mark.parametrize("frames", [0, 1, 2, 6, 7, 8, 9, 10, 12, 13, 23])
@pytest.mark.parametrize("cuts", [(), (1,), (3, 12), (7,), (100,)])
def test_every_frame_comes_out_once_and_in_order(
    is_causal: bool, length: str | None, frames: int, cuts: tuple[int, ...]
) -> None:
    stream = FrameStream(
        course(
            is_causal=is_causal, runs=lambda a, b: tuple((k, min(b, k + 3)) for k in range(a, b, 3))
        ),
        cuts=cuts,
        length=frames if length else None,
    )
    found = list(stream.over(gray(number) for number in range(frames)))
    assert [int(frame[0, 0, 0]) for frame in found] == list(range(frames))


REFUSED: dict[str, tuple[object, type[Exception], str]] = {
    "none": (None, TypeError, "must be a NumPy array h w 3 or a tensor 3 h w, .* got NoneType"),
    "integers": (np.zeros((2, 3, 3), np.int32), TypeError, r"uint8 .* floats \(0..1\), got int32"),
    "integer tensor": (torch.zeros(3, 2, 3, dtype=torch.int64), TypeError, "got int64"),
    "planes in front": (
        np.zeros((3, 20, 30), np.uint8),
        ValueError,
        r"of an array must be h w 3 \(RGB\), got \(3, 20, 30\)",
    ),
    "planes behind": (
        torch.zeros(20, 30, 3),
        ValueError,
        r"of a tensor must be 3 h w \(RGB\), got \(20, 30, 3\)",
    ),
    "alpha": (np.zeros((2, 3, 4), np.uint8), ValueError, r"got \(2, 3, 4\)"),
    "gray": (np.zeros((2, 3), np.uint8), ValueError, r"got \(2, 3\)"),
    "empty": (np.zeros((0, 3, 3), np.uint8), ValueError, r"got \(0, 3, 3\)"),
    "not a number": (np.full((2, 3, 3), np.nan), ValueError, "contain NaN or infinity"),
    "too large": (np.full((2, 3, 3), 1e300), ValueError, "contain NaN or infinity"),
    "255": (np.full((2, 3, 3), 255.0), ValueError, r"must be in \[0, 1\], got 255 to 255: scale"),
    "-1": (torch.full((3, 2, 3), -1.0), ValueError, r"must be in \[0, 1\], got -1 to -1"),
}


@pytest.mark.parametrize(("frame", "error", "message"), REFUSED.values(), ids=REFUSED)
def test_other_frames_are_refused_and_the_stream_goes_on(
    frame: object, error: type[Exception], message: str
) -> None:
    stream = FrameStream(course())
    with pytest.raises(error, match=message):
        stream.push([gray(), frame])
    assert stream.push([gray(1), gray(2)]) == []
    assert [int(each[0, 0, 0]) for each in stream.flush()] == [1, 2]


def test_frames_that_change_are_refused() -> None:
    stream = FrameStream(course())
    stream.push(gray())
    with pytest.raises(ValueError, match="frame 1 is 5x4 and the ones before are 3x2: resize it"):
        stream.push(gray(size=(4, 5)))
    with pytest.raises(
        TypeError, match="frame 1 is of arrays of uint8, and the ones before of arr"
    ):
        stream.push(gray().astype(np.uint8))
    with pytest.raises(TypeError, match="frame 1 is of tensors of uint16"):
        stream.push(as_tensor(gray()))
    assert len(stream.flush()) == 1


def test_a_length_is_kept_to() -> None:
    stream = FrameStream(course(), length=2)
    with pytest.raises(ValueError, match="frame 2 is one more than the length of 2"):
        stream.push([gray()] * 3)
    stream.push(gray())
    with pytest.raises(ValueError, match="the frames end after 1, and the length was said to be 2"):
        stream.flush()
    with pytest.raises(ValueError, match="length must be 0 or more, got -1"):
        FrameStream(course(), length=-1)
    for cuts in ((0,), (3, 3), (4, 2)):
        with pytest.raises(ValueError, match="cuts must be increasing numbers of frames above 0"):
            FrameStream(course(), cuts=cuts)
    # A cut at 1.5 would never come, nor any behind it.
    for wrong in ({"cuts": (1.5, 4)}, {"length": 2.5}):
        with pytest.raises(TypeError):
            FrameStream(course(), **wrong)


def test_a_stream_that_ended_takes_nothing() -> None:
    stream = FrameStream(course())
    stream.flush()
    with pytest.raises(ValueError, match="the stream was flushed: open another one"):
        stream.push(gray())
    with pytest.raises(ValueError, match="the stream was flushed"):
        stream.flush()

    def failing(*_: object) -> Iterator[torch.Tensor]:
        raise MemoryLimitError("memory ran out")

    stream = FrameStream(course(restore=failing), length=1)
    with pytest.raises(MemoryLimitError):
        stream.push(gray())
    with pytest.raises(ValueError, match="in the middle of its work, or by an error: open another"):
        stream.flush()


def test_options_that_a_stream_cannot_have() -> None:
    restorer = Restorer.from_name("nano")
    with pytest.raises(UsageError, match="--scale 0 is not allowed"):
        restorer.open_stream(scale=0)
    with pytest.raises(UsageError, match="too large: a side has at most 65535 pixels"):
        restorer.open_stream(scale=60000).push(gray())
    short = dataclasses.replace(restorer, windows=WindowOptions(segment_frames=3))
    with pytest.raises(UsageError, match="--segment-frames 3 is too short"):
        short.open_stream().push(gray())
    parity = Restorer.from_name("toy", windows=WindowOptions(parity=True))
    with pytest.raises(UsageError, match="parity restores all frames together"):
        parity.stream([gray()])


def test_windows_are_planned_for_the_memory_that_may_be_used(clip: Path) -> None:
    frame, limit_bytes = np.tile(frames_of(clip)[0], (16, 16, 1)), 50 << 20

    def layout_for(limit_bytes: int | None) -> Layout:
        device = DeviceOptions(memory_limit_bytes=limit_bytes)
        restorer = Restorer.from_name("toy", device=device)
        course = restorer._course((SizeOptions(scale=2),) * 2, None, *frame.shape[:2])
        assert isinstance(course.runs, partial)
        layout: Layout = course.runs.args[0]
        return layout

    limited, free = layout_for(limit_bytes), layout_for(None)
    assert limited.peak_bytes <= limit_bytes < free.peak_bytes
    assert limited.windows != free.windows or limited.autoencoder != free.autoencoder
    tiny = Restorer.from_name("toy", device=DeviceOptions(memory_limit_bytes=1000))
    with pytest.raises(MemoryLimitError, match=r"needs .* even with the smallest windows allowed"):
        tiny.open_stream(scale=2).push(frame)


def test_the_model_may_restore_at_another_scale(clip: Path) -> None:
    frames, restorer = frames_of(clip)[:3], restorer_of(CASES["nano"])
    (first, *_) = restorer.stream(frames, scale=2, model_scale=4)
    floats = torch.stack([as_tensor(frame / 65535).float() for frame in frames])
    wanted = restorer(floats, scale=2, model_scale=4)[0]
    assert np.abs(first / 65535 - wanted.permute(1, 2, 0).numpy()).max() <= 0.51 / 65535


def test_network_calls_are_reported_and_may_end_the_stream(clip: Path) -> None:
    frames, shares = frames_of(clip)[:9], list[float]()
    restorer = dataclasses.replace(restorer_of(CASES["nano"]), on_window=shares.append)
    assert len(list(restorer.stream(frames, scale=2))) == 9
    # Two frames a call, and the number of calls begins anew with every run.
    assert shares == [1.0] * 5

    def stop(_: float) -> None:
        raise KeyboardInterrupt

    stream = dataclasses.replace(restorer, on_window=stop).open_stream(scale=2)
    with pytest.raises(KeyboardInterrupt):
        stream.push(frames)
    with pytest.raises(ValueError, match="in the middle of its work"):
        stream.flush()


def test_the_names_are_public() -> None:
    assert starvsr.FrameStream is FrameStream
