"""From ∂L/∂T and ∂L/∂P at each position to the gradients of the heads and of what they read. Sees no vocabulary."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autodeco.heads import DecodingHeads
from autodeco.objectives.positions import HiddenStates, Positions

# Positions whose heads are differentiated at once.
_HEADS_CHUNK = 4096


def with_head_gradients(
    loss: Tensor,
    heads: DecodingHeads,
    hidden: HiddenStates,
    positions: Positions,
    by_temperature: Tensor,
    by_top_p: Tensor,
) -> Tensor:
    """The loss with the gradients that ``∂L/∂T`` and ``∂L/∂P`` ``[N]`` give the heads' parameters and inputs."""
    inputs: list[Tensor] = [parameter for parameter in heads.parameters() if parameter.requires_grad]
    sources = inputs
    # A prompt's summary serves many positions: its gradient is summed up here, and autograd takes it on from there.
    if hidden.summary is not None and hidden.summary.requires_grad:
        sources = [*inputs, hidden.summary]
        own_summary = hidden.summary.detach().requires_grad_()
        inputs, hidden = [*inputs, own_summary], hidden._replace(summary=own_summary)
    gradients = [torch.zeros_like(tensor) for tensor in inputs]
    by_hidden = torch.zeros_like(hidden.states) if hidden.states.requires_grad else None
    for start in range(0, len(hidden.places), _HEADS_CHUNK):
        span = slice(start, start + _HEADS_CHUNK)
        own = hidden.at(span).detach().requires_grad_(by_hidden is not None)
        seen = hidden.seen_by(heads, own, span)
        base_statistics = positions.base_statistics[span] if heads.needs_base_statistics else None
        temperature = heads.temperature(seen, base_statistics)
        statistics = positions.statistics[span] if heads.needs_statistics else None
        top_p = heads.top_p(seen, temperature, statistics)
        pairs = ((temperature, by_temperature[span]), (top_p, by_top_p[span]))
        outputs, upstream = zip(*((o, g.to(o.dtype)) for o, g in pairs if o.requires_grad), strict=True)
        wanted = inputs if by_hidden is None else [*inputs, own]
        found = torch.autograd.grad(outputs, wanted, upstream, allow_unused=True)
        for total, gradient in zip(gradients, found[: len(inputs)], strict=True):
            if gradient is not None:
                total += gradient
        if by_hidden is not None:
            by_hidden[tuple(hidden.places[span].unbind(-1))] = found[-1]
    tensors = sources if by_hidden is None else [*sources, hidden.states]
    known = gradients if by_hidden is None else [*gradients, by_hidden]
    attached: Tensor = _WithGradients.apply(loss, known, *tensors)  # type: ignore[no-untyped-call]
    return attached


class _WithGradients(torch.autograd.Function):
    """A loss whose gradients by some tensors are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *tensors: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (upstream,) = grad_outputs
        return None, None, *(upstream.to(gradient.dtype) * gradient for gradient in ctx.gradients)
