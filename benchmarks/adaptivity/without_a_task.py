"""AutoDeco less its controls on every set of tasks but one, and how often each strategy gives the commonest answer.

Counting letters nearly always has the answer 1: what heads gain there need not carry over.

python benchmarks/adaptivity/without_a_task.py letters benchmarks/results/adaptivity/coder/eval [...]
"""

from __future__ import annotations

import sys

from autodeco.evaluation.comparison import compare
from autodeco.evaluation.results import read_results


def main(task: str, folders: list[str]) -> None:
    for folder in folders:
        every = read_results([folder])
        for model, rows in every.groupby("model"):
            print(f"{folder}, {model}")
            kinds = {strategy.split(":")[0]: strategy for strategy in rows["strategy"].unique()}
            others = sorted(set(rows["task"]) - {task})
            for tasks in (others, [task]):
                for kind in ("mean-shift", "shuffled", "default", "greedy", "p-less"):
                    if kind in kinds:
                        found = compare(rows, "autodeco", kinds[kind], tasks)
                        print(
                            f"  {', '.join(tasks)}: AutoDeco less {kind:10} {100 * found.difference:+.1f} "
                            f"({100 * found.low:+.1f} to {100 * found.high:+.1f}), p = {found.p_value:.3f}, "
                            f"{found.problems:,} problems"
                        )
            own = rows[rows["task"] == task]
            for strategy, answers in own.groupby("strategy")["answer"]:
                commonest = answers.value_counts(normalize=True)
                print(f"  {task}, {strategy}: «{commonest.index[0]}» in {commonest.iloc[0]:.1%} of answers")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
