"""Truncation by the shape of the logits, before any temperature: top-nσ and min-k. No training.

A temperature neither reorders logits nor changes their relative distances, so these keep the same tokens at any; it
acts among the kept ones only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autodeco.strategies.base import Truncation, check_range

# How many of the largest logits are looked at before the whole row is sorted.
_CLIFF_CANDIDATES = 256


@dataclass(frozen=True)
class TopNSigma(Truncation):
    """Keeps the logits of at least ``max - n·σ``, ``σ`` being the standard deviation of the row's logits.

    Tang, Liu, Xu and Huang, *Top-nσ: Eliminating Noise in Logit Space for Robust Token Sampling of LLM*, ACL 2025
    (arXiv 2411.07641). ``σ`` divides by the number of logits, as in llama.cpp; implementations in PyTorch divide by
    one less, which moves the threshold by a part in 10⁵ for a vocabulary of 50,000. Forbidden tokens (``-inf``) do not
    count towards it.

    Attributes:
        temperature: applied to what stays.
        n: the paper's ``n``; 1 is its setting.
    """

    name: ClassVar[str] = "top-n-sigma"

    n: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name, "n", self.n, 0, above=True)

    def kept(self, logits: Tensor, scaled: Tensor) -> Tensor:
        """See :meth:`Truncation.kept`."""
        allowed = logits.isfinite()
        count = allowed.sum(-1, keepdim=True)
        mean = torch.where(allowed, logits, 0.0).sum(-1, keepdim=True) / count
        variance = torch.where(allowed, logits - mean, 0.0).square().sum(-1, keepdim=True) / count
        return logits >= logits.amax(-1, keepdim=True) - self.n * variance.sqrt()


@dataclass(frozen=True)
class MinK(Truncation):
    """Keeps what comes before the steepest drop of the sorted logits, drops at the head counting for more.

    With ``l₁ >= l₂ >= …`` and ``R = l₁ - l_V``: ``w_i = (l_i - l_{i+1}) / (R·i)``, ``k = max(argmax w, ⌊τ / R⌋)``, of
    the logits before any temperature. The second term keeps nearly flat rows from collapsing to one token. Logits equal
    to the k-th all stay. Forbidden tokens (``-inf``) count as equal to the smallest other logit.

    Ding, Li, Garces Arias, Aßenmacher, Heumann and Zhang, *Min-k Sampling: Decoupling Truncation from Temperature
    Scaling via Relative Logit Dynamics*, ACL 2026 (arXiv 2604.11012). The paper's own text could not be consulted: the
    definition is that of two accounts of it which agree, published notes on the paper and the reference of its
    Algorithm 1 in a pull request to vLLM (48142). They differ on one point: vLLM's takes ``R`` of the fallback after
    the temperature, as its order of processing forces it to; here, as in the notes, it is taken before.

    Attributes:
        temperature: applied to what stays.
        tau: the fallback's ``τ``; 3 is the paper's default, 0 switches it off.
    """

    name: ClassVar[str] = "min-k"

    tau: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self.name, "tau", self.tau, 0)

    def kept(self, logits: Tensor, scaled: Tensor) -> Tensor:
        """See :meth:`Truncation.kept`."""
        vocab_size = logits.shape[-1]
        if vocab_size == 1:
            return torch.ones_like(logits, dtype=torch.bool)
        flat = logits.reshape(-1, vocab_size)
        smallest = torch.where(flat.isfinite(), flat, float("inf")).amin(-1, keepdim=True)
        flat = torch.maximum(flat, smallest)
        threshold = torch.empty_like(smallest)
        # Most cliffs are near the head: a partial sort settles those rows, and only the others pay for a full one.
        candidates = min(_CLIFF_CANDIDATES, vocab_size)
        threshold[:], settled = _kth_largest(flat.topk(candidates).values, smallest, self.tau, vocab_size)
        rest = (~settled).nonzero().squeeze(-1)
        if len(rest):
            ordered = flat[rest].sort(descending=True).values
            threshold[rest], _ = _kth_largest(ordered, smallest[rest], self.tau, vocab_size)
        return logits >= threshold.view(*logits.shape[:-1], 1)


def _kth_largest(ordered: Tensor, smallest: Tensor, tau: float, vocab_size: int) -> tuple[Tensor, Tensor]:
    """Min-k's threshold ``[N, 1]`` from the largest logits ``[N, M]``, and whether those ``[N]`` were enough."""
    candidates = ordered.shape[-1]
    spread = ordered[:, :1] - smallest
    ranks = torch.arange(1, candidates, device=ordered.device)
    steepest, at = ((ordered[:, :-1] - ordered[:, 1:]) / ranks).max(-1, keepdim=True)
    # For a flat row the quotient is infinite: everything stays.
    fallback = (tau / spread).nan_to_num(0.0).clamp(max=vocab_size).floor().long()
    k = torch.maximum(at + 1, fallback)
    # No drop further down can exceed all that is left of the range, divided by its rank.
    beyond = (ordered[:, -1:] - smallest) / candidates
    settled = (
        (steepest >= beyond) & (k <= candidates) if candidates < vocab_size else torch.ones_like(k, dtype=torch.bool)
    )
    return ordered.gather(-1, (k - 1).clamp(max=candidates - 1)), settled.squeeze(-1)
