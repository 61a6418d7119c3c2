"""Sampling completions with Transformers' own ``generate``, reproducibly and without wasted work.

Knows nothing about tasks, right answers or files. Two things make it faster than one call of ``generate`` on repeated
prompts, and change no distribution: a prompt is read once for all its samples, and samples that have ended leave the
batch every :data:`_SEGMENT` tokens. Both need a plain key-value cache; for other models (state-space, sliding window)
it is the one call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from autodeco.errors import ConfigError

Message = dict[str, str]

# New tokens between two clearings of ended samples: shorter wastes less on them, longer restarts generate less often.
_SEGMENT = 16
# Whatever else a model's own generation configuration recommends is switched off: samples come from its distribution.
_NEUTRAL: dict[str, Any] = {
    "min_p": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
}


@dataclass(frozen=True)
class Sample:
    """One completion of one prompt.

    Attributes:
        prompt_index: which of the prompts.
        sample_index: which of that prompt's samples.
        prompt_ids: token ids of the prompt, chat template applied.
        completion_ids: new token ids, up to and including the end token if there is one.
        text: the completion without special tokens.
        finish: ``"stop"`` if the model ended it, ``"length"`` if ``max_new_tokens`` did.
        temperature: T of each new token, if a trace was asked for.
        top_p: P of each new token, likewise.
    """

    prompt_index: int
    sample_index: int
    prompt_ids: list[int]
    completion_ids: list[int]
    text: str
    finish: Literal["stop", "length"]
    temperature: list[float] | None = None
    top_p: list[float] | None = None


@dataclass(frozen=True)
class Batch:
    """Prompts sampled together: each of them for the same range of sample indices."""

    index: int
    prompts: tuple[int, ...]
    samples: range

    def members(self) -> list[tuple[int, int]]:
        """``(prompt index, sample index)`` of each row, in order."""
        return [(prompt, sample) for prompt in self.prompts for sample in self.samples]


def sample_batches(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[list[Message]],
    *,
    samples_per_prompt: int = 1,
    max_new_tokens: int = 256,
    batch_size: int = 64,
    seed: int = 0,
    temperature: float | None = 1.0,
    top_p: float | None = 1.0,
    do_sample: bool = True,
    trace: bool = False,
    done: Collection[tuple[int, int]] = frozenset(),
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[list[Sample]]:
    """Yields completions, a batch at a time, those of one prompt together.

    Which prompts share a batch and the seed of each batch depend on the arguments only, so that on one machine and one
    set of versions the same call gives the same samples, also when it goes on from ``done``.

    Args:
        model: a Transformers causal LM, with or without decoding heads.
        tokenizer: its tokenizer, with a chat template.
        prompts: each a list of messages (``role``, ``content``).
        samples_per_prompt: completions of each prompt.
        max_new_tokens: longest completion, in tokens.
        batch_size: completions generated together.
        seed: base seed; any whole number.
        temperature: what ``generate`` divides the logits by; ``None`` leaves it to the model's generation config.
        top_p: likewise.
        do_sample: ``False`` for greedy decoding.
        trace: also keep T and P of each token (models with decoding heads only).
        done: ``(prompt index, sample index)`` that need not be yielded; batches that hold no others are skipped.
        on_progress: called with the number of samples finished and their total, after each batch and after whoever
            takes the batches has dealt with it.

    Raises:
        ConfigError: a count is not positive, the tokenizer has no chat template, or memory does not suffice.
    """
    _check_positive(samples_per_prompt=samples_per_prompt, max_new_tokens=max_new_tokens, batch_size=batch_size)
    options: dict[str, Any] = {**_NEUTRAL, **_end_tokens(model, tokenizer), "do_sample": do_sample}
    if do_sample:
        chosen = {"temperature": temperature, "top_p": top_p}
        options |= {"top_k": 0, **{name: value for name, value in chosen.items() if value is not None}}
    if trace:
        options["trace"] = True
    prompt_ids = [_encode(tokenizer, messages) for messages in prompts]
    finished, total = len(done), len(prompts) * samples_per_prompt
    for batch in plan([len(ids) for ids in prompt_ids], samples_per_prompt, batch_size):
        missing = [member for member in batch.members() if member not in done]
        if not missing:
            continue
        rows = _generate_batch(model, [prompt_ids[i] for i in batch.prompts], batch, seed, max_new_tokens, options)
        yield [
            _finish_row(row, prompt, index, prompt_ids[prompt], tokenizer, options["eos_token_id"])
            for (prompt, index), row in zip(batch.members(), rows, strict=True)
            if (prompt, index) not in done
        ]
        finished += len(missing)
        if on_progress is not None:
            on_progress(finished, total)


def sample(model: Any, tokenizer: Any, prompts: Sequence[list[Message]], **settings: Any) -> Iterator[Sample]:
    """Yields completions one by one: :func:`sample_batches`, with the same arguments, flattened."""
    for batch in sample_batches(model, tokenizer, prompts, **settings):
        yield from batch


def _check_positive(**counts: int) -> None:
    for name, value in counts.items():
        if value < 1:
            raise ConfigError(f"{name} must be at least 1, found {value}.")


def plan(lengths: Sequence[int], samples_per_prompt: int, batch_size: int) -> list[Batch]:
    """Divides the work into batches of prompts of similar length, longest first (memory runs out at once or never).

    Args:
        lengths: tokens in each prompt.
        samples_per_prompt: completions of each.
        batch_size: most rows in a batch.
    """
    prompts_together = max(1, batch_size // samples_per_prompt)
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    groups = [tuple(order[i : i + prompts_together]) for i in range(0, len(order), prompts_together)]
    ranges = [range(i, min(i + batch_size, samples_per_prompt)) for i in range(0, samples_per_prompt, batch_size)]
    pairs = [(group, samples) for group in groups for samples in ranges]
    return [Batch(index, group, samples) for index, (group, samples) in enumerate(pairs)]


@dataclass
class _Row:
    """A completion while it grows."""

    token_ids: list[int]
    temperature: list[float]
    top_p: list[float]


def _generate_batch(
    model: Any, prompts: list[list[int]], batch: Batch, seed: int, max_new_tokens: int, options: dict[str, Any]
) -> list[_Row]:
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(batch_seed(seed, batch.index))
            return _generate(model, prompts, len(batch.samples), max_new_tokens, options)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the device's memory does not suffice for {len(prompts)} prompts x {len(batch.samples)} samples of up to "
            f"{max_new_tokens} new tokens at once; use a smaller batch size. ({error})"
        ) from error


def batch_seed(seed: int, batch_index: int) -> int:
    """The seed of one batch: 63 bits of a hash, so that neighbouring seeds share no batch."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{batch_index}".encode()).digest()[:8], "big") >> 1


def _generate(
    model: Any, prompts: list[list[int]], repeats: int, max_new_tokens: int, options: dict[str, Any]
) -> list[_Row]:
    pad = options["pad_token_id"]
    width = max(map(len, prompts))
    input_ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    cache = _read_prompts(model, input_ids, mask, pad)
    input_ids, mask = input_ids.repeat_interleave(repeats, 0), mask.repeat_interleave(repeats, 0)
    if cache is not None:
        cache.batch_repeat_interleave(repeats)
    rows = [_Row([], [], []) for _ in range(len(input_ids))]
    growing = list(range(len(rows)))
    segment = max_new_tokens if cache is None else _SEGMENT
    for start in range(0, max_new_tokens, segment):
        new = min(segment, max_new_tokens - start)
        kwargs = options if cache is None else {**options, "past_key_values": cache}
        output = model.generate(
            input_ids=input_ids, attention_mask=mask, max_new_tokens=new, return_dict_in_generate=True, **kwargs
        )
        _append(rows, growing, output, input_ids.shape[1])
        ends = set(options["eos_token_id"])
        left = [i for i, row in enumerate(growing) if ends.isdisjoint(rows[row].token_ids)]
        if not left:
            break
        if cache is not None:
            cache = output.past_key_values
            cache.batch_select_indices(torch.tensor(left, device=model.device))
        input_ids = output.sequences[left]
        mask = torch.cat([mask[left], mask.new_ones(len(left), input_ids.shape[1] - mask.shape[1])], dim=1)
        growing = [growing[i] for i in left]
    return rows


def _read_prompts(model: Any, input_ids: Tensor, mask: Tensor, pad: int) -> Any:
    """The cache of all but the last token of each prompt, or ``None`` where it cannot be repeated and divided."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if input_ids.shape[1] < 2:
        return None
    cache = model.generate(
        input_ids=input_ids,
        attention_mask=mask,
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=pad,
        return_dict_in_generate=True,
    ).past_key_values
    if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None
    cache.crop(-1)
    return cache


def _append(rows: list[_Row], growing: list[int], output: Any, width: int) -> None:
    new = output.sequences[:, width:].tolist()
    traced = getattr(output, "temperature", None) is not None
    for i, row in enumerate(growing):
        rows[row].token_ids += new[i]
        if traced:
            rows[row].temperature += output.temperature[i].tolist()
            rows[row].top_p += output.top_p[i].tolist()


def _finish_row(
    row: _Row, prompt: int, index: int, prompt_ids: list[int], tokenizer: Any, end_tokens: list[int]
) -> Sample:
    ends = [i for i, token in enumerate(row.token_ids) if token in end_tokens]
    length = ends[0] + 1 if ends else len(row.token_ids)
    token_ids = row.token_ids[:length]
    return Sample(
        prompt_index=prompt,
        sample_index=index,
        prompt_ids=prompt_ids,
        completion_ids=token_ids,
        text=tokenizer.decode(token_ids, skip_special_tokens=True),
        finish="stop" if ends else "length",
        temperature=row.temperature[:length] or None,
        top_p=row.top_p[:length] or None,
    )


def _encode(tokenizer: Any, messages: list[Message]) -> list[int]:
    if not tokenizer.chat_template:
        raise ConfigError(
            f"the tokenizer of '{tokenizer.name_or_path}' has no chat template, so messages cannot be turned into a "
            f"prompt. Use an instruction-tuned model, or set tokenizer.chat_template."
        )
    ids: list[int] = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
    return ids


def _end_tokens(model: Any, tokenizer: Any) -> dict[str, Any]:
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    end_tokens = ends if isinstance(ends, list) else [] if ends is None else [ends]
    pad = tokenizer.pad_token_id
    return {"eos_token_id": end_tokens, "pad_token_id": pad if pad is not None else (end_tokens or [0])[0]}
