"""Adds trajectories of problems to those of open prompts, so that commands are learned beside worked examples, too.

python benchmarks/control/with_tasks.py OPEN.jsonl PROBLEMS.jsonl OUTPUT.jsonl
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

from autodeco.files import atomic_write_text, read_jsonl

PROBLEMS = 20  # one trajectory of each


def main(open_prompts: str, problems: str, output: str) -> None:
    first: dict[str, dict[str, object]] = {}
    for _, row in read_jsonl(problems):
        first.setdefault(str(row["id"]), row)
    drawn = random.Random(0).sample(sorted(first), PROBLEMS)
    added = "".join(json.dumps(first[name]) + "\n" for name in drawn)
    atomic_write_text(Path(output), Path(open_prompts).read_text(encoding="utf-8") + added)


if __name__ == "__main__":
    main(*sys.argv[1:])
