"""Strategies that the trained heads carry out: both of them, or one alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

from autodeco.errors import ConfigError
from autodeco.heads import DecodingHeads, RowOptions, ShapedLogits
from autodeco.strategies.base import Strategy, check_temperature, limited

_Learned = TypeVar("_Learned", bound="AutoDeco")


@dataclass(frozen=True)
class AutoDeco(Strategy):
    """The heads, with a temperature of the user's that multiplies theirs, as one that a client asks for does.

    Attributes:
        temperature: the factor. The nucleus is cut before it, at the heads' own T.
        heads: what :meth:`bind` gave; ``None`` before.
    """

    name: ClassVar[str] = "autodeco"
    needs_heads: ClassVar[bool] = True

    temperature: float = 1.0
    heads: DecodingHeads | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_temperature(self.name, self.temperature)

    def bind(self: _Learned, heads: DecodingHeads) -> _Learned:
        """The strategy with these heads.

        Raises:
            ConfigError: the heads lack the one that it needs.
        """
        return replace(self, heads=self.view(heads))

    def view(self, heads: DecodingHeads) -> DecodingHeads:
        """The part of the heads that is used; shares their weights."""
        return heads

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """See :meth:`Strategy.shape`."""
        if self.heads is None:
            raise ConfigError(f"strategy '{self.name}' needs decoding heads: call bind(heads) first.")
        shaped = self.heads.shape(hidden_states, logits, options)
        if self.temperature == 1.0:
            return shaped
        wanted, _ = limited(shaped.temperature * self.temperature, shaped.top_p, options)
        smallest = self.heads.config.min_temperature
        factor = wanted.clamp(min=smallest) / shaped.temperature.clamp(min=smallest)
        return ShapedLogits(shaped.logits / factor.unsqueeze(-1), wanted, shaped.top_p)


@dataclass(frozen=True)
class TemperatureHeadAlone(AutoDeco):
    """The temperature head's ``T``, with ``P = 1``: no token is cut."""

    name: ClassVar[str] = "temperature-head"

    def view(self, heads: DecodingHeads) -> DecodingHeads:
        """See :meth:`AutoDeco.view`."""
        return _one_head(heads, "temperature")


@dataclass(frozen=True)
class TopPHeadAlone(AutoDeco):
    """The top-p head's ``P``, with ``T = 1``: the head is given ``T = 1`` and the statistics of ``softmax(l)``."""

    name: ClassVar[str] = "top-p-head"

    def view(self, heads: DecodingHeads) -> DecodingHeads:
        """See :meth:`AutoDeco.view`."""
        return _one_head(heads, "top_p")


def _one_head(heads: DecodingHeads, which: str) -> DecodingHeads:
    if (heads.temp_head if which == "temperature" else heads.top_p_head) is None:
        raise ConfigError(f"these heads have no {which.replace('_', '-')} head, so it cannot be used alone.")
    config = replace(heads.config, temperature_head=which == "temperature", top_p_head=which == "top_p")
    with torch.device("meta"):  # without memory: its own parameters are replaced at once
        view = DecodingHeads(config)
    if which == "temperature":
        view.temp_head = heads.temp_head
    else:
        view.top_p_head = heads.top_p_head
    return view
