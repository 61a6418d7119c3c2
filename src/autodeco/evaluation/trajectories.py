"""Given trajectories, teacher-forced: what the heads read before each of their tokens. No sampling, no T, no P.

What the heads choose on training data and whether they adapt is measured on these.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from autodeco.errors import DataError
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.prompts import summary_of_text
from autodeco.rollouts.sampler import Message
from autodeco.serving.load import context_length
from autodeco.tasks.base import prompt_id
from autodeco.training.batches import collate, neighbours
from autodeco.training.rows import Row, read_rows
from autodeco.training.tokenize import TokenizedRow, tokenize_rows

_BATCH_TOKENS = 4096
_MAX_LENGTH = 8192


@dataclass(frozen=True)
class Trajectory:
    """A prompt and its completion.

    Attributes:
        problem: the same for trajectories of one problem.
        prompt: its messages or text.
        tokens: of both.
    """

    problem: str
    prompt: str | list[Message]
    tokens: TokenizedRow


class TeacherForced(NamedTuple):
    """One trajectory's completion.

    Attributes:
        trajectory: its place among those given.
        hidden_states: ``[N, H]``, the input of ``lm_head`` before each completion token.
        targets: ``[N]``, the completion's tokens.
        summary: ``[1, 2 m]`` of the prompt, for heads that see it.
    """

    trajectory: int
    hidden_states: Tensor
    targets: Tensor
    summary: Tensor | None


def read_trajectories(
    path: str | Path, model: AutoDecoForCausalLM, tokenizer: Any, *, skip_bad_rows: bool = False
) -> list[Trajectory]:
    """Reads trajectories as ``autodeco rollout`` writes them (any data that ``autodeco train`` takes will do).

    What is longer than the model takes, or than 8,192 tokens, loses its end.

    Args:
        path: JSONL file.
        model: whose tokens they are turned into.
        tokenizer: of the model.
        skip_bad_rows: leave out rows that cannot be used: a rollout's wrong samples may be empty.

    Raises:
        DataError: no such file, a row that cannot be used (unless skipped), or none that can.
    """
    rows = {row.name: row for row in read_rows(str(path))}
    ends = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    longest = min(context_length(model) or _MAX_LENGTH, _MAX_LENGTH)
    data = tokenize_rows(rows.values(), tokenizer, longest, end_of_text_ids=ends, skip_bad_rows=skip_bad_rows)
    found = []
    for tokens in data.rows:
        prompt = _prompt_of(rows[tokens.name])
        found.append(Trajectory(prompt_id(str(prompt)), prompt, tokens))
    return found


def read_prompts(path: str | Path) -> Iterator[tuple[str, str | list[Message]]]:
    """Yields the name and the prompt of each row of such a file, without a model; rows that have none are left out.

    Raises:
        DataError: no such file.
    """
    for row in read_rows(str(path)):
        prompt = _prompt_of(row)
        is_chat = isinstance(prompt, list) and all(
            isinstance(one, dict) and {"role", "content"} <= set(one) for one in prompt
        )
        if prompt and (isinstance(prompt, str) or is_chat):  # the others are named when they are turned into tokens
            yield row.name, prompt


def _prompt_of(row: Row) -> Any:
    values = row.values or {}
    messages = values.get("messages")
    return values.get("prompt") or (messages[:-1] if isinstance(messages, list) else None)


def choose(trajectories: Sequence[Trajectory], most_tokens: int, seed: int = 0) -> list[Trajectory]:
    """As many of them, chosen by chance, as have about so many completion tokens together; at least one."""
    order = list(trajectories)
    random.Random(seed).shuffle(order)
    chosen: list[Trajectory] = []
    tokens = 0
    for trajectory in order:
        tokens += len(trajectory.tokens.input_ids) - trajectory.tokens.prompt_length
        if chosen and tokens > most_tokens:
            break
        chosen.append(trajectory)
    return chosen


@torch.inference_mode()
def teacher_forced(
    model: AutoDecoForCausalLM,
    trajectories: Sequence[Trajectory],
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[TeacherForced]:
    """Runs the base over trajectories, longest first, in batches of some thousand tokens.

    Args:
        model: in evaluation mode.
        trajectories: at least one.
        on_progress: called with trajectories finished and their number.

    Yields:
        Each trajectory, on the model's device.

    Raises:
        DataError: there is none.
    """
    if not trajectories:
        raise DataError("there are no trajectories to measure.")
    pad = model.generation_config.pad_token_id or 0
    finished = 0
    for batch in _batches(trajectories):
        rows = [trajectories[index].tokens for index in batch]
        examples = [
            {"input_ids": row.input_ids, "prompt_length": row.prompt_length, "row": index}
            for index, row in zip(batch, rows, strict=True)
        ]
        padded = collate(examples, pad)
        inputs = {name: padded[name].to(model.device) for name in ("input_ids", "attention_mask")}
        hidden, of_prompts = model.both_states(**inputs)
        for place, (index, row) in enumerate(zip(batch, rows, strict=True)):
            end = len(row.input_ids)
            targets = inputs["input_ids"][place, row.prompt_length : end]
            summary = summary_of_text(model, of_prompts[place : place + 1], row.prompt_length)
            yield TeacherForced(index, hidden[place, row.prompt_length - 1 : end - 1], targets, summary)
        finished += len(batch)
        if on_progress is not None:
            on_progress(finished, len(trajectories))


def _batches(trajectories: Sequence[Trajectory]) -> list[list[int]]:
    order = sorted(range(len(trajectories)), key=lambda index: -len(trajectories[index].tokens.input_ids))
    lengths = [len(trajectories[index].tokens.input_ids) for index in order]
    return [[order[place] for place in batch] for batch in neighbours(lengths, _BATCH_TOKENS)]
