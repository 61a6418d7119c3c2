r"""AutoDeco less its controls on all tasks but one and on it, and how often a strategy gives its commonest answer.

Counting letters nearly always has the answer 1: what heads gain there need not carry over. A + joins folders of one
model; of problems that are in several of them the first folder counts.

python benchmarks/adaptivity/without_a_task.py letters benchmarks/results/adaptivity/coder/eval+\
benchmarks/results/adaptivity/coder/eval-more
"""

from __future__ import annotations

import sys

import pandas as pd

from autodeco.evaluation.comparison import compare
from autodeco.evaluation.report.document import points
from autodeco.evaluation.results import read_results
from autodeco.evaluation.specs import kind_of

CONTROLS = ("mean-shift", "shuffled", "default", "greedy", "p-less")


def main(task: str, sets: list[str]) -> None:
    for folders in sets:
        for model, rows in _pooled(folders.split("+")).groupby("model"):
            print(f"{folders}, {model}")
            kinds = {kind_of(strategy): strategy for strategy in rows["strategy"].unique()}
            has_it = rows["task"] == task
            for own in (rows[~has_it], rows[has_it]):
                for kind in CONTROLS:
                    if kind in kinds and (own["strategy"] == kinds[kind]).any():
                        found = compare(own, "autodeco", kinds[kind])
                        print(
                            f"  {', '.join(found.tasks)}: AutoDeco less {kind:10} "
                            f"{points(found.difference, found.low, found.high)}, p = {found.p_value:.3f}, "
                            f"{found.problems:,} problems"
                        )
            for strategy, answers in rows[has_it].groupby("strategy")["answer"]:
                commonest = answers.value_counts(normalize=True)
                print(f"  {task}, {strategy}: «{commonest.index[0]}» in {commonest.iloc[0]:.1%} of answers")


def _pooled(folders: list[str]) -> pd.DataFrame:
    pooled = read_results([folders[0]])
    for folder in folders[1:]:
        known = set(zip(pooled["task"], pooled["problem"], strict=True))
        more = read_results([folder])
        is_new = [problem not in known for problem in zip(more["task"], more["problem"], strict=True)]
        print(f"{folder}: {more[is_new]['problem'].nunique():,} of {more['problem'].nunique():,} problems are new")
        pooled = pd.concat([pooled, more[is_new]], ignore_index=True)
    return pooled


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
