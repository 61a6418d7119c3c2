"""The positions that the fused objectives count: what the heads read there, and what the vocabulary says of them."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from autodeco.heads import DecodingHeads
from autodeco.objectives.prompt import seen_by


class HiddenStates(NamedTuple):
    """Hidden states ``[B, S, H]`` and the ``[N, 2]`` places of those that count, so that they are not all copied."""

    states: Tensor
    places: Tensor
    summary: Tensor | None  # [B, 2 m] of each row's prompt

    def at(self, span: slice) -> Tensor:
        """The hidden states ``[n, H]`` of some of the places."""
        rows, columns = self.places[span].unbind(-1)
        return self.states[rows, columns]

    def seen_by(self, heads: DecodingHeads, own: Tensor, span: slice) -> Tensor:
        """What the heads take there, of the hidden states ``own`` of :meth:`at`, or a copy that wants a gradient."""
        return seen_by(heads, own, self.summary, self.places[span, 0])


class Positions(NamedTuple):
    """What the vocabulary says of ``n`` positions; ``[n]`` where nothing else is said, without gradient.

    An objective is two sums over positions. Of each: loss, ∂/∂T and ∂/∂P of every position, float64, 0 where masked.
    """

    temperature: Tensor
    top_p: Tensor
    base_statistics: Tensor  # [n, 4], what the temperature head takes; [n, 0] where it takes none
    statistics: Tensor  # [n, 4], what the top-p head takes; [n, 0] likewise
    easy: Tensor
    kept: Tensor
    temperature_sum: Tensor  # [n, 3]; zeros where the objective has one loss
    nucleus_sum: Tensor  # [n, 3]
