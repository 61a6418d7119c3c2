"""Two strategies on the same problems: the difference of Pass@1, its interval, and how many samples would settle it.

Why not the samples alone: samples of one problem are alike. Why not the problems alone: then nobody sees whether more
samples or more problems are needed. So the variance is taken apart into what lies between problems and what lies
within them, and both are resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from autodeco.errors import DataError, did_you_mean
from autodeco.evaluation.statistics import RESAMPLES, percentile_interval

TARGET_HALF_WIDTH = 0.03
_BATCH_ENTRIES = 2_000_000

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PairedCounts:
    """Right answers of two strategies on the same problems.

    Attributes:
        right: ``[P, 2]``.
        samples: ``[P, 2]``, at least 1.
        strata: ``[P]``, the task of each problem: 0, 1, ...
    """

    right: NDArray[np.int64]
    samples: NDArray[np.int64]
    strata: NDArray[np.int64]

    @property
    def accuracies(self) -> _Floats:
        """``[P, 2]``."""
        return np.asarray(self.right / self.samples, dtype=np.float64)

    @property
    def differences(self) -> _Floats:
        """``[P]``, first strategy less second."""
        accuracies = self.accuracies
        return np.asarray(accuracies[:, 0] - accuracies[:, 1], dtype=np.float64)

    @property
    def weights(self) -> _Floats:
        """``[P]``, sum 1: every task the same, and within it every problem."""
        sizes = np.bincount(self.strata)
        return np.asarray(1 / (len(sizes) * sizes[self.strata]), dtype=np.float64)

    @property
    def sample_variances(self) -> _Floats:
        """``[P, 2]``, of one sample, unbiased. 0 where a problem has one sample: it tells nothing of its own noise.

        That noise then counts as lying between problems, which is right for greedy decoding, which has none, and for
        other strategies hides that more samples would help.
        """
        chance = self.accuracies
        several = self.samples > 1
        scale = np.where(several, self.samples / np.where(several, self.samples - 1, 1), 0.0)
        return np.asarray(chance * (1 - chance) * scale, dtype=np.float64)


@dataclass(frozen=True)
class Variance:
    """The squared standard error of a difference, in two parts.

    Attributes:
        between: by which problems were taken: only more problems lower it.
        within: by which samples were drawn: more samples a problem, or more problems, lower it.
    """

    between: float
    within: float

    @property
    def total(self) -> float:
        """The squared standard error."""
        return self.between + self.within


@dataclass(frozen=True)
class PowerNote:
    """What it would take to know more. ``None``: no number is enough.

    Attributes:
        variance: of the difference as measured.
        half_width: of the 95 % interval, as measured.
        target: half-width that is wanted.
        samples_for_target: samples a problem, at these problems, for that half-width.
        problems_for_target: problems, at these samples a problem, for it.
        samples_for_difference: samples a problem for the interval to leave out 0, if the difference stays what it is.
        problems_for_difference: problems for it.
    """

    variance: Variance
    half_width: float
    target: float
    samples_for_target: int | None
    problems_for_target: int | None
    samples_for_difference: int | None
    problems_for_difference: int | None


@dataclass(frozen=True)
class Comparison:
    """Pass@1 of one strategy less that of another.

    Attributes:
        strategy: the first.
        other: the second.
        tasks: one, or those averaged over with equal weight.
        problems: compared: those that both have verified samples of.
        left_out: problems that only one of them has.
        samples: of the two strategies, mean number a problem.
        difference: as a share (0.01 is a point).
        low: of the 95 % interval.
        high: of the 95 % interval.
        p_value: two-sided, of the sign-flip test.
        power: what it would take to know more.
    """

    strategy: str
    other: str
    tasks: tuple[str, ...]
    problems: int
    left_out: int
    samples: tuple[float, float]
    difference: float
    low: float
    high: float
    p_value: float
    power: PowerNote


def compare(
    frame: pd.DataFrame,
    strategy: str,
    other: str,
    tasks: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    target: float = TARGET_HALF_WIDTH,
) -> Comparison:
    """Compares two strategies' Pass@1 over the problems that both answered.

    Args:
        frame: results of one model.
        strategy: the first.
        other: the second.
        tasks: which; ``None`` for all that both have.
        resamples: bootstrap draws, and sign flips.
        seed: of those.
        target: half-width of the interval that the power note aims at.

    Raises:
        DataError: an unknown strategy, several models, or fewer than two problems in common on one of the tasks.
    """
    counts, names, left_out = paired_counts(frame, strategy, other, tasks)
    difference = float(counts.weights @ counts.differences)
    degrees = len(counts.strata) - len(names)
    low, high = percentile_interval(hierarchical_bootstrap(counts, resamples, seed), degrees)
    return Comparison(
        strategy=strategy,
        other=other,
        tasks=names,
        problems=len(counts.strata),
        left_out=left_out,
        samples=(float(counts.samples[:, 0].mean()), float(counts.samples[:, 1].mean())),
        difference=difference,
        low=low,
        high=high,
        p_value=sign_flip_test(counts, resamples, seed),
        power=power_note(counts, difference, (high - low) / 2, target),
    )


def paired_counts(
    frame: pd.DataFrame, strategy: str, other: str, tasks: Sequence[str] | None = None
) -> tuple[PairedCounts, tuple[str, ...], int]:
    """Counts of both strategies on their common problems, the tasks, and how many problems only one of them has.

    Raises:
        DataError: see :func:`compare`.
    """
    if frame["model"].nunique() != 1:
        raise DataError(f"strategies are compared on one model; these results hold {frame['model'].nunique()}.")
    for name in (strategy, other):
        known = sorted(frame["strategy"].unique())
        if name not in known:
            raise DataError(f"these results hold no strategy '{name}'.{did_you_mean(name, known)}")
    verified = frame[frame["correct"].notna() & frame["strategy"].isin([strategy, other])]
    grouped = verified.groupby(["task", "problem", "strategy"])["correct"].agg(["sum", "count"]).unstack("strategy")
    complete = grouped.dropna()
    if tasks is None:
        tasks = sorted(set(complete.index.get_level_values("task")))
    chosen = complete[complete.index.get_level_values("task").isin(tasks)]
    sizes = chosen.groupby(level="task").size()
    for task in tasks or ["any task"]:
        if sizes.get(task, 0) < 2:
            raise DataError(
                f"{strategy} and {other} have {sizes.get(task, 0)} verified problems in common on {task}; a comparison "
                f"needs 2. Evaluate both on the same problems."
            )
    left_out = int(grouped.index.get_level_values("task").isin(tasks).sum()) - len(chosen)
    right, samples = (chosen[part][[strategy, other]].to_numpy(dtype=np.int64) for part in ("sum", "count"))
    strata = pd.Categorical(chosen.index.get_level_values("task")).codes.astype(np.int64)
    return PairedCounts(right, samples, strata), tuple(sorted(tasks)), left_out


def hierarchical_bootstrap(counts: PairedCounts, resamples: int = RESAMPLES, seed: int = 0) -> _Floats:
    """Draws of the mean difference, resampling problems and then the samples of each problem and strategy.

    The measured difference of a problem holds the noise of its samples already. Resampling samples on top would count
    that noise twice (and cover 99 % instead of 95 where it is most of the variance), so problems are first drawn
    towards their mean until their variance is what lies between problems alone (Davison and Hinkley 1997, "Bootstrap
    Methods and their Application", section 3.8).

    Args:
        counts: of both strategies.
        resamples: R.
        seed: of the draws.

    Returns:
        ``[R]``.
    """
    draws = np.random.default_rng(seed)
    centres, scales = _problem_effects(counts)
    effects = centres + scales
    chance = counts.accuracies
    several = counts.samples > 1
    inflation = np.where(several, np.sqrt(counts.samples / np.where(several, counts.samples - 1, 1)), 0.0)
    members = [np.flatnonzero(counts.strata == stratum) for stratum in range(counts.strata.max() + 1)]
    size = max(1, _BATCH_ENTRIES // len(counts.strata))
    found = []
    for start in range(0, resamples, size):
        total = np.zeros(min(size, resamples - start))
        for own in members:
            chosen = own[draws.integers(len(own), size=(len(total), len(own)))]
            values = effects[chosen]
            for side, sign in ((0, 1.0), (1, -1.0)):
                n, p = counts.samples[chosen, side], chance[chosen, side]
                values += sign * (draws.binomial(n, p) / n - p) * inflation[chosen, side]
            total += values.mean(axis=1) / len(members)
        found.append(total)
    return np.concatenate(found)


def _problem_effects(counts: PairedCounts) -> tuple[_Floats, _Floats]:
    """``[P]`` each: the mean difference of a problem's task, and the problem's own deviation, without sample noise."""
    differences = counts.differences
    noise = (counts.sample_variances / counts.samples).sum(axis=1)
    centres, deviations = np.zeros_like(differences), np.zeros_like(differences)
    for stratum in range(counts.strata.max() + 1):
        own = counts.strata == stratum
        observed = differences[own].var(ddof=1)
        share = max(0.0, observed - noise[own].mean()) / observed if observed > 0 else 0.0
        centres[own] = differences[own].mean()
        deviations[own] = math.sqrt(share) * (differences[own] - centres[own])
    return centres, deviations


def sign_flip_test(counts: PairedCounts, resamples: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p-value of «the strategies do not differ»: then each problem's difference may as well be its negative.

    Exact (up to the random choice of flips) where both strategies have equally many samples of a problem, however few
    the problems.

    Args:
        counts: of both strategies.
        resamples: random flips.
        seed: of those.
    """
    terms = counts.weights * counts.differences
    observed = abs(terms.sum()) * (1 - 1e-9)
    draws = np.random.default_rng(seed)
    size = max(1, _BATCH_ENTRIES // len(terms))
    as_far = 0
    for start in range(0, resamples, size):
        signs = draws.integers(0, 2, size=(min(size, resamples - start), len(terms))) * 2 - 1
        as_far += int((np.abs(signs @ terms) >= observed).sum())
    return (as_far + 1) / (resamples + 1)


def variance_of(counts: PairedCounts, samples: float | None = None) -> Variance:
    """The squared standard error of the mean difference, in parts.

    Args:
        counts: of both strategies.
        samples: as if each problem had so many of each strategy; ``None`` as measured.
    """
    _, deviations = _problem_effects(counts)
    variances = counts.sample_variances
    noise = (variances / (counts.samples if samples is None else samples)).sum(axis=1)
    tasks = counts.strata.max() + 1
    between = within = 0.0
    for stratum in range(tasks):
        own = counts.strata == stratum
        between += deviations[own].var(ddof=1) / own.sum() / tasks**2
        within += noise[own].mean() / own.sum() / tasks**2
    return Variance(float(between), float(within))


def power_note(counts: PairedCounts, difference: float, half_width: float, target: float) -> PowerNote:
    """How many samples or problems would bring the interval to ``target``, or make it leave out 0."""
    measured = variance_of(counts)
    of_one_sample = variance_of(counts, samples=1).within
    quantile = float(stats.t.ppf(0.975, len(counts.strata) - counts.strata.max() - 1))

    def samples_for(width: float) -> int | None:
        spare = (width / quantile) ** 2 - measured.between
        return max(1, math.ceil(of_one_sample / spare)) if spare > 0 else None

    def problems_for(width: float) -> int | None:
        return math.ceil(len(counts.strata) * measured.total / (width / quantile) ** 2) if width > 0 else None

    size = abs(difference)
    return PowerNote(
        variance=measured,
        half_width=half_width,
        target=target,
        samples_for_target=samples_for(target),
        problems_for_target=problems_for(target),
        samples_for_difference=samples_for(size) if size > 0 else None,
        problems_for_difference=problems_for(size),
    )
