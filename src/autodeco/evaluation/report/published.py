"""The paper's own figures, to stand beside ours where model and tasks are the same. The figures are in a data file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class PublishedFigure:
    """One published Pass@1.

    Attributes:
        model: as the paper names it.
        column: the paper's name of the task.
        tasks: ours that make it up (AIME is 2024 and 2025).
        strategy: our spec of it.
        value: as a share.
    """

    model: str
    column: str
    tasks: tuple[str, ...]
    strategy: str
    value: float


@cache
def _record() -> Any:
    return json.loads(resources.files(__package__).joinpath("published.json").read_text(encoding="utf-8"))


def source() -> str:
    """Where the figures were published."""
    return str(_record()["source"])


def table_tasks(table: int) -> list[str]:
    """Our names of the tasks in the paper's Table 1 (mathematics) or 2 (everything else)."""
    columns = list(_record()["tasks"].values())
    chosen = columns[:4] if table == 1 else columns[4:]
    return [name for names in chosen for name in names]


def published_for(model: str) -> list[PublishedFigure]:
    """What was published of a model: its name, or that of the folder it is in, contains the paper's name of it."""
    record = _record()
    ours = _letters(model)
    return [
        PublishedFigure(name, column, tuple(record["tasks"][column]), strategy, value / 100)
        for name, columns in record["pass_at_1"].items()
        if _letters(name) in ours
        for column, values in columns.items()
        for strategy, value in zip(record["strategies"], values, strict=True)
    ]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
