"""The process that math-verify runs in: reads one JSON question a line, answers with one JSON line. Never imported.

Started by ``verify.py`` as ``python worker.py PARENT CONFINE READABLE...``. math-verify's own time limits need the main
thread and cannot interrupt a single long multiplication, and SymPy is not made for hostile input; so it works here,
confined as model-written code is, and can be killed.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from typing import Any

from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
from math_verify.errors import TimeoutException

_SECONDS = 3  # of each parsing and each comparison
_MEMORY = 2 << 30


def main() -> None:
    """Answers questions until standard input ends."""
    logging.disable(logging.CRITICAL)
    parent, confined, *readable = sys.argv[1:]
    if int(confined):
        _confine(int(parent), readable)
    for line in sys.stdin:
        question = json.loads(line)
        try:
            answer = _answer(question["gold"], question["texts"])
        except (Exception, TimeoutException) as error:
            answer = {"error": f"{type(error).__name__}: {error}"[:500]}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _answer(gold: str, texts: list[str]) -> dict[str, Any]:
    needed = _parsed(gold)
    if not needed:
        raise ValueError(f"the right answer {gold!r} cannot be read as mathematics")
    shown, correct = None, False
    for text in texts:
        found = _parsed(text)
        if shown is None and found:
            shown = str(found[0])[:300]
        if found and verify(needed, found, timeout_seconds=_SECONDS):
            correct = True
            break
    return {"correct": correct, "answer": shown}


def _parsed(text: str) -> list[Any]:
    targets = [LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig()]
    return list(parse(text, targets, parsing_timeout=_SECONDS))


def _confine(parent: int, readable: list[str]) -> None:
    path = os.path.join(os.path.dirname(__file__), "..", "sandbox", "confine.py")  # noqa: PTH118, PTH120
    spec = importlib.util.spec_from_file_location("confine", path)
    assert spec is not None
    assert spec.loader is not None
    confine = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(confine)
    confine.die_with_parent(parent)
    confine.limit_resources(_MEMORY, 1 << 30, 0)
    confine.confine(readable, None)


if __name__ == "__main__":
    main()
