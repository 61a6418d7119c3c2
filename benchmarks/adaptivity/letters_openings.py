"""How answers to the letters task begin, by strategy: with a list of letters («b, y: the answer is 1») or without one
(«s: the answer is 1»), how often each is right, how often the answer is 1, and how often it should be.

python benchmarks/adaptivity/letters_openings.py benchmarks/results/adaptivity/coder/eval
"""

from __future__ import annotations

import sys
from collections import Counter

from families import Letters

from autodeco.evaluation.results import read_results
from autodeco.evaluation.specs import kind_of
from autodeco.statistics import wilson_interval

LIST_OF_LETTERS = r"^\s*\w,\s"


def main(folder: str) -> None:
    rows = read_results([folder])
    rows = rows[rows["task"] == "letters"].assign(listed=lambda own: own["text"].str.contains(LIST_OF_LETTERS))
    problems = set(rows["problem"])
    examples = [example for example in Letters().examples("test", len(problems), 0) if example.id in problems]
    print(f"right answers of {len(examples)} problems: {Counter(example.answer for example in examples)}")
    print("| strategy | answers | without a list | of these right | with one | of these right | answer is 1 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    right = {}
    for strategy, own in rows.groupby("strategy"):
        cells = []
        for listed in (False, True):
            chosen = own[own["listed"] == listed]["correct"]
            low, high = wilson_interval(int(chosen.sum()), len(chosen))
            cells += [f"{len(chosen) / len(own):.0%}", f"{chosen.mean():.0%} ({100 * low:.0f} to {100 * high:.0f})"]
            right[kind_of(strategy), listed] = chosen.sum() / len(own)  # one setting of each kind that is compared
        ones = (own["answer"] == "1").mean()
        print(f"| {strategy.split(':bank')[0]} | {len(own)} | {' | '.join(cells)} | {ones:.0%} |")
    for listed, name in ((False, "without"), (True, "with")):
        gained = right["autodeco", listed] - right["mean-shift", listed]
        print(f"AutoDeco less MeanShift, right answers {name} a list: {100 * gained:+.1f} points")


if __name__ == "__main__":
    main(sys.argv[1])
