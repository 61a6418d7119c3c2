"""The objectives of ``eager.py``, the fast way: same names, same numbers, chunk by chunk, no vocabulary-wide backward.

The base is frozen, so all that training needs of the vocabulary are two numbers a position, ∂L/∂T and ∂L/∂P. They are
computed in closed form (``soft_nucleus.py``) beside the loss, in one pass over each chunk of logits, and the heads'
gradients are accumulated at once. Nothing of size ``[tokens, vocabulary]`` outlives its chunk; nothing is kept for
backward but the heads' gradients themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.heads import DecodingHeads
from autodeco.objectives.eager import EASY_TOKEN_MASKING, EPSILON, IGNORED, SOFT_TOP_P_DECAY, LMHead
from autodeco.objectives.output import ObjectiveOutput
from autodeco.objectives.soft_nucleus import ScaledRows, soft_nucleus_terms

# Logits of a chunk: 32 MB of float32. Larger chunks gain nothing on CPUs (they leave the cache), little on GPUs.
_CHUNK_ELEMENTS = 8_388_608
_SMALLEST_LOG = -75.0


def released(
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head_weight: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None = None,
    *,
    easy_token_masking: float = EASY_TOKEN_MASKING,
    dynamic_fine_tuning: bool = True,
    decay: float = SOFT_TOP_P_DECAY,
) -> ObjectiveOutput:
    """Same as :func:`autodeco.objectives.eager.released`, in chunks and with closed-form gradients."""
    settings = _Settings(True, easy_token_masking, dynamic_fine_tuning, decay)
    return _objective(settings, heads, hidden_states, lm_head_weight, labels, easy_token_draws)


def end_to_end(
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head_weight: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None = None,
    *,
    easy_token_masking: float = EASY_TOKEN_MASKING,
    dynamic_fine_tuning: bool = True,
    decay: float = SOFT_TOP_P_DECAY,
) -> ObjectiveOutput:
    """Same as :func:`autodeco.objectives.eager.end_to_end`, in chunks and with closed-form gradients."""
    settings = _Settings(False, easy_token_masking, dynamic_fine_tuning, decay)
    return _objective(settings, heads, hidden_states, lm_head_weight, labels, easy_token_draws)


@dataclass(frozen=True)
class _Settings:
    separate_temperature_loss: bool  # released, rather than end_to_end
    easy_token_masking: float
    dynamic_fine_tuning: bool
    decay: float


@dataclass(frozen=True)
class _Part:
    """One of the two sums of an objective, over the ``n`` positions of a chunk."""

    losses: Tensor  # [n], 0 where masked
    by_temperature: Tensor  # [n]
    by_top_p: Tensor | None  # [n]; None: does not depend on P


@dataclass(frozen=True)
class _Chunk:
    """What one chunk of positions adds to the objective; all ``[n]``, without gradient."""

    temperature: Tensor
    top_p: Tensor
    easy: Tensor
    kept: Tensor
    parts: tuple[_Part, ...]
    gradients: list[list[Tensor]]  # for each part, one tensor for each parameter of the heads


class _WithGradients(torch.autograd.Function):
    """A loss whose gradients by the heads' parameters are known already."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        (upstream,) = grad_outputs
        return None, None, *(upstream.to(gradient.dtype) * gradient for gradient in ctx.gradients)


def _objective(
    settings: _Settings,
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None,
) -> ObjectiveOutput:
    parameters: list[Tensor] = [parameter for parameter in heads.parameters() if parameter.requires_grad]
    next_labels = labels[:, 1:]
    valid = next_labels != IGNORED
    positions = valid.nonzero()
    draws = None if easy_token_draws is None else easy_token_draws[valid]
    targets = next_labels[valid]
    with_gradients = torch.is_grad_enabled() and bool(parameters)
    count = 2 if settings.separate_temperature_loss else 1
    gradients = [[torch.zeros_like(parameter) for parameter in parameters] for _ in range(count)]
    chunks: list[_Chunk] = []
    for span in _spans(len(targets), lm_head, heads):
        rows, columns = positions[span].unbind(-1)
        hidden = hidden_states[rows, columns].detach()
        chunk_draws = None if draws is None else draws[span]
        chunk = _chunk(settings, heads, hidden, lm_head, targets[span], chunk_draws, parameters, with_gradients)
        for total, added in zip(gradients, chunk.gradients, strict=False):
            for accumulated, gradient in zip(total, added, strict=True):
                accumulated += gradient
        chunks.append(chunk)
    return _collect(settings, chunks, positions[:, 0], parameters, gradients, with_gradients, hidden_states)


def _spans(count: int, lm_head: LMHead, heads: DecodingHeads) -> Iterator[slice]:
    vocab_size = heads.config.vocab_size if callable(lm_head) else lm_head.shape[0]
    size = max(1, _CHUNK_ELEMENTS // (vocab_size or 131_072))
    for start in range(0, count, size):
        yield slice(start, start + size)


def _chunk(
    settings: _Settings,
    heads: DecodingHeads,
    hidden: Tensor,
    lm_head: LMHead,
    targets: Tensor,
    draws: Tensor | None,
    parameters: list[Tensor],
    with_gradients: bool,
) -> _Chunk:
    """Losses of ``n`` positions and their gradients by the heads' parameters."""
    with torch.set_grad_enabled(with_gradients):
        temperature = heads.temperature(hidden)
    with torch.no_grad():
        logits = lm_head(hidden) if callable(lm_head) else hidden @ lm_head.T
        easy = logits.argmax(-1) == targets
        kept = torch.ones_like(easy) if draws is None else ~(easy & (draws < settings.easy_token_masking))
        rows, weight = _scaled_rows(settings, logits, targets, temperature, heads.config.min_temperature)
        del logits
        statistics = distribution.probability_statistics(rows.probabilities) if heads.needs_statistics else None
    with torch.set_grad_enabled(with_gradients):
        top_p = heads.top_p(hidden, temperature, statistics)
    with torch.no_grad():
        parts = _parts(settings, rows, targets, top_p, weight, kept)
        # Below the floor T has no influence: logits are divided by the floor.
        free = (temperature >= heads.config.min_temperature).double()
    gradients = []
    if with_gradients:
        for part in parts:
            gradients.append(_head_gradients(part, temperature, top_p, free, parameters))
    return _Chunk(temperature.detach(), top_p.detach(), easy, kept, parts, gradients)


def _scaled_rows(
    settings: _Settings, logits: Tensor, targets: Tensor, temperature: Tensor, min_temperature: float
) -> tuple[ScaledRows, Tensor]:
    """The chunk's distribution at T, and the weight of each position (DFT)."""
    shifted = logits.float()
    shifted = shifted - shifted.amax(-1, keepdim=True)
    if settings.dynamic_fine_tuning:
        at_target = shifted.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
        weight = at_target.double().exp() / shifted.clamp(min=_SMALLEST_LOG).exp_().sum(-1, dtype=torch.float64)
    else:
        weight = torch.ones(len(targets), dtype=torch.float64, device=targets.device)
    divisor = temperature.detach().clamp(min=min_temperature)
    # Below exp(-75) a probability counts for nothing, and denormal numbers cost CPUs several times a normal one.
    p = (shifted / divisor.unsqueeze(-1)).clamp_(min=_SMALLEST_LOG).exp_()
    normaliser = p.sum(-1, dtype=torch.float64)
    p /= normaliser.float().unsqueeze(-1)
    divisor = divisor.double()
    mean_scaled = torch.einsum("nv,nv->n", p, shifted).double() / divisor
    return ScaledRows(shifted, p, divisor, normaliser, mean_scaled), weight


def _parts(
    settings: _Settings, rows: ScaledRows, targets: Tensor, top_p: Tensor, weight: Tensor, kept: Tensor
) -> tuple[_Part, ...]:
    terms = soft_nucleus_terms(rows, targets, top_p, settings.decay, EPSILON)
    if not settings.separate_temperature_loss:
        scale = weight * kept
        losses = -terms.log_probability * scale
        return (_Part(losses, -terms.by_temperature * scale, -terms.by_top_p * scale),)
    target_scaled = rows.logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1).double() / rows.temperature
    log_p = target_scaled - rows.normaliser.log()
    slope = (target_scaled - rows.mean_scaled) / rows.temperature  # -d log p_y / dT
    temperature_part = _Part(-log_p * weight * kept, slope * weight * kept, None)
    # -log(p̃ + ε), as released: its slope is p̃ / (p̃ + ε) times that of -log p̃.
    soft_p = terms.log_probability.exp()
    scale = weight * soft_p / (soft_p + EPSILON)
    losses = -(soft_p + EPSILON).log() * weight
    return temperature_part, _Part(losses, -terms.by_temperature * scale, -terms.by_top_p * scale)


def _head_gradients(
    part: _Part, temperature: Tensor, top_p: Tensor, free: Tensor, parameters: list[Tensor]
) -> list[Tensor]:
    """Gradients of ``Σ part.losses`` by the heads' parameters; zeros where it does not depend on one."""
    outputs, output_gradients = [], []
    for output, gradient in ((temperature, part.by_temperature * free), (top_p, part.by_top_p)):
        if output.requires_grad and gradient is not None:
            outputs.append(output)
            output_gradients.append(gradient.to(output.dtype))
    if not outputs:
        return [torch.zeros_like(parameter) for parameter in parameters]
    found = torch.autograd.grad(outputs, parameters, output_gradients, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def _collect(
    settings: _Settings,
    chunks: list[_Chunk],
    rows: Tensor,
    parameters: list[Tensor],
    gradients: list[list[Tensor]],
    with_gradients: bool,
    hidden_states: Tensor,
) -> ObjectiveOutput:
    """Divides the sums by their numbers of positions and attaches the gradients."""
    dtype = hidden_states.dtype if hidden_states.dtype == torch.float64 else torch.float32
    device = hidden_states.device

    def joined(values: list[Tensor], kind: torch.dtype) -> Tensor:
        return torch.cat(values).to(kind) if values else torch.zeros(0, dtype=kind, device=device)

    kept = joined([chunk.kept for chunk in chunks], torch.bool)
    counts = [max(1, int(kept.sum())), max(1, len(kept))]  # end_to_end has the first part only
    part_losses = [
        joined([chunk.parts[index].losses for chunk in chunks], torch.float64) for index in range(len(gradients))
    ]
    means = [losses.sum() / count for losses, count in zip(part_losses, counts, strict=False)]
    loss = torch.stack(means).sum().to(dtype)
    if with_gradients:
        total = [
            sum((part[index] / count for part, count in zip(gradients, counts, strict=False)), torch.zeros_like(p))
            for index, p in enumerate(parameters)
        ]
        loss = _WithGradients.apply(loss, total, *parameters)  # type: ignore[no-untyped-call]
    separate = settings.separate_temperature_loss
    return ObjectiveOutput(
        loss=loss,
        temperature_loss=means[0].to(dtype) if separate else None,
        top_p_loss=means[1].to(dtype) if separate else None,
        temperature=joined([chunk.temperature for chunk in chunks], dtype),
        top_p=joined([chunk.top_p for chunk in chunks], dtype),
        easy=joined([chunk.easy for chunk in chunks], torch.bool),
        token_losses=sum(part_losses, torch.zeros_like(part_losses[0])).to(dtype),
        rows=rows,
    )
