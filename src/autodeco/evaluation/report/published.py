"""The paper's own figures, to stand beside ours where the task is the same. The figures are in a data file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class PublishedFigure:
    """One published Pass@k.

    Attributes:
        model: as the paper names it.
        column: the paper's name of the task.
        tasks: ours that make it up (AIME is 2024 and 2025).
        strategy: our spec of it.
        metric: ``"pass@1"``, ``"pass@16"``, ``"pass@32"`` or ``"pass@64"``.
        value: as a share.
    """

    model: str
    column: str
    tasks: tuple[str, ...]
    strategy: str
    metric: str
    value: float


@dataclass(frozen=True)
class PublishedCost:
    """The paper's Table 3, of one model.

    Attributes:
        source: where it was published.
        model: as the paper names it.
        mean_latency_overhead: of AutoDeco over default sampling, as a share, as printed.
        prompt_tokens: heads of the columns.
        rows: by metric and strategy, a value a column.
    """

    source: str
    model: str
    mean_latency_overhead: float
    prompt_tokens: list[str]
    rows: dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class PublishedMeans:
    """Mean temperature and top-p of the paper's trained heads (its Table 4, without a command)."""

    source: str
    temperature: float
    top_p: float


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


def published_figures() -> list[PublishedFigure]:
    """Everything in the paper's Tables 1, 2 and 5 to 7, in their order."""
    record = _record()
    return [
        PublishedFigure(model, column, tuple(record["tasks"][column]), strategy, metric, value / 100)
        for metric, tables in record["figures"].items()
        for model, columns in tables["models"].items()
        for column, values in columns.items()
        for strategy, value in zip(tables["strategies"], values, strict=True)
    ]


def published_for(model: str) -> list[PublishedFigure]:
    """What was published of a model."""
    return [figure for figure in published_figures() if is_of(figure.model, model)]


def published_cost() -> PublishedCost:
    """The paper's Table 3."""
    return PublishedCost(**_record()["cost"])


def published_means() -> PublishedMeans:
    """The paper's mean temperature and top-p."""
    return PublishedMeans(**_record()["means"])


def is_of(published_model: str, model: str) -> bool:
    """Whether a model's name, or that of the folder it is in, contains the paper's name of it."""
    return _letters(published_model) in _letters(model)


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
