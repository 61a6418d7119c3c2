"""Intervals for measured proportions and means: what to resample, and how. Knows nothing of strategies or tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 10_000
# Entries of one batch of resamples: 16 MB of 8 bytes each.
_BATCH_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A mean over problems with its 95 % interval.

    Attributes:
        value: the mean.
        low: lower bound; ``None`` where there are too few problems for an interval (2 in each task are needed).
        high: upper bound, likewise.
        problems: how many problems it is a mean of.
    """

    value: float
    low: float | None
    high: float | None
    problems: int


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


def resampled_counts(
    strata: NDArray[np.integer[Any]], resamples: int, draws: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """How often each problem is drawn in each resample; problems are drawn within their stratum.

    Args:
        strata: ``[P]``, which stratum (task) each problem is of: 0, 1, ...
        resamples: how many in all.
        draws: source of randomness.

    Yields:
        ``[r, P]``, batches whose sizes sum to ``resamples``.
    """
    problems = len(strata)
    members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    size = max(1, _BATCH_ENTRIES // max(1, problems))
    for start in range(0, resamples, size):
        rows = min(size, resamples - start)
        offsets = np.arange(rows)[:, None] * problems
        chosen = [own[draws.integers(len(own), size=(rows, len(own)))] + offsets for own in members]
        drawn = np.concatenate(chosen, axis=1).ravel()
        yield np.bincount(drawn, minlength=rows * problems).reshape(rows, problems).astype(np.float64)


def percentile_interval(
    values: NDArray[np.float64], degrees_of_freedom: int, confidence: float = 0.95
) -> tuple[float, float]:
    """Expanded percentile interval of bootstrap draws.

    A plain percentile interval is too narrow with few problems. This one takes percentiles further out, so that for a
    mean it is as wide as Student's t interval (Hesterberg 2015, "What Teachers Should Know About the Bootstrap",
    section 3.3).

    Args:
        values: ``[R]`` draws.
        degrees_of_freedom: problems less strata, at least 1.
        confidence: coverage.
    """
    units = degrees_of_freedom + 1
    quantile = stats.t.ppf((1 + confidence) / 2, degrees_of_freedom) * np.sqrt(units / degrees_of_freedom)
    tail = stats.norm.cdf(-quantile)
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def mean_estimates(
    values: NDArray[np.float64], strata: NDArray[np.integer[Any]], resamples: int = RESAMPLES, seed: int = 0
) -> list[Estimate | None]:
    """Means over problems, averaged over strata (tasks) with equal weight, with intervals from resampling problems.

    Args:
        values: ``[P, M]``: M measures of P problems; NaN where a problem has no value: it does not count.
        strata: ``[P]``.
        resamples: bootstrap draws.
        seed: of those draws.

    Returns:
        For each measure its estimate; ``None`` if a stratum has no value at all.
    """
    known = ~np.isnan(values)
    filled = np.where(known, values, 0.0)
    ones = np.ones((1, len(strata)))
    point = _stratified_means(ones, filled, known, strata)[0]
    draws = np.random.default_rng(seed)
    batches = resampled_counts(strata, resamples, draws)
    resampled = np.concatenate([_stratified_means(counts, filled, known, strata) for counts in batches])
    estimates: list[Estimate | None] = []
    for measure in range(values.shape[1]):
        sizes = [int(known[strata == stratum, measure].sum()) for stratum in np.unique(strata)]
        own = resampled[:, measure]
        own = own[~np.isnan(own)]
        if not min(sizes):
            estimates.append(None)
        elif min(sizes) == 1:
            estimates.append(Estimate(float(point[measure]), None, None, sum(sizes)))
        else:
            interval = percentile_interval(own, sum(sizes) - len(sizes))
            estimates.append(Estimate(float(point[measure]), *interval, sum(sizes)))
    return estimates


def _stratified_means(
    counts: NDArray[np.float64],
    values: NDArray[np.float64],
    known: NDArray[np.bool_],
    strata: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """``[r, M]``: for each resample the mean of the strata's means; NaN where one drew no known value."""
    means = []
    for stratum in np.unique(strata):
        own = strata == stratum
        totals = counts[:, own] @ known[own].astype(np.float64)
        with np.errstate(invalid="ignore"):
            means.append(counts[:, own] @ values[own] / np.where(totals > 0, totals, np.nan))
    return np.asarray(np.mean(means, axis=0), dtype=np.float64)
