r"""Share of pairs in the commanded order over training steps, of several runs: the figure of docs/control.md, as SVG.

Prints that share and the base loss at the steps that docs/control.md compares, and at the end of each run.

cd benchmarks/results/control/smollm2/heads
python ../../../../control/curves.py ../../../../../docs/images/control-training.svg \
    frozen lora summary middle patterns more-patterns
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean
from typing import Any

from autodeco.evaluation.report.figures import Mark, lines
from autodeco.files import atomic_write_text
from autodeco.statistics import Estimate
from autodeco.training.run_folder import read_log

WINDOW = 25  # steps that a point is the mean of
COMPARED = 175  # where the runs are compared early on
PANELS = {"T": "temperature_in_order", "P": "top_p_in_order"}


def main(output: str, folders: list[str]) -> None:
    panels: dict[str, list[Mark]] = {name: [] for name in PANELS}
    print("| run | steps | T, % | P, % | base loss, nats |\n| --- | --- | --- | --- | --- |")
    for run in map(Path, folders):
        steps = [line for line in read_log(run) if all(entry in line for entry in PANELS.values())]
        for start in range(0, len(steps) - WINDOW + 1, WINDOW):
            own = steps[start : start + WINDOW]
            for name, entry in PANELS.items():
                share = Estimate(_mean(own, entry), None, None, WINDOW)
                panels[name].append((run.name, _mean(own, "step"), share))
        for last in sorted({min(COMPARED, len(steps)), len(steps)}):
            print(_row(run.name, steps[max(0, last - WINDOW) : last]))
    atomic_write_text(Path(output), lines(panels, "training step", "pairs in the commanded order"))


def _row(name: str, own: list[dict[str, Any]]) -> str:
    shares = (f"{100 * _mean(own, entry):.0f}" for entry in PANELS.values())
    base_loss = f"{_mean(own, 'base_loss'):.2f}" if "base_loss" in own[0] else ""  # of an adapter
    return f"| {name} | {own[0]['step']} to {own[-1]['step']} | {' | '.join(shares)} | {base_loss} |"


def _mean(own: list[dict[str, Any]], entry: str) -> float:
    return mean(line[entry] for line in own)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
