"""Pass@k of every strategy that has k samples, and AutoDeco's less the others', paired over problems. k: 1, 2, 4, ...

python benchmarks/adaptivity/pass_at_k.py 2 benchmarks/results/adaptivity/smollm2/eval
"""

from __future__ import annotations

import sys

import numpy as np

from autodeco.evaluation.metrics import problem_metrics
from autodeco.evaluation.report.document import points
from autodeco.evaluation.results import read_results

RESAMPLES = 10_000


def main(k: str, folder: str) -> None:
    rows = read_results([folder])
    table = problem_metrics(rows, text_metrics=False)[f"pass@{k}"].unstack("strategy")
    on_all_tasks = table.notna().groupby(level="task").any().all()
    table = table.loc[:, on_all_tasks].dropna()
    draws = np.random.default_rng(0).integers(len(table), size=(RESAMPLES, len(table)))  # tasks have as many problems
    for strategy in table.columns:
        difference = (table["autodeco"] - table[strategy]).to_numpy()
        low, high = np.quantile(difference[draws].mean(axis=1), [0.025, 0.975])
        difference_of_means = points(difference.mean(), low, high)
        print(f"{strategy:60}{table[strategy].mean():7.1%}   AutoDeco less it {difference_of_means}")


if __name__ == "__main__":
    main(*sys.argv[1:])
