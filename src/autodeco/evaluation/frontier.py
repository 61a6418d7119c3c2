"""Accuracy at equal diversity: a sweep of static temperatures draws a curve, every other strategy lies beside it.

A lower temperature buys accuracy with diversity, whatever the context. What adaptivity is worth is therefore the
vertical distance of a strategy to the curve at its own diversity, not its accuracy alone.

The curve joins neighbouring temperatures of the sweep (P = 1) by straight lines. Where it passes a diversity more than
once (Pass@k rises with T and falls again) the upper branch counts: a user would pick that one. Nothing is smoothed, so
the curve needs no model of how accuracy depends on T. The envelope is stricter: the upper concave hull of all static
settings, which a user reaches for diversities that are means over samples by choosing between two settings by lot.
Both take a maximum of noisy points, which favours the static side a little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autodeco.errors import ConfigError, DataError, did_you_mean
from autodeco.evaluation.specs import StaticSetting, static_setting
from autodeco.statistics import RESAMPLES, Estimate, percentile_interval, resampled_counts

# Diversities that compare only at the same number of samples.
_OF_TEXTS = ("distinct_1", "distinct_2", "distinct_3", "1 - self_bleu")
# An interval is given if the strategy lies within the curve's range in at least this share of the resamples.
_INSIDE = 0.9

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Distance:
    """Pass@1 of a strategy less that of the static settings at the same diversity.

    Attributes:
        value: as a share (0.01 is a point).
        low: of the 95 % interval; ``None`` where fewer than 90 % of the resamples lie within the curve's range.
        high: likewise.
        inside: that share.
    """

    value: float
    low: float | None
    high: float | None
    inside: float


@dataclass(frozen=True)
class FrontierPoint:
    """One strategy beside the curve.

    Attributes:
        strategy: its spec.
        setting: of static strategies.
        on_curve: whether it is one of the curve's points.
        diversity: with its interval.
        accuracy: Pass@1, with its interval.
        to_curve: vertical distance; ``None`` for points of the curve, and where the curve has no such diversity.
        to_envelope: likewise, to the envelope of all static settings; ``None`` for static strategies.
    """

    strategy: str
    setting: StaticSetting | None
    on_curve: bool
    diversity: Estimate
    accuracy: Estimate
    to_curve: Distance | None
    to_envelope: Distance | None


@dataclass(frozen=True)
class Frontier:
    """The curve and everything beside it.

    Attributes:
        measure: the diversity on the x axis.
        tasks: one, or those averaged over with equal weight.
        problems: those that every strategy has a value for.
        points: the curve's first, by temperature.
        left_out: strategies that could not be placed, with the reason.
    """

    measure: str
    tasks: tuple[str, ...]
    problems: int
    points: tuple[FrontierPoint, ...]
    left_out: dict[str, str]


def frontier(
    table: pd.DataFrame,
    measure: str = "entropy",
    tasks: Sequence[str] | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Frontier:
    """Draws the curve and measures every other strategy's distance to it.

    Problems are resampled for the curve and all strategies together, so that what a problem does to all of them does
    not count as uncertainty of the distance.

    Args:
        table: from :func:`autodeco.evaluation.metrics.problem_metrics`.
        measure: ``entropy``, ``distinct_1`` to ``distinct_3``, ``1 - self_bleu`` or ``pass@k``.
        tasks: which; ``None`` for all in the table.
        resamples: bootstrap draws.
        seed: of those.

    Raises:
        ConfigError: an unknown measure.
        DataError: fewer than two temperatures to draw a curve from, or fewer than two common problems in a task.
    """
    tasks = sorted(set(table.index.get_level_values("task"))) if tasks is None else list(tasks)
    chosen = table[table.index.get_level_values("task").isin(tasks)]
    diversity, left_out = _placed(_diversity(chosen, measure), chosen, measure)
    accuracy = chosen["pass@1"].unstack("strategy").loc[diversity.index, list(diversity)]
    settings = {name: static_setting(name) for name in diversity}
    curve = sorted(
        (setting.temperature, name) for name, setting in settings.items() if setting and _is_plain_temperature(setting)
    )
    if len(curve) < 2:
        raise DataError(
            f"a frontier needs static settings of at least two temperatures at top_p = 1, found {len(curve)}"
            + "".join(f"; {name} is left out: {reason}" for name, reason in left_out.items())
            + ". Evaluate a sweep, such as static:temperature=0.4 and static:temperature=0.7 beside default."
        )
    order = [name for _, name in curve] + [name for name in diversity if name not in {name for _, name in curve}]
    strata = pd.Categorical(diversity.index.get_level_values("task")).codes
    if min(np.bincount(strata, minlength=len(tasks))) < 2:
        raise DataError(f"a frontier needs two problems of each of {', '.join(tasks)} that all strategies answered.")
    drawn = _Drawn.of(diversity[order].to_numpy(), accuracy[order].to_numpy(), strata, resamples, seed)
    static = [at for at, name in enumerate(order) if settings[name] is not None]
    points = tuple(_point(at, name, settings[name], len(curve), static, drawn) for at, name in enumerate(order))
    return Frontier(measure, tuple(tasks), len(diversity), points, left_out)


def _is_plain_temperature(setting: StaticSetting) -> bool:
    return setting.plain and setting.top_p == 1


def _diversity(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """``[problems, strategies]``."""
    column = "self_bleu" if measure == "1 - self_bleu" else measure
    known = ["entropy", *_OF_TEXTS, *(name for name in table.columns if name.startswith("pass@"))]
    if measure not in known or column not in table.columns:
        raise ConfigError(f"unknown measure of diversity '{measure}'.{did_you_mean(measure, known)}")
    values = table[column].unstack("strategy")
    return 1 - values if measure == "1 - self_bleu" else values


def _placed(diversity: pd.DataFrame, table: pd.DataFrame, measure: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """The strategies that can be placed, at the problems that all of these have."""
    left_out = {name: f"it has no {measure}" for name in diversity if diversity[name].isna().all()}
    # Of a run that is not finished yet, strategies may lack whole tasks: no problem of these is common to all.
    has = diversity.drop(columns=list(left_out)).notna().groupby(level="task").any()
    if has.all().any():
        left_out |= {
            name: f"it was not run on {', '.join(has.index[~has[name]])}" for name in has if not has[name].all()
        }
    if measure in _OF_TEXTS:
        samples = table["samples"].groupby(level="strategy").median()
        for name in diversity:
            if samples[name] < samples.max():
                left_out[name] = (
                    f"it has {samples[name]:g} samples a problem where others have {samples.max():g}, and {measure} "
                    f"depends on that"
                )
    return diversity.drop(columns=list(left_out)).dropna(), left_out


@dataclass(frozen=True)
class _Drawn:
    """Diversity and accuracy of every strategy: measured ``[1, S]`` and in each resample ``[R, S]``."""

    x: _Floats
    y: _Floats
    xs: _Floats
    ys: _Floats
    problems: int
    tasks: int

    @classmethod
    def of(cls, x: _Floats, y: _Floats, strata: NDArray[np.integer[Any]], resamples: int, seed: int) -> _Drawn:
        sizes = np.bincount(strata)
        weights = (1 / (len(sizes) * sizes[strata]))[:, None]
        batches = list(resampled_counts(strata, resamples, np.random.default_rng(seed)))
        xs, ys = (np.concatenate([counts @ (weights * values) for counts in batches]) for values in (x, y))
        means = [(weights * values).sum(axis=0, keepdims=True) for values in (x, y)]
        return cls(means[0], means[1], xs, ys, len(strata), len(sizes))

    @property
    def degrees_of_freedom(self) -> int:
        return self.problems - self.tasks

    def estimate(self, at: int, *, accuracy: bool) -> Estimate:
        point, drawn = (self.y, self.ys) if accuracy else (self.x, self.xs)
        low, high = percentile_interval(drawn[:, at], self.degrees_of_freedom)
        return Estimate(float(point[0, at]), low, high, self.problems)

    def distance(self, at: int, segments: Sequence[tuple[int, int]]) -> Distance | None:
        value = float((self.y[:, at] - highest(self.x, self.y, segments, self.x[:, at]))[0])
        if np.isnan(value):
            return None
        drawn = self.ys[:, at] - highest(self.xs, self.ys, segments, self.xs[:, at])
        known = drawn[~np.isnan(drawn)]
        share = len(known) / len(drawn)
        if share < _INSIDE:
            return Distance(value, None, None, share)
        low, high = percentile_interval(known, self.degrees_of_freedom)
        return Distance(value, low, high, share)


def _point(
    at: int, name: str, setting: StaticSetting | None, curve: int, static: list[int], drawn: _Drawn
) -> FrontierPoint:
    on_curve = at < curve
    return FrontierPoint(
        strategy=name,
        setting=setting,
        on_curve=on_curve,
        diversity=drawn.estimate(at, accuracy=False),
        accuracy=drawn.estimate(at, accuracy=True),
        to_curve=None if on_curve else drawn.distance(at, list(pairwise(range(curve)))),
        to_envelope=None if setting is not None else drawn.distance(at, list(combinations(static, 2))),
    )


def highest(x: _Floats, y: _Floats, segments: Sequence[tuple[int, int]], at: _Floats) -> _Floats:
    """The highest point of straight lines above a place.

    With neighbours of a sweep as segments this is the curve's upper branch; with all pairs of points it is their upper
    concave hull.

    Args:
        x: ``[R, S]``, of the points.
        y: ``[R, S]``.
        segments: pairs of points that a line joins.
        at: ``[R]``, where to look.

    Returns:
        ``[R]``, NaN where no line passes.
    """
    best = np.full(len(at), -np.inf)
    for first, second in segments:
        x0, x1, y0, y1 = x[:, first], x[:, second], y[:, first], y[:, second]
        width = x1 - x0
        with np.errstate(divide="ignore", invalid="ignore"):
            height = y0 + (y1 - y0) * np.where(width == 0, np.nan, (at - x0) / width)
        height = np.where((width == 0) & (at == x0), np.maximum(y0, y1), height)
        inside = (np.minimum(x0, x1) <= at) & (at <= np.maximum(x0, x1))
        best = np.where(inside, np.fmax(best, height), best)
    return np.where(np.isinf(best), np.nan, best)
