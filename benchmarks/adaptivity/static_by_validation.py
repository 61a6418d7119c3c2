"""What a careful user gets: the static temperature of each task that is best on validation problems, on test problems.

python benchmarks/adaptivity/static_by_validation.py VALIDATION_RESULTS TEST_RESULTS
"""

from __future__ import annotations

import sys

import pandas as pd

from autodeco.evaluation.comparison import compare
from autodeco.evaluation.report.document import points
from autodeco.evaluation.results import read_results


def main(validation: str, test: str) -> None:
    tried, rows = read_results([validation]), read_results([test])
    chosen = []
    for task, own in tried.groupby("task"):
        scores = own.groupby("strategy")["correct"].mean().sort_values(ascending=False)
        scores = scores[scores.index.isin(set(rows["strategy"]))]  # those that were run on the test problems, too
        best = scores.index[0]
        found = rows[(rows["task"] == task) & (rows["strategy"] == best)]
        print(f"{task}: {best}, {scores.iloc[0]:.1%} on validation, {found['correct'].mean():.1%} on test")
        chosen.append(found.assign(strategy="static by validation"))
    both = pd.concat([*chosen, rows[rows["strategy"] == "autodeco"]], ignore_index=True)
    found = compare(both, "autodeco", "static by validation")
    print(
        f"{', '.join(found.tasks)}: AutoDeco less it {points(found.difference, found.low, found.high)}, "
        f"p = {found.p_value:.2f}, {found.problems:,} problems"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
