"""The section on cost: tokens/s of each strategy in a run, and the paper's Table 3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from autodeco.evaluation.report.accuracy import Measured
from autodeco.evaluation.report.document import Section, Table
from autodeco.evaluation.report.published import is_of, published_cost
from autodeco.evaluation.report.records import Speed

BASELINE = "default"


def cost_section(measured: Measured, frame: pd.DataFrame, speeds: Mapping[str, Sequence[Speed]]) -> Section | None:
    """Tokens/s by strategy and task, a table a run.

    Args:
        measured: whose strategies and tasks are shown.
        frame: its rows; speeds on other splits (the sweeps' validation) are left out.
        speeds: of each run, by its name.
    """
    section = Section("Cost")
    splits = set(frame[["task", "split"]].itertuples(index=False, name=None))
    for run, found in speeds.items():
        own = {
            (speed.strategy, speed.task): speed
            for speed in found
            if speed.model == measured.model and (speed.task, speed.split) in splits and speed.rate
        }
        title = "Table 3: tokens/s" + (f", {run}" if len(speeds) > 1 else "")
        rows = [row for name in measured.strategies if any((row := _row(name, measured.tasks, own))[1:])]
        if rows:
            section.parts.append(Table(title, ["strategy", *measured.tasks, "time a token"], rows, _note()))
    if section.parts and (published := _published(measured.model)) is not None:
        section.parts.append(published)
    return section if section.parts else None


def _row(strategy: str, tasks: Sequence[str], speeds: Mapping[tuple[str, str], Speed]) -> list[str]:
    cells, ratios = [], []
    for task in tasks:
        speed, baseline = speeds.get((strategy, task)), speeds.get((BASELINE, task))
        if speed is None or speed.rate is None:
            cells.append("")
            continue
        cells.append(f"{speed.rate:,.0f} ({speed.tokens:,} tokens in {speed.seconds:,.0f} s)")
        if baseline is not None and baseline.rate is not None:
            ratios.append(baseline.rate / speed.rate)
    # Tasks weigh alike: a task's own length of prompts and completions must not decide the comparison.
    overhead = f"{sum(ratios) / len(ratios) - 1:+.1%}" if ratios and strategy != BASELINE else ""
    return [strategy, *cells, overhead]


def _note() -> str:
    published = published_cost()
    return (
        "Completion tokens over the wall-clock time of drawing them, many completions together, with what the figure "
        "rests on; loading the model is not in it, prompts are. «Time a token» is against default sampling, the mean "
        "over the tasks that both have. One figure without an interval: comparable only if nothing else ran on the "
        "machine and the run stayed on it; runs that shared their machine are not. The strategy whose turn is first "
        "also bears the engine's warming up. Published latency overhead of one request at a time: "
        f"{published.mean_latency_overhead:+.1%} ({published.model}; {published.source})."
    )


def _published(model: str) -> Table | None:
    published = published_cost()
    if not is_of(published.model, model):
        return None
    rows = [
        [metric, strategy, *(f"{value:,g}" for value in values)]
        for metric, strategies in published.rows.items()
        for strategy, values in strategies.items()
    ]
    columns = ["metric", "strategy", *(f"prompt of {tokens}" for tokens in published.prompt_tokens)]
    return Table("Published Table 3", columns, rows, f"Published: {published.source}.")
