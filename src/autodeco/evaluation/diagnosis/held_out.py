"""Diagnosis of heads on a file of trajectories: constants from one half of the problems, figures from the other.

The heads have seen all of them if they were trained on that file; give trajectories of another split to know what they
are worth on new problems.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from autodeco.errors import ConfigError, DataError
from autodeco.evaluation.diagnosis.chunks import Chunk
from autodeco.evaluation.diagnosis.result import Diagnosis
from autodeco.evaluation.diagnosis.run import best_constants, diagnose
from autodeco.evaluation.trajectories import Trajectory, read_trajectories, teacher_forced
from autodeco.modeling import AutoDecoForCausalLM
from autodeco.serving.checkpoint import has_heads
from autodeco.serving.load import load_model_and_tokenizer


def diagnose_trajectories(
    model: str,
    data: str | Path,
    *,
    base: str | None = None,
    dtype: str = "auto",
    rows: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Teacher-forces trajectories and measures on half of them whether the heads adapt.

    Hidden states of all of them are kept in memory: the hidden size in two bytes (four in float32) a token.

    Args:
        model: heads, a merged or a released checkpoint.
        data: JSONL file as ``autodeco rollout`` writes it.
        base: base model, instead of the one that heads record.
        dtype: of the base.
        rows: this many trajectories, chosen by chance; ``None`` for all.
        on_progress: called with trajectories read by the model and their number.

    Raises:
        ConfigError: the model has no heads.
        DataError: the trajectories cannot be used, or are of too few problems.
    """
    if not has_heads(model):
        raise ConfigError(f"'{model}' has no decoding heads, so there is nothing to diagnose. Name a model with heads.")
    loaded, tokenizer = load_model_and_tokenizer(model, base, dtype=dtype)
    trajectories = read_trajectories(data, loaded, tokenizer)
    if rows is not None and rows < len(trajectories):
        trajectories = random.Random(0).sample(trajectories, rows)
    chosen_on, measured_on = _halves(trajectories)
    chunks = _chunks(loaded, [*chosen_on, *measured_on], on_progress)
    first = [chunk for chunk in chunks if int(chunk.trajectories[0]) < len(chosen_on)]
    second = [chunk for chunk in chunks if int(chunk.trajectories[0]) >= len(chosen_on)]
    heads = loaded.decoding_heads
    constants = best_constants(
        first, heads, loaded.compute_logits, chosen_on=f"{len(chosen_on):,} trajectories of other problems"
    )
    name = f"{len(measured_on):,} of {len(trajectories):,} trajectories in {Path(data).name}, by problem"
    return diagnose(second, heads, loaded.compute_logits, data=name, constants=constants)


def _halves(trajectories: Sequence[Trajectory]) -> tuple[list[Trajectory], list[Trajectory]]:
    """Divided by a hash of the problem: trajectories of one are never on both sides."""
    first = [one for one in trajectories if int(one.problem, 16) % 2 == 0]
    second = [one for one in trajectories if int(one.problem, 16) % 2 == 1]
    if not first or len(second) < 2:
        problems = len({one.problem for one in trajectories})
        raise DataError(
            f"{len(trajectories)} trajectories of {problems} problems cannot be divided into two halves by problem. "
            f"Give trajectories of more problems."
        )
    return first, second


def _chunks(
    model: AutoDecoForCausalLM,
    trajectories: Sequence[Trajectory],
    on_progress: Callable[[int, int], None] | None,
) -> list[Chunk]:
    """One chunk a trajectory."""
    return [
        Chunk(
            own.hidden_states.clone(),  # of a whole batch otherwise
            own.targets,
            torch.full_like(own.targets, own.trajectory),
            None if own.summary is None else own.summary.expand(len(own.targets), -1),
        )
        for own in teacher_forced(model, trajectories, on_progress)
    ]
