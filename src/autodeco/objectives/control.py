"""The objective that teaches the heads decoding commands, beside the decoding objective of uncommanded rows.

A batch holds groups: the same prompt and completion without a command and with one command each. Write ``x_t`` for
the ``T`` or ``P`` that a head gives at token ``t`` of the completion, ``m_r`` for its mean over the completion in row
``r``, ``0`` for the group's uncommanded row, ``sg`` for a value that no gradient reaches. A row is asked for a level
``ℓ_r`` (0 without a command, -1 for low diversity, 1 for high; graded commands between and beyond) or for a value
``a_r``.

What is the paper's (arXiv 2510.26697): a ranking loss that asks for higher T and P under a high-diversity command than
under none, and for lower ones under a low-diversity command, on a part of the prompts. What is this project's: that the
mean over the completion is ranked, the margin μ, the levels, the ceiling κ (infinite: none, as a ranking loss has it),
that the ranking does not move the uncommanded mean, the four other losses, and that each is a mean over its own pairs
or rows. ``x⁰_t`` is what the starting heads, those that
training began with, give at token ``t``; where the base has an adapter that is trained with the heads, ``p_t`` is the
base's own token distribution with it, ``p⁰_t`` the one without it, and ``x⁰_t`` is of the base without it, too::

    ranking   mean over pairs i, j of a group with ℓ_i < ℓ_j of  max(0, μ Δℓ - Δm) + max(0, Δm - κ μ Δℓ),
              Δℓ = ℓ_j - ℓ_i, Δm = m_j - m_i, m_0 as sg(m_0)
    hold      mean over commanded rows with ℓ_r = 0 of           (m_r - sg(m_0))²
    absolute  mean over rows with a value of                     mean_t (x_t - a_r)²
    keep      mean over uncommanded rows of                      mean_t (x_t - x⁰_t)²
    base      mean over all rows of                              mean_t KL(p⁰_t ‖ p_t)

Each head has losses of its own: a row that is asked for a value of one head takes no part in that head's ranking and
hold. Look-alikes (ℓ = 0) are not ranked. Keep holds both heads, steered or not. An adapter is taught by all losses; all
but base reach it through T and P alone, so that commands move these and not the words. The losses of T and P need the
heads' outputs alone, so there is one implementation; only the statistics that heads take in are a pass over the
vocabulary, in chunks and without gradient. ``eager`` and ``fused`` differ in the decoding objective that is given.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autodeco.heads import DecodingHeads
from autodeco.objectives.base_divergence import base_divergence
from autodeco.objectives.eager import IGNORED, LMHead
from autodeco.objectives.head_values import head_values
from autodeco.objectives.output import ObjectiveOutput
from autodeco.objectives.prompt import Prompts


@dataclass(frozen=True)
class CommandedRows:
    """What each row of a batch is asked for; all ``[B]``.

    Attributes:
        group: rows with the same number are one prompt and completion.
        commanded: boolean; each group has exactly one row where it is false.
        level: 0 without a command and for look-alikes.
        temperature: the value asked for; NaN where none is.
        top_p: likewise.
    """

    group: Tensor
    commanded: Tensor
    level: Tensor
    temperature: Tensor
    top_p: Tensor


@dataclass(frozen=True)
class ControlWeights:
    """Weights and margins of the losses.

    Attributes:
        temperature: whether the temperature head is steered.
        top_p: whether the top-p head is.
        temperature_margin: μ of T.
        top_p_margin: μ of P.
        margin_ceiling: κ, 1 or more: the difference that is asked for is between μ and κ μ for each level.
        decoding: weight of the decoding objective.
        ranking: weight of the ranking loss, of each head.
        hold: likewise.
        absolute: likewise.
        keep: likewise; without effect where there are no starting heads.
        base: weight of the base loss; without effect where no adapter is trained.
    """

    temperature: bool = True
    top_p: bool = True
    temperature_margin: float = 0.2
    top_p_margin: float = 0.1
    margin_ceiling: float = math.inf
    decoding: float = 1.0
    ranking: float = 1.0
    hold: float = 1.0
    absolute: float = 1.0
    keep: float = 0.0
    base: float = 0.0


def control(
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head_weight: LMHead,
    labels: Tensor,
    easy_token_draws: Tensor | None = None,
    row_weights: Tensor | None = None,
    *,
    asked: CommandedRows,
    weights: ControlWeights,
    decoding: Callable[..., ObjectiveOutput],
    starting_heads: DecodingHeads | None = None,
    base_hidden_states: Tensor | None = None,
    prompts: Prompts | None = None,
) -> ObjectiveOutput:
    """The decoding objective and the keep loss on uncommanded rows, and the command losses and the base loss on all.

    Args:
        heads: the heads to train.
        hidden_states: ``[B, S, H]``, the input of ``lm_head``.
        lm_head_weight: ``[V, H]``, or a function from hidden states to logits.
        labels: ``[B, S]`` token ids, not shifted; -100 is ignored. Rows of a group have the same completion.
        easy_token_draws: ``[B, S-1]``, of the decoding objective.
        row_weights: ``[B]``, of the decoding objective, too.
        asked: what each row is asked for.
        weights: of the losses.
        decoding: an objective of ``eager`` or ``fused``, its settings bound.
        starting_heads: what uncommanded rows are kept at; they are not trained.
        base_hidden_states: ``[B, S, H]``, of the base without its adapter; ``None`` where it has none.
        prompts: as of the decoding objective.

    Returns:
        The weighted sum as ``loss``. All else is of the uncommanded rows, as the decoding objective returns it; the
        command losses are in ``metrics``, with the share of pairs that are in order and the mean error of values.
    """
    plain = ~asked.commanded
    output = decoding(
        heads,
        hidden_states[plain],
        lm_head_weight,
        labels[plain],
        _of_rows(easy_token_draws, plain),
        row_weights=_of_rows(row_weights, plain),
        prompts=None if prompts is None else prompts.rows(plain),
    )
    places = plain.nonzero().squeeze(-1)
    given = hidden_states, lm_head_weight, labels, prompts
    values, rows = head_values(heads, *given, asked.commanded, needs_top_p=weights.top_p)

    loss = weights.decoding * output.loss
    metrics: dict[str, Tensor] = {"decoding_loss": output.loss.detach()}
    for head in ("temperature", "top_p"):
        if getattr(weights, head):
            plain_means = row_means(getattr(output, head), places[output.rows], len(labels))
            means = torch.where(asked.commanded, row_means(values[head], rows, len(labels)), plain_means)
            own_loss, own_metrics = _command_losses(head, means, values[head], rows, asked, weights)
            loss, metrics = loss + own_loss, metrics | own_metrics
    if weights.keep and starting_heads is not None:
        for head, losses in _keep_losses(heads, starting_heads, *given, plain, base_hidden_states).items():
            loss = loss + weights.keep * losses.mean()
            metrics[f"{head}_keep_loss"] = losses.detach().mean()
    if base_hidden_states is not None:
        losses = _base_losses(hidden_states, lm_head_weight, labels, base_hidden_states)
        loss = loss + weights.base * losses.mean()
        metrics["base_loss"] = losses.detach().mean()
    return replace(output, loss=loss, rows=places[output.rows], metrics=metrics)


def _of_rows(values: Tensor | None, chosen: Tensor) -> Tensor | None:
    return None if values is None else values[chosen]


def _command_losses(
    head: str, means: Tensor, values: Tensor, rows: Tensor, asked: CommandedRows, weights: ControlWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Ranking, hold and absolute loss of one head, weighed and summed, and what is logged of them.

    ``means`` ``[B]`` are those of each row's completion, ``values`` ``[N]`` those of the commanded rows' tokens.
    """
    value, margin = getattr(asked, head), getattr(weights, f"{head}_margin")
    differences, levels = ranked_pairs(means, asked, value)
    parts = {
        "ranking": ranking_losses(differences, margin * levels, weights.margin_ceiling),
        "hold": hold_losses(means, asked, value),
        "absolute": absolute_losses(values, rows, value),
    }
    loss, metrics = means.new_zeros(()), {}
    for name, losses in parts.items():
        if len(losses):
            loss = loss + getattr(weights, name) * losses.mean()
            metrics[f"{head}_{name}_loss"] = losses.detach().mean()
    if len(differences):
        metrics[f"{head}_in_order"] = (differences > 0).double().mean()
    if len(parts["absolute"]):
        metrics[f"{head}_error"] = (means.detach() - value).abs().nanmean()
    return loss, metrics


def ranked_pairs(means: Tensor, asked: CommandedRows, value: Tensor) -> tuple[Tensor, Tensor]:
    """The pairs of rows that the ranking loss of one head compares.

    Args:
        means: ``[B]``, means of T or P over each row's completion.
        asked: of each row.
        value: ``[B]``, the values asked of this head; NaN where there is none.

    Returns:
        ``m_j - m_i`` and ``ℓ_j - ℓ_i`` of each pair, ``[pairs]``. No gradient reaches an uncommanded row's mean.
    """
    anchored = torch.where(asked.commanded, means, means.detach())
    ranked = value.isnan() & ((asked.level != 0) | ~asked.commanded)
    levels = _differences(asked.level.to(means.dtype))
    pairs = (_differences(asked.group) == 0) & (levels > 0) & ranked.unsqueeze(1) & ranked.unsqueeze(0)
    return _differences(anchored)[pairs], levels[pairs]


def ranking_losses(differences: Tensor, asked: Tensor, ceiling: float) -> Tensor:
    """``max(0, a - Δm) + max(0, Δm - κ a)`` of each pair: no loss from the difference asked for to κ times that.

    Args:
        differences: ``[pairs]``, ``Δm``.
        asked: ``[pairs]``, ``a = μ Δℓ > 0``.
        ceiling: κ; infinite for none.
    """
    too_small = (asked - differences).clamp(min=0)
    return too_small if math.isinf(ceiling) else too_small + (differences - ceiling * asked).clamp(min=0)


def hold_losses(means: Tensor, asked: CommandedRows, value: Tensor) -> Tensor:
    """``(m_r - sg(m_0))²`` of every row that is to leave this head where it was, ``[rows]``.

    Those are look-alikes, and commands for the other head alone. Arguments as in :func:`ranked_pairs`.
    """
    held = asked.commanded & (asked.level == 0) & value.isnan()
    of_group = (_differences(asked.group) == 0) & ~asked.commanded
    uncommanded = of_group.to(means.dtype) @ means.detach()
    return (means - uncommanded)[held].square()


def absolute_losses(values: Tensor, rows: Tensor, value: Tensor) -> Tensor:
    """Mean squared distance of each token from the value asked for, of every row that is asked for one: ``[rows]``.

    Args:
        values: ``[N]``, T or P of each token.
        rows: ``[N]``, index into the batch of each.
        value: ``[B]``; NaN where a row is asked for none.
    """
    squares = (values - value[rows].nan_to_num().to(values.dtype)).square()
    return row_means(squares, rows, len(value))[~value.isnan()]


def row_means(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """Means ``[count]`` of ``values`` ``[N]`` by their row ``[N]``; 0 for a row without any."""
    totals = values.new_zeros(count).index_add(0, rows, values)
    numbers = torch.bincount(rows, minlength=count).clamp(min=1)
    return totals / numbers


def _differences(values: Tensor) -> Tensor:
    """``[B, B]``: row less column."""
    return values.unsqueeze(1) - values.unsqueeze(0)


def _keep_losses(
    heads: DecodingHeads,
    starting_heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head: LMHead,
    labels: Tensor,
    prompts: Prompts | None,
    plain: Tensor,
    base_hidden_states: Tensor | None,
) -> dict[str, Tensor]:
    """``mean_t (x_t - x⁰_t)²`` of every uncommanded row, ``[rows]``, by head."""
    given = hidden_states, lm_head, labels, prompts, plain
    values, rows = head_values(heads, *given)
    with torch.no_grad():
        before = hidden_states if base_hidden_states is None else base_hidden_states
        starting, _ = head_values(starting_heads, before, *given[1:])
    return {head: row_means((own - starting[head]).square(), rows, len(labels))[plain] for head, own in values.items()}


def _base_losses(hidden_states: Tensor, lm_head: LMHead, labels: Tensor, base_hidden_states: Tensor) -> Tensor:
    """``mean_t KL(p⁰_t ‖ p_t)`` of every row, ``[B]``."""
    valid = labels[:, 1:] != IGNORED
    own, base = (states[:, :-1][valid] for states in (hidden_states, base_hidden_states))
    return row_means(base_divergence(own, base, lm_head), valid.nonzero()[:, 0], len(labels))
