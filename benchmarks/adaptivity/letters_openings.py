"""How answers to the letters task begin, by strategy: with a list of letters («b, y: the answer is 1») or without one
(«s: the answer is 1»), how often each is right, and how much of AutoDeco's gain over its mean lies in that choice.

python benchmarks/adaptivity/letters_openings.py benchmarks/results/adaptivity/coder/eval
"""

from __future__ import annotations

import sys

from autodeco.evaluation.results import read_results

LIST_OF_LETTERS = r"^\s*\w,\s"


def main(folder: str) -> None:
    rows = read_results([folder])
    rows = rows[rows["task"] == "letters"].assign(listed=lambda own: own["text"].str.contains(LIST_OF_LETTERS))
    print("| strategy | answers | without a list | of these right | with one | of these right |")
    print("| --- | --- | --- | --- | --- | --- |")
    right = {}
    for strategy, own in rows.groupby("strategy"):
        cells = []
        for listed in (False, True):
            chosen = own[own["listed"] == listed]["correct"]
            cells += [f"{len(chosen) / len(own):.0%}", f"{chosen.mean():.0%}"]
            right[strategy.split(":")[0], listed] = chosen.sum() / len(own)
        print(f"| {strategy.split(':bank')[0]} | {len(own)} | {' | '.join(cells)} |")
    for listed, name in ((False, "without"), (True, "with")):
        gained = right["autodeco", listed] - right["mean-shift", listed]
        print(f"AutoDeco less MeanShift, right answers {name} a list: {100 * gained:+.1f} points")


if __name__ == "__main__":
    main(sys.argv[1])
