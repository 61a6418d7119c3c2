"""Makes a trace: one teacher-forced pass over a prompt and its completion, whoever wrote it.

The numbers are those of the model's own distribution at each token, so the completion may come from ``generate``, from
a server or from a book. Knows nothing of how a trace is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from autodeco import distribution, lm_head, prompts, provenance
from autodeco.errors import DataError
from autodeco.heads import DecodingHeads, ShapedLogits
from autodeco.strategies import AutoDeco, Default
from autodeco.strategies.base import MIN_TEMPERATURE
from autodeco.trace.format import ALTERNATIVES, Alternative, Header, Trace, TracedToken
from autodeco.trace.text import Vocabulary, token_pieces

if TYPE_CHECKING:
    from autodeco.modeling import AutoDecoForCausalLM

# Logits worked on at once: 64 MB in float32.
_SLICE_ELEMENTS = 16_777_216
# Two passes over one text agree to a few thousandths (bfloat16); another model, prompt or strategy does not.
_SAME_CHOICES = 0.05
_CHECKED_TOKENS = 16


class _Measured(NamedTuple):
    """Columns of some tokens, each ``[n]`` or, of the alternatives, ``[n, k]``."""

    temperature: Tensor
    top_p: Tensor
    nucleus_size: Tensor
    rank: Tensor
    base_entropy: Tensor
    entropy: Tensor
    base_probability: Tensor
    probability: Tensor
    alternatives: Tensor
    alternatives_base_probability: Tensor
    alternatives_probability: Tensor


@torch.no_grad()
def trace_text(
    model: AutoDecoForCausalLM,
    tokenizer: Any,
    prompt_ids: Sequence[int],
    completion_ids: Sequence[int],
    *,
    temperature: float = 1.0,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Trace:
    """Traces a completion in one pass, under the strategy that is active (see ``model.decode_with``).

    Memory holds the hidden states of all tokens, and logits of a few at a time.

    Args:
        model: the model.
        tokenizer: its tokenizer.
        prompt_ids: token ids before the completion, at least one (a beginning-of-text token, if nothing else).
        completion_ids: token ids to trace, at least one.
        temperature: a user's own, which multiplies the learned one as in ``generate``. Greedy decoding (0) draws from
            no distribution, and is traced as at 1.
        name: of the model, for the header; ``None`` takes the base's.
        settings: of the generation, for the header: JSON values by name.

    Raises:
        DataError: there is no prompt or no completion, or an id is not in the model's vocabulary.
        ConfigError: the architecture changes hidden states or logits in a way that this package does not know.
    """
    _check_ids(model, prompt_ids, completion_ids)
    ids = torch.tensor([[*prompt_ids, *completion_ids]], device=model.device)
    model.check_logit_path(ids[:, :_CHECKED_TOKENS])
    first = len(prompt_ids)
    all_states, of_prompt = model.both_states(ids[:, :-1])
    summary = prompts.summary_of_text(model, of_prompt, first)
    hidden_states = all_states[0, first - 1 :]
    shaper = model.shaper if model.heads_enabled else Default()
    by_heads = isinstance(shaper, DecodingHeads | AutoDeco)
    smallest = model.autodeco_config.min_temperature if by_heads else MIN_TEMPERATURE
    rows = max(1, _SLICE_ELEMENTS // lm_head.shape_of(model)[1])
    parts = []
    for states, targets in zip(torch.split(hidden_states, rows), torch.split(ids[0, first:], rows), strict=True):
        logits = model.compute_logits(states)
        shaped = shaper.shape(model.decoding_heads.input_of(states, summary), logits)
        parts.append(_measure(logits, shaped, targets.to(logits.device), temperature or 1.0, smallest))
    columns = _Measured(*(torch.cat(column).cpu() for column in zip(*parts, strict=True)))
    header = Header(
        model=name or model.autodeco_config.base_model_name_or_path or type(model).__name__,
        prompt="".join(token_pieces(tokenizer, prompt_ids)),
        strategy="autodeco" if isinstance(shaper, DecodingHeads) else shaper.spec,
        settings={**(settings or {}), "temperature_factor": temperature},
        versions=provenance.versions(),
    )
    return Trace(header=header, tokens=_tokens(tokenizer, completion_ids, columns))


def trace_generation(
    model: AutoDecoForCausalLM,
    tokenizer: Any,
    output: Any,
    prompt_ids: Sequence[int],
    *,
    row: int = 0,
    temperature: float = 1.0,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Trace:
    """Traces what ``model.generate(..., trace=True)`` returned.

    ``generate`` records T, P and entropy only; everything here, those included, comes from one more pass, so that the
    numbers of a token belong together.

    Args:
        model: the model, under the same strategy.
        tokenizer: its tokenizer.
        output: of ``generate``.
        prompt_ids: of this row, without padding.
        row: which of the returned sequences.
        temperature: as in :func:`trace_text`.
        name: as in :func:`trace_text`.
        settings: as in :func:`trace_text`.

    Raises:
        DataError: as in :func:`trace_text`, and where T or P of the two passes differ: then the model, the prompt or
            the strategy is not the one that generated.
    """
    recorded = torch.stack([output.temperature[row], output.top_p[row]], dim=-1)
    recorded = recorded[~recorded.isnan().any(-1)]
    width = output.temperature.shape[1]
    completion_ids = output.sequences[row, -width:][: len(recorded)].tolist()
    trace = trace_text(
        model, tokenizer, prompt_ids, completion_ids, temperature=temperature, name=name, settings=settings
    )
    found = torch.tensor([[token.temperature, token.top_p] for token in trace.tokens])
    differences = (found - recorded.float().cpu()).abs().median(0).values.tolist()
    for name_of_value, difference in zip(("temperature", "top-p"), differences, strict=True):
        if difference > _SAME_CHOICES:
            raise DataError(
                f"the {name_of_value} of this pass and that which generate recorded differ by {difference:.2f} (median "
                f"over {len(found)} tokens): trace with the model, the prompt and the strategy that generated."
            )
    return trace


def _check_ids(model: AutoDecoForCausalLM, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> None:
    if not len(prompt_ids):
        raise DataError("a trace needs a prompt of at least one token; for none, give the beginning-of-text token.")
    if not len(completion_ids):
        raise DataError("a trace needs a completion of at least one token, found none.")
    size = model.get_input_embeddings().weight.shape[0]
    for token_id in (*prompt_ids, *completion_ids):
        if not 0 <= token_id < size:
            raise DataError(
                f"token id {token_id} is not in the model's vocabulary of {size}; is the tokenizer its own?"
            )


def _measure(logits: Tensor, shaped: ShapedLogits, targets: Tensor, temperature: float, smallest: float) -> _Measured:
    """The columns of tokens ``[n]`` from their logits ``[n, V]``; ``smallest`` is what T is at least as a divisor."""
    base = distribution.as_working_precision(logits)
    final = shaped.logits / temperature
    base_probabilities, probabilities = base.softmax(-1), final.softmax(-1)
    chosen = targets.unsqueeze(-1)
    # What was kept is what was divided and no more: a probability can be 0 inside the nucleus, too, in float32.
    kept = shaped.logits > distribution.scale(logits, shaped.temperature, smallest) - distribution.NUCLEUS_PENALTY / 2
    others = base.scatter(-1, chosen, float("-inf")).topk(min(ALTERNATIVES, base.shape[-1] - 1), dim=-1).indices
    return _Measured(
        temperature=shaped.temperature,
        top_p=shaped.top_p.clamp(max=1),
        nucleus_size=kept.sum(-1),
        rank=(base > base.gather(-1, chosen)).sum(-1) + 1,
        base_entropy=distribution.entropy(base),
        entropy=distribution.entropy(final),
        base_probability=base_probabilities.gather(-1, chosen).squeeze(-1).clamp(max=1),
        probability=probabilities.gather(-1, chosen).squeeze(-1).clamp(max=1),
        alternatives=others,
        alternatives_base_probability=base_probabilities.gather(-1, others).clamp(max=1),
        alternatives_probability=probabilities.gather(-1, others).clamp(max=1),
    )


def _tokens(tokenizer: Any, completion_ids: Sequence[int], columns: _Measured) -> tuple[TracedToken, ...]:
    vocabulary = Vocabulary(tokenizer)
    texts = token_pieces(tokenizer, completion_ids)
    names = _Measured._fields[:8]
    values = zip(*(column.tolist() for column in columns[:8]), strict=True)
    others = zip(*(column.tolist() for column in columns[8:]), strict=True)
    return tuple(
        TracedToken(
            token_id=token_id,
            text=text,
            partial_bytes=_hexadecimal(vocabulary.partial_bytes(token_id)),
            special=vocabulary.is_special(token_id),
            alternatives=tuple(_alternative(vocabulary, *one) for one in zip(*own_others, strict=True)),
            **dict(zip(names, own, strict=True)),
        )
        for token_id, text, own, own_others in zip(completion_ids, texts, values, others, strict=True)
    )


def _alternative(vocabulary: Vocabulary, token_id: int, base_probability: float, probability: float) -> Alternative:
    return Alternative(
        token_id=token_id,
        text=vocabulary.text(token_id),
        partial_bytes=_hexadecimal(vocabulary.partial_bytes(token_id)),
        base_probability=base_probability,
        probability=probability,
    )


def _hexadecimal(found: bytes | None) -> str | None:
    return None if found is None else found.hex()
