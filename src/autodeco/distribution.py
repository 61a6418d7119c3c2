"""One decoding step's mathematics, as pure functions on logits: statistics, nucleus, shaping.

Knows nothing of models, heads or training. Every function works on any number of leading dimensions and computes in
float32 (or float64, if that is what it is given). :func:`scale_rows` and :func:`cut_nucleus` are the decoding path:
compiled kernels do them on CPUs and CUDA devices, PyTorch's operations elsewhere, with the same result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autodeco.kernels import decoding_kernels

# Subtracted from the logits outside the nucleus. Finite, so that a mask that forbids the whole nucleus leaves a proper
# distribution over the rest; large enough that exp(-penalty / T_user) is 0 in float32 up to T_user = 90; small enough
# that float32 still tells logits 0.001 apart once it has been subtracted, so that the rest keeps its proportions.
NUCLEUS_PENALTY = 1.0e4

# How many of the largest logits PyTorch sorts before it sorts the whole vocabulary.
_NUCLEUS_CANDIDATES = 256


def as_working_precision(values: Tensor) -> Tensor:
    """Returns ``values`` in float32, or as they are if float64."""
    return values if values.dtype == torch.float64 else values.float()


def entropy(logits: Tensor) -> Tensor:
    """Shannon's entropy of ``softmax(logits)``, ``[...]`` in nats, for logits ``[..., V]``; 0 of a single token."""
    summands: Tensor = torch.special.entr(as_working_precision(logits).softmax(-1))
    return summands.sum(-1)


def scale(logits: Tensor, temperature: Tensor, min_temperature: float = 0.01) -> Tensor:
    """Divides logits by a temperature for each position.

    Args:
        logits: ``[..., V]``.
        temperature: ``[...]``.
        min_temperature: lower bound of the divisor; keeps the quotient finite.

    Returns:
        ``[..., V]`` in float32 (float64 if either input is).
    """
    divisor = as_working_precision(temperature).clamp(min=min_temperature).unsqueeze(-1)
    return as_working_precision(logits) / divisor


def probability_statistics(probabilities: Tensor) -> Tensor:
    """The four statistics that the top-p head takes in besides the hidden state.

    Args:
        probabilities: ``[..., V]``, rows that sum to 1.

    Returns:
        ``[..., 4]``: largest probability; entropy ``-Σ p log(p + 1e-8)`` in nats; variance over the vocabulary
        (unbiased; 0 for a vocabulary of one); sum of the five largest probabilities.
    """
    vocab_size = probabilities.shape[-1]
    largest = probabilities.topk(min(5, vocab_size), dim=-1).values
    entropy = -(probabilities * (probabilities + 1e-8).log()).sum(-1)
    deviations = probabilities - probabilities.mean(-1, keepdim=True)
    variance = deviations.square().sum(-1) / max(1, vocab_size - 1)
    return torch.stack([largest[..., 0], entropy, variance, largest.sum(-1)], dim=-1)


@dataclass(frozen=True)
class ScaledRows:
    """Logits divided by their temperatures, and what one pass over them found.

    Attributes:
        logits: ``[..., V]`` float32 (float64 if an input was).
        statistics: ``[..., 4]`` as in :func:`probability_statistics`; ``None`` if not asked for.
        kernels: what made them, with its own sums over the flattened rows; ``None`` where PyTorch did.
    """

    logits: Tensor
    statistics: Tensor | None
    kernels: tuple[Any, Any] | None = None


def scale_rows(
    logits: Tensor, temperature: Tensor, min_temperature: float = 0.01, *, statistics: bool = True
) -> ScaledRows:
    """Divides logits by their temperatures and takes the statistics of the result.

    Args:
        logits: ``[..., V]``.
        temperature: ``[...]``.
        min_temperature: lower bound of the divisor.
        statistics: whether the four statistics are wanted.
    """
    kernels = decoding_kernels(logits, temperature)
    if kernels is None:
        scaled = scale(logits, temperature, min_temperature)
        found = probability_statistics(scaled.softmax(-1)) if statistics else None
        return ScaledRows(scaled, found)
    shape = logits.shape
    divisor = temperature.float().clamp(min=min_temperature).reshape(-1)
    result = kernels.scale(logits.reshape(-1, shape[-1]), divisor, statistics=statistics)
    found = None if result.statistics is None else result.statistics.view(*shape[:-1], 4)
    return ScaledRows(result.rows.scaled.view(shape), found, (kernels, result.rows))


def cut_nucleus(rows: ScaledRows, top_p: Tensor) -> Tensor:
    """Subtracts :data:`NUCLEUS_PENALTY` from the logits outside the hard nucleus (see :func:`nucleus_mask`).

    Args:
        rows: from :func:`scale_rows`; its logits may be overwritten.
        top_p: ``[...]``.

    Returns:
        ``[..., V]``: logits whose softmax is the distribution to sample from.
    """
    if rows.kernels is not None and not top_p.requires_grad:
        kernels, kernel_rows = rows.kernels
        kernels.cut(kernel_rows, top_p.float().reshape(-1), NUCLEUS_PENALTY)
        return rows.logits
    return rows.logits - torch.where(nucleus_mask(rows.logits, top_p), 0.0, NUCLEUS_PENALTY)


def nucleus_mask(scaled_logits: Tensor, top_p: Tensor) -> Tensor:
    """The hard nucleus: the smallest set of most likely tokens whose probabilities sum to at least ``top_p``.

    The token that crosses the threshold stays; the most likely token always does. Of equal logits the lower token id
    comes first, so that the result is deterministic.

    Args:
        scaled_logits: ``[..., V]``, divided by the temperature already.
        top_p: ``[...]``; 1 or more keeps every token.

    Returns:
        ``[..., V]`` boolean, true inside the nucleus.
    """
    vocab_size = scaled_logits.shape[-1]
    flat = as_working_precision(scaled_logits).reshape(-1, vocab_size)
    threshold = as_working_precision(top_p).reshape(-1)
    mask = torch.ones_like(flat, dtype=torch.bool)
    log_normaliser = flat.logsumexp(-1, keepdim=True)
    # Most nuclei are small: a partial sort settles those rows, and only the others pay for a full one.
    candidates = min(_NUCLEUS_CANDIDATES, vocab_size)
    largest = flat.topk(candidates, dim=-1).values
    settled = ((largest - log_normaliser).double().exp().sum(-1) >= threshold) & (threshold < 1)
    if candidates < vocab_size:
        # With a tie at the edge of the candidates, which of the equal tokens came along is not determined.
        settled &= largest[:, -1] < largest[:, -2] if candidates > 1 else False
    cut = (threshold < 1).nonzero().squeeze(-1)
    partial, full = cut[settled[cut]], cut[~settled[cut]]
    for rows, size in ((partial, candidates), (full, vocab_size)):
        if len(rows):
            mask[rows] = _nucleus_of_rows(flat[rows], log_normaliser[rows], threshold[rows], size)
    return mask.reshape(scaled_logits.shape)


def _nucleus_of_rows(scaled: Tensor, log_normaliser: Tensor, threshold: Tensor, candidates: int) -> Tensor:
    """The nucleus of ``[N, V]`` rows, which is known to lie within each row's ``candidates`` largest."""
    if candidates < scaled.shape[-1]:
        token_ids = scaled.topk(candidates, dim=-1).indices.sort(dim=-1).values
        order = scaled.gather(-1, token_ids).sort(dim=-1, descending=True, stable=True)
        token_ids = token_ids.gather(-1, order.indices)
    else:
        order = scaled.sort(dim=-1, descending=True, stable=True)
        token_ids = order.indices
    # A token is kept while the mass before it is short of the threshold. Summed in float64: over a vocabulary of
    # 100,000, float32 sums err by more than the tail probabilities that they decide about.
    mass = (order.values - log_normaliser).double().exp()
    mass_before = mass.cumsum(-1) - mass
    keep = mass_before < threshold.double().unsqueeze(-1)
    keep[:, 0] = True
    return torch.zeros_like(scaled, dtype=torch.bool).scatter_(-1, token_ids, keep)


def soft_nucleus_log_weights(
    probabilities: Tensor, top_p: Tensor, decay: float = 30.0, *, exclusive: bool = False
) -> Tensor:
    """The differentiable nucleus of training (paper, section 2): weight 1 inside, exponentially decaying outside.

    ``log m = -decay * relu(c - top_p)`` with ``c`` the cumulative sum in descending order of probability.

    Args:
        probabilities: ``[..., V]``.
        top_p: ``[...]``.
        decay: the paper's α.
        exclusive: leave the token itself out of ``c``, as :func:`nucleus_mask` does: then the token that crosses the
            threshold has weight 1 in training, too, and as ``decay`` grows the soft nucleus becomes the hard one. The
            paper's sum includes it.

    Returns:
        ``[..., V]`` logarithms of the weights, in vocabulary order; gradients reach ``probabilities`` and ``top_p``.
    """
    order = probabilities.sort(dim=-1, descending=True, stable=True)
    cumulative = order.values.cumsum(-1)
    if exclusive:
        cumulative = cumulative - order.values
    log_weights = -decay * (cumulative - top_p.unsqueeze(-1)).relu()
    return torch.zeros_like(log_weights).scatter(-1, order.indices, log_weights)
