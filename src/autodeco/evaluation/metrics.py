"""What is measured of each problem's samples, and its means over problems: Pass@k, votes, lengths, diversity.

A sample whose verifier failed is neither right nor wrong: it is left out of every metric, and counted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from autodeco.errors import DataError, did_you_mean
from autodeco.evaluation.diversity import distinct_n, self_bleu
from autodeco.statistics import RESAMPLES, Estimate, mean_estimates, wilson_interval

GROUP = ["task", "strategy"]
_MEANS = ("entropy", "mean_temperature", "mean_top_p")
_LENGTH_OF = "length of "  # a column that is a list in the verifier's details
# Of the results, what problem_metrics takes beside what names a sample; the metrics of texts take "text", too.
METRIC_COLUMNS = ("correct", "answer", "tokens", "finish", "details", *_MEANS)


def pass_at_k(samples: NDArray[Any] | int, right: NDArray[Any] | int, k: int) -> NDArray[np.float64]:
    """Unbiased estimate of the chance that at least one of ``k`` samples is right.

    ``1 - C(n - c, k) / C(n, k)`` (Chen et al. 2021, arXiv 2107.03374), as the product of ``(n - c - j) / (n - j)`` over
    j below k, which neither overflows nor cancels.

    Args:
        samples: n, ``[...]``.
        right: c, ``[...]``.
        k: at least 1.

    Returns:
        ``[...]``, NaN where a problem has fewer than ``k`` samples.
    """
    n, c = np.broadcast_arrays(np.asarray(samples, dtype=np.float64), np.asarray(right, dtype=np.float64))
    if k < 1 or np.any((c < 0) | (c > n)):
        raise ValueError(f"Pass@k needs k >= 1 and 0 <= right <= samples, found k = {k}.")
    none_right = np.ones(n.shape)
    for drawn in range(k):
        none_right *= np.clip(n - c - drawn, 0, None) / np.where(n > drawn, n - drawn, np.nan)
    return np.asarray(1 - none_right, dtype=np.float64)


def majority_vote(answers: Iterable[str | None], correct: Iterable[bool]) -> float | None:
    """Whether the most frequent final answer is right (self-consistency, Wang et al. 2022, arXiv 2203.11171).

    Answers are equal if their text is, apart from space. Of answers with equally many votes each wins with the same
    chance. A sample without an answer does not vote.

    Args:
        answers: final answer of each sample.
        correct: of each sample.

    Returns:
        The chance that the vote's winner is right: 0 or 1 without ties; ``None`` if no sample has an answer.
    """
    verdicts: dict[str, list[bool]] = defaultdict(list)
    for answer, right in zip(answers, correct, strict=True):
        if answer is not None and not pd.isna(answer):
            verdicts["".join(answer.split())].append(bool(right))
    if not verdicts:
        return None
    most = max(len(own) for own in verdicts.values())
    winners = [sum(own) / len(own) for own in verdicts.values() if len(own) == most]
    return sum(winners) / len(winners)


def problem_metrics(frame: pd.DataFrame, *, text_metrics: bool = True) -> pd.DataFrame:
    """Every metric of every problem.

    Args:
        frame: results of one model, see :func:`autodeco.evaluation.results.read_results`.
        text_metrics: also distinct-n and self-BLEU, which take a pass over all text.

    Returns:
        Indexed by task, strategy and problem. ``samples``, ``right``, ``pass@1``, ``pass@2``, ``pass@4`` and so on up
        to the most samples of any problem, ``majority``, ``tokens``, ``unfinished`` (share that reached the length
        limit), ``entropy``, ``mean_temperature``, ``mean_top_p``, ``distinct_1`` to ``distinct_3``, ``self_bleu``, and
        ``details/NAME`` for each number in the verifier's details (of a list values
        whose mean is that of all entries of the task). NaN where a problem has no such value.

    Raises:
        DataError: several models, or no sample that was verified.
    """
    if frame["model"].nunique() != 1:
        raise DataError(f"metrics are of one model; these results hold {frame['model'].nunique()}.")
    verified = frame[frame["correct"].notna()]
    if verified.empty:
        raise DataError(f"none of the {len(frame):,} samples could be verified: there is nothing to measure.")
    rows = {}
    for key, own in verified.groupby([*GROUP, "problem"], sort=True):
        rows[key] = _of_problem(own, text_metrics=text_metrics)
    table = pd.DataFrame.from_dict(rows, orient="index")
    table.index = pd.MultiIndex.from_tuples(list(rows), names=[*GROUP, "problem"])
    # A problem without any answer has lost its vote, unless the task's answers are not voted on at all.
    votes = verified.groupby("task")["answer"].apply(lambda answers: answers.notna().any())
    lost = table["majority"].isna() & table.index.get_level_values("task").map(votes).astype(bool)
    table["majority"] = table["majority"].mask(lost, 0.0)
    table = _pooled_lists(table)
    for k in sizes_of_k(int(table["samples"].max())):
        table[f"pass@{k}"] = pass_at_k(table["samples"].to_numpy(), table["right"].to_numpy(), k)
    return table


def sizes_of_k(samples: int) -> list[int]:
    """1, 2, 4 and so on up to the number of samples."""
    return [2**power for power in range(samples.bit_length())]


def _of_problem(own: pd.DataFrame, *, text_metrics: bool) -> dict[str, float]:
    correct = own["correct"].astype(bool)
    vote = majority_vote(own["answer"], correct)
    values: dict[str, float] = {
        "samples": len(own),
        "right": int(correct.sum()),
        "majority": np.nan if vote is None else vote,
        "tokens": float(own["tokens"].mean()),
        "unfinished": float((own["finish"] == "length").mean()),
    }
    values |= {name: float(pd.to_numeric(own[name]).mean()) for name in _MEANS}
    if text_metrics:
        texts = list(own["text"])
        found = {f"distinct_{n}": distinct_n(texts, n) for n in (1, 2, 3)} | {"self_bleu": self_bleu(texts)}
        values |= {name: np.nan if value is None else value for name, value in found.items()}
    return values | _details(own["details"])


def _pooled_lists(table: pd.DataFrame) -> pd.DataFrame:
    """Turns each problem's mean m of a list of length L into R + (L / mean L) (m - R), R being all entries' mean.

    Their mean over a task's problems is then R, as IFEval's accuracy over instructions is defined, and their spread is
    that of a ratio of two sums: lengths that differ are no noise by themselves (Cochran 1977, section 2.11).
    """
    lengths = [name for name in table.columns if name.startswith(_LENGTH_OF)]
    for name in lengths:
        of_list = name.removeprefix(_LENGTH_OF)
        share = table[name] / table[name].groupby(level=GROUP).transform("mean")
        pooled = (share * table[of_list]).groupby(level=GROUP).transform("mean")
        table[of_list] = pooled + share * (table[of_list] - pooled)
    return table.drop(columns=lengths)


def _details(column: pd.Series) -> dict[str, float]:
    """Means of the numbers in the verifier's details; a list of numbers counts as its mean, and its length is kept."""
    values: dict[str, list[float]] = defaultdict(list)
    for text in column.dropna():
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"'details' of a sample is not JSON ({error.msg}): {text[:80]!r}.") from None
        for name, value in record.items() if isinstance(record, dict) else ():
            numbers = value if isinstance(value, list) else [value]
            if numbers and all(isinstance(number, bool | int | float) for number in numbers):
                values[f"details/{name}"].append(sum(numbers) / len(numbers))
                if isinstance(value, list):
                    values[f"{_LENGTH_OF}details/{name}"].append(len(numbers))
    return {name: sum(own) / len(own) for name, own in values.items()}


@dataclass(frozen=True)
class Summary:
    """One strategy on one task, or on the average of several.

    Attributes:
        strategy: its canonical spec.
        tasks: which.
        problems: how many, in all tasks.
        samples: fewest and most samples of a problem.
        metrics: estimates by the names of :func:`problem_metrics`' columns, those that there are.
    """

    strategy: str
    tasks: tuple[str, ...]
    problems: int
    samples: tuple[int, int]
    metrics: dict[str, Estimate]


def summarise(
    table: pd.DataFrame, strategy: str, tasks: Sequence[str], *, resamples: int = RESAMPLES, seed: int = 0
) -> Summary:
    """Means over problems (then over tasks, with equal weight) and their intervals from resampling problems.

    Args:
        table: from :func:`problem_metrics`.
        strategy: one in the table.
        tasks: one or several.
        resamples: bootstrap draws.
        seed: of those draws.

    Raises:
        DataError: the table has no such strategy on one of the tasks.
    """
    parts = []
    for task in tasks:
        if (task, strategy) not in set(table.index.droplevel("problem")):
            known = {f"{other} on {name}" for name, other in table.index.droplevel("problem")}
            raise DataError(
                f"no verified samples of {strategy} on {task}.{did_you_mean(f'{strategy} on {task}', known)}"
            )
        parts.append(table.loc[(task, strategy)])
    strata = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    joined = pd.concat(parts)
    names = [name for name in joined.columns if name not in ("samples", "right")]
    found = mean_estimates(joined[names].to_numpy(dtype=np.float64), strata, resamples, seed)
    sizes = [len(part) for part in parts]
    found = [_of_shares(name, estimate, sizes) for name, estimate in zip(names, found, strict=True)]
    return Summary(
        strategy=strategy,
        tasks=tuple(tasks),
        problems=len(joined),
        samples=(int(joined["samples"].min()), int(joined["samples"].max())),
        metrics={name: estimate for name, estimate in zip(names, found, strict=True) if estimate is not None},
    )


def _of_shares(name: str, estimate: Estimate | None, sizes: Sequence[int]) -> Estimate | None:
    """Where all problems are alike, resampling them gives an interval without width: Wilson's is taken instead.

    Of so many problems as would be as informative in one task as those of several (``sizes``) that weigh alike.
    """
    is_share = name == "majority" or name.startswith("pass@")
    if not is_share or estimate is None or estimate.low is None or estimate.low != estimate.high:
        return estimate
    if estimate.value not in (0.0, 1.0):
        return estimate
    problems = max(1, round(len(sizes) ** 2 / sum(1 / size for size in sizes)))
    interval = wilson_interval(round(estimate.value) * problems, problems)
    return Estimate(estimate.value, *interval, estimate.problems)


@dataclass(frozen=True)
class ErrorCount:
    """Samples whose verifier failed.

    Attributes:
        task: on which.
        strategy: of which.
        errors: how many.
        samples: of how many.
        most_frequent: the message seen most often.
    """

    task: str
    strategy: str
    errors: int
    samples: int
    most_frequent: str


def error_counts(frame: pd.DataFrame) -> list[ErrorCount]:
    """Where verifiers failed, by task and strategy; nothing for those that never did."""
    found = []
    for (task, strategy), own in frame.groupby(GROUP, sort=True):
        messages = Counter(own.loc[own["correct"].isna(), "error"].fillna("no message"))
        if messages:
            found.append(ErrorCount(task, strategy, messages.total(), len(own), messages.most_common(1)[0][0]))
    return found
