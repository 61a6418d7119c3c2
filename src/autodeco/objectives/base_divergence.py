"""How far an adapter has moved the base model's own token distribution; knows nothing of the decoding heads.

Of each position ``Σ_v p⁰_v log(p⁰_v / p_v)`` in nats, ``p⁰`` of the base without the adapter and ``p`` with it: the
Kullback-Leibler divergence that distillation minimises, large wherever the adapter takes a token away that the base
would have sampled. The logits are linear in the hidden states up to what ``lm_head`` does beside the product, so the
gradient, ``(p - p⁰) · ∂l/∂h``, is computed with the value, chunk by chunk; no logits outlive their chunk.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.objectives.chunks import chunk_size
from autodeco.objectives.eager import LMHead


def base_divergence(hidden_states: Tensor, base_hidden_states: Tensor, lm_head: LMHead) -> Tensor:
    """KL divergence of the adapted base from the base without its adapter, of each position.

    Args:
        hidden_states: ``[N, H]``, the input of ``lm_head`` with the adapter; the gradient reaches it.
        base_hidden_states: ``[N, H]``, without.
        lm_head: ``[V, H]``, or a function from hidden states to logits. It gets no gradient.

    Returns:
        ``[N]`` nats, float32 (float64 for hidden states of that precision).
    """
    divergences: Tensor = _BaseDivergence.apply(hidden_states, base_hidden_states, lm_head)  # type: ignore[no-untyped-call]
    return divergences


class _BaseDivergence(torch.autograd.Function):
    """The divergences, with their gradient kept for backward."""

    @staticmethod
    def forward(ctx: Any, hidden_states: Tensor, base_hidden_states: Tensor, lm_head: LMHead) -> Tensor:
        dtype = torch.promote_types(hidden_states.dtype, torch.float32)
        divergences = torch.empty(len(hidden_states), dtype=dtype, device=hidden_states.device)
        gradient = torch.empty_like(hidden_states)
        vocab_size = None if callable(lm_head) else lm_head.shape[0]
        # Four tensors of a chunk's size at once: both log-probabilities, their product and its gradient.
        size = max(1, chunk_size(len(hidden_states), vocab_size, hidden_states.device) // 4)
        for start in range(0, len(hidden_states), size):
            span = slice(start, start + size)
            expected = _log_probabilities(base_hidden_states[span], lm_head)
            with torch.enable_grad():
                own = hidden_states[span].detach().requires_grad_()
                found = (expected.exp() * (expected - _log_probabilities(own, lm_head))).sum(-1)
                (gradient[span],) = torch.autograd.grad(found.sum(), own)
            divergences[span] = found.detach()
        ctx.save_for_backward(gradient)
        return divergences

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (upstream,), (gradient,) = grad_outputs, ctx.saved_tensors
        return upstream.unsqueeze(-1).to(gradient.dtype) * gradient, None, None


def _log_probabilities(hidden_states: Tensor, lm_head: LMHead) -> Tensor:
    logits = lm_head(hidden_states) if callable(lm_head) else hidden_states @ lm_head.detach().T
    found = distribution.as_working_precision(logits).log_softmax(-1)
    return found.clamp(min=torch.finfo(found.dtype).min)  # logits of -inf: 0 times them is not 0
