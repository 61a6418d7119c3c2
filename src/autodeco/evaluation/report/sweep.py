"""The section on static settings: the paper's Figure 3 by task, all settings in a table, and what the sweeps chose."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from autodeco.errors import DataError
from autodeco.evaluation.comparison import compare
from autodeco.evaluation.metrics import Summary
from autodeco.evaluation.report import figures
from autodeco.evaluation.report.accuracy import ADAPTIVE, Measured, pass_cell
from autodeco.evaluation.report.document import Figure, Section, Table, percent, points
from autodeco.evaluation.report.records import SweepChoice
from autodeco.evaluation.specs import kind_of, static_setting


def sweep_section(measured: Measured, frame: pd.DataFrame, choices: Sequence[SweepChoice]) -> Section | None:
    """Figure 3: Pass@1 over temperature at P = 1, and over P at each temperature that was swept; the choices."""
    section = Section("Sweep of static settings")
    over_temperature, over_top_p = {}, {}
    for name, tasks in measured.panels.items():
        marks, swept = _sweep(measured, tasks)
        if len({at for _, at, _ in marks}) > 1:
            over_temperature[name] = marks
        if len({at for _, at, _ in swept}) > 1:
            over_top_p[name] = swept
    note = "With 95 % intervals over problems. AutoDeco is the level line."
    if over_temperature:
        svg = figures.lines(over_temperature, "T (P = 1)", "Pass@1")
        section.parts.append(Figure("sweep-temperature", "Figure 3: temperature", svg, note))
    if over_top_p:
        svg = figures.lines(over_top_p, "P", "Pass@1")
        section.parts.append(Figure("sweep-top-p", "Figure 3: top-p", svg, note))
    chosen = _chosen(measured, frame, choices)
    if not section.figures and not chosen.rows:
        return None  # one setting is no sweep
    section.parts += [table for table in (chosen, _settings(measured)) if table.rows]
    return section


def _sweep(measured: Measured, tasks: Sequence[str]) -> tuple[list[figures.Mark], list[figures.Mark]]:
    """Over temperature at P = 1, and over P at the temperatures with more than one; AutoDeco's level in both."""
    marks: list[figures.Mark] = []
    over_top_p: list[figures.Mark] = []
    for strategy in measured.strategies:
        setting, summary = static_setting(strategy), measured.summary(strategy, tasks)
        if setting is None or summary is None or not setting.plain:
            continue
        accuracy = summary.metrics["pass@1"]
        if setting.top_p == 1:
            marks.append(("static, P = 1", setting.temperature, accuracy))
        if setting.temperature > 0:
            over_top_p.append((f"static, T = {setting.temperature:g}", setting.top_p, accuracy))
    swept = [mark for mark in over_top_p if sum(mark[0] == other[0] for other in over_top_p) > 1]
    for strategy in measured.strategies:
        summary = measured.summary(strategy, tasks)
        if kind_of(strategy) == ADAPTIVE and summary is not None:
            marks += _level(strategy, summary, marks)
            swept += _level(strategy, summary, swept)
    return marks, swept


def _level(strategy: str, summary: Summary, marks: Sequence[figures.Mark]) -> list[figures.Mark]:
    """A level line at a strategy's Pass@1, from the first to the last of the marks."""
    places = {mark[1] for mark in marks}
    return [(strategy, at, summary.metrics["pass@1"]) for at in ({min(places), max(places)} if places else ())]


def _settings(measured: Measured) -> Table:
    rows = []
    for strategy in measured.strategies:
        setting = static_setting(strategy)
        if setting is not None and setting.plain:
            cells = [pass_cell(measured.summary(strategy, tasks), "pass@1") for tasks in measured.panels.values()]
            rows.append([f"{setting.temperature:g}", f"{setting.top_p:g}", *cells])
    return Table("Static settings, Pass@1", ["T", "P", *measured.panels], rows, "T = 0 is greedy decoding.")


def _chosen(measured: Measured, frame: pd.DataFrame, choices: Sequence[SweepChoice]) -> Table:
    rows = []
    for choice in choices:
        if choice.model != measured.model or choice.task not in measured.tasks:
            continue
        setting, summary = static_setting(choice.strategy), measured.summary(choice.strategy, [choice.task])
        rows.append(
            [
                choice.task,
                choice.sweep,
                choice.chosen_on,
                "" if setting is None else f"T = {setting.temperature:g}, P = {setting.top_p:g}",
                f"{100 * choice.score:.1f}",
                "yes" if choice.at_edge else "no",
                "" if summary is None else percent(summary.metrics["pass@1"]),
                _adaptive_less(measured, frame, choice),
            ]
        )
    note = (
        "The published sweep: temperature in steps of 0.1 at P = 1, then P in steps of 0.1 at the best temperature. "
        "Chosen on the evaluated problems themselves it is an oracle that nobody can decode with, and its Pass@1, the "
        "largest of many noisy ones, is too high; chosen on the validation split it is what a careful user gets. At "
        "the edge: the highest temperature of the sweep won, so a higher one might be better. Differences are paired, "
        "in points of Pass@1, with 95 % intervals."
    )
    columns = ["task", "sweep", "chosen on", "setting", "score there", "at the edge", "Pass@1 here"]
    return Table("What the sweeps chose", [*columns, "AutoDeco less it"], rows, note)


def _adaptive_less(measured: Measured, frame: pd.DataFrame, choice: SweepChoice) -> str:
    if ADAPTIVE not in measured.strategies:
        return ""
    try:
        found = compare(frame, ADAPTIVE, choice.strategy, [choice.task], resamples=measured.resamples)
    except DataError:  # they have no problems in common there
        return ""
    return points(found.difference, found.low, found.high)
