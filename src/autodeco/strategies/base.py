"""What a decoding strategy is: an object that can stand in the heads' place inside the model's forward pass.

Knows nothing of engines or results. Every strategy returns the distribution to sample from, finite outside the tokens
it keeps (see :data:`autodeco.distribution.NUCLEUS_PENALTY`), so an engine samples from it at temperature 1 and top-p 1.
"""

from __future__ import annotations

import abc
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.errors import ConfigError
from autodeco.heads import DecodingHeads, RowOptions, ShapedLogits

# Temperatures below this would overflow what they divide; the heads have the same bound.
MIN_TEMPERATURE = 0.01

# Parameters that are left out of a spec at these values, because there they do nothing. Any other parameter is always
# spelt out, so that a result's name keeps its meaning if a default changes.
_NO_EFFECT: Mapping[str, float] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}


class Strategy(abc.ABC):
    """A decoding strategy. Subclasses are frozen dataclasses whose ``float``, ``int`` and ``str`` fields are its spec.

    Attributes:
        name: the spec's first word.
        greedy: whether only the most likely token is left, so that an engine need not draw (temperature 0).
        needs_heads: whether it has to be bound to decoding heads before it can shape.
    """

    name: ClassVar[str]
    greedy: ClassVar[bool] = False
    needs_heads: ClassVar[bool] = False

    @abc.abstractmethod
    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """Shapes a batch of logits, as :meth:`autodeco.heads.DecodingHeads.shape` does.

        Args:
            hidden_states: ``[..., H]``, the input of ``lm_head``.
            logits: ``[..., V]``, its output; ``-inf`` where a token is forbidden.
            options: of single rows.

        Returns:
            The shaped logits, in float32, with the temperature and top-p that shaped them: 1 where there is none.
        """

    def bind(self, heads: DecodingHeads) -> Strategy:
        """The strategy ready to shape, with these heads if it needs any."""
        return self

    @property
    def spec(self) -> str:
        """The canonical text that :func:`autodeco.strategies.get_strategy` reads back; results are filed under it."""
        shown = []
        for name, parameter in spec_parameters(type(self)).items():
            value = getattr(self, name)
            if parameter.default is parameter.empty or _NO_EFFECT.get(name) != value:
                shown.append(f"{name}={_as_text(value)}")
        return self.name + (":" + ",".join(shown) if shown else "")

    def __str__(self) -> str:
        return self.spec


def spec_parameters(factory: object) -> dict[str, inspect.Parameter]:
    """The parameters of a strategy that can be written in a spec, by name."""
    parameters = inspect.signature(factory).parameters  # type: ignore[arg-type]
    return {name: one for name, one in parameters.items() if one.annotation in ("float", "int", "str")}


def _as_text(value: float | int | str) -> str:
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    return str(value)


@dataclass(frozen=True)
class Truncation(Strategy):
    """Base of strategies that divide by a temperature and keep some tokens, whatever the heads say.

    Attributes:
        temperature: what logits are divided by.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        check_temperature(self.name, self.temperature)

    def temperatures(self, logits: Tensor) -> Tensor:
        """Temperature of each row, ``[...]``, from its logits ``[..., V]``."""
        return constant(logits, self.temperature)

    @abc.abstractmethod
    def kept(self, logits: Tensor, scaled: Tensor) -> Tensor | None:
        """The tokens that stay: ``[..., V]`` boolean, or ``None`` for all.

        Args:
            logits: ``[..., V]``, before the temperature.
            scaled: ``[..., V]``, after it.
        """

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """See :meth:`Strategy.shape`."""
        logits = distribution.as_working_precision(logits)
        temperature, ones = limited(self.temperatures(logits), constant(logits, 1.0), options)
        scaled = distribution.scale(logits, temperature, MIN_TEMPERATURE)
        return ShapedLogits(cut(scaled, self.kept(logits, scaled), options), temperature, ones)


def constant(logits: Tensor, value: float) -> Tensor:
    """``[...]`` of one value, for logits ``[..., V]``."""
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return torch.full(logits.shape[:-1], value, dtype=dtype, device=logits.device)


def limited(temperature: Tensor, top_p: Tensor, options: RowOptions | None) -> tuple[Tensor, Tensor]:
    """Temperature and top-p ``[...]`` with the rows' own options applied."""
    if options is None:
        return temperature, top_p
    bounded = torch.minimum(temperature, options.max_temperature.to(temperature.dtype))
    return torch.where(options.enabled, bounded, 1.0), torch.where(options.enabled, top_p, 1.0)


def cut(scaled: Tensor, kept: Tensor | None, options: RowOptions | None = None) -> Tensor:
    """Subtracts the penalty from the logits that are not kept, in the rows that are to be shaped."""
    if kept is None:
        return scaled
    if options is not None:
        kept = kept | ~options.enabled.unsqueeze(-1)
    return scaled - torch.where(kept, 0.0, distribution.NUCLEUS_PENALTY)


def shape_at(logits: Tensor, temperature: Tensor, top_p: Tensor, options: RowOptions | None) -> ShapedLogits:
    """Scales and cuts the nucleus at given values, by the heads' own decoding path.

    Args:
        logits: ``[..., V]``.
        temperature: ``[...]``.
        top_p: ``[...]``.
        options: of single rows.
    """
    temperature, top_p = limited(temperature, top_p, options)
    rows = distribution.scale_rows(logits, temperature, MIN_TEMPERATURE, statistics=False)
    return ShapedLogits(distribution.cut_nucleus(rows, top_p), temperature, top_p)


def check_range(
    strategy: str, name: str, value: float, low: float, high: float = math.inf, *, above: bool = False
) -> None:
    """Checks a parameter's value.

    Args:
        strategy: name of the strategy, for the message.
        name: of the parameter.
        value: found.
        low: smallest value allowed; with ``above``, the value has to be larger.
        high: largest value allowed.
        above: whether ``low`` itself is too small.

    Raises:
        ConfigError: the value is no finite number, or out of range.
    """
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value > high or value < low or (above and value == low):
        start = f"above {low:g}" if above else f"at least {low:g}"
        end = "" if high == math.inf else f" and at most {high:g}"
        raise ConfigError(f"strategy '{strategy}': {name} must be a number {start}{end}, found {value!r}.")


def check_temperature(strategy: str, value: float) -> None:
    """Checks a fixed temperature.

    Raises:
        ConfigError: it is no number of at least :data:`MIN_TEMPERATURE`.
    """
    if value == 0:
        raise ConfigError(f"strategy '{strategy}': temperature 0 is greedy decoding; use the strategy 'greedy'.")
    check_range(strategy, "temperature", value, MIN_TEMPERATURE)
