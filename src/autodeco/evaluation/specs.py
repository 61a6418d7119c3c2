"""Reading a strategy's canonical spec (``static:temperature=0.7,top_p=0.9``) as results name it. Runs no strategy."""

from __future__ import annotations

from dataclasses import dataclass

ADAPTIVE_CONTROLS = ("mean-shift", "shuffled")


@dataclass(frozen=True)
class StaticSetting:
    """A temperature and top-p that are the same at every token.

    Attributes:
        temperature: 0 for greedy decoding.
        top_p: 1 for no nucleus.
        plain: nothing else is set (no top-k, no min-p).
    """

    temperature: float
    top_p: float
    plain: bool


def kind_of(spec: str) -> str:
    """What stands before the colon: ``static`` of ``static:temperature=0.7``."""
    return spec.partition(":")[0]


def parameters_of(spec: str) -> dict[str, str]:
    """The settings after the colon, as text."""
    pairs = (part.partition("=") for part in spec.partition(":")[2].split(",") if part)
    return {name.strip(): value.strip() for name, _, value in pairs}


def static_setting(spec: str) -> StaticSetting | None:
    """The setting that a spec stands for; ``None`` for strategies that are not static.

    MeanShift is static too, but as a control for the heads it is compared with the sweep rather than part of it.
    """
    if spec == "default":
        return StaticSetting(1.0, 1.0, plain=True)
    if spec == "greedy":
        return StaticSetting(0.0, 1.0, plain=True)
    if kind_of(spec) != "static":
        return None
    settings = parameters_of(spec)
    try:
        temperature, top_p = float(settings.pop("temperature", 1)), float(settings.pop("top_p", 1))
    except ValueError:
        return None
    return StaticSetting(temperature, top_p, plain=not settings)
