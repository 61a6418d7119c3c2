"""What each step towards control that does what it says buys: one row for each pair of heads that was measured.

python benchmarks/control/steps.py benchmarks/results/control/smollm2/{before,frozen,more-patterns+more-patterns-other}

Where the conditions were divided over two runs of ``autodeco control eval``, a + stands between their folders.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tables import read

COLUMNS = (
    "heads",
    *(f"{head} {level}, %" for head in ("T", "P") for level in ("low", "high")),
    "error of T",
    "T under «no randomness»",
    "T moved by look-alikes",
)


def main(folders: list[str]) -> None:
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *map(_row, folders)):
        print(f"| {' | '.join(cells)} |")


def _row(folder: str) -> list[str]:
    measured = read(folder)
    sampled, same_text, of_values = (measured[name] for name in ("conditions", "same_completion", "absolute"))
    return [
        Path(folder.split("+")[0]).name,
        *(
            _estimate(sampled[level]["consistent"][head], 100, 0)
            for head in ("temperature", "top_p")
            for level in ("low", "high")
        ),
        _estimate(of_values["all", "temperature"]["error"]),
        _estimate(of_values["no-randomness", "temperature"]["mean"]),
        _estimate(same_text["look-alike"]["distance"]["temperature"]),
    ]


def _estimate(found: dict[str, Any], scale: float = 1, digits: int = 2) -> str:
    value, low, high = (f"{scale * found[name]:.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


if __name__ == "__main__":
    main(sys.argv[1:])
