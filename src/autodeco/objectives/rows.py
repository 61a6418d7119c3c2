"""What the fused objectives ask of a chunk of logits, computed by the CPU kernels or by PyTorch: same numbers."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.kernels import KernelRows, cpu
from autodeco.objectives import soft_nucleus
from autodeco.objectives.eager import at_targets
from autodeco.objectives.soft_nucleus import ScaledRows, SoftNucleusTerms

# Below exp(-75) a probability counts for nothing, and denormal numbers cost CPUs several times a normal one.
_SMALLEST_LOG = -75.0
# Forbidden tokens have logits of -inf, or the smallest number there is: 0 times those is not 0.
_SMALLEST_LOGIT = -1e6
# The kernels sum over every token that is more likely than this, and integrate over the rest: by the bounds that
# soft_nucleus.py proves, log p̃_y errs by at most 3e-8 and its derivative by P by at most α · 3e-8 = 1e-6.
_SMALLEST_PROBABILITY = 3e-8


class ChunkRows(Protocol):
    """``n`` rows of logits at their temperatures, with a target token each. All results without gradient."""

    easy: Tensor  # [n] bool: the arg-max is the target
    base_log_probability: Tensor  # [n] float64, of the target at temperature 1
    log_probability: Tensor  # [n] float64, of the target at the row's temperature
    by_temperature: Tensor  # [n] float64, derivative of log_probability
    statistics: Tensor | None  # [n, 4] float32

    def soft_nucleus(
        self, top_p: Tensor, wanted: Tensor, decay: float, epsilon: float, exclusive: bool
    ) -> SoftNucleusTerms:
        """``log p̃_y`` with its derivatives; zeros where ``wanted`` ``[n]`` is false."""
        ...

    def collision(self) -> tuple[Tensor, Tensor]:
        """``Σ_v q_v²`` and its derivative by temperature, ``[n]`` float64, of ``q`` at the row's temperature."""
        ...


def chunk_rows(
    logits: Tensor, temperature: Tensor, targets: Tensor, *, statistics: bool, buffer: Tensor | None = None
) -> ChunkRows:
    """Prepares a chunk.

    Args:
        logits: ``[n, V]``.
        temperature: ``[n]``, bounded from below.
        targets: ``[n]`` token ids.
        statistics: whether the four statistics are wanted.
        buffer: ``[n, V]`` float32 that may be overwritten, ``logits`` itself included.
    """
    kernels = cpu.load() if cpu.can_take(logits, temperature) else None
    if kernels is None:
        return _TorchRows(logits, temperature, targets, statistics)
    return _KernelRows(kernels, logits, temperature, targets, statistics, buffer)


class _KernelRows:
    """By the compiled kernels, on CPUs."""

    def __init__(
        self,
        kernels: cpu.Kernels,
        logits: Tensor,
        temperature: Tensor,
        targets: Tensor,
        statistics: bool,
        buffer: Tensor | None,
    ) -> None:
        base_target = at_targets(logits, targets).double()  # before the buffer is written
        scaled = kernels.scale(logits, temperature.float(), statistics=statistics, base=True, shifted=True, out=buffer)
        assert scaled.argmax is not None
        assert scaled.base_normaliser is not None
        rows = scaled.rows
        normaliser, weighted, _, largest = rows.sums.unbind(-1)
        divisor = rows.temperature.double()
        distance = at_targets(rows.scaled, targets).double() - largest
        self.easy = scaled.argmax == targets
        self.base_log_probability = base_target - scaled.base_largest.double() - scaled.base_normaliser.log()
        self.log_probability = distance - normaliser.log()
        self.by_temperature = -(distance - weighted / normaliser) / divisor
        self.statistics = scaled.statistics
        self._kernels, self._rows, self._targets = kernels, rows, targets

    def soft_nucleus(
        self, top_p: Tensor, wanted: Tensor, decay: float, epsilon: float, exclusive: bool
    ) -> SoftNucleusTerms:
        rows: KernelRows = self._rows
        terms = self._kernels.soft_nucleus(
            rows, self._targets, top_p.double(), wanted, decay, epsilon, _SMALLEST_PROBABILITY, exclusive=exclusive
        )
        return SoftNucleusTerms(*terms.unbind(-1))

    def collision(self) -> tuple[Tensor, Tensor]:
        normaliser, weighted, squares, largest = self._rows.sums.unbind(-1)
        # The one sum that the kernels do not take: of e^2x x, x relative to the largest.
        distance = (self._rows.scaled - largest.to(self._rows.scaled.dtype).unsqueeze(-1)).clamp_(min=_SMALLEST_LOG)
        weighted_squares = (distance * (2 * distance).exp_()).sum(-1, dtype=torch.float64)
        value, weighted_value = squares / normaliser**2, weighted_squares / normaliser**2
        return value, _collision_slope(value, weighted_value, weighted / normaliser, self._rows.temperature)


class _TorchRows:
    """By PyTorch's operations, on any device."""

    def __init__(self, logits: Tensor, temperature: Tensor, targets: Tensor, statistics: bool) -> None:
        self.easy = logits.argmax(-1) == targets
        shifted = distribution.as_working_precision(logits)
        shifted = shifted - shifted.amax(-1, keepdim=True)
        base_normaliser = shifted.clamp(min=_SMALLEST_LOG).exp_().sum(-1, dtype=torch.float64)
        self.base_log_probability = at_targets(shifted, targets).double() - base_normaliser.log()
        divisor = temperature.to(shifted.dtype)
        p = (shifted / divisor.unsqueeze(-1)).clamp_(min=_SMALLEST_LOG).exp_()
        normaliser = p.sum(-1, dtype=torch.float64)
        p /= normaliser.to(p.dtype).unsqueeze(-1)
        shifted.clamp_(min=_SMALLEST_LOGIT)
        mean_scaled = (p * shifted).sum(-1, dtype=torch.float64) / divisor
        rows = ScaledRows(shifted, p, divisor.double(), normaliser, mean_scaled)
        target_scaled = at_targets(shifted, targets).double() / rows.temperature
        self.log_probability = target_scaled - normaliser.log()
        self.by_temperature = -(target_scaled - mean_scaled) / rows.temperature
        self.statistics = distribution.probability_statistics(p) if statistics else None
        self._rows, self._targets = rows, targets

    def soft_nucleus(
        self, top_p: Tensor, wanted: Tensor, decay: float, epsilon: float, exclusive: bool
    ) -> SoftNucleusTerms:
        chosen = wanted.nonzero().squeeze(-1)
        rows = self._rows if len(chosen) == len(wanted) else self._rows.select(chosen)
        found = soft_nucleus.soft_nucleus_terms(
            rows, self._targets[chosen], top_p[chosen], decay, epsilon, exclusive=exclusive
        )
        zeros = found.log_probability.new_zeros(3, len(wanted))
        return SoftNucleusTerms(*(row.index_copy(0, chosen, values) for row, values in zip(zeros, found, strict=True)))

    def collision(self) -> tuple[Tensor, Tensor]:
        rows = self._rows
        squares = rows.probabilities.square()
        weighted_squares = (squares * rows.logits).sum(-1, dtype=torch.float64) / rows.temperature
        value = squares.sum(-1, dtype=torch.float64)
        return value, _collision_slope(value, weighted_squares, rows.mean_scaled, rows.temperature)


def _collision_slope(value: Tensor, weighted: Tensor, mean: Tensor, temperature: Tensor) -> Tensor:
    """The derivative of ``Σ q²`` by T, from itself, ``Σ q² s`` and ``Σ q s``, ``s = l / T``. All ``[n]`` float64."""
    return -2 * (weighted - mean * value) / temperature.double()  # dq/dT = -q (s - Σ q s) / T
