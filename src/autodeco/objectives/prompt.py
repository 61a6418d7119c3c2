"""What heads with ``prompt_summary`` see of each training row's prompt: shared by all objectives.

Heads without it pay nothing for it: their summary is ``None`` and their input the hidden states.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from autodeco.errors import ConfigError
from autodeco.heads import DecodingHeads

# Labels of positions without a target, as in PyTorch and Transformers.
IGNORED = -100


class Prompts(NamedTuple):
    """The prompts of a batch's rows.

    Attributes:
        mask: ``[B, S']``, true at the prompts' positions.
        states: ``[B, S', H]``, what the summary is of; ``None`` where that is the hidden states themselves.
    """

    mask: Tensor
    states: Tensor | None = None

    def rows(self, chosen: Tensor) -> Prompts:
        """Those of some rows, ``[B]`` boolean."""
        return Prompts(self.mask[chosen], None if self.states is None else self.states[chosen])


def prompt_of(labels: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Positions before the completion.

    Args:
        labels: ``[B, S]``, not shifted; -100 on the prompt.
        attention_mask: ``[B, S]``, 0 at padding. Without it padding on the left counts as prompt: labels do not tell
            it apart.

    Returns:
        ``[B, S]``, true before each row's first label: what ``generate`` was given to make the completion.
    """
    before = (labels != IGNORED).cumsum(-1) == 0
    return before if attention_mask is None else before & attention_mask.bool()


def summary_of(heads: DecodingHeads, hidden_states: Tensor, labels: Tensor, prompts: Prompts | None) -> Tensor | None:
    """Each row's summary ``[B, 2 m]``, with gradient to parameters and hidden states; ``None`` where heads see none.

    Args:
        heads: the heads.
        hidden_states: ``[B, S, H]``.
        labels: ``[B, S]``.
        prompts: ``None`` takes the hidden states at :func:`prompt_of` the labels.

    Raises:
        ConfigError: the heads summarise the states after a layer, and these are not given.
    """
    if not heads.config.prompt_summary:
        return None
    mask, states = Prompts(prompt_of(labels)) if prompts is None else prompts
    if states is None and heads.config.prompt_layer:
        raise ConfigError(
            f"these heads summarise the prompt as it is after layer {heads.config.prompt_layer} (prompt_layer), and "
            f"were given its last hidden states alone. Give prompt_states, or token ids."
        )
    return heads.summarise_prompt(hidden_states if states is None else states, mask)


def seen_by(heads: DecodingHeads, hidden_states: Tensor, summary: Tensor | None, rows: Tensor) -> Tensor:
    """What the heads take at ``N`` positions.

    Args:
        heads: the heads.
        hidden_states: ``[N, H]``.
        summary: of :func:`summary_of`.
        rows: ``[N]``, the row of the batch that each position is in.
    """
    return hidden_states if summary is None else heads.input_of(hidden_states, summary[rows])
