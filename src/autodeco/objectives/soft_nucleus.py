"""log p̃_y and its derivatives by T and P in closed form, from a partial sort with a proven error bound.

The soft nucleus weighs the token at rank k by ``f(c_k) = exp(-α relu(c_k - P))``, ``c`` the cumulative sum in
descending order, or, exclusive, by ``f(b_k)``, ``b_k = c_k - p_k``. Two facts make a full sort of the vocabulary
unnecessary:

1. The order of the logits does not depend on T, so one partial sort serves values and derivatives.
2. Beyond the sorted prefix of K tokens, the normaliser ``Z = Σ p_k f(c_k)`` is a right Riemann sum of the decreasing
   function f over [c_K, 1], so it differs from ``∫ f`` (closed form) by at most ``p_K (f(c_K) - f(1))``, p_K being the
   smallest probability of the prefix: the gaps telescope. Since the integral depends on T only through c_K, so does its
   derivative, with error at most ``2 α p_K f(c_K) |dc_K/dT|`` as long as every token of the tail is less likely than
   the (geometric) average; the derivative by P errs by at most ``α p_K f(max(c_K, P))``. With exclusive sums the
   Riemann sum is a left one, too large by what the right one lacks at most, and the same bounds hold for both
   derivatives: the error of that by T is ``Σ dc_k/dT (f(b_k) - f(c_k)) + p_k f'(b_k) db_k/dT`` over the tail, where
   all ``db_k/dT`` lie between ``dc_K/dT`` and 0.

Rows whose bound is above :data:`TOLERANCE` are taken again with a longer prefix, at last with the whole vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from autodeco.objectives.eager import at_targets

# Prefix lengths that are tried before the whole vocabulary. On CPUs the largest 4,096 cost hardly more than 1,024.
PREFIXES = (256, 4096)
# Largest bound on the error of log p̃_y, of its derivative by T, and by P, that a row may have. The bounds are worst
# cases (about a tenth of them is seen), and losses and gradients are means over rows.
TOLERANCE = 1e-5


class ScaledRows(NamedTuple):
    """``n`` rows of logits with what both the statistics and the soft nucleus need of them.

    Attributes:
        logits: ``[n, V]`` float32, each row shifted so that its largest is 0.
        probabilities: ``[n, V]``, softmax of ``logits / T``.
        temperature: ``[n]`` float64, already bounded from below.
        normaliser: ``[n]`` float64, ``Σ exp(l / T)``.
        mean_scaled: ``[n]`` float64, ``Σ p l / T``.
    """

    logits: Tensor
    probabilities: Tensor
    temperature: Tensor
    normaliser: Tensor
    mean_scaled: Tensor

    def select(self, rows: Tensor) -> ScaledRows:
        """The given rows."""
        return ScaledRows(*(values[rows] for values in self))


class SoftNucleusTerms(NamedTuple):
    """For each row, ``log p̃_y`` and its derivatives; all ``[n]`` float64."""

    log_probability: Tensor
    by_temperature: Tensor
    by_top_p: Tensor


class _Normaliser(NamedTuple):
    """``Z`` with its derivatives and the target's cumulative sum; ``within`` tells where the bounds hold."""

    value: Tensor
    by_temperature: Tensor
    by_top_p: Tensor
    within: Tensor


def soft_nucleus_terms(
    rows: ScaledRows, targets: Tensor, top_p: Tensor, decay: float, epsilon: float, *, exclusive: bool = False
) -> SoftNucleusTerms:
    """Computes ``log p̃_y``, ``p̃ = p m / (Σ p m + epsilon)``, and its derivatives.

    Args:
        rows: ``n`` rows of logits.
        targets: ``[n]`` token ids.
        top_p: ``[n]``.
        decay: α.
        epsilon: as in the definition above.
        exclusive: whether cumulative sums end before the token.
    """
    top_p = top_p.double()
    normaliser = _normaliser(rows, top_p, decay, exclusive)
    target_scaled = at_targets(rows.logits, targets).double() / rows.temperature
    log_p = target_scaled - rows.normaliser.log()
    cumulative, cumulative_by_temperature = _cumulative_at_targets(rows, targets, exclusive)
    outside = (cumulative > top_p).double()
    total = normaliser.value + epsilon
    log_probability = log_p - decay * outside * (cumulative - top_p) - total.log()
    by_temperature = (
        -(target_scaled - rows.mean_scaled) / rows.temperature
        - decay * outside * cumulative_by_temperature
        - normaliser.by_temperature / total
    )
    by_top_p = decay * outside - normaliser.by_top_p / total
    return SoftNucleusTerms(log_probability, by_temperature, by_top_p)


def _normaliser(rows: ScaledRows, top_p: Tensor, decay: float, exclusive: bool) -> _Normaliser:
    """``Z`` of every row, by the shortest prefix whose error bounds are within :data:`TOLERANCE`."""
    count, vocab_size = rows.logits.shape
    zeros = torch.zeros(3, count, dtype=top_p.dtype, device=top_p.device)
    result = _Normaliser(zeros[0], zeros[1], zeros[2], torch.zeros(count, dtype=torch.bool, device=top_p.device))
    remaining = torch.arange(count, device=top_p.device)
    for length in (*(prefix for prefix in PREFIXES if 2 * prefix <= vocab_size), vocab_size):
        if not len(remaining):
            break
        subset = rows if len(remaining) == count else rows.select(remaining)
        found = _normaliser_from_prefix(subset, top_p[remaining], decay, exclusive, length)
        done = found.within
        for target, value in zip(result[:3], found[:3], strict=True):
            target[remaining[done]] = value[done]
        remaining = remaining[~done]
    return result


def _normaliser_from_prefix(rows: ScaledRows, top_p: Tensor, decay: float, exclusive: bool, length: int) -> _Normaliser:
    """``Z`` with its derivatives from the ``length`` largest logits of each row and the integral beyond them."""
    vocab_size = rows.logits.shape[-1]
    if length == vocab_size:
        values = rows.logits.sort(dim=-1, descending=True).values
    else:
        values = rows.logits.topk(length, dim=-1).values
    inverse_temperature = rows.temperature.reciprocal()
    scaled = values.double() * inverse_temperature.unsqueeze(-1)
    p = scaled.exp() / rows.normaliser.unsqueeze(-1)
    cumulative = p.cumsum(-1)
    # dp_k/dT = -p_k (s_k - mean) / T, and c_k is a sum of p.
    p_by_temperature = -p * (scaled - rows.mean_scaled.unsqueeze(-1)) * inverse_temperature.unsqueeze(-1)
    cumulative_by_temperature = p_by_temperature.cumsum(-1)
    compared = cumulative - p if exclusive else cumulative  # with P
    compared_slope = cumulative_by_temperature - p_by_temperature if exclusive else cumulative_by_temperature
    excess = (compared - top_p.unsqueeze(-1)).clamp_(min=0)
    outside = excess > 0
    weights = excess.mul_(-decay).exp_()
    outside_mass = p * weights * outside

    value = (p * weights).sum(-1)
    by_temperature = (p_by_temperature * weights).sum(-1) - decay * (outside_mass * compared_slope).sum(-1)
    by_top_p = decay * outside_mass.sum(-1)
    if length == vocab_size:
        return _Normaliser(value, by_temperature, by_top_p, torch.ones_like(value, dtype=torch.bool))

    edge, edge_slope, smallest = cumulative[:, -1].clamp(max=1), cumulative_by_temperature[:, -1], p[:, -1]
    start = torch.maximum(edge, top_p)  # where the weight begins to fall
    at_edge = torch.exp(-decay * (edge - top_p).clamp(min=0))
    at_start = torch.exp(-decay * (start - top_p))
    at_end = torch.exp(-decay * (1 - top_p).clamp(min=0))
    falling = (at_start - at_end).clamp(min=0)  # α ∫ f from start to 1
    value = value + (start.clamp(max=1) - edge) + falling / decay
    by_temperature = by_temperature - at_edge * edge_slope
    by_top_p = by_top_p + falling

    value_error = smallest * (at_edge - at_end).clamp(min=0) / value
    slope_error = 2 * decay * smallest * at_edge * edge_slope.abs() / value + by_temperature.abs() / value * value_error
    top_p_error = decay * smallest * at_start / value
    within = (value_error <= TOLERANCE) & (slope_error <= TOLERANCE) & (top_p_error <= TOLERANCE)
    within &= scaled[:, -1] < rows.mean_scaled  # the tail is less likely than average: its slopes have one sign
    return _Normaliser(value, by_temperature, by_top_p, within)


def _cumulative_at_targets(rows: ScaledRows, targets: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """``c_y`` and ``dc_y/dT``, exact: the mass of all tokens before the target in a stable sort, and (inclusive) it."""
    target_logits = at_targets(rows.logits, targets).unsqueeze(-1)
    token_ids = torch.arange(rows.logits.shape[-1], device=targets.device)
    before = rows.logits > target_logits
    last = targets - 1 if exclusive else targets
    before |= (rows.logits == target_logits) & (token_ids <= last.unsqueeze(-1))
    p = rows.probabilities * before
    cumulative = p.sum(-1, dtype=torch.float64)
    scaled_sum = (p * rows.logits).sum(-1, dtype=torch.float64) / rows.temperature
    return cumulative, -(scaled_sum - rows.mean_scaled * cumulative) / rows.temperature
