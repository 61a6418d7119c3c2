"""The completion tokens that ``attainable.py`` works on: measured with the base once, kept in one file, read again.

Of every token of right and wrong rollouts: its hidden state, statistics, how its log-probability depends on the
temperature, its problem and its trajectory's outcome. Nothing here fits or compares anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from autodeco import AutoDecoForCausalLM, distribution
from autodeco.errors import DataError
from autodeco.evaluation.diagnosis import tokens
from autodeco.evaluation.trajectories import choose, read_trajectories, teacher_forced
from autodeco.files import read_jsonl, replaced_atomically, sha256_of
from autodeco.rollouts import weighted_by_advantage
from autodeco.serving.load import load_tokenizer

_PIECE_ELEMENTS = 4_194_304  # logits at once


class Tokens(NamedTuple):
    """``N`` completion tokens; on the CPU."""

    hidden_states: Tensor  # [N, H] bfloat16
    statistics: Tensor  # [N, 4] of softmax(l)
    values: Tensor  # [N, G] g at tokens.GRID
    slopes: Tensor  # [N, G]
    problem: Tensor  # [N] which problem the token is of: 0, 1, ...
    right: Tensor  # [N] 1 for tokens of right trajectories, else 0
    advantage: Tensor  # [N] of the token's trajectory; 0 where its problem came out the same every time

    def at(self, chosen: Tensor) -> Tokens:
        """The given tokens."""
        return Tokens(*(values[chosen] for values in self))


def measured_tokens(path: Path, model: str, data: list[Path], *, dtype: str, most_tokens: int, seed: int) -> Tokens:
    """Measures tokens and keeps them in a file, or reads them from it where they are of the same settings.

    Args:
        path: safetensors file.
        model: the base that sampled the rollouts.
        data: JSONL files as ``autodeco rollout`` writes them, right and wrong, several samples a problem.
        dtype: of the base.
        most_tokens: about so many completion tokens, of trajectories chosen by chance.
        seed: of that choice.

    Raises:
        DataError: a row that cannot be used, or no problem with both right and wrong samples.
    """
    digests = {one.name: sha256_of(one) for one in data}
    settings = {"model": model, "dtype": dtype, "data": digests, "tokens": most_tokens, "seed": seed}
    if not _is_of(path, settings):
        _write(path, _measured(model, dtype, data, most_tokens, seed), settings)
    with safe_open(path, framework="pt") as file:
        return Tokens(*(file.get_tensor(name) for name in Tokens._fields))


def _measured(model_name: str, dtype: str, data: list[Path], most_tokens: int, seed: int) -> Tokens:
    """Runs the base over as many trajectories as have about so many tokens."""
    model = AutoDecoForCausalLM.from_base(model_name, dtype=dtype)
    tokenizer = load_tokenizer(model_name)
    rows = list(_verified(data))
    outcomes = {row["name"]: float(row["correct"]) for row in rows}
    advantages = {row["name"]: row["weight"] for row in weighted_by_advantage(rows)}
    trajectories = [one for path in data for one in read_trajectories(path, model, tokenizer, skip_bad_rows=True)]
    chosen = choose([one for one in trajectories if one.tokens.name in outcomes], most_tokens, seed)
    problems = {problem: number for number, problem in enumerate(sorted({one.problem for one in chosen}))}
    parts = []
    for forced in teacher_forced(model, chosen, lambda done, total: print(f"\r{done}/{total}", end="", flush=True)):
        one = chosen[forced.trajectory]
        name, count = one.tokens.name, len(forced.targets)
        constants = (problems[one.problem], outcomes[name], advantages.get(name, 0.0))
        parts.append(Tokens(*_of_logits(model, forced), *(torch.full((count,), value) for value in constants)))
    print()
    return Tokens(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _verified(data: list[Path]) -> Iterator[dict[str, Any]]:
    """The rows that have a verdict, with the names that trajectories go by."""
    for path in data:
        for number, row in read_jsonl(path):
            if "correct" not in row:
                raise DataError(f"{path}:{number}: no 'correct'. Give rollouts as `autodeco rollout` writes them.")
            if row["correct"] is not None:
                yield {**row, "name": f"{path}:{number}"}


def _of_logits(model: AutoDecoForCausalLM, forced: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, statistics, and ``g`` with its slopes on the grid, of one trajectory's tokens."""
    size = max(1, _PIECE_ELEMENTS // (model.autodeco_config.vocab_size or 131_072))
    found = []
    for hidden, targets in zip(forced.hidden_states.split(size), forced.targets.split(size), strict=True):
        logits = distribution.as_working_precision(model.compute_logits(hidden))
        values, slopes = tokens.on_grid(logits, targets)
        statistics = distribution.probability_statistics(logits.softmax(-1))
        found.append((hidden.bfloat16(), statistics, values.float(), slopes.float()))
    states, statistics, values, slopes = (torch.cat(parts).cpu() for parts in zip(*found, strict=True))
    return states, statistics, values, slopes


def _is_of(path: Path, settings: dict[str, Any]) -> bool:
    if not path.exists():
        return False
    with safe_open(path, framework="pt") as file:
        return bool(json.loads(file.metadata()["settings"]) == settings)


def _write(path: Path, found: Tokens, settings: dict[str, Any]) -> None:
    with replaced_atomically(path) as temporary:
        tensors = {name: values.contiguous() for name, values in found._asdict().items()}
        save_file(tensors, temporary, metadata={"settings": json.dumps(settings)})
