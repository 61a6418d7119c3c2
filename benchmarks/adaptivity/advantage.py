"""Writes rollouts with their advantages as weights, for training on right and wrong ones.

python benchmarks/adaptivity/advantage.py OUTPUT.jsonl ROLLOUTS/all.jsonl [...]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from autodeco.files import atomic_write_text
from autodeco.rollouts import weighted_by_advantage


def main() -> None:
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    output, *sources = map(Path, sys.argv[1:])
    rows = [json.loads(line) for source in sources for line in source.read_text(encoding="utf-8").splitlines()]
    weighted = weighted_by_advantage([row for row in rows if row["completion_ids"]])
    atomic_write_text(output, "".join(json.dumps(row) + "\n" for row in weighted))
    print(f"{output}: {len(weighted):,} of {len(rows):,} rollouts, those of problems with right and wrong ones")


if __name__ == "__main__":
    main()
