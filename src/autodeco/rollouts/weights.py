"""Weights of right and wrong rollouts, for training on both. Which rows are worth training on at all: ``filter.py``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from autodeco.errors import DataError


def weighted_by_advantage(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Gives each row its advantage as ``weight``: its reward less the mean reward of the problem's other samples.

    The reward is 1 for a right answer and 0 for a wrong one. Weights sum to 0 over each problem (leave-one-out
    baseline of REINFORCE, arXiv 2402.14740). What training on them minimises, and what not: ``docs/objectives.md``.

    Args:
        rows: all of a rollout's, as :func:`autodeco.rollouts.run.rollout` writes them, duplicates included: how often
            a completion was sampled is part of the expectation.

    Returns:
        Copies with ``weight``, in their order, without rows that could not be verified and without problems whose
        samples all came out alike, which say nothing.

    Raises:
        DataError: no problem has both right and wrong samples.
    """
    verified = [row for row in rows if row["correct"] is not None]
    outcomes: dict[tuple[str, Any], list[bool]] = defaultdict(list)
    for row in verified:
        outcomes[row["task"], row["id"]].append(row["correct"])
    weighted = []
    for row in verified:
        own = outcomes[row["task"], row["id"]]
        if 0 < sum(own) < len(own):
            weighted.append({**row, "weight": row["correct"] - (sum(own) - row["correct"]) / (len(own) - 1)})
    if not weighted:
        raise DataError(
            f"none of {len(outcomes)} problems has both right and wrong samples, so no row has an advantage over "
            f"another. Sample each problem several times, or choose problems that the model sometimes solves."
        )
    return weighted
