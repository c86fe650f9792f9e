"""The dataclasses that cross layers. Data only: no torch, no PyAV, nothing that reads a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias


@dataclass(frozen=True)
class ColorInfo:
    """Colour tags of a video as libav's numeric codes (ISO/IEC 23091-2).

    `matrix`, `primaries`, `transfer`: 2 is unspecified. `range`: 1 is limited ("tv"), 2 full ("pc"). Location: 1 left.
    """

    matrix: int = 2
    range: int = 0
    primaries: int = 2
    transfer: int = 2
    chroma_location: int = 0


@dataclass(frozen=True)
class HdrInfo:
    """HDR metadata of a source besides its colour tags."""

    display: tuple[int, ...] = ()
    """The mastering display: x and y of red, green, blue, white in 0.00002, min and max luminance in 0.0001 cd/m2."""
    light: tuple[int, ...] = ()
    """MaxCLL and MaxFALL, cd/m2. Empty if absent, as `display`."""
    dynamic: tuple[str, ...] = ()
    """Kinds of per-frame metadata, such as `Dolby Vision`."""
    dolby_vision: tuple[int, ...] = ()
    """Profile of Dolby Vision and compatibility of its base layer by their codes, if it has one."""


@dataclass(frozen=True)
class StreamInfo:
    """One stream of the source as the container lists it."""

    index: int
    kind: str
    """`video`, `audio`, `subtitle`, `data` or `attachment`."""
    codec: str
    language: str = ""
    detail: str = ""
    """For users, such as `stereo 48000 Hz`."""


@dataclass(frozen=True)
class VideoInfo:
    """What the probe reads from the container's header. Headers can be wrong; `VideoIndex` has what decoding finds."""

    path: Path
    container: str
    """libav's short name of the demuxer, such as `mov,mp4,m4a,3gp,3g2,mj2`."""
    stream_index: int
    """The container's index of the video stream that is restored (see `media.choice`)."""
    codec: str
    pix_fmt: str
    bit_depth: int
    width: int
    height: int
    """Displayed columns and rows: cropped and rotated, before sample aspect."""
    rotation: int
    """Degrees clockwise by which the decoded frame is rotated for display: 0, 90, 180 or 270."""
    sample_aspect: Fraction
    """Width of a displayed sample over its height; 1 if unknown."""
    time_base: Fraction
    """Seconds per tick of the stream's timestamps."""
    frame_rate: Fraction | None
    """Per second: of the first packets, of all frames once indexed (tried first: `stated_rates`); None if unknown."""
    duration_s: float | None
    header_frames: int
    """Duration in seconds and number of frames of the stream by the header; None and 0 if unknown."""
    interlaced: bool
    """Whether the header or the first frame is flagged as interlaced."""
    color: ColorInfo
    streams: tuple[StreamInfo, ...]
    chapters: int = 0
    hdr: HdrInfo = HdrInfo()
    stated_rates: tuple[Fraction, ...] = ()
    hwaccel: str = "none"
    """libav's name of the device type that decodes it; `none` is the CPU."""
    crop: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Columns left and right, and rows above and below, of a decoded frame that are cut off."""
    beside: tuple[tuple[str, str], ...] = ()
    """What it says beside its pictures, as kind and value (see `media.beside`)."""
    foreign: tuple[int, ...] = ()
    """Indices of the streams of other programs."""


@dataclass(frozen=True)
class VideoIndex:
    """What one pass over the whole video found; a frame's position in `pts` is its absolute index."""

    pts: tuple[int, ...]
    """Presentation time of every decodable frame in ticks of `VideoInfo.time_base`, strictly increasing."""
    durations: tuple[int, ...]
    """Display time of every frame in the same ticks, at least 1."""
    keyframe_pts: tuple[int, ...]
    """Presentation times of the frames at which decoding can start, increasing."""
    cuts: tuple[int, ...] = ()
    """Indices of frames that begin a new shot, increasing, never 0."""
    lost_frames: int = 0
    """Frames that the file announces or contains but that cannot be decoded."""
    damaged_frames: int = 0
    """Frames that the decoder could only partly decode, and concealed the rest."""
    interlaced: tuple[int, ...] = ()
    """Indices of frames flagged as interlaced, increasing."""
    film: tuple[tuple[int, ...], ...] = ()
    """Runs of telecined frames, if they were looked for; each is a `media.telecine.Film`."""
    changing: tuple[str, ...] = ()
    """What changes in mid-stream, of `size` and `sample aspect`."""
    whole: bool = True
    """Whether the pass reached the end."""
    messages: tuple[tuple[int, bytes], ...] = ()
    """Frames and what the picture stream says beside them (see `media.messages`)."""
    stamps: tuple[int | None, ...] = ()
    """The time that the decoder gives every frame, where it is not `pts` for all of them (see `media.clock`)."""
    repeats: tuple[int, ...] = ()
    """Indices of frames that show the picture of the frame before them again, increasing; never one of `cuts`."""
    equal: tuple[int, ...] = ()
    """Those of `repeats` whose samples are the same, if these are decoded frames."""
    shifts: tuple[tuple[int, int, Fraction | None], ...] = ()
    """Stream, first packet (of this video: frame) that is shown later, by how many seconds; None: its time is wrong."""
    trimmed: tuple[int, int, int] = (0, 0, 0)
    """Ticks that a range cuts off the start of its first frame, the end of its last, and the start of the video's."""

    @property
    def frames(self) -> int:
        """Number of decodable frames."""
        return len(self.pts)


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of STAR's video UNet; the defaults are the published I2VGen-XL-based network."""

    latent_channels: int = 4
    width: int = 320
    """Channels of the first level."""
    multipliers: tuple[int, ...] = (1, 2, 4, 4)
    """Channels of each level over `width`; levels are at 1, 1/2, 1/4, ... of the latent's size."""
    residual_blocks: int = 2
    """Residual blocks of an encoder level; a decoder level has one more."""
    head_width: int = 64
    """Channels of an attention head."""
    first_heads: int = 8
    """Of the temporal transformer after the first convolution; everywhere else channels over `head_width`."""
    context_width: int = 1024
    """Channels of a text token."""
    attention_scales: tuple[float, ...] = (1.0, 0.5, 0.25)
    """Levels, by scale, with spatial and temporal transformers; others have no effect. The middle always has them."""
    control: bool = True
    """Whether the control branch exists, and with it the hint."""
    liem: str = "published"
    """LIEM's gates: `published`, before the norm before attention, with little effect; `acting`, behind it; `none`."""
    norm_groups: int = 32
    """Groups of channels of every group norm. A group of one channel loses that channel's mean and size."""
    recurrent: ClassVar[bool] = False
    """Whether frames depend on a `Memory` of the frames before them."""
    shares: ClassVar[bool] = True
    """Whether calls that differ only in their text can share their first part (`models.shared`)."""

    def __post_init__(self) -> None:
        # JSON has lists.
        object.__setattr__(self, "multipliers", tuple(self.multipliers))
        object.__setattr__(self, "attention_scales", tuple(float(s) for s in self.attention_scales))

    @property
    def levels(self) -> int:
        """Number of levels; the latent is halved `levels - 1` times."""
        return len(self.multipliers)


@dataclass(frozen=True)
class RecurrentConfig:
    """Sizes of the recurrent network for CPUs (`models.recurrent`), at the latent's size unless noted."""

    latent_channels: int = 48
    stem_width: int = 32
    """Channels of a frame's own features, also used to estimate motion."""
    width: int = 48
    """Channels at the latent's size, and of the memory."""
    blocks_before: int = 1
    """Residual blocks before downsampling."""
    deep_width: int = 96
    """Channels at half the latent's size."""
    deep_blocks: int = 2
    blocks_behind: int = 1
    """Residual blocks after upsampling."""
    motion_width: int = 32
    """Channels of motion estimation at half the latent's size; twice as many at a quarter."""
    liem: bool = True
    """Whether a LIEM gate precedes every residual block."""
    full_width: int = 0
    """Channels of the last convolutions, at the pictures' size; 0: there are none."""
    control: ClassVar[bool] = False
    recurrent: ClassVar[bool] = True
    shares: ClassVar[bool] = False
    context_width: ClassVar[int] = 1
    """Channels of a text token, which this network does not read."""


@dataclass(frozen=True)
class CogVideoXConfig:
    """Sizes of STAR's video transformer (`models.cogvideox`); the defaults are the CogVideoX-5B-based network."""

    latent_channels: int = 16
    layers: int = 42
    heads: int = 48
    head_width: int = 64
    """Channels of an attention head, a multiple of 16; the width is `heads * head_width`."""
    time_width: int = 512
    """Channels of the time embedding."""
    context_width: int = 4096
    liem: bool = True
    """Whether LIEM's gates are between norm and attention."""
    rotary: bool = True
    """Whether positions turn queries and keys, as in the 5B one; else sines and cosines are added to the tokens."""
    control: ClassVar[bool] = True
    recurrent: ClassVar[bool] = False
    shares: ClassVar[bool] = False

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.heads * self.head_width


if TYPE_CHECKING:  # Code that has a spec knows which of them it is.
    NetworkConfig: TypeAlias = Any
else:
    NetworkConfig = UNetConfig | RecurrentConfig | CogVideoXConfig
"""A network's configuration; its type is the architecture."""


@dataclass(frozen=True)
class SizeRule:
    """Legal sizes of a latent, in its elements: `height % multiple == height_remainder`, `width % multiple == 0`.

    STAR's downsampling pads two rows and a column per side: heights run `h -> (h + 2) / 2`, 2 modulo `2 ** halvings`.
    """

    multiple: int
    height_remainder: int


@dataclass(frozen=True)
class WindowSpec:
    """What the network sees at once, and neighbours share: latent frames, and elements (a tile of None: all)."""

    chunk_frames: int
    chunk_overlap: int
    tile_height: int | None
    tile_width: int | None
    tile_overlap: int
    whole_tiles: bool = False
    """Whether every tile has the full size, for a network of one size; else the smallest without more tiles."""
    call_elements: int = 0
    """Most latent elements of a call, which shortens chunks of large frames (0: no limit); for independent frames."""


@dataclass(frozen=True)
class AutoencoderSpec:
    """Which autoencoder converts pixels to latents, and how its work is split."""

    kind: str
    """`pixel_unshuffle` (no weights), `temporal_vae` (Stable Video Diffusion), `causal_vae` (CogVideoX), `linear`."""
    factor: int
    """Pixels per latent element, each way."""
    weights: str = ""
    """Name of the component that holds its weights; empty if it has none."""
    scaling_factor: float = 1.0
    """Factor of a latent after the encoder, and its divisor before the decoder."""
    posterior: str = "mean"
    """Value taken from an encoded distribution: `sample` (seeded per frame) or `mean`."""
    chunk_frames: int | None = None
    """Frames that are decoded at once; None is the network's chunk."""
    chunk_overlap: int = 0
    tile: int | None = None
    """Side of a square tile, latent elements; None is the whole frame."""
    tile_overlap: int = 0
    time_factor: int = 1
    """Frames per latent frame, f: a run of f k + 1 frames (others are padded) is k + 1 latent ones, coded at once."""


@dataclass(frozen=True)
class TextSpec:
    """The text encoder of the context, and the prompts that the weights were tuned with, which are the defaults."""

    weights: str
    """Name of the component that holds the encoder's text tower."""
    prompt: str
    prompt_suffix: str
    """Appended to every prompt, without a separator."""
    negative_prompt: str | None
    """None is no text: its tokens are zeros."""


@dataclass(frozen=True)
class ModelSpec:
    """Everything that sets one model apart from another, as data: `restore` has no branch on a name."""

    name: str
    summary: str
    """One line for users."""
    licence: str
    network: NetworkConfig
    autoencoder: AutoencoderSpec
    size_rule: SizeRule
    min_size: tuple[int, int]
    """Smallest legal latent (rows, columns); smaller frames are padded to it."""
    start: str
    """`noised`: sampling starts from the degraded latent with noise at `noise_level`; `clean`: one step from
    the clean degraded latent; `noise`: sampling starts from noise alone, and the latent is only the hint."""
    solver: str
    """`one_step`, `dpmpp_2m_sde` or `vpsde_dpmpp_2m`."""
    noise_level: int
    """Diffusion time plus one at which sampling starts: `noise_level - 1` is the integer time (0..999)."""
    steps: int
    """Default `--steps`; 1 for `one_step`."""
    cfg: float
    """Default guidance scale; 1 is none."""
    cfg_rescale: float
    upsampling: str
    """`bicubic` or `bilinear`: how the input is resized to the output size before encoding."""
    color_fix: str
    """Default colour fix: `adain`, `wavelet` or `none`."""
    windows: WindowSpec
    segment_frames: int
    """Longest segment by default; bounds memory."""
    context_frames: int
    """Frames that neighbouring segments of a shot share and crossfade."""
    context_tokens: int = 1
    """Length of the text context; without a text encoder the context is zeros."""
    text: TextSpec | None = None
    """None for a model without a prompt."""
    schedule: str = "logsnr_cosine_interp"
    """Noise levels: `logsnr_cosine_interp`, or one of `schedule.SNR_SHIFTS` for a `start` of `noise`."""
    half: str = "fp16"
    """`--precision auto` on devices other than the CPU: `fp16` or `bf16`."""
    cfg_dynamic: bool = False
    """Whether `cfg` is the strength of `guidance.dynamic_scale`; a requested scale is constant."""
    faithful: str = ""
    """The embedded model from whose weights, at 0, `--detail` goes to these, at 1; empty: none."""
    trained_size: tuple[int, int] = field(default=(0, 0), compare=False)
    """Columns and rows of the frames that it was trained on, for advice; zeros if any."""
    parameters: int = field(default=0, compare=False)
    """Of the network, with its control branch; 0 if not counted (`models.build.counted`)."""
    largest_unit: int = field(default=0, compare=False)
    """Most parameters that move to the device together with offload `block` (`models.offload`)."""


@dataclass(frozen=True)
class DeviceInfo:
    """Where the network runs; its name is torch's: `cpu`, `cuda:0`, `mps`."""

    name: str
    description: str
    memory_bytes: int
    """Free memory of the device (of the machine for the CPU); 0 if unknown."""
    threads: int
    quick_bf16: bool = False
    """Whether it is a CPU whose units make convolutions quicker in bfloat16 than in float32."""


@dataclass(frozen=True)
class SegmentProgress:
    """Progress of one segment of a job."""

    number: int
    count: int
    """Which of the job's segments, from 1, and how many there are."""
    done: float
    """Frames of the segment, including those shared with its neighbours."""
    total: int


@dataclass(frozen=True)
class Progress:
    """A progress report, cheap to create and to ignore."""

    stage: str
    """`index load restore join compose`; weights: `download convert text`; `degrade measure`; train: `check train`."""
    done: float
    total: int
    """Units of `done`: frames, bytes of `download`, files of `convert` and `check`, steps of `train`, or 1."""
    detail: str = ""
    segment: SegmentProgress | None = None
    """The current segment, for `restore`."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Seconds spent so far in each named part of the work (`network`, `decode`, `encode`, ...)."""


ProgressCallback = Callable[[Progress], None]
