"""Sums the diagnosis up: gains in nats a token with intervals over trajectories, by entropy, and a verdict in words."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from autodeco.errors import DataError
from autodeco.files import atomic_write_text
from autodeco.statistics import percentile_interval, resampled_counts

_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval over trajectories."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Constants:
    """What the heads are measured against.

    Attributes:
        temperature: the best constant.
        mean_temperature: the heads' own mean.
        mean_top_p: likewise; ``None`` without a top-p head.
        chosen_on: the data that these were taken from.
    """

    temperature: float
    mean_temperature: float
    mean_top_p: float | None
    chosen_on: str


@dataclass(frozen=True)
class MeasuredTokens:
    """Every token: measures by name, all ``[N]``; which trajectory and entropy fifth it is of; each fifth's best T."""

    measures: dict[str, _Floats]
    trajectories: NDArray[np.int64]
    quintiles: NDArray[np.int64]
    quintile_temperatures: list[float]


@dataclass(frozen=True)
class Group:
    """All tokens, or a fifth of them by entropy. Log-probabilities and gains are in nats a token.

    Attributes:
        tokens: how many.
        entropy: smallest and largest entropy of the base distribution (T = 1), nats.
        heads_temperature: mean of the heads' T.
        own_constant: the best constant T of this group alone, in hindsight.
        default: mean log-probability of the targets at T = 1.
        constant_over_default: gain of the best constant over T = 1.
        heads_over_constant: gain of the heads over the best constant: negative where they are worse.
        heads_over_mean: gain of the heads over their own mean.
        fifths_over_constant: gain of one constant for each entropy fifth: what entropy alone could buy.
        optimum_over_constant: gain of each token's own best T. It knows the target, so no heads can reach it.
        share: ``heads_over_constant / optimum_over_constant``; ``None`` where the optimum gains nothing.
    """

    tokens: int
    entropy: tuple[float, float]
    heads_temperature: float
    own_constant: float
    default: Interval
    constant_over_default: Interval
    heads_over_constant: Interval
    heads_over_mean: Interval
    fifths_over_constant: Interval
    optimum_over_constant: Interval
    share: Interval | None


@dataclass(frozen=True)
class Nucleus:
    """The heads' P against their own mean P, both on ``softmax(l / T)`` with the heads' T.

    Attributes:
        spread: standard deviation of P over tokens.
        log_mass_heads: mean logarithm of the mass that the nucleus keeps.
        log_mass_constant: likewise at the mean P.
        outside_heads: share of targets outside the nucleus, which sampling can then never produce.
        outside_constant: likewise at the mean P.
        outside_difference: the first share less the second.
    """

    spread: float
    log_mass_heads: Interval
    log_mass_constant: Interval
    outside_heads: Interval
    outside_constant: Interval
    outside_difference: Interval


@dataclass(frozen=True)
class Diagnosis:
    """What teacher-forced tokens say of the heads.

    Attributes:
        data: what the tokens are.
        trajectories: how many.
        constants: what the heads are measured against.
        spread: standard deviation of the heads' T over tokens.
        overall: all tokens.
        quintiles: by entropy, lowest first.
        alignment: correlation over tokens of T less its mean with the slope of the target's log-probability by T at
            the mean; positive where T is raised for tokens that gain by it. ``None`` where T does not vary.
        nucleus: ``None`` without a top-p head.
    """

    data: str
    trajectories: int
    constants: Constants
    spread: float
    overall: Group
    quintiles: tuple[Group, ...]
    alignment: Interval | None
    nucleus: Nucleus | None

    def write(self, path: str | Path) -> None:
        """Writes JSON, replacing what is there atomically."""
        atomic_write_text(path, json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Diagnosis:
        """Reads what :meth:`write` wrote.

        Raises:
            DataError: no such file, or it is not a diagnosis.
        """
        try:
            return TypeAdapter(cls).validate_json(Path(path).read_bytes())
        except (OSError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{path}: not a diagnosis ({reason}). Make it anew with diagnose(...).write(path)."
            ) from None


def summed_up(taken: MeasuredTokens, constants: Constants, data: str, resamples: int, seed: int) -> Diagnosis:
    """Means and intervals of everything measured.

    Raises:
        DataError: fewer than two trajectories.
    """
    ids, trajectory = np.unique(taken.trajectories, return_inverse=True)
    if len(ids) < 2:
        raise DataError(f"the diagnosis needs at least two trajectories for its intervals, found {len(ids)}.")
    sums = _Sums(taken.measures, trajectory, len(ids), resamples, seed)
    temperature = taken.measures["temperature"]
    everything = np.ones(len(trajectory), dtype=bool)
    fifths = range(int(taken.quintiles.max()) + 1)
    present = [fifth for fifth in fifths if (taken.quintiles == fifth).any()]
    return Diagnosis(
        data=data,
        trajectories=len(ids),
        constants=constants,
        spread=float(temperature.std()),
        overall=_group(taken, sums, everything, constants.temperature),
        quintiles=tuple(
            _group(taken, sums, taken.quintiles == fifth, taken.quintile_temperatures[fifth]) for fifth in present
        ),
        alignment=_alignment(sums, temperature, taken.measures["slope"]),
        nucleus=_nucleus(sums, taken.measures) if constants.mean_top_p is not None else None,
    )


class _Sums:
    """Means over tokens, and in resamples of trajectories."""

    def __init__(
        self, measures: dict[str, _Floats], trajectory: NDArray[np.int64], count: int, resamples: int, seed: int
    ) -> None:
        self.measures = measures
        self._trajectory = trajectory
        self._count = count
        self._resamples = resamples
        self._seed = seed

    def drawn(self, columns: list[_Floats], chosen: NDArray[np.bool_]) -> tuple[_Floats, _Floats]:
        """Means of columns ``[N]`` over the chosen tokens: measured ``[M]`` and resampled ``[R, M]``.

        A resample that drew none of the chosen tokens is left out.
        """
        own = self._trajectory[chosen]
        parts = [np.bincount(own, column[chosen], self._count) for column in [np.ones(len(chosen)), *columns]]
        sums = np.stack(parts, axis=1)
        strata = np.zeros(self._count, dtype=np.int64)
        batches = resampled_counts(strata, self._resamples, np.random.default_rng(self._seed))
        totals = np.concatenate([counts @ sums for counts in batches])
        totals = totals[totals[:, 0] > 0]
        point = sums.sum(axis=0)
        return point[1:] / point[0], totals[:, 1:] / totals[:, :1]

    def interval(self, point: float, drawn: _Floats) -> Interval:
        return Interval(float(point), *percentile_interval(drawn, self._count - 1))


def _group(taken: MeasuredTokens, sums: _Sums, chosen: NDArray[np.bool_], own_constant: float) -> Group:
    names = ("default", "constant", "mean", "heads", "group_constants", "optimum")
    point, drawn = sums.drawn([taken.measures[name] for name in names], chosen)
    at = {name: place for place, name in enumerate(names)}

    def gain(name: str, over: str) -> Interval:
        return sums.interval(point[at[name]] - point[at[over]], drawn[:, at[name]] - drawn[:, at[over]])

    attainable = gain("optimum", "constant")
    share = None
    if attainable.value > 0 and attainable.low > 0:
        constant, heads, optimum = (drawn[:, at[name]] for name in ("constant", "heads", "optimum"))
        taken_part = (point[at["heads"]] - point[at["constant"]]) / attainable.value
        gains = optimum - constant  # a resample of tokens that want the constant itself has no share: left out
        share = sums.interval(taken_part, (heads - constant)[gains > 0] / gains[gains > 0])
    entropies = taken.measures["entropy"][chosen]
    return Group(
        tokens=int(chosen.sum()),
        entropy=(float(entropies.min()), float(entropies.max())),
        heads_temperature=float(taken.measures["temperature"][chosen].mean()),
        own_constant=own_constant,
        default=sums.interval(point[at["default"]], drawn[:, at["default"]]),
        constant_over_default=gain("constant", "default"),
        heads_over_constant=gain("heads", "constant"),
        heads_over_mean=gain("heads", "mean"),
        fifths_over_constant=gain("group_constants", "constant"),
        optimum_over_constant=attainable,
        share=share,
    )


def _alignment(sums: _Sums, temperature: _Floats, slope: _Floats) -> Interval | None:
    """Pearson's correlation, from sums of products so that it can be resampled."""
    x, y = temperature - temperature.mean(), slope - slope.mean()
    if x.std() < 1e-9 or y.std() == 0:
        return None
    point, drawn = sums.drawn([x, y, x * x, y * y, x * y], np.ones(len(x), dtype=bool))

    def correlation(means: _Floats) -> Any:
        mean_x, mean_y, square_x, square_y, product = means
        spread = np.sqrt((square_x - mean_x**2) * (square_y - mean_y**2))
        return (product - mean_x * mean_y) / spread

    return sums.interval(correlation(point), correlation(drawn.T))


def _nucleus(sums: _Sums, measures: dict[str, _Floats]) -> Nucleus:
    names = ("log_mass_heads", "log_mass_constant", "outside_heads", "outside_constant")
    point, drawn = sums.drawn([measures[name] for name in names], np.ones(len(measures["top_p"]), dtype=bool))
    found = {name: sums.interval(point[at], drawn[:, at]) for at, name in enumerate(names)}
    difference = sums.interval(point[2] - point[3], drawn[:, 2] - drawn[:, 3])
    return Nucleus(spread=float(measures["top_p"].std()), outside_difference=difference, **found)
