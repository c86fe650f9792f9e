"""Whole jobs from file to file, against the same thing done by hand with the Restorer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

from starvsr.errors import OutputError, UsageError
from starvsr.job.executor import InTurn, Made, OnLoad, Work
from starvsr.job.run import Job, plan_video, run_job, upscale_video
from starvsr.job.segment import OnFrames
from starvsr.media.index import build_index
from starvsr.media.probe import probe
from starvsr.media.quantize import to_levels
from starvsr.media.reader import read_frames
from starvsr.options import (
    DeviceOptions,
    EncodeOptions,
    LookOptions,
    RangeOptions,
    SamplingOptions,
    SizeOptions,
    StreamOptions,
    UpscaleOptions,
    WindowOptions,
)
from starvsr.plan.segments import Segment
from starvsr.restore.levels import frames_to_tensor, tensor_to_frames
from starvsr.restore.restorer import Restorer
from starvsr.types import Progress
from starvsr.zoo.load import load_model
from tests.media.clips import Audio, Clip, make, payloads

Pixels = npt.NDArray[np.int64]

WIDTH, HEIGHT, SCALE = 16, 12, 2
SAMPLING = SamplingOptions(steps=2, cfg=1.0)
# Every level of the Restorer's frames survives: 16 bits, no chroma planes.
LOSSLESS = EncodeOptions(codec="ffv1", pix_fmt="gbrp16le")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def options(toy_path: Path) -> UpscaleOptions:
    return UpscaleOptions(
        model=str(toy_path), size=SizeOptions(scale=SCALE), sampling=SAMPLING, encode=LOSSLESS
    )


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """21 frames, which make 4 segments of 9 or fewer and 3 seams."""
    return make(tmp_path / "clip.mkv", Clip(frames=21, width=WIDTH, height=HEIGHT))


def windows(segment_frames: int) -> WindowOptions:
    return WindowOptions(segment_frames=segment_frames)


def pixels(path: Path) -> Pixels:
    """All frames as 16-bit levels."""
    info = probe(path)
    index = build_index(info, scene_detect=False)
    return np.stack(list(read_frames(info, index, 0, index.frames))).astype(np.int64)


def by_hand(source: Path, job: Job) -> list[dict[int, Pixels]]:
    """Every segment restored on its own: pictures by absolute frame index."""
    restorer = Restorer(
        load_model(job.options.model, device="cpu"),
        sampling=job.options.sampling,
        look=job.options.look,
        windows=job.options.windows,
    )
    frames = list(read_frames(job.info, job.index, 0, job.index.frames))
    size = (job.plan.height, job.plan.width)
    segments = []
    for segment in job.plan.segments:
        tensor = frames_to_tensor(frames[segment.first : segment.last])
        runs = restorer.restore(tensor, size, first_frame=segment.first)
        pictures = [picture for run in runs for picture in tensor_to_frames(run)]
        numbers = range(segment.first, segment.last)
        segments.append({n: p.astype(np.int64) for n, p in zip(numbers, pictures, strict=True)})
    return segments


def test_frames_sizes_and_times(tmp_path: Path, options: UpscaleOptions) -> None:
    # A variable frame rate that no rounding to a frame number would survive.
    pts = [0, 512, 700, 1500, 2048, 2049, 5000, 5512, 6024, 9000]
    source = make(
        tmp_path / "in.mp4",
        Clip(
            frames=10,
            width=WIDTH,
            height=HEIGHT,
            pts=pts,
            audio=(Audio(), Audio(start_s=Fraction(1, 2))),
        ),
    )
    target = tmp_path / "out.mp4"
    result = upscale_video(
        source, target, dataclasses.replace(options, encode=EncodeOptions(), windows=windows(8))
    )
    old, new = probe(source), probe(target)
    assert (new.width, new.height) == (result.width, result.height) == (2 * WIDTH, 2 * HEIGHT)
    before, after = build_index(old), build_index(new)
    assert result.frames == after.frames == 10
    times = [
        [n * info.time_base for n in index.pts] for info, index in ((old, before), (new, after))
    ]
    assert times[0] == times[1]
    assert times[0] == [Fraction(n, 12800) for n in pts]
    tracks = list(zip(payloads(source, "audio"), payloads(target, "audio"), strict=True))
    assert len(tracks) == 2
    for heard, copied in tracks:
        assert [packet.data for packet in heard] == [packet.data for packet in copied]
        # An mp4 rounds the start of a track, and nothing behind it.
        shifts = {old.start - new.start for old, new in zip(heard, copied, strict=True)}
        assert len(shifts) == 1
        assert abs(shifts.pop()) < Fraction(1, 10_000)


def test_segments_are_crossfaded_where_they_overlap(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    job = plan_video(clip, tmp_path / "out.mkv", dataclasses.replace(options, windows=windows(8)))
    assert [(s.first, s.last, s.head, s.tail) for s in job.plan.segments] == [
        (0, 6, 0, 2),
        (4, 11, 2, 2),
        (9, 16, 2, 2),
        (14, 21, 2, 0),
    ]
    run_job(job)
    written = pixels(job.target)
    segments = by_hand(clip, job)
    assert written.shape == (21, HEIGHT * SCALE, WIDTH * SCALE, 3)
    for number in range(21):
        versions = [segment[number] for segment in segments if number in segment]
        if len(versions) == 1:
            wanted = versions[0]
        else:
            # The two of them differ, so that neither alone would pass.
            assert np.abs(versions[0] - versions[1]).max() > 100
            first = next(s.first for s in job.plan.segments[1:] if number - s.first in (0, 1))
            share = Fraction(number - first + 1, 3)
            wanted = (1 - float(share)) * versions[0] + float(share) * versions[1]
        assert np.abs(written[number] - wanted).max() <= 1, number


def test_one_segment_is_the_restorers_output(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    job = plan_video(clip, tmp_path / "out.mkv", options)
    assert len(job.plan.segments) == 1
    run_job(job)
    (segment,) = by_hand(clip, job)
    assert np.array_equal(pixels(job.target), np.stack(list(segment.values())))


def test_fewer_bits_are_the_restorers_output_dithered(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    encode = EncodeOptions(codec="ffv1", pix_fmt="gbrp10le")
    job = plan_video(clip, tmp_path / "out.mkv", dataclasses.replace(options, encode=encode))
    run_job(job)
    (segment,) = by_hand(clip, job)
    restored = np.stack(list(segment.values()))
    levels = np.stack([to_levels(frame.astype(np.uint16), 10) for frame in restored])
    assert np.abs(levels - restored * (1023 / 65535)).max() < 1
    assert np.abs(pixels(job.target) - levels * (65535 / 1023)).max() <= 1


def backwards(
    work: Work, segments: Sequence[Segment], on_load: OnLoad, on_frames: OnFrames
) -> Generator[Made, None, None]:
    return InTurn()(work, segments[::-1], on_load, on_frames)


def test_the_order_of_work_changes_nothing(tmp_path: Path, options: UpscaleOptions) -> None:
    source = make(tmp_path / "in.mp4", Clip(frames=20, width=WIDTH, height=HEIGHT))
    job = dataclasses.replace(options, encode=EncodeOptions(), windows=windows(8))
    upscale_video(source, tmp_path / "forwards.mp4", job)
    upscale_video(source, tmp_path / "backwards.mp4", job, executor=backwards)
    forwards = (tmp_path / "forwards.mp4").read_bytes()
    assert forwards == (tmp_path / "backwards.mp4").read_bytes()
    upscale_video(
        source,
        tmp_path / "seeded.mp4",
        dataclasses.replace(job, sampling=SamplingOptions(steps=2, cfg=1.0, seed=1)),
    )
    assert forwards != (tmp_path / "seeded.mp4").read_bytes()


def paint(frame: av.VideoFrame, number: int) -> None:
    """Twelve frames of one place, then another one."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    light = 40 + 3 * columns if number < 12 else 220 - 6 * rows
    picture = np.stack([light + number % 3] * 3, axis=-1).astype(np.uint8)
    drawn = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=frame.format.name)
    for here, there in zip(frame.planes, drawn.planes, strict=True):
        here.update(bytes(there))


def test_nothing_is_blended_across_a_shot_change(tmp_path: Path, options: UpscaleOptions) -> None:
    source = make(
        tmp_path / "in.mkv",
        Clip(frames=24, width=WIDTH, height=HEIGHT, codec="ffv1", fill=paint),
    )
    job = plan_video(source, tmp_path / "out.mkv", options)
    assert job.index.cuts == (12,)
    assert [(s.first, s.last) for s in job.plan.segments] == [(0, 12), (12, 24)]
    run_job(job)
    shots = by_hand(source, job)
    alone = np.stack([*shots[0].values(), *shots[1].values()])
    assert np.array_equal(pixels(job.target), alone)

    whole = plan_video(
        source,
        tmp_path / "whole.mkv",
        dataclasses.replace(options, windows=WindowOptions(scene_detect=False)),
    )
    assert len(whole.plan.segments) == 1
    run_job(whole)
    assert not np.array_equal(pixels(whole.target)[10:14], alone[10:14])


@pytest.mark.parametrize(
    ("selection", "first", "last"),
    [
        (RangeOptions(frames=4), 0, 4),
        (RangeOptions(start_s=0.2, frames=3), 5, 8),
        (RangeOptions(start_s=0.08, end_s=0.2), 2, 5),
        (RangeOptions(start_s=0.4, duration_s=9.0), 10, 21),
    ],
)
def test_a_part_of_the_video(
    tmp_path: Path,
    clip: Path,
    options: UpscaleOptions,
    selection: RangeOptions,
    first: int,
    last: int,
) -> None:
    job = plan_video(clip, tmp_path / "out.mkv", dataclasses.replace(options, range=selection))
    assert (job.plan.first, job.plan.last) == (first, last)
    result = run_job(job)
    assert result.frames == last - first
    (segment,) = by_hand(clip, job)
    assert sorted(segment) == list(range(first, last))
    assert np.array_equal(pixels(job.target), np.stack(list(segment.values())))


def test_a_part_that_begins_and_ends_within_held_pictures(
    tmp_path: Path, options: UpscaleOptions
) -> None:
    """Pictures and sound have the length that was asked for, and begin together."""
    times = [0, 512, 1024, 1536, 40960, 41472, 41984]
    held = Clip(frames=7, pts=times, width=16, height=12, audio=(Audio("flac", seconds=3.4),))
    source = make(tmp_path / "held.mkv", held)
    slides = Clip(frames=3, width=16, height=12, pts=[0, 12800, 25600], audio=held.audio, rate=1)
    slide_show = make(tmp_path / "slides.mkv", slides)
    for number, (path, span, shown, length) in enumerate(
        (
            (source, RangeOptions(start_s=1, duration_s=1), 1, 1.0),
            (source, RangeOptions(duration_s=2), 4, 2.0),
            (source, RangeOptions(start_s=0.5), 4, 2.82),
            # No frame is left out, and yet these are parts.
            (slide_show, RangeOptions(start_s=0.5), 3, 2.5),
            (slide_show, RangeOptions(end_s=2.25), 3, 2.25),
            (slide_show, RangeOptions(start_s=0.5, end_s=2.25), 3, 1.75),
        )
    ):
        target = tmp_path / f"{number}.mkv"
        encode = EncodeOptions(codec="ffv1")
        streams = StreamOptions(audio="flac")
        taken = dataclasses.replace(options, range=span, encode=encode, streams=streams)
        assert upscale_video(path, target, taken).frames == shown
        with av.open(str(target)) as container:
            ends = {"video": 0.0, "audio": 0.0}
            for packet in container.demux():
                if packet.pts is not None and packet.duration:
                    end = float((packet.pts + packet.duration) * packet.time_base)
                    ends[packet.stream.type] = max(ends[packet.stream.type], end)
        assert ends == {
            "video": pytest.approx(length, abs=2e-3),
            "audio": pytest.approx(length, abs=2e-3),
        }


def test_blend_of_1_is_plain_upsampling(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    target = tmp_path / "out.mkv"
    upscale_video(clip, target, dataclasses.replace(options, look=LookOptions(blend=1.0)))
    source = torch.from_numpy(pixels(clip)).permute(0, 3, 1, 2).double()
    plain = functional.interpolate(source, scale_factor=SCALE, mode="bilinear")
    wanted = plain.permute(0, 2, 3, 1).numpy()
    assert np.abs(pixels(target) - wanted).max() <= 1


def test_an_option_of_each_kind_changes_the_picture(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    seen = set()
    for number, changes in enumerate(
        (
            {},
            {"sampling": SamplingOptions(steps=3, cfg=1.0)},
            {"sampling": SamplingOptions(steps=2, cfg=1.0, noise_level=300)},
            {"look": LookOptions(color_fix="none")},
            {"look": LookOptions(color_fix="wavelet")},
            {"look": LookOptions(blend=0.5)},
            {"look": LookOptions(sharpen=0.5)},
            {"windows": WindowOptions(chunk_frames=4)},
        )
    ):
        target = tmp_path / f"{number}.mkv"
        range_ = RangeOptions(frames=6)
        upscale_video(clip, target, dataclasses.replace(options, range=range_, **changes))  # type: ignore[arg-type]
        seen.add(pixels(target).tobytes())
    assert len(seen) == 8


def test_progress_and_work_directory(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    reports: list[Progress] = []
    hidden: set[str] = set()

    def note(progress: Progress) -> None:
        reports.append(progress)
        hidden.update(path.name for path in tmp_path.iterdir() if path.is_dir())

    upscale_video(
        clip, tmp_path / "out.mkv", dataclasses.replace(options, windows=windows(8)), progress=note
    )
    assert list(dict.fromkeys(report.stage for report in reports)) == [
        "index",
        "load",
        "restore",
        "join",
    ]
    shares = [report.done for report in reports if report.stage == "restore"]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(21)
    assert {report.total for report in reports if report.stage == "restore"} == {21}
    assert hidden == {"out.mkv.starvsr"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", "out.mkv"]


@pytest.mark.parametrize(("frames", "left"), [(2, []), (10, ["out.mkv.starvsr"])])
def test_an_exception_of_the_caller_passes_and_leaves_what_is_finished(
    tmp_path: Path, clip: Path, options: UpscaleOptions, frames: int, left: list[str]
) -> None:
    def stop(progress: Progress) -> None:
        if progress.stage == "restore" and progress.done > frames:
            raise ZeroDivisionError("enough")

    with pytest.raises(ZeroDivisionError, match="enough"):
        upscale_video(
            clip,
            tmp_path / "out.mkv",
            dataclasses.replace(options, windows=windows(8)),
            progress=stop,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", *left]


def test_the_result_in_json(tmp_path: Path, clip: Path, options: UpscaleOptions) -> None:
    result = upscale_video(
        str(clip),
        str(tmp_path / "out.mkv"),
        dataclasses.replace(options, range=RangeOptions(frames=2)),
    )
    found = json.loads(json.dumps(result.to_json()))
    assert found["target"] == str(tmp_path / "out.mkv")
    assert (found["width"], found["height"], found["frames"]) == (32, 24, 2)
    assert (found["lost_frames"], found["model"]) == (0, "seeded-toy")
    assert 0 < sum(found["seconds"].values()) <= found["elapsed_s"]


def test_a_planned_job_in_json_and_without_a_target(clip: Path, options: UpscaleOptions) -> None:
    job = plan_video(clip, options=options)
    assert job.target == clip.with_name("clip-32x24.mkv")
    found = json.loads(json.dumps(job.to_json()))
    assert found["source"] == str(clip)
    assert found["plan"]["frames"] == 21
    assert found["encoder"]["codec"] == "ffv1"
    assert found["device"]["name"] == job.device.name
    assert list(clip.parent.iterdir()) == [clip]


def test_nothing_of_a_job_depends_on_the_folder_it_is_started_in(
    tmp_path: Path, clip: Path, options: UpscaleOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = upscale_video(
        "clip.mkv", "out.mkv", dataclasses.replace(options, range=RangeOptions(frames=1))
    )
    assert result.target == Path("out.mkv")
    assert (tmp_path / "out.mkv").is_file()


def test_refusals_are_errors_of_the_library(
    tmp_path: Path, clip: Path, options: UpscaleOptions
) -> None:
    with pytest.raises(UsageError, match="is the input itself"):
        upscale_video(clip, clip, dataclasses.replace(options, overwrite=True))
    (tmp_path / "out.mkv").touch()
    with pytest.raises(OutputError, match="exists already"):
        upscale_video(clip, tmp_path / "out.mkv", options)


def test_nothing_is_compiled_for_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("starvsr.models.compiled.check_compiler", lambda _: pytest.fail("compiled"))
    options = UpscaleOptions(
        encode=EncodeOptions(codec="no-such"), device=DeviceOptions(compile=True)
    )
    with pytest.raises(OutputError, match="no-such"):
        plan_video(make(tmp_path / "clip.mkv"), tmp_path / "out.mkv", options)


@pytest.mark.parametrize("name", ["out.mkv", "out.png"])
def test_a_file_that_appears_meanwhile_is_not_replaced(
    tmp_path: Path, options: UpscaleOptions, name: str
) -> None:
    """Jobs take hours; what is made so far is kept, and the same command with --overwrite takes it."""
    frames = 1 if name.endswith("png") else 4
    clip = make(tmp_path / "clip.mkv", Clip(frames=frames, width=16, height=12))
    target = tmp_path / name
    options = dataclasses.replace(options, encode=EncodeOptions())

    def somebody(progress: Progress) -> None:
        if progress.stage == "restore":
            target.write_bytes(b"precious")

    with pytest.raises(OutputError, match="exists already: give --overwrite") as raised:
        upscale_video(clip, target, options, progress=somebody)
    assert target.read_bytes() == b"precious"
    assert "finished parts are kept" in "".join(raised.value.__notes__)
    assert ("starvsr finish" in "".join(raised.value.__notes__)) == name.endswith("mkv")
    reused: list[int] = []
    again = plan_video(clip, target, dataclasses.replace(options, overwrite=True))
    run_job(again, on_resume=lambda count, _: reused.append(count))
    assert reused == [1]
    assert target.stat().st_size > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mkv", name]
