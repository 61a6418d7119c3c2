"""Which rows of a rollout become training data: right, ended by the model, not twice, not too many of one problem."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autodeco.errors import DataError
from autodeco.files import atomic_write_text


@dataclass(frozen=True)
class Kept:
    """The rows kept, and why the others were not.

    Attributes:
        rows: in their order.
        dropped: counts by reason: ``"error"`` (the verifier failed), ``"wrong"``, ``"unfinished"``, ``"duplicate"``,
            ``"too_long"``, ``"over_cap"``.
    """

    rows: list[dict[str, Any]]
    dropped: dict[str, int]


def keep(
    rows: Iterable[dict[str, Any]],
    *,
    most_per_problem: int | None = None,
    most_tokens: int | None = None,
    only_correct: bool = True,
) -> Kept:
    """Filters a rollout's rows ("rejection sampling").

    Args:
        rows: as :func:`autodeco.rollouts.run.rollout` writes them.
        most_per_problem: keep at most this many of one problem, so that easy ones do not crowd out the others.
        most_tokens: drop longer completions.
        only_correct: whether wrong answers are dropped.
    """
    kept: list[dict[str, Any]] = []
    dropped = dict.fromkeys(("error", "wrong", "unfinished", "too_long", "duplicate", "over_cap"), 0)
    texts: dict[tuple[str, str], set[str]] = defaultdict(set)
    for row in rows:
        problem = (row["task"], row["id"])
        reason = _reason_to_drop(row, texts[problem], most_per_problem, most_tokens, only_correct)
        if reason is not None:
            dropped[reason] += 1
            continue
        texts[problem].add(_text(row))
        kept.append(row)
    return Kept(kept, dropped)


def _reason_to_drop(
    row: dict[str, Any],
    kept_texts: set[str],
    most_per_problem: int | None,
    most_tokens: int | None,
    only_correct: bool,
) -> str | None:
    if row["correct"] is None:
        return "error"
    if only_correct and not row["correct"]:
        return "wrong"
    if row["finish"] != "stop":
        return "unfinished"
    if most_tokens is not None and len(row["completion_ids"]) > most_tokens:
        return "too_long"
    if _text(row) in kept_texts:
        return "duplicate"
    if most_per_problem is not None and len(kept_texts) >= most_per_problem:
        return "over_cap"
    return None


def _text(row: dict[str, Any]) -> str:
    text: str = row["completion"][-1]["content"]
    return text


def write_kept(
    rows: Iterable[dict[str, Any]], path: Path, most_per_problem: int | None = None, most_tokens: int | None = None
) -> int:
    """Writes the rows worth training on (:func:`keep`) as JSONL, replacing the file; returns how many.

    Raises:
        DataError: there is none.
    """
    found = keep(rows, most_per_problem=most_per_problem, most_tokens=most_tokens)
    if not found.rows:
        counts = ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in found.dropped.items() if count)
        raise DataError(
            f"none of the completions can be trained on ({counts}). Choose easier problems, a larger model, more "
            f"samples or a larger --max-new-tokens."
        )
    kept = found.rows
    atomic_write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
    return len(kept)
