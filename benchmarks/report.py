"""Puts the tables under ``benchmarks/results`` into ``docs/performance.md``, after its hand-written introduction."""

from __future__ import annotations

from pathlib import Path

from harness import RESULTS

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
MARK = "<!-- Below this line: written by `python benchmarks/report.py` from benchmarks/results. -->"
SECTIONS = (
    "training_step",
    "training_step_end_to_end",
    "objective_memory",
    "shaping",
    "generate",
    "vllm_throughput",
    "vllm_latency",
    "server_load",
    "merge_memory",
)


def main() -> None:
    parts = [PAGE.read_text(encoding="utf-8").split(MARK)[0].rstrip(), MARK]
    for name in SECTIONS:
        path = RESULTS / name / "README.md"
        if path.exists():
            text = path.read_text(encoding="utf-8").strip()
            parts.append(text.replace("# ", "## ", 1).replace("(plot.svg)", f"(../benchmarks/results/{name}/plot.svg)"))
    PAGE.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
