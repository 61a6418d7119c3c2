"""Strategies with one setting for every token: greedy, default, any static setting, and the heads' own means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.errors import ConfigError
from autodeco.heads import RowOptions, ShapedLogits
from autodeco.strategies.base import (
    Strategy,
    Truncation,
    check_range,
    check_temperature,
    constant,
    cut,
    limited,
    shape_at,
)


@dataclass(frozen=True)
class Greedy(Strategy):
    """The most likely token, of equal ones the lowest id.

    An engine should do it itself (temperature 0, ``do_sample=False``): nothing is drawn then. An engine that samples
    all the same gets the same tokens, because all others have probability 0 here.
    """

    name: ClassVar[str] = "greedy"
    greedy: ClassVar[bool] = True

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """See :meth:`Strategy.shape`."""
        logits = distribution.as_working_precision(logits)
        token_ids = torch.arange(logits.shape[-1], device=logits.device)
        kept = token_ids == logits.argmax(-1, keepdim=True)
        ones = constant(logits, 1.0)
        return ShapedLogits(cut(logits, kept, options), ones, ones)


@dataclass(frozen=True)
class Default(Strategy):
    """The model's own distribution: temperature 1, top-p 1."""

    name: ClassVar[str] = "default"

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """See :meth:`Strategy.shape`."""
        ones = constant(logits, 1.0)
        return ShapedLogits(distribution.as_working_precision(logits), ones, ones)


@dataclass(frozen=True)
class Static(Truncation):
    """Any static setting: temperature, then top-k, then top-p, then min-p.

    The order is that of Transformers. vLLM puts min-p before top-k and top-p, which gives another set only where min-p
    and top-p are both set: its top-p is then a share of what min-p left. Of logits equal to the k-th largest, all stay
    (both engines do so); ties at the edge of the nucleus go to the lower token id.

    Attributes:
        temperature: what logits are divided by.
        top_p: keep the smallest set of most likely tokens with at least this much of the mass that top-k left.
        top_k: keep this many of the largest logits; 0 keeps all.
        min_p: keep tokens at least this fraction as likely as the most likely one (arXiv 2407.01082); 0 keeps all.
    """

    name: ClassVar[str] = "static"

    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name, "top_p", self.top_p, 0, 1, above=True)
        check_range(self.name, "min_p", self.min_p, 0, 1)
        check_range(self.name, "top_k", self.top_k, 0)
        if not isinstance(self.top_k, int):
            raise ConfigError(f"strategy 'static': top_k must be a whole number, found {self.top_k!r}.")

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """See :meth:`Strategy.shape`."""
        if not self.top_k and not self.min_p:  # compiled kernels do the rest
            return shape_at(logits, constant(logits, self.temperature), constant(logits, self.top_p), options)
        shaped = super().shape(hidden_states, logits, options)
        _, top_p = limited(shaped.temperature, constant(logits, self.top_p), options)
        return shaped._replace(top_p=top_p)

    def kept(self, logits: Tensor, scaled: Tensor) -> Tensor:
        """See :meth:`Truncation.kept`."""
        kept = torch.ones_like(scaled, dtype=torch.bool)
        if 0 < self.top_k < scaled.shape[-1]:
            kept = scaled >= scaled.topk(self.top_k, dim=-1).values[..., -1:]
        if self.top_p < 1:
            kept = kept & distribution.nucleus_mask(cut(scaled, kept), constant(scaled, self.top_p))
        if self.min_p:
            kept = kept & (scaled >= scaled.amax(-1, keepdim=True) + math.log(self.min_p))
        return kept


def min_p(min_p: float = 0.1, temperature: float = 1.0) -> Static:
    """Min-p sampling under its own name (arXiv 2407.01082; 0.1 is a value its paper uses): a static setting."""
    return Static(temperature=temperature, min_p=min_p)


@dataclass(frozen=True)
class MeanShift(Strategy):
    """The control for adaptivity: the heads' own mean temperature and mean top-p, at every token.

    From *Token-Level Control or Just a Better Mean?* (COLM 2026). Measure the means on training data
    (:func:`autodeco.strategies.measured_means`), never on the test set.

    Attributes:
        temperature: mean of the heads' temperatures.
        top_p: mean of the heads' top-p.
    """

    name: ClassVar[str] = "mean-shift"

    temperature: float
    top_p: float

    def __post_init__(self) -> None:
        check_temperature(self.name, self.temperature)
        check_range(self.name, "top_p", self.top_p, 0, 1, above=True)

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """See :meth:`Strategy.shape`."""
        return shape_at(logits, constant(logits, self.temperature), constant(logits, self.top_p), options)
