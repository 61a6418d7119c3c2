"""What trained heads choose on given data: the numbers that MeanShift and Shuffled are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.heads import DecodingHeads
from autodeco.strategies.shuffled import chosen_pairs


@torch.no_grad()
def heads_choices(heads: DecodingHeads, hidden_states: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """The heads' temperature and top-p at given tokens, without shaping anything.

    Args:
        heads: the trained heads.
        hidden_states: ``[..., H]``, the input of ``lm_head``.
        logits: ``[..., V]``, its output.

    Returns:
        Temperature and top-p, each ``[...]``.
    """
    temperature = heads.temperature(hidden_states, heads.base_statistics(logits))
    statistics = None
    if heads.needs_statistics:
        statistics = distribution.scale_rows(logits, temperature, heads.config.min_temperature).statistics
    return temperature, heads.top_p(hidden_states, temperature, statistics)


def means_of_trace(temperature: Tensor, top_p: Tensor) -> tuple[float, float]:
    """Mean temperature and mean top-p over recorded tokens, for :class:`autodeco.strategies.MeanShift`.

    Args:
        temperature: of any shape; entries that are NaN (after a sequence's end) do not count.
        top_p: of the same shape.

    Raises:
        DataError: the shapes differ, or nothing was recorded.
    """
    temperature, top_p = chosen_pairs(temperature, top_p)
    return float(temperature.double().mean()), float(top_p.double().mean())


def measured_means(heads: DecodingHeads, hidden_states: Tensor, logits: Tensor) -> tuple[float, float]:
    """Mean temperature and mean top-p of the heads on given tokens, which should be of the training data.

    Args:
        heads: the trained heads.
        hidden_states: ``[..., H]``.
        logits: ``[..., V]``.
    """
    return means_of_trace(*heads_choices(heads, hidden_states, logits))
