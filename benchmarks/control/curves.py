"""Share of pairs in the commanded order over training steps, of several runs, as SVG: the figure of docs/control.md.

cd benchmarks/results/control/smollm2/heads
python ../../../../control/curves.py ../../../../../docs/images/control-training.svg frozen lora summary middle
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import mean

from autodeco.evaluation.report.figures import Mark, lines
from autodeco.files import atomic_write_text
from autodeco.statistics import Estimate
from autodeco.training.run_folder import read_log

WINDOW = 25  # steps that a point is the mean of
PANELS = {"T": "temperature_in_order", "P": "top_p_in_order"}


def main(output: str, folders: list[str]) -> None:
    panels: dict[str, list[Mark]] = {name: [] for name in PANELS}
    for folder in folders:
        log = read_log(Path(folder))
        for name, entry in PANELS.items():
            steps = [(line["step"], line[entry]) for line in log if entry in line]
            for start in range(0, len(steps) - WINDOW + 1, WINDOW):
                numbers, shares = zip(*steps[start : start + WINDOW], strict=True)
                panels[name].append((Path(folder).name, mean(numbers), Estimate(mean(shares), None, None, WINDOW)))
    atomic_write_text(Path(output), lines(panels, "training step", "pairs in the commanded order"))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
