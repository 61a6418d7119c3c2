"""IFEval's four accuracies of every strategy: of prompts and of instructions, strict and loose.

python benchmarks/adaptivity/ifeval_levels.py benchmarks/results/adaptivity/smollm2/eval-ifeval
"""

from __future__ import annotations

import json
import sys

from autodeco.evaluation.results import read_results


def main(folder: str) -> None:
    rows = read_results([folder])
    print("| strategy | prompts, strict | loose | instructions, strict | loose |\n| --- | --- | --- | --- | --- |")
    for strategy, texts in rows.groupby("strategy")["details"]:
        found = [json.loads(text) for text in texts]
        prompts = [sum(one[f"prompt_{level}"] for one in found) / len(found) for level in ("strict", "loose")]
        told = [[told for one in found for told in one[f"instruction_{level}"]] for level in ("strict", "loose")]
        shares = [*prompts, *(sum(followed) / len(followed) for followed in told)]
        print(f"| {strategy} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")


if __name__ == "__main__":
    main(sys.argv[1])
