"""What an evaluation prints at its end: Pass@1 of each strategy and task, and what adaptivity is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from autodeco.errors import DataError
from autodeco.evaluation.comparison import PAIRING_COLUMNS, compare
from autodeco.evaluation.metrics import METRIC_COLUMNS, problem_metrics
from autodeco.evaluation.report.accuracy import Measured
from autodeco.evaluation.report.document import percent, points
from autodeco.evaluation.results import only_model, read_results
from autodeco.evaluation.specs import ADAPTIVE_CONTROLS, kind_of

_RESAMPLES = 2000


@dataclass(frozen=True)
class ModelSummary:
    """Results of one model.

    Attributes:
        model: its name.
        tasks: columns of the table.
        rows: strategy, then Pass@1 in percent with its 95 % interval and the samples of a problem, a cell a task.
        differences: sentences on AutoDeco less MeanShift and less Shuffled.
    """

    model: str
    tasks: list[str]
    rows: list[list[str]]
    differences: list[str]


def summaries(results: str | Path) -> list[ModelSummary]:
    """Sums up a run's results, model by model.

    Args:
        results: folder or file of a run.

    Raises:
        DataError: they cannot be read.
    """
    frame = read_results(results, columns=(*METRIC_COLUMNS, *PAIRING_COLUMNS))
    return [_of_model(only_model(frame, model)) for model in sorted(frame["model"].unique())]


def _of_model(frame: pd.DataFrame) -> ModelSummary:
    model = str(frame["model"].iloc[0])
    if frame["correct"].isna().all():
        return ModelSummary(model, [], [], [f"None of {len(frame):,} samples could be judged."])
    measured = Measured(model, problem_metrics(frame, text_metrics=False), _RESAMPLES)
    rows = [[name, *(_cell(measured, name, task) for task in measured.tasks)] for name in measured.strategies]
    pairs = [
        (adaptive, control)
        for adaptive in measured.strategies
        if kind_of(adaptive) == "autodeco"
        for control in measured.strategies
        if kind_of(control) in ADAPTIVE_CONTROLS
    ]
    return ModelSummary(model, measured.tasks, rows, _differences(frame, measured.tasks, pairs))


def _cell(measured: Measured, strategy: str, task: str) -> str:
    summary = measured.summary(strategy, [task])
    if summary is None:
        return ""
    fewest, most = summary.samples
    return f"{percent(summary.metrics['pass@1'])}, {fewest if fewest == most else f'{fewest} to {most}'}"


def _differences(frame: pd.DataFrame, tasks: Sequence[str], pairs: Sequence[tuple[str, str]]) -> list[str]:
    lines = []
    for adaptive, control in pairs:
        for task in tasks:
            try:
                found = compare(frame, adaptive, control, [task], resamples=_RESAMPLES)
            except DataError:  # they have not two problems in common there
                continue
            lines.append(f"{task}: {adaptive} less {control}: {points(found.difference, found.low, found.high)} points")
    return lines
