"""Sizes, qualities and presets that encoders take, and containers that hold their video; known before one is opened."""

from __future__ import annotations

import io

import av
from av.codec.context import CodecContext, CodecOption

from starvsr.errors import OutputError, did_you_mean
from starvsr.options import MOST_SIDE_PX, EncodeOptions

# Columns and rows that encoders take at most, where it is fewer than `MOST_SIDE_PX`.
_MOST_PX = {
    "libx264": (16384, 16384),
    "libx264rgb": (16384, 16384),
    "libsvtav1": (16384, 8704),
    "libvpx": (16383, 16383),
    "mpeg4": (8191, 8191),
    "mpeg2video": (16383, 16383),
    "mpeg1video": (4095, 4095),
    "mjpeg": (65500, 65500),
}
# Columns and rows that they take at least; of x265 with the block size of small frames.
_LEAST_PX = {"libx265": (32, 32), "libsvtav1": (4, 4), "ffv1": (4, 1)}
# Largest --crf of encoders for which libav's table has no bound: they clip it, or refuse it on standard error.
_MOST_CRF = {"libx264": 51, "libx264rgb": 51, "libx265": 51}
# Their presets are text to libav.
_PRESETS: tuple[str, ...] = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)
# Presets of libsvtav1 are numbers up to 13.
_MOST_NUMBERS = 20
# Encoders to recommend where another one does not take a size, in this order.
_OTHERS = ("libx264", "libx265", "libvpx-vp9", "ffv1")


def holds(container: str, codec: str) -> bool:
    """Whether libav's muxer of a name supports video of an encoder."""
    with av.open(io.BytesIO(), "w", format=container) as output:
        try:
            output.add_stream(codec, rate=25)
        except ValueError:
            return False
    return True


def check_size(codec: str, container: str, width: int, height: int) -> None:
    """Raise OutputError for a size that an encoder does not take, with what helps.

    container: libav's muxer of the output. Some encoders print a line of their own where they are opened with it.
    """
    least, most = _least_px(codec), _most_px(codec)
    if _fits(codec, width, height):
        return
    others = [
        name
        for name in _OTHERS
        if name in av.codecs_available and _fits(name, width, height) and holds(container, name)
    ]
    other = f", or --codec {others[0]}" if others else ""
    if width < least[0] or height < least[1]:
        raise OutputError(
            f"the encoder {codec} takes at least {least[0]}x{least[1]} pixels, not {width}x{height}: give a larger "
            f"--scale{other}"
        )
    long_side = int(max(width, height) * min(most[0] / width, most[1] / height))
    raise OutputError(
        f"the encoder {codec} takes at most {most[0]}x{most[1]} pixels, not {width}x{height}: give --max-resolution "
        f"{long_side}{other}"
    )


def check_quality(codec: str, options: EncodeOptions) -> None:
    """Raise OutputError for a crf or a preset that an encoder has but does not take, with what it takes."""
    extra = dict(options.extra)
    crf = None if options.crf is None else f"{options.crf:g}"
    asked = {"crf": crf, "preset": options.preset, **extra}
    for option in CodecContext.create(codec, "w").supported_options.private:
        name, value = option.name, asked.get(option.name)
        if name not in ("crf", "preset") or value is None:
            continue
        allowed = (
            _preset_advice(codec, option, value)
            if name == "preset"
            else _crf_advice(codec, option, value)
        )
        if allowed:
            given = f"-e {name}={value}" if name in extra else f"--{name} {value}"
            raise OutputError(f"{given} is not allowed for the encoder {codec}: {allowed}")


def presets_of(codec: str) -> tuple[str, ...]:
    """The presets of an encoder that have names, or whose numbers are few; empty if it has or takes none."""
    if codec in _MOST_CRF:
        return _PRESETS
    try:
        options = CodecContext.create(codec, "w").supported_options.private
    except ValueError:
        return ()
    option = next((each for each in options if each.name == "preset"), None)
    if option is None:
        return ()
    names = tuple(choice.name for choice in option.choices)
    numbers = range(max(0, int(option.min)), min(int(option.max), _MOST_NUMBERS) + 1)
    return names or tuple(map(str, numbers))


def _crf_advice(codec: str, option: CodecOption, value: str) -> str:
    """What is allowed; empty if that includes the value."""
    least, most = max(option.min, 0), _MOST_CRF.get(codec, option.max)
    # -1 is libav's "none", for those who set another rate control by -e.
    if _is_number(value, least, most) or (option.min < 0 and _is_number(value, -1, -1)):
        return ""
    return f"give {least:g} (best) to {most:g}"


def _preset_advice(codec: str, option: CodecOption, value: str) -> str:
    """As `_crf_advice`; of encoders whose presets are unknown here, all are allowed."""
    if codec in _MOST_CRF:
        # Their numbers count too.
        names, least, most = _PRESETS, 0.0, len(_PRESETS) - 1.0
    else:
        names = tuple(choice.name for choice in option.choices)
        least, most = option.min, option.max
    if value in names or least == most or _is_number(value, least, most):
        return ""
    listed = f"one of {', '.join(names)}" if names else f"{least:g} to {most:g}"
    return f"{did_you_mean(value, names)}give {listed}"


def _is_number(text: str, least: float, most: float) -> bool:
    try:
        return least <= float(text) <= most
    except ValueError:
        return False


def _least_px(codec: str) -> tuple[int, int]:
    return _LEAST_PX.get(codec, (1, 1))


def _most_px(codec: str) -> tuple[int, int]:
    return _MOST_PX.get(codec, (MOST_SIDE_PX, MOST_SIDE_PX))


def _fits(codec: str, width: int, height: int) -> bool:
    least, most = _least_px(codec), _most_px(codec)
    return least[0] <= width <= most[0] and least[1] <= height <= most[1]
