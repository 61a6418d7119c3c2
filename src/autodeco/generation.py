"""Around Transformers' ``generate``: its neutral settings, and what the heads chose for each new token."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.utils import ModelOutput

from autodeco import distribution, outputs

if TYPE_CHECKING:
    from autodeco.modeling import AutoDecoForCausalLM

# Fields that a trace adds to an output.
TRACED = ("temperature", "top_p", "entropy")
# Settings of Transformers' modes in which a forward pass does not yield exactly one kept token for every row.
_OTHER_MODES = (
    *("assistant_model", "assistant_early_exit", "prompt_lookup_num_tokens", "use_mtp", "custom_generate"),
    *("dola_layers", "penalty_alpha", "constraints", "force_words_ids"),
)


def generate_with_trace(
    model: AutoDecoForCausalLM,
    generate: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    prompt_summary: Tensor | None = None,
) -> ModelOutput:
    """Calls Transformers' ``generate`` and adds :data:`TRACED`, each ``[B, new tokens]``, to its output.

    Where beams are reordered or draft tokens rejected, values are computed afterwards in one teacher-forced pass.
    """
    kwargs = {**kwargs, "return_dict_in_generate": True}
    with outputs.recording() as trace:
        result: ModelOutput = generate(*args, **kwargs)
    prompt, prompt_mask = _prompt(model, args, kwargs, result.sequences)
    new_tokens = result.sequences.shape[1] - prompt.shape[1]
    if _one_token_a_step(model, args, kwargs):
        steps = trace[len(trace) - new_tokens :]  # a prompt read in chunks takes further passes before the first token
        values = [torch.stack(of_steps, dim=1) for of_steps in zip(*steps, strict=True)]
    else:
        values = teacher_forced_trace(model, result.sequences, prompt_mask, prompt.shape[1], prompt_summary)
    ended = _after_end(model, args, kwargs, result.sequences[:, prompt.shape[1] :])
    masked = (value.masked_fill(ended, float("nan")) for value in values)
    return outputs.extend(result, **dict(zip(TRACED, masked, strict=True)))


@torch.no_grad()
def teacher_forced_trace(
    model: AutoDecoForCausalLM,
    sequences: Tensor,
    prompt_mask: Tensor,
    prompt_length: int,
    prompt_summary: Tensor | None = None,
) -> list[Tensor]:
    """Temperature, top-p and entropy at every token after the prompt, in one pass over given sequences.

    Args:
        model: the model.
        sequences: ``[B, S]`` token ids, prompts left-padded to ``prompt_length``.
        prompt_mask: ``[B, prompt_length]``, 0 at padding.
        prompt_length: number of positions before the first token to report.
        prompt_summary: of the prompts, for heads that see one, where the prompt is not all of those positions.

    Returns:
        What :data:`TRACED` names, each ``[B, S - prompt_length]``.
    """
    new_tokens = sequences.shape[1] - prompt_length
    mask = torch.cat([prompt_mask, prompt_mask.new_ones(len(sequences), new_tokens)], dim=1)[:, :-1]
    accepted = inspect.signature(model.forward).parameters
    rows = []
    for index in range(len(sequences)):  # one [N, V] at a time
        row, row_mask = sequences[index : index + 1, :-1], mask[index : index + 1]
        kwargs: dict[str, Any] = {"input_ids": row, "attention_mask": row_mask, "use_cache": False}
        if "position_ids" in accepted:
            kwargs["position_ids"] = (row_mask.cumsum(-1) - 1).clamp(min=0)
        if "logits_to_keep" in accepted:
            kwargs["logits_to_keep"] = new_tokens
        if prompt_summary is not None:
            own = index * len(prompt_summary) // len(sequences)  # sequences of a prompt lie beside each other
            kwargs["prompt_summary"] = prompt_summary[own : own + 1]
        elif model.autodeco_config.prompt_summary:
            kwargs["prompt_mask"] = row_mask * (torch.arange(row_mask.shape[1], device=row.device) < prompt_length)
        output = model(**kwargs)
        values = (output.temperature, output.top_p, distribution.entropy(output.logits[:, -new_tokens:]))
        rows.append([value[:, -new_tokens:] for value in values])
    return [torch.cat(values) for values in zip(*rows, strict=True)]


def _prompt(
    model: AutoDecoForCausalLM, args: tuple[Any, ...], kwargs: dict[str, Any], sequences: Tensor
) -> tuple[Tensor, Tensor]:
    """The prompt's part of the sequences and its mask, one row for each returned sequence."""
    inputs = _input_ids(args, kwargs)
    if inputs is None:  # prompted by inputs_embeds (no prompt in the sequences) or by nothing (one BOS token)
        length = 0 if kwargs.get("inputs_embeds") is not None else 1
        if length == 0:
            raise ValueError("trace=True needs input_ids: with inputs_embeds the sequences do not hold the prompt.")
        inputs = sequences[:1, :1]
    mask = _mask(model, inputs, kwargs)
    copies = len(sequences) // len(inputs)
    return inputs.repeat_interleave(copies, 0), mask.repeat_interleave(copies, 0)


def prompt_of_call(
    model: AutoDecoForCausalLM, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Tensor | None, Tensor]:
    """The prompt of a ``generate`` call: everything before the tokens that the call generates.

    Returns:
        Its token ids ``[B, L]``, ``None`` where there are none (embeddings, or the one BOS token of an empty call), and
        its mask ``[B, L]``, 0 at padding.
    """
    if (embeddings := kwargs.get("inputs_embeds")) is not None:
        mask = kwargs.get("attention_mask")
        return None, torch.ones(embeddings.shape[:2], dtype=torch.long) if mask is None else mask.long()
    inputs = _input_ids(args, kwargs)
    return inputs, torch.ones(1, 1, dtype=torch.long) if inputs is None else _mask(model, inputs, kwargs)


def _input_ids(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    return kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))


def _mask(model: AutoDecoForCausalLM, input_ids: Tensor, kwargs: dict[str, Any]) -> Tensor:
    """The prompt's mask as ``generate`` sees it: given, or inferred from padding."""
    mask: Tensor | None = kwargs.get("attention_mask")
    if mask is not None:
        return mask.long()
    pad = model.generation_config.pad_token_id
    eos = _as_list(model.generation_config.eos_token_id)
    # Transformers' own rule: padding is inferred only where it cannot be mistaken for an end-of-text token.
    inferred = pad is not None and pad not in eos and bool((input_ids == pad).any())
    return input_ids.ne(pad).long() if inferred else torch.ones_like(input_ids)


def _resolved(model: AutoDecoForCausalLM, args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> Any:
    """A generation setting as ``generate`` sees it: call, then given configuration, then the model's."""
    if kwargs.get(name) is not None:
        return kwargs[name]
    given = kwargs.get("generation_config", args[1] if len(args) > 1 else None)
    value = getattr(given, name, None)
    return value if value is not None else getattr(model.generation_config, name, None)


def _one_token_a_step(model: AutoDecoForCausalLM, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether this is plain sampling or greedy decoding, so that values can be taken on the way."""
    beams = _resolved(model, args, kwargs, "num_beams") or 1
    return beams == 1 and not any(_resolved(model, args, kwargs, name) for name in _OTHER_MODES)


def _after_end(model: AutoDecoForCausalLM, args: tuple[Any, ...], kwargs: dict[str, Any], new_tokens: Tensor) -> Tensor:
    """``[B, N]`` boolean: positions after a sequence's first end-of-text token, which hold only padding."""
    eos = _as_list(_resolved(model, args, kwargs, "eos_token_id"))
    is_end = torch.isin(new_tokens, torch.tensor(eos, device=new_tokens.device, dtype=new_tokens.dtype))
    return (is_end.cumsum(-1) - is_end.long()) > 0


def _as_list(token_ids: int | list[int] | Tensor | None) -> list[int]:
    if token_ids is None:
        return []
    if isinstance(token_ids, Tensor):
        return [int(token_id) for token_id in token_ids.reshape(-1)]
    return [token_ids] if isinstance(token_ids, int) else list(token_ids)


def neutral_generation_config(config: GenerationConfig | None) -> GenerationConfig:
    """A copy of a generation configuration that samples from the model's distribution as it is.

    The base model's recommended temperature, top-p, top-k and the like are switched off: the heads have applied their
    own, and they would act a second time. Special tokens, lengths and penalties stay.
    """
    values = {} if config is None else config.to_diff_dict()
    for name in ("temperature", "top_p", "top_k", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"):
        values.pop(name, None)
    return GenerationConfig(**{**values, "do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0})
