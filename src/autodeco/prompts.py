"""Which positions are the prompt of a pass or ``generate`` call in Transformers, and the heads' summary of it.

For models whose heads have ``prompt_summary``, and no others. Kept by thread: two threads can run one model.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from autodeco.errors import ConfigError
from autodeco.generation import prompt_of_call
from autodeco.prompt_states import kept_states

if TYPE_CHECKING:
    from autodeco.modeling import AutoDecoForCausalLM

_STATE = threading.local()
# What Transformers' models call the memory of earlier positions: attention's, recurrent models', continuous batching's.
_CACHES = ("past_key_values", "cache_params", "cache")


@dataclass
class Call:
    """One running call of ``generate``.

    Attributes:
        model: whose.
        mask: ``[B, L]``, 1 at the prompt's tokens, 0 at padding.
        reread: ``[B, L]`` token ids of a prompt whose beginning is in a cache, so that it has to be run again.
        read: states ``[B', n, H]`` of the prompt, while it is read in parts.
        summary: ``[B', 2 m]`` once the prompt has been read; ``B'`` counts beams and several sequences a prompt.
    """

    model: AutoDecoForCausalLM
    mask: Tensor
    reread: Tensor | None = None
    read: list[Tensor] = field(default_factory=list)
    summary: Tensor | None = None

    @property
    def of_prompts(self) -> Tensor | None:
        """The summary ``[B, 2 m]``, one row a prompt."""
        return None if self.summary is None else self.summary[:: max(1, len(self.summary) // len(self.mask))]

    def summary_after(self, states: Tensor) -> Tensor:
        """The summary for a forward pass that has computed these states ``[B', n, H]`` of :mod:`prompt_states`."""
        rows = len(states)
        if self.summary is None and self.reread is not None:
            self.summary = _of_rows(_reread(self.model, self.reread, self.mask), rows)
        if self.summary is not None:
            return _of_rows(self.summary, rows)
        # The first pass of assisted decoding holds the assistant's tokens, too: they are not of the prompt.
        length = self.mask.shape[1]
        known = sum(part.shape[1] for part in self.read)
        self.read.append(states[:, : length - known])
        prompt = torch.cat(self.read, dim=1)
        mask = _of_rows(self.mask, rows)[:, : prompt.shape[1]]
        summary = _summarise(self.model, prompt, mask)
        if prompt.shape[1] == length:
            self.summary, self.read = summary, []
        return summary  # of a prompt that is not read to its end, no token is drawn yet


@contextmanager
def generating(
    model: AutoDecoForCausalLM, args: tuple[Any, ...], kwargs: dict[str, Any], prompt_summary: Tensor | None
) -> Iterator[Call | None]:
    """Within this context the model's forward passes in this thread are those of one ``generate`` call.

    Args:
        model: whose ``generate`` it is.
        args: of the call.
        kwargs: of the call.
        prompt_summary: ``[B, 2 m]``, where the caller has it.

    Yields:
        The call; ``None`` where the heads see no summary, or are disabled.

    Raises:
        ConfigError: a cache holds the prompt's beginning, and the call does not; or a summary is given to heads that
            see none.
    """
    check_wanted(model, prompt_summary)
    if not (model.autodeco_config.prompt_summary and model.heads_enabled):
        yield None
        return
    input_ids, mask = prompt_of_call(model, args, kwargs)
    in_cache = 0 if prompt_summary is not None else _length(kwargs.get("past_key_values"))
    if in_cache and (input_ids is None or mask.shape != input_ids.shape or in_cache >= mask.shape[1]):
        raise ConfigError(
            f"these heads see a summary of the whole prompt (prompt_summary), and {in_cache} of its positions are in "
            f"past_key_values alone. Give generate the whole prompt as input_ids, cached tokens included, or the "
            f"prompt_summary of the earlier output to go on with the same prompt's completion."
        )
    before = getattr(_STATE, "call", None)
    _STATE.call = Call(model, mask, reread=input_ids if in_cache else None, summary=prompt_summary)
    try:
        yield _STATE.call
    finally:
        _STATE.call = before


def check_wanted(model: AutoDecoForCausalLM, *given: Tensor | None) -> None:
    """Refuses a prompt that is given to heads that see none.

    Raises:
        ConfigError: one is.
    """
    if not model.autodeco_config.prompt_summary and any(one is not None for one in given):
        raise ConfigError("these heads see no summary of the prompt: leave out prompt_mask and prompt_summary.")


def prompt_of_pass(
    model: AutoDecoForCausalLM,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    prompt_mask: Tensor | None,
    prompt_summary: Tensor | None,
) -> Callable[[Tensor], Tensor]:
    """Finds out, before a forward pass, what its prompt is.

    Args:
        model: the model.
        args: of the pass.
        kwargs: of the pass.
        prompt_mask: ``[B, S]``, where the caller says.
        prompt_summary: ``[B, 2 m]``, where the caller has it.

    Returns:
        What makes the summary ``[B, 2 m]`` of the states ``[B, S, H]`` that :func:`kept_states` has of the pass.

    Raises:
        ConfigError: it cannot be told, or is said twice.
    """
    if prompt_summary is not None:
        if prompt_mask is not None:
            raise ConfigError("prompt_mask and prompt_summary say the same twice. Give one of them.")
        return lambda states: _of_rows(prompt_summary, len(states))
    call: Call | None = getattr(_STATE, "call", None)
    if prompt_mask is None and call is not None and call.model is model:
        return call.summary_after
    given = {**dict(zip(inspect.signature(model.forward).parameters, args, strict=False)), **kwargs}
    if any(_length(given.get(name)) for name in _CACHES):
        raise ConfigError(
            "these heads see a summary of the prompt (prompt_summary), and this pass goes on from a cache. Give it the "
            "first pass's: model(..., prompt_summary=output.prompt_summary). generate does so by itself."
        )
    mask: Any = given.get("attention_mask") if prompt_mask is None else prompt_mask
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
        raise ConfigError("the prompt cannot be told from this attention mask. Give prompt_mask [B, S] as well.")
    return lambda states: _summarise(model, states, mask)


def summary_of_text(model: AutoDecoForCausalLM, states: Tensor, prompt_length: int) -> Tensor | None:
    """Summary ``[1, 2 m]`` of a text's first positions.

    Args:
        model: the model.
        states: ``[1, S, H]``, those that a summary is made of.
        prompt_length: how many of them are the prompt.

    Returns:
        ``None`` where the heads see none.
    """
    mask = torch.ones(1, prompt_length, dtype=torch.bool)
    return model.decoding_heads.summarise_prompt(states[:, :prompt_length], mask)


def _reread(model: AutoDecoForCausalLM, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Summary ``[B, 2 m]`` of prompts ``[B, L]``, by a pass of its own over them, without a cache."""
    kwargs: dict[str, Any] = {}
    if "position_ids" in inspect.signature(model.forward).parameters:
        kwargs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    with kept_states() as kept:
        model.lm_head_inputs(input_ids, mask, **kwargs)
    return _summarise(model, kept[0], mask)


def _summarise(model: AutoDecoForCausalLM, states: Tensor, mask: Tensor | None) -> Tensor:
    """Summary ``[B, 2 m]`` of hidden states ``[B, S, H]`` at the positions of a mask ``[B, S]``; ``None`` takes all."""
    if mask is None:
        mask = torch.ones(states.shape[:2], dtype=torch.bool)
    if mask.shape != states.shape[:2]:
        raise ConfigError(
            f"prompt_mask must say of each of this pass's positions whether it is of the prompt: [B, S] = "
            f"{list(states.shape[:2])}, found {list(mask.shape)}."
        )
    summary = model.decoding_heads.summarise_prompt(states, mask)
    assert summary is not None
    return summary


def _of_rows(values: Tensor, rows: int) -> Tensor:
    """Values of ``B`` prompts for ``rows`` sequences: beams and several sequences of a prompt lie beside each other."""
    if rows % len(values):
        raise ConfigError(
            f"this pass has {rows} rows, and there are {len(values)} prompts. Heads that see a summary of the prompt "
            f"(prompt_summary) need rows that lie beside each other by prompt, as many for each."
        )
    return values.repeat_interleave(rows // len(values), dim=0)


def _length(cache: Any) -> int:
    """Positions in a cache; 1 for one that does not tell."""
    if cache is None:
        return 0
    return int(cache.get_seq_length()) if hasattr(cache, "get_seq_length") else 1
