"""The tables of docs/control.md: Table 4 beside the paper's, and all else that was measured of the last heads.

python benchmarks/control/tables.py benchmarks/results/control/smollm2/{before,frozen,more-patterns+more-patterns-other}

Where the conditions were divided over two runs of ``autodeco control eval``, a + stands between their folders.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

from autodeco.files import read_jsonl

PAPER = {
    "none": "0.72 | | | 0.79 | | |",
    "low": "0.61 | −0.11 | 99 | 0.73 | −0.06 | 97 |",
    "high": "0.82 | +0.10 | 96 | 0.83 | +0.04 | 85 |",
}


def main(folders: list[str]) -> None:
    measured = {folder.split("+")[0].rpartition("/")[2]: read(folder) for folder in folders}
    last = list(measured)[-1]
    print("| command | mean T | ΔT | consistent, % | mean P | ΔP | consistent, % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for condition, published in PAPER.items():
        print(f"| {condition}: paper | {published}")
        for name, results in measured.items():
            print(_row(f"{condition}: {name}", results["conditions"][condition]))
    print(f"\n{last}, other conditions")
    for condition, found in measured[last]["conditions"].items():
        if condition not in PAPER:
            print(_row(condition, found))
    print(f"\n{last}, on the same completion: shift and distance of T, of P")
    for condition, found in measured[last]["same_completion"].items():
        if condition != "none":
            cells = [
                _estimate(found[what][head], 3) for head in ("temperature", "top_p") for what in ("shift", "distance")
            ]
            print(f"| {condition} | {' | '.join(cells)} |")
    print(f"\n{last}, values: what was chosen, its error, the error without a command")
    for (subkind, head), found in measured[last]["absolute"].items():
        cells = [_estimate(found[name]) for name in ("mean", "error", "error_uncommanded")]
        print(f"| {subkind}, {head} | {' | '.join(cells)} |")
    print(f"\n{last}, mean T and P by the value asked for")
    for head, asked, chosen in _by_value(Path(folders[-1].split("+")[0])):
        print(f"| {head} {asked:g} | {sum(chosen) / len(chosen):.2f} ({len(chosen)} prompts) |")
    print(f"\n{last}, text: entropy and distinct-2")
    for condition, found in measured[last]["conditions"].items():
        print(f"| {condition} | {' | '.join(_estimate(found['mean'][name]) for name in ('entropy', 'distinct_2'))} |")
    print(f"\n{last}, share of prompts that followed, by sub-kind")
    for group, found in measured[last]["groups"].items():
        print(group, {head: f"{one['value']:.2f} of {one['problems']}" for head, one in found.items()})


def read(folder: str) -> dict[str, dict[Any, Any]]:
    """What was measured, by condition, kind of value and group. What both parts of a + have is the first one's."""
    first, *others = folder.split("+")
    paths = [Path(first), *map(Path(first).with_name, others)]
    parts = [json.loads((path / "control.json").read_text()) for path in reversed(paths)]
    return {
        **{
            name: {one["condition"]: one for results in parts for one in results[name]}
            for name in ("conditions", "same_completion")
        },
        "absolute": {(one["subkind"], one["head"]): one for results in parts for one in results["absolute"]},
        "groups": {group: found for results in parts for group, found in results["groups"].items()},
    }


def _by_value(folder: Path) -> list[tuple[str, float, list[float]]]:
    """Head, value asked for, and the means of the texts that it was asked of."""
    chosen: dict[tuple[str, float], list[float]] = defaultdict(list)
    for _, row in read_jsonl(folder / "control.jsonl"):
        for head in ("temperature", "top_p"):
            if row["condition"] == "absolute" and row[head] is not None:
                chosen[head, row[head]].append(row[f"mean_{head}"])
    return [(head, asked, found) for (head, asked), found in sorted(chosen.items())]


def _row(label: str, found: dict[str, Any]) -> str:
    cells = []
    for head in ("temperature", "top_p"):
        cells.append(_estimate(found["mean"][head]))
        shift = found["shift"].get(head)
        cells.append(_estimate(shift, signed=True) if shift else "")
        share = found["consistent"].get(head) if found.get("consistent") else None
        cells.append(_estimate(share, 0, 100) if share else "")
    return f"| {label} | {' | '.join(cells)} |"


def _estimate(found: dict[str, Any], digits: int = 2, scale: float = 1, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    value, low, high = (f"{scale * found[name]:{sign}.{digits}f}" for name in ("value", "low", "high"))
    return f"{value} ({low} to {high})".replace("-", "−")


if __name__ == "__main__":
    main(sys.argv[1:])
