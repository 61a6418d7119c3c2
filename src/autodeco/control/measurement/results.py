"""From rows of texts to figures: means, shifts against no command, consistency, errors. Draws nothing.

The unit is the prompt: samples of one prompt are averaged first, and prompts are resampled. ``consistent`` is the
paper's measure: the share of prompts whose mean moved the commanded way. It says nothing of how far, and as texts
differ by chance it is about half without any effect: hence the condition ``none again``.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autodeco.control.measurement.cases import CONDITIONS, PLAIN
from autodeco.control.target import HEADS
from autodeco.errors import DataError
from autodeco.evaluation.diversity import distinct_n
from autodeco.statistics import Estimate, mean_estimates, wilson_interval

MEASURES = (*HEADS, "entropy", "distinct_2", "tokens")
FORCED_MEASURES = (*HEADS, "entropy")  # of the same completion: its text and length are no result

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ConditionResult:
    """One condition.

    Attributes:
        condition: of :data:`CONDITIONS`.
        prompts: how many.
        mean: by measure: T, P, entropy (nats), distinct-2 of the prompt's texts, tokens.
        shift: by measure, against the same prompts without a command.
        distance: by measure, how far prompts moved on average, either way: mean ``|shift|``.
        consistent: by head, the share of prompts that moved as the level asks (up, where it asks for nothing), with
            Wilson's interval.
    """

    condition: str
    prompts: int
    mean: dict[str, Estimate]
    shift: dict[str, Estimate]
    distance: dict[str, Estimate]
    consistent: dict[str, Estimate]


@dataclass(frozen=True)
class AbsoluteResult:
    """Commands with a value, of one sub-kind and head.

    Attributes:
        subkind: of the commands.
        head: whose value.
        asked: mean of the values.
        mean: of the realised means.
        error: mean ``|mean over the text - value|``.
        error_uncommanded: the same of the prompts' texts without a command: what no control at all would have.
    """

    subkind: str
    head: str
    asked: float
    mean: Estimate
    error: Estimate
    error_uncommanded: Estimate


@dataclass(frozen=True)
class ControlResults:
    """All figures.

    Attributes:
        conditions: of sampled texts, in the order of :data:`CONDITIONS`.
        same_completion: likewise, with and without a command on the same completion (``teacher_forced.py``).
        absolute: by sub-kind and head; the sub-kind ``all`` first.
        scoped: by head, last part less first against the same without a command, in the direction asked for.
        scoped_consistent: by head, the share of prompts where that is positive.
        groups: consistency of T for low and high commands, by ``"low by position"`` and the like, and by name in it.
    """

    conditions: list[ConditionResult]
    same_completion: list[ConditionResult]
    absolute: list[AbsoluteResult]
    scoped: dict[str, Estimate]
    scoped_consistent: dict[str, Estimate]
    groups: dict[str, dict[str, Estimate]]

    def of(self, condition: str) -> ConditionResult:
        """One condition's figures."""
        return next(one for one in self.conditions if one.condition == condition)

    def record(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)


def analyse(rows: Iterable[Row], forced_rows: Iterable[Row] = ()) -> ControlResults:
    """Computes all figures.

    Args:
        rows: as :func:`autodeco.control.measurement.run.measure` writes them.
        forced_rows: likewise, of the same completion under every command.

    Raises:
        DataError: there are no rows without a command.
    """
    pairs = _pairs(rows)
    if PLAIN not in pairs:
        raise DataError("there are no texts without a command, so nothing can be compared. Is the run finished?")
    scoped, scoped_consistent = _scoped(pairs.get("scoped", []))
    return ControlResults(
        conditions=[_condition(name, own, MEASURES) for name, own in pairs.items()],
        same_completion=[_condition(name, own, FORCED_MEASURES) for name, own in _pairs(forced_rows).items()],
        absolute=_absolute(pairs.get("absolute", [])),
        scoped=scoped,
        scoped_consistent=scoped_consistent,
        groups={
            f"{condition} by {field}": _grouped(pairs[condition], field)
            for condition in ("low", "high")
            for field in ("position", "subkind")
            if condition in pairs
        },
    )


_Pair = tuple[Sequence[Row], Sequence[Row]]  # a prompt's rows with a command, and without


def _pairs(rows: Iterable[Row]) -> dict[str, list[_Pair]]:
    """Of each condition that there are rows of, every prompt's rows beside those without a command."""
    by_case: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        by_case[row["condition"], row["problem"]].append(row)
    plain = {problem: own for (condition, problem), own in by_case.items() if condition == PLAIN}
    pairs: dict[str, list[_Pair]] = {
        condition: [
            (by_case[condition, problem], own) for problem, own in plain.items() if (condition, problem) in by_case
        ]
        for condition in CONDITIONS
    }
    return {condition: own for condition, own in pairs.items() if own}


def _condition(name: str, pairs: Sequence[_Pair], measures: Sequence[str]) -> ConditionResult:
    with_command = np.array([[_measure(rows, one) for one in measures] for rows, _ in pairs])
    shifts = with_command - np.array([[_measure(plain, one) for one in measures] for _, plain in pairs])
    is_plain = name == PLAIN
    return ConditionResult(
        condition=name,
        prompts=len(pairs),
        mean=_estimates(with_command, measures),
        shift={} if is_plain else _estimates(shifts, measures),
        distance={} if is_plain else _estimates(np.abs(shifts), measures),
        consistent={} if is_plain else {head: _share(_moved(pairs, head) > 0) for head in HEADS},
    )


def _measure(rows: Sequence[Row], name: str) -> float:
    """One of :data:`MEASURES` of one prompt's rows."""
    if name == "distinct_2":
        diversity = distinct_n([row["text"] for row in rows], 2)
        return np.nan if diversity is None else diversity
    return float(np.mean([row[name if name == "tokens" else f"mean_{name}"] for row in rows]))


def _estimates(values: NDArray[np.float64], measures: Sequence[str]) -> dict[str, Estimate]:
    found = mean_estimates(values, np.zeros(len(values), dtype=np.int64))
    return {name: estimate for name, estimate in zip(measures, found, strict=True) if estimate is not None}


def _one(values: Sequence[float] | NDArray[np.float64]) -> Estimate:
    found = mean_estimates(np.asarray(values, dtype=np.float64)[:, None], np.zeros(len(values), dtype=np.int64))[0]
    assert found is not None
    return found


def _share(hits: NDArray[np.bool_]) -> Estimate:
    low, high = wilson_interval(int(hits.sum()), len(hits))
    return Estimate(float(hits.mean()), low, high, len(hits))


def _moved(pairs: Sequence[_Pair], head: str) -> NDArray[np.float64]:
    """How far each prompt's mean moved in the commanded direction; upwards counts where none is commanded."""
    return np.array(
        [(_measure(rows, head) - _measure(plain, head)) * (-1 if rows[0]["level"] < 0 else 1) for rows, plain in pairs]
    )


def _grouped(pairs: Sequence[_Pair], field: str) -> dict[str, Estimate]:
    members: dict[str, list[_Pair]] = defaultdict(list)
    for pair in pairs:
        members[pair[0][0][field]].append(pair)
    return {name: _share(_moved(own, "temperature") > 0) for name, own in sorted(members.items())}


def _absolute(pairs: Sequence[_Pair]) -> list[AbsoluteResult]:
    found = []
    for head in HEADS:
        valued = [pair for pair in pairs if pair[0][0][head] is not None]
        subkinds = sorted({pair[0][0]["subkind"] for pair in valued})
        for subkind in ["all", *subkinds] if valued else []:
            own = [pair for pair in valued if subkind in ("all", pair[0][0]["subkind"])]
            found.append(
                AbsoluteResult(
                    subkind=subkind,
                    head=head,
                    asked=float(np.mean([rows[0][head] for rows, _ in own])),
                    mean=_one([_measure(rows, head) for rows, _ in own]),
                    error=_one([_error(rows, rows[0][head], head) for rows, _ in own]),
                    error_uncommanded=_one([_error(plain, rows[0][head], head) for rows, plain in own]),
                )
            )
    return found


def _error(rows: Sequence[Row], value: float, head: str) -> float:
    """Mean distance of a prompt's texts from a value; each text by its own mean."""
    return float(np.mean([abs(row[f"mean_{head}"] - value) for row in rows]))


def _scoped(pairs: Sequence[_Pair]) -> tuple[dict[str, Estimate], dict[str, Estimate]]:
    shifts: dict[str, list[float]] = {head: [] for head in HEADS}
    for rows, plain in pairs:
        scope = rows[0]["scope"]
        sign = 1 if scope[-1] > scope[0] else -1
        for head in HEADS:
            with_command, without = _rise(rows, head), _rise(plain, head)
            if with_command is not None and without is not None:
                shifts[head].append(sign * (with_command - without))
    known = {head: values for head, values in shifts.items() if values}
    return {head: _one(values) for head, values in known.items()}, {
        head: _share(np.array(values) > 0) for head, values in known.items()
    }


def _rise(rows: Sequence[Row], head: str) -> float | None:
    """Mean of a text's last part less that of its first, over a prompt's texts that are long enough."""
    parts = [row[f"{head}_of_parts"] for row in rows]
    rises = [own[-1] - own[0] for own in parts if own is not None]
    return float(np.mean(rises)) if rises else None
