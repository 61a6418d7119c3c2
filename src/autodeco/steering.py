"""Steering without words: ``generate(..., decoding=...)`` changes what the heads choose, for one call. Reads no prompt.

Kept by thread and by model, so that calls in other threads, and an assistant model, decode as ever.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

from torch import Tensor

from autodeco.errors import ConfigError, did_you_mean
from autodeco.heads import DecodingHeads, ShapedLogits
from autodeco.strategies.base import MIN_TEMPERATURE, shape_at
from autodeco.strategies.measured import heads_choices

if TYPE_CHECKING:
    from autodeco.modeling import AutoDecoForCausalLM

# A name from PRESETS, or a temperature, a top-p or both.
Decoding = str | Mapping[str, float]

_STATE = threading.local()


@dataclass(frozen=True)
class Steering:
    """What becomes of the heads' T and P at every token: a factor on each, or a value in its place.

    Both heads choose as they do without steering (the top-p head for its own T), and what they chose is changed
    afterwards. So a value for one head leaves the other's choices alone, as commands in words are trained to do.
    """

    temperature_factor: float = 1.0
    top_p_factor: float = 1.0
    temperature: float | None = None
    top_p: float | None = None

    def shape(self, heads: DecodingHeads, hidden_states: Tensor, logits: Tensor) -> ShapedLogits:
        """As :meth:`autodeco.heads.DecodingHeads.shape`, with T and P steered.

        Args:
            heads: the trained heads; of one that is absent the value is 1, and is steered like any other.
            hidden_states: ``[..., H]``.
            logits: ``[..., V]``.
        """
        temperature, top_p = heads_choices(heads, hidden_states, logits)
        temperature = _changed(temperature, self.temperature_factor, self.temperature)
        top_p = _changed(top_p, self.top_p_factor, self.top_p)
        temperature = temperature.clamp(MIN_TEMPERATURE, heads.config.max_temperature)
        return shape_at(logits, temperature, top_p.clamp(max=1.0), None)


@dataclass(frozen=True)
class Steered:
    """Heads and what becomes of their choices: what shapes a model's logits while it is steered.

    Attributes:
        heads: the trained heads.
        steering: of their T and P.
        spec: what to call it in results.
    """

    heads: DecodingHeads
    steering: Steering
    spec: str

    def shape(self, hidden_states: Tensor, logits: Tensor) -> ShapedLogits:
        """See :meth:`Steering.shape`."""
        return self.steering.shape(self.heads, hidden_states, logits)


# This project's own choice: half as much temperature and half as much again.
PRESETS = {
    "certain": Steering(temperature_factor=0.5, top_p_factor=0.9),
    "diverse": Steering(temperature_factor=1.5, top_p_factor=1 / 0.9),
}


def get_steering(decoding: Decoding, max_temperature: float) -> Steering:
    """What ``decoding`` asks for.

    Args:
        decoding: one of :data:`PRESETS`, or a mapping with ``temperature``, ``top_p`` or both.
        max_temperature: the most that the heads can reach.

    Raises:
        ConfigError: it is none of these, or a value is out of range.
    """
    if isinstance(decoding, str):
        if decoding not in PRESETS:
            raise ConfigError(
                f"unknown decoding '{decoding}'.{did_you_mean(decoding, PRESETS)} (Or a mapping, such as "
                f"{{'temperature': 0.3}}; a command in words belongs into the prompt.)"
            )
        return PRESETS[decoding]
    if not isinstance(decoding, Mapping) or not decoding:
        raise ConfigError(
            f"decoding must be {', '.join(map(repr, PRESETS))} or a mapping with 'temperature', 'top_p' or both, found "
            f"{decoding!r}."
        )
    bounds = {"temperature": (MIN_TEMPERATURE, max_temperature), "top_p": (0.0, 1.0)}
    for name in decoding:
        if name not in bounds:
            raise ConfigError(f"decoding has no '{name}'.{did_you_mean(str(name), bounds)}")
    return Steering(**{name: _checked(name, value, *bounds[name]) for name, value in decoding.items()})


@contextmanager
def steering(model: AutoDecoForCausalLM, decoding: Decoding) -> Iterator[None]:
    """Within this context the model's forward passes in this thread decode with its heads' choices steered.

    ``generate(..., decoding=...)`` is this around one call. To trace what it returned, trace within this context.

    Raises:
        ConfigError: see :func:`get_steering`; or it is not the model's heads that decode.
    """
    if not model.heads_enabled or not isinstance(model.shaper, DecodingHeads | Steered):
        other = f"'{model.shaper}' stands in their place" if model.heads_enabled else "they are disabled"
        raise ConfigError(f"decoding={decoding!r} steers the heads' choices, and {other}. Leave one of the two out.")
    heads, previous = model.decoding_heads, getattr(_STATE, "steered", None)
    own = get_steering(decoding, heads.config.max_temperature)
    _STATE.steered = (model, Steered(heads, own, f"autodeco, decoding={decoding!r}"))
    try:
        yield
    finally:
        _STATE.steered = previous


def active_steering(model: AutoDecoForCausalLM) -> Steered | None:
    """What shapes the model's logits in this thread, if it is steered in it."""
    steered = getattr(_STATE, "steered", None)
    return steered[1] if steered is not None and steered[0] is model else None


def _changed(values: Tensor, factor: float, value: float | None) -> Tensor:
    return values * factor if value is None else values.new_full(values.shape, value)


def _checked(name: str, value: object, low: float, high: float) -> float:
    """A value within bounds; a top-p of 0 would keep nothing, so that its lower bound is left out."""
    if name == "temperature" and value == 0:
        raise ConfigError("decoding: temperature 0 is greedy decoding; call generate with do_sample=False instead.")
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not is_number or not low <= float(value) <= high or (name == "top_p" and value == 0):  # type: ignore[arg-type]
        start = f"above {low:g}" if name == "top_p" else f"at least {low:g}"
        raise ConfigError(f"decoding: {name} must be a number {start} and at most {high:g}, found {value!r}.")
    return float(value)  # type: ignore[arg-type]
