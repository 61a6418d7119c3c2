"""Sections on how often strategies are right: Pass@1 by task, the published figures beside ours, Pass@k, the sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pandas as pd

from autodeco.errors import DataError
from autodeco.evaluation.metrics import Summary, summarise
from autodeco.evaluation.report import figures
from autodeco.evaluation.report.document import Figure, Section, Table, number, percent
from autodeco.evaluation.report.published import published_for, source, table_tasks
from autodeco.evaluation.specs import kind_of, static_setting

AVERAGE = "average"
# Order of rows: what needs no choice, what needs no training, the controls, the heads.
_FIRST = ("greedy", "default", "static")
_LAST = ("mean-shift", "shuffled", "temperature-head", "top-p-head", "autodeco")


@dataclass
class Measured:
    """Everything known of one model.

    Attributes:
        model: its name.
        table: from :func:`autodeco.evaluation.metrics.problem_metrics`.
        resamples: for intervals.
    """

    model: str
    table: pd.DataFrame
    resamples: int
    _summaries: dict[tuple[str, tuple[str, ...]], Summary | None] = field(default_factory=dict)

    @property
    def tasks(self) -> list[str]:
        """Tasks, by name."""
        return sorted(set(self.table.index.get_level_values("task")))

    @property
    def strategies(self) -> list[str]:
        """Strategies, in the order of the report's rows."""
        return sorted(set(self.table.index.get_level_values("strategy")), key=_place)

    def summary(self, strategy: str, tasks: Sequence[str]) -> Summary | None:
        """Of a strategy on some tasks together; ``None`` if it was not run on all of them."""
        key = (strategy, tuple(tasks))
        if key not in self._summaries:
            try:
                self._summaries[key] = summarise(self.table, strategy, tasks, resamples=self.resamples)
            except DataError:
                self._summaries[key] = None
        return self._summaries[key]

    def best_static(self, tasks: Sequence[str]) -> Summary | None:
        """The static setting with the highest Pass@1 on these tasks: chosen on the very problems it is measured on."""
        found = [self.summary(name, tasks) for name in self.strategies if static_setting(name) is not None]
        known = [summary for summary in found if summary is not None]
        return max(known, key=lambda summary: summary.metrics["pass@1"].value, default=None)


def _place(strategy: str) -> tuple[int, float, float, str]:
    kind, setting = kind_of(strategy), static_setting(strategy)
    order = [*_FIRST, None, *_LAST]
    place = order.index(kind if kind in order else None)
    temperature, top_p = (setting.temperature, -setting.top_p) if setting else (0.0, 0.0)
    return place, temperature, top_p, strategy


def pass_at_1_section(measured: Measured) -> Section:
    """The paper's Tables 1 (mathematics) and 2 (everything else), a row a strategy."""
    section = Section("Pass@1")
    mathematics = [task for task in measured.tasks if task in table_tasks(1)]
    others = [task for task in measured.tasks if task not in mathematics]
    for title, tasks in (("Table 1: mathematics", mathematics), ("Table 2: other tasks", others)):
        if tasks:
            section.parts.append(_accuracy_table(measured, f"{title}, Pass@1", tasks, "pass@1"))
    section.parts += [published for published in [_beside_published(measured)] if published]
    return section


def _accuracy_table(measured: Measured, title: str, tasks: list[str], metric: str) -> Table:
    columns = [*([task] for task in tasks), *([tasks] if len(tasks) > 1 else [])]
    rows = []
    for strategy in measured.strategies:
        if kind_of(strategy) == "static":
            continue
        cells = [_cell(measured.summary(strategy, own), metric) for own in columns]
        if any(cells):
            rows.append([strategy, *cells])
    if metric == "pass@1" and any(kind_of(name) == "static" for name in measured.strategies):
        best = [measured.best_static(own) for own in columns]
        cells = ["" if found is None else f"{_cell(found, metric)}, {found.strategy}" for found in best]
        rows.append(["best static, chosen on these problems", *cells])
    heads = ["strategy", *tasks, *([AVERAGE] if len(tasks) > 1 else [])]
    note = (
        "Percent, with 95 % interval from resampling problems, and n = problems x samples of each. The average weighs "
        "tasks alike."
    )
    return Table(title, heads, rows, note)


def _cell(summary: Summary | None, metric: str) -> str:
    if summary is None or metric not in summary.metrics:
        return ""
    estimate = summary.metrics[metric]
    fewest, most = summary.samples
    samples = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{percent(estimate)}, n = {estimate.problems} x {samples}"


def _beside_published(measured: Measured) -> Table | None:
    rows = []
    for figure in published_for(measured.model):
        summary = measured.summary(figure.strategy, sorted(figure.tasks))
        if summary is not None:
            difference = 100 * (summary.metrics["pass@1"].value - figure.value)
            ours = _cell(summary, "pass@1")
            rows.append([figure.column, figure.strategy, f"{100 * figure.value:.2f}", ours, f"{difference:+.1f}"])
    note = f"Published: {source()}."
    columns = ["task", "strategy", "published", "here", "difference"]
    return Table("Published figures beside ours", columns, rows, note) if rows else None


def pass_at_k_section(measured: Measured) -> Section | None:
    """Tables 5 to 7 (Pass@16, 32 and 64: the three k of the paper's protocol) and Figure 6 (Pass@k over k)."""
    section = Section("Pass@k")
    for number_of_table, k in ((5, 16), (6, 32), (7, 64)):
        table = _accuracy_table(measured, f"Table {number_of_table}: Pass@{k}", measured.tasks, f"pass@{k}")
        if table.rows:
            section.parts.append(table)
    marks: list[figures.Mark] = []
    for strategy in measured.strategies:
        summary = measured.summary(strategy, measured.tasks)
        if summary is None or summary.samples[1] < 2 or kind_of(strategy) == "static":
            continue
        names = [name for name in summary.metrics if name.startswith("pass@")]
        marks += [(strategy, float(name.removeprefix("pass@")), summary.metrics[name]) for name in names]
    if marks:
        note = f"Average of {', '.join(measured.tasks)}; unbiased estimates with 95 % intervals over problems."
        svg = figures.lines(marks, "k", "Pass@k", log_x=True)
        section.parts.append(Figure("pass-at-k", "Figure 6: Pass@k over k", svg, note))
    return section if section.parts else None


def sweep_section(measured: Measured) -> Section | None:
    """Figure 3: Pass@1 over temperature at P = 1, and over P at each temperature that was swept."""
    marks: list[figures.Mark] = []
    over_top_p: list[figures.Mark] = []
    rows = []
    for strategy in measured.strategies:
        setting, summary = static_setting(strategy), measured.summary(strategy, measured.tasks)
        if setting is None or summary is None or not setting.plain:
            continue
        accuracy = summary.metrics["pass@1"]
        rows.append([f"{setting.temperature:g}", f"{setting.top_p:g}", _cell(summary, "pass@1")])
        if setting.top_p == 1:
            marks.append(("static, P = 1", setting.temperature, accuracy))
        if setting.temperature > 0:
            over_top_p.append((f"static, T = {setting.temperature:g}", setting.top_p, accuracy))
    swept = [mark for mark in over_top_p if sum(mark[0] == other[0] for other in over_top_p) > 1]
    if len(marks) < 2:
        return None
    for strategy in measured.strategies:
        summary = measured.summary(strategy, measured.tasks)
        if kind_of(strategy) == "autodeco" and summary is not None:
            marks += _level(strategy, summary, marks)
            swept += _level(strategy, summary, swept)
    section = Section("Sweep of static settings")
    note = f"Average of {', '.join(measured.tasks)}, with 95 % intervals over problems. AutoDeco is the level line."
    section.parts.append(
        Figure("sweep-temperature", "Figure 3: temperature", figures.lines(marks, "T (P = 1)", "Pass@1"), note)
    )
    if len({mark[1] for mark in swept}) > 1:
        section.parts.append(Figure("sweep-top-p", "Figure 3: top-p", figures.lines(swept, "P", "Pass@1"), note))
    section.parts.append(Table("Static settings", ["T", "P", "Pass@1"], rows, "0 is greedy decoding."))
    return section


def _level(strategy: str, summary: Summary, marks: list[figures.Mark]) -> list[figures.Mark]:
    """A level line at a strategy's Pass@1, from the first to the last of the marks."""
    places = {mark[1] for mark in marks}
    return [(strategy, at, summary.metrics["pass@1"]) for at in ({min(places), max(places)} if places else ())]


def ablation_section(measured: Measured) -> Section | None:
    """Figure 4: default sampling, each head alone, both."""
    wanted = ("default", "temperature-head", "top-p-head", "autodeco")
    found = {
        strategy: summary.metrics["pass@1"]
        for strategy in measured.strategies
        if kind_of(strategy) in wanted and (summary := measured.summary(strategy, measured.tasks)) is not None
    }
    if len(found) < 3:
        return None
    note = f"Average of {', '.join(measured.tasks)}, with 95 % intervals over problems."
    return Section("Each head alone", [Figure("ablation", "Figure 4: heads", figures.bars(found, "Pass@1"), note)])


def other_metrics_section(measured: Measured) -> Section:
    """Votes, lengths, diversity and what the verifiers measured besides."""
    rows = []
    details = sorted(name for name in measured.table.columns if name.startswith("details/"))
    for strategy in measured.strategies:
        for task in measured.tasks:
            summary = measured.summary(strategy, [task])
            if summary is None:
                continue
            of = summary.metrics.get
            cells = [percent(of("majority")), number(of("tokens"), 1), percent(of("unfinished")), number(of("entropy"))]
            cells += [number(of(f"distinct_{n}")) for n in (1, 2, 3)] + [number(of("self_bleu"))]
            cells += [number(of("mean_temperature"), 3), number(of("mean_top_p"), 3)]
            rows.append([strategy, task, *cells, *(number(of(name), 3) for name in details)])
    columns = ["strategy", "task", "maj@n", "tokens", "unfinished", "entropy", "distinct-1", "distinct-2", "distinct-3"]
    columns += ["self-BLEU", "mean T", "mean P", *(name.removeprefix("details/") for name in details)]
    note = (
        "maj@n and unfinished in percent; entropy in nats a token. Distinct-n and self-BLEU depend on the number of "
        "samples: compare strategies with as many."
    )
    return Section("Votes, length and diversity", [Table("Other metrics", columns, rows, note)])
