"""AutoDeco less what the published sweep chose for each task: by the test problems themselves, and by validation ones.

python benchmarks/adaptivity/oracle_compared.py benchmarks/results/adaptivity/smollm2/eval-oracle
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

from autodeco.evaluation.comparison import compare
from autodeco.evaluation.report.document import points
from autodeco.evaluation.results import read_results


def main(folder: str) -> None:
    rows = read_results([folder])
    choices = pd.DataFrame(json.loads((Path(folder) / "choices.json").read_text())["choices"])
    for sweep, own in choices.groupby("sweep"):
        chosen = []
        for choice in own.itertuples():
            rows_of = rows[(rows["task"] == choice.task) & (rows["strategy"] == choice.strategy)]
            chosen.append(rows_of.assign(strategy=sweep))
            print(f"{sweep}: {choice.task}, {choice.strategy}, {rows_of['correct'].mean():.1%}")
        for other in ("autodeco", "default"):
            others = rows[(rows["strategy"] == other) & rows["task"].isin(own["task"])]
            both = pd.concat([*chosen, others], ignore_index=True)
            mean = both.groupby(["strategy", "task"])["correct"].mean().groupby(level="strategy").mean()
            found = compare(both, other, str(sweep))
            less = points(found.difference, found.low, found.high)
            print(f"  {mean[sweep]:.1%}; {other} {mean[other]:.1%}, less it {less}, p = {found.p_value:.2f}")


if __name__ == "__main__":
    main(sys.argv[1])
