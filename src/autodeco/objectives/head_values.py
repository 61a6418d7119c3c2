"""T and P that heads give at the tokens of chosen rows. Logits live for a chunk, without gradient; knows no losses."""

from __future__ import annotations

import torch
from torch import Tensor

from autodeco import distribution
from autodeco.heads import DecodingHeads
from autodeco.objectives.chunks import chunk_size
from autodeco.objectives.eager import IGNORED, LMHead
from autodeco.objectives.prompt import Prompts, seen_by, summary_of


def head_values(
    heads: DecodingHeads,
    hidden_states: Tensor,
    lm_head: LMHead,
    labels: Tensor,
    prompts: Prompts | None,
    chosen: Tensor,
    *,
    needs_top_p: bool = True,
) -> tuple[dict[str, Tensor], Tensor]:
    """T and P ``[N]`` at the tokens of the chosen rows (``[B]`` boolean), with gradient, and the row of each token.

    Args:
        heads: the heads.
        hidden_states: ``[B, S, H]``, the input of ``lm_head``.
        lm_head: ``[V, H]``, or a function from hidden states to logits.
        labels: ``[B, S]`` token ids, not shifted; -100 is ignored.
        prompts: for heads with ``prompt_summary``; ``None`` is all before each row's first label.
        chosen: ``[B]`` boolean.
        needs_top_p: whether ``top_p`` is wanted, beside ``temperature``.

    Returns:
        Values by head, and the index into the batch ``[N]`` of each.
    """
    valid = (labels[:, 1:] != IGNORED) & chosen.unsqueeze(1)
    hidden = hidden_states[:, :-1][valid]
    ones = torch.ones(len(hidden), device=hidden.device)
    base = _statistics(heads, hidden, lm_head, ones) if heads.needs_base_statistics else None
    rows = valid.nonzero()[:, 0]
    seen = seen_by(heads, hidden, summary_of(heads, hidden_states, labels, prompts), rows)
    temperature = heads.temperature(seen, base)
    values = {"temperature": temperature}
    if needs_top_p:
        own = _statistics(heads, hidden, lm_head, temperature) if heads.needs_statistics else None
        values["top_p"] = heads.top_p(seen, temperature, own)
    return values, rows


@torch.no_grad()
def _statistics(heads: DecodingHeads, hidden: Tensor, lm_head: LMHead, temperature: Tensor) -> Tensor:
    """``[N, 4]`` statistics of ``softmax(l / T)``, a chunk of the vocabulary's logits at a time."""
    vocab_size = heads.config.vocab_size if callable(lm_head) else lm_head.shape[0]
    size = chunk_size(len(hidden), vocab_size, hidden.device)
    found = [temperature.new_zeros(0, 4)]
    for start in range(0, len(hidden), size):
        own = hidden[start : start + size]
        logits = lm_head(own) if callable(lm_head) else own @ lm_head.T
        scaled = distribution.scale_rows(logits, temperature[start : start + size], heads.config.min_temperature)
        assert scaled.statistics is not None
        found.append(scaled.statistics.to(temperature.dtype))
    return torch.cat(found)
