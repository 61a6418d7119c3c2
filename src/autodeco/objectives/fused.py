"""The objectives of ``eager.py``, the fast way: same names, same numbers, chunk by chunk, no vocabulary-wide backward.

The logits are given (``eager.py``), so all that training needs of the vocabulary are two numbers a position, ∂L/∂T and
∂L/∂P. They come in closed form (``soft_nucleus.py``) beside the loss, from a few passes over each chunk of logits; the
gradients of the heads, and of the hidden states that they read, follow from them. Nothing of size ``[tokens,
vocabulary]`` outlives its chunk, and nothing is kept for backward but those gradients themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from autodeco.heads import DecodingHeads
from autodeco.objectives.chunks import chunk_size
from autodeco.objectives.eager import (
    EASY_TOKEN_MASKING,
    EPSILON,
    IGNORED,
    SOFT_TOP_P_DECAY,
    LMHead,
    ScoringRule,
    SoftNucleus,
)
from autodeco.objectives.head_gradients import with_head_gradients
from autodeco.objectives.output import ObjectiveOutput
from autodeco.objectives.positions import HiddenStates, Positions
from autodeco.objectives.product import ChunkProduct
from autodeco.objectives.prompt import Prompts, summary_of
from autodeco.objectives.rows import ChunkRows, chunk_rows


def released(
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head_weight: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None = None,
    *,
    row_weights: Tensor | None = None,
    prompts: Prompts | None = None,
    importance_ratio_cap: float | None = None,
    easy_token_masking: float = EASY_TOKEN_MASKING,
    dynamic_fine_tuning: bool = True,
    decay: float = SOFT_TOP_P_DECAY,
    soft_nucleus: SoftNucleus = "inclusive",
    scoring_rule: ScoringRule = "logarithmic",
) -> ObjectiveOutput:
    """Same as :func:`autodeco.objectives.eager.released`, in chunks and with closed-form gradients."""
    settings = _Settings(
        True,
        importance_ratio_cap,
        easy_token_masking,
        dynamic_fine_tuning,
        decay,
        soft_nucleus == "exclusive",
        scoring_rule == "quadratic",
    )
    return _objective(settings, heads, hidden_states, lm_head_weight, labels, easy_token_draws, row_weights, prompts)


def end_to_end(
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head_weight: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None = None,
    *,
    row_weights: Tensor | None = None,
    prompts: Prompts | None = None,
    importance_ratio_cap: float | None = None,
    easy_token_masking: float = EASY_TOKEN_MASKING,
    dynamic_fine_tuning: bool = True,
    decay: float = SOFT_TOP_P_DECAY,
    soft_nucleus: SoftNucleus = "inclusive",
) -> ObjectiveOutput:
    """Same as :func:`autodeco.objectives.eager.end_to_end`, in chunks and with closed-form gradients."""
    settings = _Settings(
        False, importance_ratio_cap, easy_token_masking, dynamic_fine_tuning, decay, soft_nucleus == "exclusive"
    )
    return _objective(settings, heads, hidden_states, lm_head_weight, labels, easy_token_draws, row_weights, prompts)


@dataclass(frozen=True)
class _Settings:
    separate_temperature_loss: bool  # released, rather than end_to_end
    importance_ratio_cap: float | None
    easy_token_masking: float
    dynamic_fine_tuning: bool
    decay: float
    exclusive: bool  # the soft nucleus's cumulative sum ends before the token
    quadratic: bool = False  # the temperature part's scoring rule


class _Given(NamedTuple):
    """What is given of ``n`` positions besides their hidden states, ``[n]`` each."""

    targets: Tensor
    draws: Tensor  # easy-token draws; 1, which drops nothing, where there are none
    weights: Tensor  # float64, of the row that the position is in

    @classmethod
    def of(cls, targets: Tensor, row: Tensor, draws: Tensor | None, row_weights: Tensor | None) -> _Given:
        """Of targets ``[N]`` in these rows; draws ``[N]`` and row weights ``[B]`` where there are some."""
        ones = torch.ones(len(row), device=row.device)
        weights = ones if row_weights is None else row_weights[row]
        return cls(targets, ones if draws is None else draws, weights.double())

    def at(self, span: slice) -> _Given:
        return _Given(*(values[span] for values in self))


def _objective(
    settings: _Settings,
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None,
    row_weights: Tensor | None,
    prompts: Prompts | None,
) -> ObjectiveOutput:
    next_labels = labels[:, 1:]
    valid = next_labels != IGNORED
    places = valid.nonzero()
    hidden = HiddenStates(hidden_states, places, summary_of(heads, hidden_states, labels, prompts))
    row = places[:, 0]
    draws = None if easy_token_draws is None else easy_token_draws[valid]
    with torch.no_grad():
        given = _Given.of(next_labels[valid], row, draws, row_weights)
        positions = _over_vocabulary(settings, heads, hidden, lm_head, given)

    dtype = hidden_states.dtype if hidden_states.dtype == torch.float64 else torch.float32
    kept_count = max(1, int(positions.kept.sum()))
    nucleus_count = max(1, len(places)) if settings.separate_temperature_loss else kept_count
    temperature_part, nucleus_part = positions.temperature_sum / kept_count, positions.nucleus_sum / nucleus_count
    temperature_loss, nucleus_loss = temperature_part[:, 0].sum(), nucleus_part[:, 0].sum()
    loss = (temperature_loss + nucleus_loss).to(dtype)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (hidden_states, *heads.parameters())):
        # Below its floor T has no influence: logits are divided by the floor.
        free = positions.temperature >= heads.config.min_temperature
        by_temperature = (temperature_part[:, 1] + nucleus_part[:, 1]) * free
        loss = with_head_gradients(loss, heads, hidden, positions, by_temperature, nucleus_part[:, 2])
    separate = settings.separate_temperature_loss
    return ObjectiveOutput(
        loss=loss,
        temperature_loss=temperature_loss.to(dtype) if separate else None,
        top_p_loss=nucleus_loss.to(dtype) if separate else None,
        temperature=positions.temperature.to(dtype),
        top_p=positions.top_p.to(dtype),
        easy=positions.easy,
        token_losses=(positions.temperature_sum + positions.nucleus_sum)[:, 0].to(dtype),
        rows=row,
    )


def _over_vocabulary(
    settings: _Settings,
    heads: DecodingHeads,
    hidden: HiddenStates,
    lm_head: LMHead,
    given: _Given,
) -> Positions:
    """Everything that takes a pass over the vocabulary, for all positions, a chunk at a time."""
    vocab_size = heads.config.vocab_size if callable(lm_head) else lm_head.shape[0]
    count = len(given.targets)
    size = chunk_size(count, vocab_size, given.targets.device)
    product = ChunkProduct(lm_head)
    found: list[Positions] = []
    start = 0
    while start < count or not found:
        span = slice(start, start + size)
        try:
            own = hidden.at(span)
            seen = hidden.seen_by(heads, own, span)
            found.append(_chunk(settings, heads, own, seen, product, given.at(span)))
        except (MemoryError, torch.OutOfMemoryError):
            if size == 1:
                raise
            size = max(1, size // 2)
            product = ChunkProduct(lm_head)
            continue
        start += size
    return Positions(*map(torch.cat, zip(*found, strict=True)))


def _chunk(
    settings: _Settings,
    heads: DecodingHeads,
    hidden: Tensor,
    seen: Tensor,
    product: ChunkProduct,
    given: _Given,
) -> Positions:
    logits, buffer = product.logits(hidden)
    base_statistics = heads.base_statistics(logits)
    temperature = heads.temperature(seen, base_statistics)
    divisor = temperature.clamp(min=heads.config.min_temperature)
    rows = chunk_rows(logits, divisor, given.targets, statistics=heads.needs_statistics, buffer=buffer)
    kept = ~(rows.easy & (given.draws < settings.easy_token_masking))
    top_p = heads.top_p(seen, temperature, rows.statistics)
    weight = given.weights * rows.base_log_probability.exp() if settings.dynamic_fine_tuning else given.weights
    temperature_weight = given.weights if settings.quadratic else weight
    temperature_sum, nucleus_sum = _sums(settings, rows, top_p, weight, temperature_weight * kept)
    none = temperature.new_zeros(len(temperature), 0)
    base_statistics = none if base_statistics is None else base_statistics
    statistics = none if rows.statistics is None else rows.statistics
    return Positions(temperature, top_p, base_statistics, statistics, rows.easy, kept, temperature_sum, nucleus_sum)


def _sums(
    settings: _Settings, rows: ChunkRows, top_p: Tensor, weight: Tensor, kept_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss, ∂/∂T and ∂/∂P ``[n, 3]`` of both sums; ``kept_weight`` is that of the sum that easy-token masking thins."""
    zeros = torch.zeros_like(weight)
    if not settings.separate_temperature_loss:
        terms = rows.soft_nucleus(top_p, kept_weight != 0, settings.decay, EPSILON, settings.exclusive)
        own_weight = kept_weight * _ratio(settings, rows, terms.log_probability)
        return torch.stack([zeros] * 3, 1), -torch.stack(list(terms), 1) * own_weight.unsqueeze(1)
    own_weight = kept_weight * _ratio(settings, rows, rows.log_probability)
    score, by_temperature = -rows.log_probability, -rows.by_temperature
    if settings.quadratic:
        target_p, (collision, collision_by_temperature) = rows.log_probability.exp(), rows.collision()
        score = collision / 2 - target_p
        by_temperature = collision_by_temperature / 2 - target_p * rows.by_temperature
    temperature_sum = [score * own_weight, by_temperature * own_weight, zeros]
    terms = rows.soft_nucleus(top_p, weight != 0, settings.decay, EPSILON, settings.exclusive)
    # -log(p̃ + ε), as released: its slope is p̃ / (p̃ + ε) times that of -log p̃.
    weight = weight * _ratio(settings, rows, terms.log_probability)
    soft_p = terms.log_probability.exp()
    scale = weight * soft_p / (soft_p + EPSILON)
    by_temperature = zeros if settings.quadratic else -terms.by_temperature * scale
    nucleus_sum = [-(soft_p + EPSILON).log() * weight, by_temperature, -terms.by_top_p * scale]
    return torch.stack(temperature_sum, 1), torch.stack(nucleus_sum, 1)


def _ratio(settings: _Settings, rows: ChunkRows, log_probability: Tensor) -> Tensor:
    """The truncated importance ratio of each target ``[n]``; 1 where the objective has none."""
    if settings.importance_ratio_cap is None:
        return torch.ones_like(log_probability)
    ratio = (log_probability - rows.base_log_probability).exp()
    return ratio.clamp(max=settings.importance_ratio_cap)
