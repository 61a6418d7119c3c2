"""Sampling completions with Transformers' own ``generate``, reproducibly and without wasted work.

Knows nothing about tasks, right answers or files. Two things make it faster than one call of ``generate`` on repeated
prompts, and change no distribution: a prompt is read once for all its samples, and samples that have ended leave the
batch every :data:`_SEGMENT` tokens. Both need a plain key-value cache; for other models (state-space, sliding window)
it is the one call.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from autodeco.errors import ConfigError
from autodeco.generation import TRACED
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.rollouts.sampler import Message, OnProgress, Sample, Sampling, encode
from autodeco.strategies import Shuffled, Strategy

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
# The strategy has shaped the distribution inside the model.
_AS_IT_IS = {"temperature": 1.0, "top_p": 1.0, "top_k": 0}


class TransformersSampler:
    """Draws completions with a model in this process; see :class:`autodeco.rollouts.sampler.Sampler`.

    Args:
        model: a Transformers causal LM, with or without decoding heads. One without is turned, in place, into an
            AutoDeco model whose heads are off, so that every strategy that needs none can be used.
        tokenizer: its tokenizer, with a chat template.
    """

    engine = "transformers"

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._has_heads = isinstance(model, AutoDecoForCausalLM)
        if not self._has_heads:
            with torch.random.fork_rng([]):  # new heads are random, and nobody asked for them
                model = AutoDecoForCausalLM.from_base(model)
            model.heads_enabled = False
        self.model = model
        self.tokenizer = tokenizer

    def draw(
        self,
        prompts: Sequence[list[Message]],
        sampling: Sampling,
        *,
        done: Collection[tuple[int, int]] = frozenset(),
        on_progress: OnProgress | None = None,
    ) -> Iterator[list[Sample]]:
        """Yields completions, a batch at a time, those of one prompt together.

        Which prompts share a batch and the seed of each batch depend on the arguments only.
        """
        strategy = sampling.strategy_for(has_heads=self._has_heads)
        options: dict[str, Any] = {**_NEUTRAL, **_end_tokens(self.model, self.tokenizer), "trace": sampling.trace}
        options |= {"do_sample": False} if strategy.greedy else {"do_sample": True, **_AS_IT_IS}
        ids = [encode(self.tokenizer, messages) for messages in prompts]
        finished, total = len(done), len(prompts) * sampling.samples_per_prompt
        for batch in plan([len(own) for own in ids], sampling.samples_per_prompt, sampling.batch_size):
            missing = [member for member in batch.members() if member not in done]
            if not missing:
                continue
            with self.model.decode_with(dealt_anew(strategy, f"batch {batch.index}")):
                rows = _generate_batch(self.model, [ids[i] for i in batch.prompts], batch, sampling, options)
            yield [
                _finish_row(row, prompt, index, ids[prompt], self.tokenizer, options["eos_token_id"])
                for (prompt, index), row in zip(batch.members(), rows, strict=True)
                if (prompt, index) not in done
            ]
            finished += len(missing)
            if on_progress is not None:
                on_progress(finished, total)


@dataclass(frozen=True)
class Batch:
    """Prompts sampled together: each of them for the same range of sample indices."""

    index: int
    prompts: tuple[int, ...]
    samples: range

    def members(self) -> list[tuple[int, int]]:
        """``(prompt index, sample index)`` of each row, in order."""
        return [(prompt, sample) for prompt in self.prompts for sample in self.samples]


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

    token_ids: list[int] = field(default_factory=list)
    temperature: list[float] = field(default_factory=list)
    top_p: list[float] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)


class _LogProbs(LogitsProcessor):  # type: ignore[misc]
    """Keeps the log-probability of each drawn token; never the logits of more than one step."""

    def __init__(self) -> None:
        self.taken: list[Tensor] = []
        self._last: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self.take(input_ids)
        self._last = scores
        return scores

    def take(self, input_ids: Tensor) -> None:
        """Looks up the newest tokens of ``[B, S]`` in the distribution that they were drawn from."""
        if self._last is not None:
            self.taken.append(self._last.float().log_softmax(-1).gather(1, input_ids[:, -1:]))


def _generate_batch(
    model: Any, prompts: list[list[int]], batch: Batch, sampling: Sampling, options: dict[str, Any]
) -> list[_Row]:
    devices = [model.device] if model.device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices), torch.inference_mode():
            torch.manual_seed(batch_seed(sampling.seed, batch.index))
            return _generate(model, prompts, len(batch.samples), sampling, options)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the device's memory does not suffice for {len(prompts)} prompts x {len(batch.samples)} samples of up to "
            f"{sampling.max_new_tokens} new tokens at once; use a smaller batch size. ({error})"
        ) from error


def dealt_anew(strategy: Strategy, name: str) -> Strategy:
    """Shuffled with a deal of its own for a batch or block, so that nothing drawn before matters; others as is."""
    if isinstance(strategy, Shuffled):
        return replace(strategy, seed=batch_seed(strategy.seed, f"deal {name}"))
    return strategy


def batch_seed(seed: int, name: int | str) -> int:
    """The seed of one batch or sample: 63 bits of a hash, so that neighbouring seeds share none."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{name}".encode()).digest()[:8], "big") >> 1


def _generate(
    model: Any, prompts: list[list[int]], repeats: int, sampling: Sampling, options: dict[str, Any]
) -> list[_Row]:
    pad = options["pad_token_id"]
    width = max(map(len, prompts))
    input_ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts], device=model.device)
    cache, summary = _read_prompts(model, input_ids, mask, pad)
    input_ids, mask = input_ids.repeat_interleave(repeats, 0), mask.repeat_interleave(repeats, 0)
    if cache is not None:
        cache.batch_repeat_interleave(repeats)
    if summary is not None:
        summary = summary.repeat_interleave(repeats, 0)
    rows = [_Row() for _ in range(len(input_ids))]
    growing = list(range(len(rows)))
    segment = sampling.max_new_tokens if cache is None else _SEGMENT
    for start in range(0, sampling.max_new_tokens, segment):
        new = min(segment, sampling.max_new_tokens - start)
        kwargs = options if cache is None else {**options, "past_key_values": cache, "prompt_summary": summary}
        log_probs = _LogProbs() if sampling.log_probs else None
        if log_probs is not None:
            kwargs = {**kwargs, "logits_processor": LogitsProcessorList([log_probs])}
        output = model.generate(
            input_ids=input_ids, attention_mask=mask, max_new_tokens=new, return_dict_in_generate=True, **kwargs
        )
        _append([rows[row] for row in growing], output, input_ids.shape[1], log_probs)
        ends = set(options["eos_token_id"])
        left = [i for i, row in enumerate(growing) if ends.isdisjoint(rows[row].token_ids)]
        if not left:
            break
        if cache is not None:
            cache = output.past_key_values
            cache.batch_select_indices(torch.tensor(left, device=model.device))
        if summary is not None:
            summary = summary[left]
        input_ids = output.sequences[left]
        mask = torch.cat([mask[left], mask.new_ones(len(left), input_ids.shape[1] - mask.shape[1])], dim=1)
        growing = [growing[i] for i in left]
    return rows


def _read_prompts(model: Any, input_ids: Tensor, mask: Tensor, pad: int) -> tuple[Any, Tensor | None]:
    """The cache of all but the last token of each prompt, or ``None`` where it cannot be repeated and divided.

    And with a cache the prompts' summary, for heads that see one: what a cache is gone on from does not give it again.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    if input_ids.shape[1] < 2:
        return None, None
    output = model.generate(
        input_ids=input_ids,
        attention_mask=mask,
        max_new_tokens=1,
        do_sample=False,
        pad_token_id=pad,
        return_dict_in_generate=True,
    )
    cache = output.past_key_values
    if type(cache) is not DynamicCache or any(type(layer) is not DynamicLayer for layer in cache.layers):
        return None, None
    cache.crop(-1)
    return cache, getattr(output, "prompt_summary", None)


def _append(rows: list[_Row], output: Any, width: int, log_probs: _LogProbs | None) -> None:
    values = {"token_ids": output.sequences[:, width:]}
    if getattr(output, "temperature", None) is not None:
        values |= {name: getattr(output, name) for name in TRACED}
    if log_probs is not None:
        log_probs.take(output.sequences)
        values["log_probs"] = torch.cat(log_probs.taken, dim=1)
    for name, tensor in values.items():
        for row, own in zip(rows, tensor.tolist(), strict=True):
            getattr(row, name).extend(own)


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
        entropy=row.entropy[:length] or None,
        log_probs=row.log_probs[:length] or None,
    )


def _end_tokens(model: Any, tokenizer: Any) -> dict[str, Any]:
    ends = model.generation_config.eos_token_id
    ends = tokenizer.eos_token_id if ends is None else ends
    end_tokens = ends if isinstance(ends, list) else [] if ends is None else [ends]
    pad = tokenizer.pad_token_id
    return {"eos_token_id": end_tokens, "pad_token_id": pad if pad is not None else (end_tokens or [0])[0]}
