"""What heads with ``prompt_summary`` see of each training row's prompt: shared by all objectives.

Heads without it pay nothing for it: their summary is ``None`` and their input the hidden states.
"""

from __future__ import annotations

from torch import Tensor

from autodeco.heads import DecodingHeads

# Labels of positions without a target, as in PyTorch and Transformers.
IGNORED = -100


def prompt_of(labels: Tensor) -> Tensor:
    """Positions before the completion.

    Args:
        labels: ``[B, S]``, not shifted; -100 on the prompt.

    Returns:
        ``[B, S]``, true before each row's first label: what ``generate`` was given to make the completion. Padding on
        the left counts as prompt here, as labels do not tell it apart.
    """
    return (labels != IGNORED).cumsum(-1) == 0


def summary_of(
    heads: DecodingHeads, hidden_states: Tensor, labels: Tensor, prompt_mask: Tensor | None
) -> Tensor | None:
    """Each row's summary ``[B, 2 m]``, with gradient to parameters and hidden states; ``None`` where heads see none.

    Args:
        heads: the heads.
        hidden_states: ``[B, S, H]``.
        labels: ``[B, S]``.
        prompt_mask: ``[B, S]``; ``None`` takes :func:`prompt_of` the labels.
    """
    if not heads.config.prompt_summary:
        return None
    mask = prompt_of(labels) if prompt_mask is None else prompt_mask
    return heads.summarise_prompt(hidden_states, mask)


def seen_by(heads: DecodingHeads, hidden_states: Tensor, summary: Tensor | None, rows: Tensor) -> Tensor:
    """What the heads take at ``N`` positions.

    Args:
        heads: the heads.
        hidden_states: ``[N, H]``.
        summary: of :func:`summary_of`.
        rows: ``[N]``, the row of the batch that each position is in.
    """
    return hidden_states if summary is None else heads.input_of(hidden_states, summary[rows])
