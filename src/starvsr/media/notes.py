"""Notes for users: what a job does to the video besides upscaling, and what cannot be preserved."""

from __future__ import annotations

from collections.abc import Iterator

from starvsr.media.carrier import holds_light
from starvsr.media.encoder import IMAGES, EncoderSettings, is_hardware
from starvsr.media.fields import FieldPlan, plan_fields
from starvsr.media.hdr import hdr_options
from starvsr.media.omitted import beside_notes
from starvsr.media.pixfmt import PIX_FMT_KINDS, layout_of
from starvsr.media.sequence import is_sequence
from starvsr.media.still import STILL, USUAL_PRIMARIES, still_facts
from starvsr.media.still_writer import format_of, holds_profile
from starvsr.options import DEFAULT_FPS, LookOptions, UpscaleOptions
from starvsr.types import HdrInfo, VideoIndex, VideoInfo

# Kinds of streams by their field in `StreamOptions`.
_WANTED = {"audio": "audio", "subtitle": "subtitles", "attachment": "attachments"}
# Of pictures, by Pillow's mode.
_BECOMES = {
    "CMYK": "its CMYK colours become sRGB",
    "LAB": "its Lab colours become RGB",
    "P": "its palette becomes RGB",
    "1": "its black and white become grey of 8 bits",
}


def picture_notes(
    info: VideoInfo, index: VideoIndex, settings: EncoderSettings, options: UpscaleOptions
) -> tuple[str, ...]:
    """One sentence for each. index: of decoded frames. Raises InputError if they are too small to be deinterlaced."""
    if settings.container == STILL:
        return (
            *_of_still(info, settings, options),
            *_fields(info, index, plan_fields(info, index, options.look), options.look),
            *_in_still(info, settings, options),
        )
    return (
        *_of_still(info, settings, options),
        *_images(info, settings, options),
        *(
            f"the {each} changes in mid-stream: the first frame's is used"
            for each in index.changing
        ),
        *_fields(info, index, plan_fields(info, index, options.look), options.look),
        *_alpha(info, settings),
        *_depth(info, settings, options.encode.pix_fmt),
        *_dynamic_range(info.hdr, settings),
        *beside_notes(info, index, settings, options.streams),
        *([] if info.hwaccel == "none" else [f"it is decoded by {info.hwaccel}"]),
        *_encoded_again(settings.codec),
    )


def _of_still(info: VideoInfo, settings: EncoderSettings, options: UpscaleOptions) -> Iterator[str]:
    """Of a still picture as source: what is not its pixels, and those that are another kind of them."""
    if info.container != STILL:
        return
    facts = still_facts(info.path)
    to_still = settings.container == STILL
    if facts.pages > 1:
        yield f"the first of {facts.pages} pictures in the file is restored, the others are left out"
    if facts.turned:
        yield "it is turned upright, as its Exif says; the output needs no turn"
    if facts.mode in _BECOMES:
        yield _BECOMES[facts.mode]
    if facts.icc and not (to_still and holds_profile(settings, facts.icc)):
        yield "its colour profile is left out: viewers take the output's colours for sRGB"
    if facts.primaries not in USUAL_PRIMARIES and not facts.icc:
        yield (
            f"its colours have primaries of code {facts.primaries} (ISO/IEC 23091-2), which the output does not say: "
            "viewers take them for sRGB"
        )
    left_out = list(facts.others)
    if facts.exif and options.streams.metadata and not (to_still and format_of(settings).tags):
        left_out.insert(0, "Exif")
    if left_out:
        yield f"{' and '.join(left_out)} in the file {'is' if len(left_out) == 1 else 'are'} left out"


def _in_still(info: VideoInfo, settings: EncoderSettings, options: UpscaleOptions) -> Iterator[str]:
    """What one picture cannot hold."""
    source, layout = layout_of(info.pix_fmt), layout_of(settings.pix_fmt)
    if source.alpha and not layout.alpha:
        yield f"alpha is left out: {format_of(settings).name} has none; .png, .webp and .tif keep it"
    if source.depth > layout.depth:
        yield f"{source.depth} bits become {layout.depth}: .png and .tif keep up to 16"
    if info.container == STILL:
        return
    yield from _left_streams(info, options, "a picture contains")
    if info.sample_aspect != 1:
        yield f"the sample aspect {info.sample_aspect} is left out: a picture has square pixels"
    if info.color.primaries not in USUAL_PRIMARIES:
        yield (
            f"its colours have primaries of code {info.color.primaries} (ISO/IEC 23091-2), which a picture does not "
            "say: viewers take them for sRGB"
        )


def _left_streams(info: VideoInfo, options: UpscaleOptions, what: str) -> list[str]:
    kinds = dict.fromkeys(each.kind for each in info.streams if each.kind in _WANTED)
    wanted = [
        kind for kind in kinds if getattr(options.streams, _WANTED[kind]) not in ("none", False)
    ]
    return [f"{what} no {' and no '.join(wanted)}: left out"] if wanted else []


def _encoded_again(codec: str) -> list[str]:
    if not is_hardware(codec):
        return []
    return [
        f"a job that is interrupted and resumed may differ in bits from an unbroken one: {codec} runs on a device"
    ]


def _dynamic_range(hdr: HdrInfo, settings: EncoderSettings) -> list[str]:
    notes = []
    kept = hdr_options(settings.codec, hdr) or holds_light(settings.container)
    if (hdr.display or hdr.light) and not kept:
        notes.append(
            "the mastering display and content light metadata is left out: neither the codec "
            f"{settings.codec} nor {settings.container} has a place for it; --codec libx265, libx264 and libsvtav1 do"
        )
    if hdr.dynamic:
        profile = f"Dolby Vision (profile {hdr.dolby_vision[0]})" if hdr.dolby_vision else ""
        kinds = " and ".join(
            profile if profile and each == "Dolby Vision" else each for each in hdr.dynamic
        )
        notes.append(
            f"{kinds} is left out: it is valid for the source's own frames only; the base layer is restored"
        )
    return notes


def _alpha(info: VideoInfo, settings: EncoderSettings) -> list[str]:
    if not layout_of(info.pix_fmt).alpha or settings.alpha:
        return []
    return [
        f"alpha, if it has any, is left out: {settings.codec} {settings.pix_fmt} in {settings.container} has none; "
        "--codec ffv1 in .mkv, prores_ks in .mov or libvpx-vp9 in .webm keep it"
    ]


def _depth(info: VideoInfo, settings: EncoderSettings, asked: str) -> list[str]:
    before, after = layout_of(info.pix_fmt).depth, layout_of(settings.pix_fmt).depth
    if after >= before or asked not in PIX_FMT_KINDS:
        return []
    if asked == "compatible":
        return [
            f"{before} bits become {after}: --pix-fmt compatible allows no more with {settings.codec}"
        ]
    if settings.container == IMAGES:
        advice = ".png and .tif keep up to 16"
    elif before > 12 or settings.alpha:
        advice = "--codec ffv1 in .mkv keeps them"
    else:
        advice = f"--codec {'libsvtav1 or libx265 keep' if before <= 10 else 'libx265 keeps'} them"
    return [f"{before} bits become {after}: {settings.codec} supports no more here; {advice}"]


def _images(info: VideoInfo, settings: EncoderSettings, options: UpscaleOptions) -> list[str]:
    if settings.container == IMAGES:
        return _left_streams(info, options, "images contain")
    if is_sequence(info.path) and options.input.fps is None:
        return [f"the images are read at {DEFAULT_FPS} frames per second: --fps sets another rate"]
    return []


def _fields(
    info: VideoInfo, index: VideoIndex, plan: FieldPlan, look: LookOptions
) -> Iterator[str]:
    if plan.film:
        rest = index.frames - plan.in_film
        yield (
            f"pull-down is undone in {plan.in_film} of {index.frames} frames: 4 film frames in place of 5 "
            f"(--detelecine off leaves them){f'; the other {rest} keep their rate' if rest else ''}"
        )
    if plan.soft:
        evenly = sum(last - first for first, last in plan.soft)
        yield (
            f"{evenly} of {index.frames} frames are shown for three and two fields in turn, and are now shown evenly "
            "(--detelecine off leaves their times)"
        )
    if look.detelecine == "on" and not plan.film and not plan.soft:
        yield (
            "no pull-down is found, which only video of 29.97 or 30 frames a second can have: --detelecine on changes "
            "nothing"
        )
    yield from _interlaced(info, index, plan, look)


def _interlaced(
    info: VideoInfo, index: VideoIndex, plan: FieldPlan, look: LookOptions
) -> Iterator[str]:
    count, marked = len(plan.interpolated), len(index.interlaced)
    some = "every frame" if count == index.frames else f"{count} of {index.frames} frames"
    if plan.both and count:
        yield f"each field of {some} becomes a frame"
    elif count and look.deinterlace == "on":
        yield f"{some} is deinterlaced" if count == index.frames else f"{some} are deinterlaced"
    elif count:
        yield (
            f"{count} of {index.frames} frames are interlaced and are deinterlaced "
            "(--deinterlace off leaves them)"
        )
    elif marked > plan.in_film and look.deinterlace == "off":
        yield f"{marked} of {index.frames} frames are interlaced and stay so"
    elif info.interlaced and look.deinterlace == "auto" and not marked and not plan.film:
        yield (
            "the header says interlaced, but no frame does, so none is deinterlaced: if combing is visible, give "
            "--deinterlace on"
        )
