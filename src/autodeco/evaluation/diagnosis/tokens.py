"""One token's mathematics of the diagnosis, on logits ``[n, V]`` that the caller keeps small. Knows nothing of heads.

With β = 1 / T, the log-probability of the target y is ``g(β) = β l_y - logsumexp(β l)``. Its derivatives are
``g' = l_y - E[l]`` and ``g'' = -Var[l]``, both under ``softmax(β l)``: g is concave, so every maximum here is the only
one. In T that does not hold.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# T that the optimum of a token may take. A target that is the arg-max wants T = 0 (g grows without end, to 0 if there
# is no tie), one below the mean of all logits wants T = infinity: both stop here.
OPTIMUM_RANGE = (0.05, 2.0)
_STEPS = 60
_TOLERANCE = 1e-6


class Slopes(NamedTuple):
    """``g(β)`` and its first two derivatives; each ``[n]`` float64."""

    value: Tensor
    first: Tensor
    second: Tensor


def log_probability(logits: Tensor, targets: Tensor, beta: Tensor) -> Slopes:
    """The log-probability of the targets at inverse temperatures, with its derivatives by β.

    Args:
        logits: ``[n, V]``.
        targets: ``[n]`` token ids.
        beta: ``[n]``, or one number as ``[]``.
    """
    beta = beta.to(torch.float64).expand(len(logits))
    scaled = logits * beta.to(logits.dtype).unsqueeze(-1)
    normaliser = scaled.logsumexp(-1)
    probabilities = (scaled - normaliser.unsqueeze(-1)).exp_()
    target_logits = logits.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1)
    mean = (probabilities * logits).sum(-1)
    # Around the mean, not as E[l²] - E[l]²: that cancels where one token has all of the mass.
    variance = (probabilities * (logits - mean.unsqueeze(-1)).square_()).sum(-1)
    value = scaled.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1) - normaliser
    return Slopes(value.double(), (target_logits - mean).double(), -variance.double())


def value(logits: Tensor, targets: Tensor, beta: Tensor | float) -> Tensor:
    """Only ``g(β)``, ``[n]`` float64; see :func:`log_probability`."""
    beta = torch.as_tensor(beta, dtype=logits.dtype).expand(len(logits))
    scaled = logits * beta.unsqueeze(-1)
    return (scaled.gather(-1, targets.long().unsqueeze(-1)).squeeze(-1) - scaled.logsumexp(-1)).double()


def entropy(logits: Tensor) -> Tensor:
    """Entropy of ``softmax(logits)`` in nats, ``[n]`` float64."""
    normaliser = logits.logsumexp(-1)
    log_probabilities = logits - normaliser.unsqueeze(-1)
    return -(log_probabilities.exp() * log_probabilities).sum(-1).double()


def best_beta(logits: Tensor, targets: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """Each token's own best inverse temperature within bounds.

    Newton steps on the concave ``g``, kept inside a bracket that halves where a step leaves it.

    Args:
        logits: ``[n, V]``.
        targets: ``[n]``.
        lower: ``[n]``, smallest β allowed.
        upper: ``[n]``, largest.

    Returns:
        ``[n]`` float64.
    """
    lower, upper = lower.double().clone(), upper.double().clone()
    best = torch.where(log_probability(logits, targets, upper).first >= 0, upper, lower)
    inner = (log_probability(logits, targets, lower).first > 0) & (best == lower)
    rows = inner.nonzero().squeeze(-1)
    low, high = lower[rows], upper[rows]
    beta = torch.ones_like(low).clamp(low, high)
    for _ in range(_STEPS):
        if not len(rows):
            break
        slopes = log_probability(logits[rows], targets[rows], beta)
        low, high = torch.where(slopes.first > 0, beta, low), torch.where(slopes.first > 0, high, beta)
        step = beta - slopes.first / slopes.second.clamp(max=-1e-12)
        following = torch.where((step > low) & (step < high), step, (low + high) / 2)
        best[rows] = following
        going = (following - beta).abs() > _TOLERANCE * following
        rows, low, high, beta = rows[going], low[going], high[going], following[going]
    return best


def best_common_beta(grid: Tensor, values: Tensor, slopes: Tensor) -> float:
    """The maximum of a sum of ``g`` over tokens, from its values and slopes on a grid.

    The slope of a concave function falls, so one interval of the grid holds the maximum; in it the cubic that has the
    values and slopes of both ends is maximised.

    Args:
        grid: ``[G]`` rising β.
        values: ``[G]``, the sum of ``g`` there.
        slopes: ``[G]``, the sum of ``g'``.

    Returns:
        β, within the grid.
    """
    rising = int((slopes > 0).sum())
    if rising == 0 or rising == len(grid):
        return float(grid[0] if rising == 0 else grid[-1])
    left, right = float(grid[rising - 1]), float(grid[rising])
    width = right - left
    s0, s1 = float(slopes[rising - 1]), float(slopes[rising])
    rise = float(values[rising] - values[rising - 1]) / width
    # The cubic's slope at u in [0, 1] is a quadratic; it is s0 > 0 at 0 and s1 <= 0 at 1.
    square, linear = 3 * (s0 + s1 - 2 * rise), 2 * (3 * rise - 2 * s0 - s1)
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if s0 + linear * middle + square * middle**2 > 0:
            low = middle
        else:
            high = middle
    return left + width * (low + high) / 2
