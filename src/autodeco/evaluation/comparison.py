"""Two strategies' results on the same problems: the difference of Pass@1, its interval, and what would settle it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from autodeco.errors import DataError, did_you_mean
from autodeco.evaluation.paired import PairedCounts, hierarchical_bootstrap, sign_flip_test
from autodeco.evaluation.power import PowerNote, describe, power_note
from autodeco.evaluation.specs import kind_of
from autodeco.statistics import RESAMPLES, percentile_interval

TARGET_HALF_WIDTH = 0.03
# Of the results, what compare takes beside what names a sample.
PAIRING_COLUMNS = ("seed", "correct")
# One pair tells nothing of how pairs differ.
_FEWEST_PAIRS = 2
_FEWEST_PROBLEMS = 2  # of a task, likewise


@dataclass(frozen=True)
class Comparison:
    """Pass@1 of one strategy less that of another.

    Attributes:
        strategy: the first.
        other: the second.
        tasks: one, or those averaged over with equal weight.
        problems: compared: those that both have verified samples of.
        left_out: problems that only one of them has.
        samples: of the two strategies, mean number a problem that was compared.
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

    def power_sentences(self) -> str:
        """The power note in words."""
        names = (self.strategy, self.other)
        several = all(
            samples >= 2 or kind_of(name) == "greedy" for name, samples in zip(names, self.samples, strict=True)
        )
        return describe(self.power, self.difference, (self.low, self.high), self.problems, self.samples, several)


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

    Samples with the same number and seed are compared pair by pair, and those that only one of them has are left out;
    where a problem has fewer than two such pairs (greedy decoding has one sample), all its samples are compared, as
    independent ones.

    Args:
        frame: results of one model.
        strategy: the first.
        other: the second.
        tasks: which; ``None`` for all of which both have at least two problems.
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
    grouped = _counts(verified, strategy, other)
    complete = grouped.dropna()
    if tasks is None:
        common = complete.groupby(level="task").size()
        tasks = sorted(common[common >= _FEWEST_PROBLEMS].index) or sorted(common.index)
    chosen = complete[complete.index.get_level_values("task").isin(tasks)]
    sizes = chosen.groupby(level="task").size()
    for task in tasks or ["any task"]:
        if sizes.get(task, 0) < _FEWEST_PROBLEMS:
            raise DataError(
                f"{strategy} and {other} have {sizes.get(task, 0)} verified problems in common on {task}; a comparison "
                f"needs 2. Evaluate both on the same problems."
            )
    left_out = int(grouped.index.get_level_values("task").isin(tasks).sum()) - len(chosen)
    columns = chosen.to_numpy(dtype=np.int64)
    strata = pd.Categorical(chosen.index.get_level_values("task")).codes.astype(np.int64)
    return PairedCounts(columns[:, :2], columns[:, 2:4], strata, columns[:, 4]), tuple(sorted(tasks)), left_out


def _counts(verified: pd.DataFrame, strategy: str, other: str) -> pd.DataFrame:
    """Of each task and problem: right answers of both, samples of both, pairs that are both right (-1: not paired)."""
    key = ["task", "problem"]
    correct = verified.assign(correct=verified["correct"].astype(float))
    every = correct.groupby([*key, "strategy"])["correct"].agg(["sum", "count"]).unstack("strategy")
    counts = every.reindex(columns=[(part, name) for part in ("sum", "count") for name in (strategy, other)])
    counts.columns = ["right", "other_right", "samples", "other_samples"]
    counts["both"] = -1
    pairs = correct.set_index([*key, "sample", "seed", "strategy"])["correct"].unstack("strategy")[[strategy, other]]
    pairs = pairs.dropna().set_axis(["right", "other_right"], axis=1).assign(samples=1, other_samples=1)
    pairs["both"] = pairs["right"] * pairs["other_right"]
    paired = pairs.groupby(level=key).sum()
    counts.update(paired[paired["samples"] >= _FEWEST_PAIRS])
    return counts
