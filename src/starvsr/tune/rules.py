"""What is advised when: tables of settings, each with what has to be measured for it and its reason in one sentence.

The first rule of an option that applies is taken; where none does, the program's default stays. Values and reasons are
format strings over the measurements. To have another model tried, add a line to `MODELS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from starvsr.options import DEFAULT_SCALE
from starvsr.plan.speed import has_speeds
from starvsr.specs import SPECS
from starvsr.tune.measure import Footage
from starvsr.types import DeviceInfo, ModelSpec

MOST_ROWS = 2160
"""Short side of the largest displays that are common, pixels."""

# Fraction of held frames from which on looking for them is worth its risk.
_HELD = 0.1


@dataclass(frozen=True)
class Machine:
    """Where the job would run."""

    device: DeviceInfo
    installed: tuple[str, ...]
    """Models of `SPECS` that nothing is missing of."""

    @property
    def has_gpu(self) -> bool:
        """Whether the device is not the CPU."""
        return self.device.name != "cpu"


Condition = Callable[[Footage, Machine], bool]


class ModelRule(NamedTuple):
    """When a model is tried; the first one that applies and is installed is advised."""

    name: str
    when: Condition
    reason: str


MODELS = (
    ModelRule(
        "star-heavy",
        lambda f, m: m.has_gpu and f.noisy and f.blocky,
        "noise of {f.noise:.1f} levels and blocks of {f.blocks:.2f}x are what its weights were tuned for",
    ),
    ModelRule(
        "star-light",
        lambda f, m: m.has_gpu,
        "there is a GPU ({m.device.description}), and its weights are installed",
    ),
    ModelRule(
        "nano",
        lambda f, m: True,
        "it is what restores quickest on {m.device.description}, and part of the program",
    ),
)


@dataclass(frozen=True)
class Setting:
    """One advised setting, by the name of a field of the groups of `UpscaleOptions`."""

    field: str
    value: Any
    reason: str


class Rule(NamedTuple):
    """A setting that is advised when something was measured."""

    field: str
    when: Condition
    value: Callable[[Footage], Any]
    reason: str


def _scale(footage: Footage) -> float:
    """By what the picture's own detail is enlarged four times, in halves."""
    reduced = DEFAULT_SCALE / (footage.detail or 1.0) if footage.soft else DEFAULT_SCALE
    return max(1.0, round(2 * reduced) / 2)


RULES = (
    Rule(
        "scale",
        lambda f, m: f.short_side >= MOST_ROWS,
        lambda f: 1.0,
        "its {f.width}x{f.height} pixels are as many as large displays have, so it is restored at its own size",
    ),
    Rule(
        "resolution",
        lambda f, m: _scale(f) * f.short_side > MOST_ROWS,
        lambda f: MOST_ROWS,
        "4x of {f.width}x{f.height} is more than displays show, and takes the time of it",
    ),
    Rule(
        "scale",
        lambda f, m: f.soft,
        _scale,
        "its detail is that of a picture {f.detail:.1f} times smaller, so this is about 4x of what it shows",
    ),
    Rule(
        "scale",
        lambda f, m: True,
        lambda f: DEFAULT_SCALE,
        "4x is what models were trained for, and {f.width}x{f.height} is small enough for it",
    ),
    Rule(
        "deinterlace",
        lambda f, m: f.combs and f.flagged < 0.5 and not f.film,
        lambda f: "on",
        "{f.combing:.0%} of what moves combs, though {f.flagged:.0%} of the frames are flagged as interlaced",
    ),
    Rule(
        "deinterlace",
        lambda f, m: f.is_whole and f.flagged >= 0.5 and not f.film,
        lambda f: "off",
        "frames are flagged as interlaced, but what moves does not comb at any of {f.moving} places",
    ),
    Rule(
        "repeats",
        lambda f, m: f.held - f.equal >= _HELD,
        lambda f: "near",
        "{f.held:.0%} of the frames hold the picture before them, and only {f.equal:.0%} equal it bit for bit",
    ),
)


class Alternative(NamedTuple):
    """What is tried beside the advice: a change of one setting."""

    when: Callable[[Footage, ModelSpec], bool]
    field: str
    value: Any
    reason: str


# What docs/performance.md measured.
ALTERNATIVES = (
    Alternative(
        lambda f, spec: has_speeds(spec),
        "speed",
        "balanced",
        "fewer network calls for nearly the same picture",
    ),
    Alternative(
        lambda f, spec: spec.start == "clean" and not f.noisy and not f.blocky,
        "sharpen",
        0.4,
        "crisper, as noise ({f.noise:.1f} levels) and blocks ({f.blocks:.2f}x) are too weak to come out with it",
    ),
    Alternative(
        lambda f, spec: spec.start == "clean" and (f.noisy or f.blocky),
        "sharpen",
        -0.3,
        "calmer, where noise ({f.noise:.1f} levels) or blocks ({f.blocks:.2f}x) should not come out",
    ),
)


def advise(
    footage: Footage, machine: Machine, fixed: Mapping[str, Any] | None = None
) -> tuple[Setting, ...]:
    """The settings for a video on a machine, the model first. fixed: fields that the user has set."""
    fixed = fixed or {}
    found = [Setting(name, value, "as asked for") for name, value in fixed.items()]
    rule = next(iter(_models(footage, machine)))
    settings = [Setting("model", rule.name, _text(rule.reason, footage, machine))]
    sizes = {"scale", "resolution"}
    taken = {*fixed, *(sizes if sizes & set(fixed) else ())}
    for each in RULES:
        if each.field in taken or not each.when(footage, machine):
            continue
        taken |= sizes if each.field in sizes else {each.field}
        reason = _text(each.reason, footage, machine)
        settings.append(Setting(each.field, each.value(footage), reason))
    return (*settings, *found)


def alternatives(
    footage: Footage, machine: Machine, settings: Sequence[Setting], most: int
) -> list[Setting]:
    """Single settings to try beside the advised ones, the most different first."""
    chosen = next(each.value for each in settings if each.field == "model")
    spec = SPECS[chosen]
    found = [
        Setting(each.field, each.value, _text(each.reason, footage, machine))
        for each in ALTERNATIVES
        if (footage.noise is not None or each.field != "sharpen") and each.when(footage, spec)
    ]
    others = [
        Setting("model", rule.name, _text(rule.reason, footage, machine))
        for rule in _models(footage, machine)
        if rule.name != chosen
    ]
    return [*others, *found][:most]


def _models(footage: Footage, machine: Machine) -> Iterator[ModelRule]:
    for rule in MODELS:
        if rule.name in machine.installed and rule.when(footage, machine):
            yield rule


def _text(reason: str, footage: Footage, machine: Machine) -> str:
    return reason.format(f=footage, m=machine)
