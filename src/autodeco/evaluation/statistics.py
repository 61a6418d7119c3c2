"""Intervals for measured proportions and their differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats


def wilson_interval(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a proportion, for independent samples.

    Args:
        successes: how many of ``total`` were right.
        total: number of samples, at least 1.
        confidence: coverage, 0.95 for a 95 % interval.

    Returns:
        Lower and upper bound, each in [0, 1].

    Raises:
        ValueError: no samples, or more successes than samples.
    """
    if total < 1 or not 0 <= successes <= total:
        raise ValueError(f"an interval needs 0 <= successes <= total and total >= 1, found {successes} of {total}.")
    interval = stats.binomtest(successes, total).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_over_problems(
    scores: Sequence[Sequence[float]], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of the mean of per-problem means, resampling problems.

    Samples of one problem are not independent of each other, so the problem is the unit that is drawn.

    Args:
        scores: for each problem, the score of each of its samples (or, for a paired difference, of each pair).
        confidence: coverage.
        resamples: number of bootstrap draws.
        seed: of those draws.

    Returns:
        Lower and upper bound.

    Raises:
        ValueError: a problem without samples, or no problems.
    """
    if not scores or not all(len(problem) for problem in scores):
        raise ValueError("a bootstrap over problems needs at least one problem and one sample of each.")
    means = np.array([np.mean(problem) for problem in scores])
    draws = np.random.default_rng(seed).integers(len(means), size=(resamples, len(means)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means[draws].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)
