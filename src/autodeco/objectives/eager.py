"""The training objectives, written to be read: full tensors, one line an equation. Everything faster is tested on this.

``end_to_end`` is the paper's loss, ``released`` the one that the authors' code computes (its temperature and top-p
parts are separate). Both take the hidden states at the input of ``lm_head`` and treat the logits as given: gradients
reach the heads and, through T and P alone, the hidden states. So an adapter on the base is taught to move T and P, and
not the words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.heads import DecodingHeads
from autodeco.objectives.output import ObjectiveOutput
from autodeco.objectives.prompt import IGNORED as IGNORED
from autodeco.objectives.prompt import Prompts, seen_by, summary_of

EASY_TOKEN_MASKING = 0.6  # probability of dropping an easy position (paper, section 3)
SOFT_TOP_P_DECAY = 30.0  # α
EPSILON = 1e-9

SoftNucleus = Literal["inclusive", "exclusive"]
ScoringRule = Literal["logarithmic", "quadratic"]
LMHead = Tensor | Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Predictions:
    """What both objectives start from, at the ``N`` positions that have a label."""

    rows: Tensor  # [N] index into the batch
    targets: Tensor  # [N] token ids
    scaled_logits: Tensor  # [N, V] l / T
    temperature: Tensor  # [N]
    top_p: Tensor  # [N]
    base_log_probability: Tensor  # [N] of the target, under the base model
    easy: Tensor  # [N] bool: the base model's arg-max is the target
    dropped: Tensor  # [N] bool: masked as easy
    row_weight: Tensor  # [N] of the row that the position is in

    def weight(self, log_probability: Tensor, dynamic_fine_tuning: bool, ratio_cap: float | None) -> Tensor:
        """The row's weight; times (DFT) the base's probability of the target; times the truncated importance ratio."""
        weight = self.row_weight
        if dynamic_fine_tuning:
            weight = weight * self.base_log_probability.exp()
        if ratio_cap is not None:
            weight = weight * (log_probability.detach() - self.base_log_probability).exp().clamp(max=ratio_cap)
        return weight


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
    """The objective of the authors' released code: ``temperature_loss + top_p_loss``.

    The temperature part is the cross-entropy of ``softmax(l / T)`` over the positions that easy-token masking leaves;
    the top-p part is ``-log(p̃_y + 1e-9)`` over all valid positions, and its gradient reaches ``T`` too. Each is
    DFT-weighted and a mean over its own positions.

    Args:
        heads: the heads to train.
        hidden_states: ``[B, S, H]``, the input of ``lm_head``.
        lm_head_weight: ``[V, H]``, or a function from hidden states ``[N, H]`` to logits ``[N, V]`` where the base
            model does more than that product (soft-capping, scaling, a bias).
        labels: ``[B, S]`` token ids, not shifted (shifted inside); -100 is ignored.
        easy_token_draws: ``[B, S-1]`` uniform draws in [0, 1): an easy position is dropped where its draw is below
            ``easy_token_masking``. ``None`` drops nothing.
        row_weights: ``[B]``, multiplies the losses of each row's tokens; negative for what should become less likely.
            Means stay over the number of tokens, so twice the weights are twice the loss. ``None`` is 1 everywhere.
        prompts: for heads with ``prompt_summary``; ``None`` is all before each row's first label.
        importance_ratio_cap: weight each position by the ratio of the target's probability in the part's distribution
            (``softmax(l / T)``, ``p̃``) to the base's, detached, at most this; ``None`` does not.
        easy_token_masking: the share of easy positions to drop.
        dynamic_fine_tuning: whether to weight by the base model's probability of the target.
        decay: α of the soft nucleus.
        soft_nucleus: whether the cumulative sum that decays a token includes the token (``"inclusive"``, the paper's)
            or ends before it (``"exclusive"``, the rule of hard top-p); see
            :func:`autodeco.distribution.soft_nucleus_log_weights`.
        scoring_rule: of the temperature part. ``"quadratic"`` (not the authors') takes ``½ Σ_v q_v² - q_y``, ``q =
            softmax(l / T)``, in place of ``-log q_y``: Brier's score, halved and less a constant. It sees all of ``q``,
            is bounded, and is not DFT-weighted, as the slope of ``-q_y`` has the factor ``q_y`` in it; ``T`` is then
            taught by this part alone.

    Returns:
        Losses in nats a token (of the quadratic rule in probability); gradients reach ``heads.parameters()`` and, where
        they require one, the hidden states.
    """
    predictions = _predict(
        heads, hidden_states, lm_head_weight, labels, easy_token_draws, easy_token_masking, row_weights, prompts
    )
    log_probability = at_targets(predictions.scaled_logits.log_softmax(-1), predictions.targets)
    kept = (~predictions.dropped).to(log_probability.dtype)
    is_quadratic = scoring_rule == "quadratic"
    weight = predictions.weight(log_probability, dynamic_fine_tuning and not is_quadratic, importance_ratio_cap)
    scores = _quadratic_scores(predictions.scaled_logits, predictions.targets) if is_quadratic else -log_probability
    temperature_losses = scores * weight * kept
    temperature_loss = temperature_losses.sum() / kept.sum().clamp(min=1)

    if is_quadratic:  # T is taught by its own part alone: cross-entropy would teach it, too
        predictions = replace(predictions, scaled_logits=predictions.scaled_logits.detach())
    log_probability = _soft_top_p_log_probability(predictions, decay, soft_nucleus)
    weight = predictions.weight(log_probability, dynamic_fine_tuning, importance_ratio_cap)
    top_p_losses = -(log_probability.exp() + EPSILON).log() * weight
    top_p_loss = top_p_losses.sum() / max(1, len(weight))

    return _output(
        predictions, temperature_loss + top_p_loss, temperature_losses + top_p_losses, temperature_loss, top_p_loss
    )


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
    """The paper's objective: one cross-entropy of ``p̃``, the distribution after temperature and soft top-p.

    Easy-token masking and DFT (paper, section 3) apply to it as a whole. Arguments and result as in :func:`released`;
    ``temperature_loss`` and ``top_p_loss`` are ``None``.
    """
    predictions = _predict(
        heads, hidden_states, lm_head_weight, labels, easy_token_draws, easy_token_masking, row_weights, prompts
    )
    log_probability = _soft_top_p_log_probability(predictions, decay, soft_nucleus)
    kept = (~predictions.dropped).to(log_probability.dtype)
    losses = -log_probability * predictions.weight(log_probability, dynamic_fine_tuning, importance_ratio_cap) * kept
    return _output(predictions, losses.sum() / kept.sum().clamp(min=1), losses)


def _predict(
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None,
    easy_token_masking: float,
    row_weights: Tensor | None,
    prompts: Prompts | None,
) -> _Predictions:
    """Runs ``lm_head`` and the heads at the positions whose next token is a label."""
    next_labels = labels[:, 1:]
    valid = next_labels != IGNORED
    hidden = hidden_states[:, :-1][valid]
    targets = next_labels[valid]
    with torch.no_grad():
        logits = lm_head(hidden) if callable(lm_head) else hidden @ lm_head.T
        logits = distribution.as_working_precision(logits)
        base_log_probability = at_targets(logits.log_softmax(-1), targets)
        easy = logits.argmax(-1) == targets if len(targets) else torch.zeros_like(targets, dtype=torch.bool)
        dropped = torch.zeros_like(easy)
        if easy_token_draws is not None:
            dropped = easy & (easy_token_draws[valid] < easy_token_masking)
    rows = valid.nonzero()[:, 0]
    seen = seen_by(heads, hidden, summary_of(heads, hidden_states, labels, prompts), rows)
    temperature = heads.temperature(seen, heads.base_statistics(logits))
    scaled = distribution.scale(logits, temperature, heads.config.min_temperature)
    with torch.no_grad():
        statistics = distribution.probability_statistics(scaled.softmax(-1)) if heads.needs_statistics else None
    top_p = heads.top_p(seen, temperature, statistics)
    row_weight = torch.ones_like(base_log_probability)
    if row_weights is not None:
        row_weight = row_weights.to(base_log_probability)[rows]
    return _Predictions(rows, targets, scaled, temperature, top_p, base_log_probability, easy, dropped, row_weight)


def _soft_top_p_log_probability(predictions: _Predictions, decay: float, soft_nucleus: SoftNucleus) -> Tensor:
    """``log p̃_y``, ``[N]``, with ``p̃ = p m / (Σ p m + ε)``: the target after temperature and soft nucleus."""
    log_probabilities = predictions.scaled_logits.log_softmax(-1)
    probabilities = log_probabilities.exp()
    top_p = distribution.as_working_precision(predictions.top_p)
    exclusive = soft_nucleus == "exclusive"
    log_weights = distribution.soft_nucleus_log_weights(probabilities, top_p, decay, exclusive=exclusive)
    normaliser = (probabilities * log_weights.exp()).sum(-1) + EPSILON
    return at_targets(log_probabilities + log_weights, predictions.targets) - normaliser.log()


def _quadratic_scores(logits: Tensor, targets: Tensor) -> Tensor:
    """``½ Σ_v q_v² - q_y``, ``[N]``, of ``q = softmax(logits)``."""
    probabilities = logits.softmax(-1)
    return probabilities.square().sum(-1) / 2 - at_targets(probabilities, targets)


def at_targets(values: Tensor, targets: Tensor) -> Tensor:
    """Of values ``[..., V]`` those of each position's target, ``[...]``."""
    return values.gather(-1, targets.unsqueeze(-1)).squeeze(-1)


def _output(
    predictions: _Predictions,
    loss: Tensor,
    token_losses: Tensor,
    temperature_loss: Tensor | None = None,
    top_p_loss: Tensor | None = None,
) -> ObjectiveOutput:
    return ObjectiveOutput(
        loss=loss,
        temperature_loss=temperature_loss,
        top_p_loss=top_p_loss,
        temperature=predictions.temperature.detach(),
        top_p=predictions.top_p.detach(),
        easy=predictions.easy,
        token_losses=token_losses.detach(),
        rows=predictions.rows,
    )
