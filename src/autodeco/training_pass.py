"""What training runs of a model: the base up to ``lm_head``, its logits, an objective's loss. Shapes no logits.

The hidden-state store, the diagnosis and traces of given texts run the base in the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from autodeco import lm_head, outputs
from autodeco.config import AutoDecoConfig
from autodeco.errors import ConfigError
from autodeco.heads import DecodingHeads
from autodeco.objectives.output import ObjectiveOutput
from autodeco.objectives.prompt import Prompts, prompt_of
from autodeco.prompt_states import kept_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel as _CausalLM
else:
    _CausalLM = object


class TrainingPass(_CausalLM):  # type: ignore[misc]
    """The part of :class:`autodeco.AutoDecoForCausalLM` that training uses."""

    autodeco_config: AutoDecoConfig
    decoding_heads: DecodingHeads

    def lm_head_inputs(self, input_ids: Tensor, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Runs the base up to, not including, its ``lm_head``: what the heads are trained on.

        Args:
            input_ids: ``[B, S]``.
            attention_mask: ``[B, S]``, 1 for real tokens.
            **kwargs: for the base model.

        Returns:
            Hidden states ``[B, S, H]``, without gradient unless parameters of the base (an adapter's) require one.
        """
        trained = any(parameter.requires_grad for parameter in self.base_model.parameters())
        with torch.set_grad_enabled(trained and torch.is_grad_enabled()):
            output = self.base_model(
                input_ids=input_ids, attention_mask=attention_mask, use_cache=False, return_dict=True, **kwargs
            )
        hidden_states: Tensor = output.last_hidden_state
        return hidden_states

    def both_states(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """All that the heads take of a text, by one pass of the base.

        Args:
            input_ids: ``[B, S]``.
            attention_mask: ``[B, S]``.

        Returns:
            The last hidden states ``[B, S, H]``; and those that a summary of the prompt is made of, ``[B, S, H]``, the
            same tensor where the heads see none.
        """
        with kept_states() as kept:
            last = self.lm_head_inputs(input_ids, attention_mask)
        return last, kept[0] if kept else last

    def _training_output(
        self,
        objective: Callable[..., ObjectiveOutput],
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        labels: Tensor,
        easy_token_draws: Tensor | None = None,
        hidden_states: Tensor | None = None,
        row_weights: Tensor | None = None,
        prompt_mask: Tensor | None = None,
        prompt_states: Tensor | None = None,
        prompt_summary: Tensor | None = None,
    ) -> outputs.TrainingOutput:
        if prompt_summary is not None:
            raise ConfigError(
                "an objective trains the summary of the prompt, so that it is computed from the hidden states: leave "
                "out prompt_summary; prompt_mask says where the prompt is."
            )
        if hidden_states is None:
            assert input_ids is not None
            hidden_states, after_layer = self.both_states(input_ids, attention_mask)
            prompt_states = after_layer if self.autodeco_config.prompt_layer else None
        weight = lm_head.plain_weight(self)
        hidden_states = hidden_states.to(self.get_output_embeddings().weight.dtype)  # stored ones are bfloat16
        logits_of = self.compute_logits if weight is None else weight
        options: dict[str, Any] = {"row_weights": row_weights}
        if self.autodeco_config.prompt_summary:
            mask = prompt_of(labels, attention_mask) if prompt_mask is None else prompt_mask
            options["prompts"] = Prompts(mask, prompt_states)
        result = objective(self.decoding_heads, hidden_states, logits_of, labels, easy_token_draws, **options)
        return outputs.TrainingOutput(loss=result.loss, objective=result)

    def compute_logits(self, hidden_states: Tensor) -> Tensor:
        """The base model's logits ``[..., V]`` of hidden states ``[..., H]``: ``lm_head``, scaling and soft-capping."""
        return lm_head.logits_of(self, hidden_states)

    def check_logit_path(self, input_ids: Tensor) -> None:
        """Checks that :meth:`lm_head_inputs` and :meth:`compute_logits` together give the base model's own logits.

        Training relies on it; decoding does not. See :func:`autodeco.lm_head.check_logit_path`.
        """
        with torch.no_grad():
            expected = super().forward(input_ids=input_ids, return_dict=True).logits
            found = self.compute_logits(self.lm_head_inputs(input_ids))
        lm_head.check_logit_path(expected.float(), found.float(), type(self).__name__)

    def train(self, mode: bool = True) -> Self:
        """Switches the heads to training mode; the frozen base always stays in evaluation mode (no dropout)."""
        super().train(False)
        self.decoding_heads.train(mode)
        self.training = mode
        return self
