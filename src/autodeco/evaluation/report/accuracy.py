"""Sections on how often strategies are right: Pass@1, Pass@k, each head alone; published figures beside ours."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from autodeco.errors import DataError
from autodeco.evaluation.metrics import Summary, summarise
from autodeco.evaluation.report import figures
from autodeco.evaluation.report.document import Figure, Section, Table, number, percent
from autodeco.evaluation.report.published import published_figures, published_for, source, table_tasks
from autodeco.evaluation.specs import kind_of, static_setting
from autodeco.statistics import Estimate

ADAPTIVE = "autodeco"
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
    def panels(self) -> dict[str, list[str]]:
        """What is shown beside each other: every task, and their average where there are several."""
        alone = {task: [task] for task in self.tasks}
        return {**alone, AVERAGE: self.tasks} if len(self.tasks) > 1 else alone

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
    tables = _beside_published(measured, {"pass@1"}), _same_tasks(measured)
    section.parts += [table for table in tables if table.rows]
    return section


def _accuracy_table(measured: Measured, title: str, tasks: list[str], metric: str) -> Table:
    columns = [*([task] for task in tasks), *([tasks] if len(tasks) > 1 else [])]
    rows = []
    for strategy in measured.strategies:
        if kind_of(strategy) == "static":
            continue
        cells = [pass_cell(measured.summary(strategy, own), metric) for own in columns]
        if any(cells):
            rows.append([strategy, *cells])
    if metric == "pass@1" and any(kind_of(name) == "static" for name in measured.strategies):
        best = [measured.best_static(own) for own in columns]
        cells = ["" if found is None else f"{pass_cell(found, metric)}, {found.strategy}" for found in best]
        rows.append(["best static, chosen on these problems", *cells])
    heads = ["strategy", *tasks, *([AVERAGE] if len(tasks) > 1 else [])]
    note = (
        "Percent, with 95 % interval from resampling problems, and n = problems x samples of each. The average weighs "
        "tasks alike."
    )
    return Table(title, heads, rows, note)


def pass_cell(summary: Summary | None, metric: str) -> str:
    """``45.1 (42.0 to 48.2), n = 100 x 8``: in percent, with problems and samples of each; empty where unknown."""
    if summary is None or metric not in summary.metrics:
        return ""
    estimate = summary.metrics[metric]
    fewest, most = summary.samples
    samples = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{percent(estimate)}, n = {estimate.problems} x {samples}"


def _beside_published(measured: Measured, metrics: Collection[str]) -> Table:
    """What was published of this very model."""
    rows = []
    for figure in published_for(measured.model):
        summary = measured.summary(figure.strategy, sorted(figure.tasks))
        if figure.metric in metrics and summary is not None and figure.metric in summary.metrics:
            difference = 100 * (summary.metrics[figure.metric].value - figure.value)
            ours = pass_cell(summary, figure.metric)
            cells = [figure.column, figure.strategy, figure.metric.replace("pass", "Pass")]
            rows.append([*cells, f"{100 * figure.value:.2f}", ours, f"{difference:+.1f}"])
    columns = ["task", "strategy", "metric", "published", "here", "difference"]
    return Table("Published figures beside ours", columns, rows, f"Published: {source()}.")


def _same_tasks(measured: Measured) -> Table:
    """What was published of other models on our tasks, where nothing was published of ours."""
    columns: dict[str, tuple[str, ...]] = {}
    published: dict[tuple[str, str], dict[str, float]] = {}
    for figure in [] if published_for(measured.model) else published_figures():
        if figure.metric == "pass@1" and set(figure.tasks) <= set(measured.tasks):
            columns[figure.column] = figure.tasks
            published.setdefault((figure.column, figure.model), {})[figure.strategy] = figure.value
    names = ("greedy", "default", ADAPTIVE)
    rows = []
    for column, tasks in columns.items():
        summaries = [measured.summary(name, sorted(tasks)) for name in names]
        own = {name: found.metrics["pass@1"].value for name, found in zip(names, summaries, strict=True) if found}
        cells = [pass_cell(found, "pass@1") for found in summaries]
        rows.append([column, f"{measured.model}, here", *cells, _gain(own)])
        others = {model: values for (of, model), values in published.items() if of == column}
        for model, values in others.items():
            rows.append([column, model, *(f"{100 * values[name]:.2f}" for name in names), _gain(values)])
    heads = ["task", "model", "greedy", "default", "AutoDeco", "AutoDeco less default"]
    return Table("Published figures of other models on the same tasks", heads, rows, f"Published: {source()}.")


def _gain(accuracies: Mapping[str, float]) -> str:
    if not {ADAPTIVE, "default"} <= accuracies.keys():
        return ""
    return f"{100 * (accuracies[ADAPTIVE] - accuracies['default']):+.2f}"


def pass_at_k_section(measured: Measured) -> Section | None:
    """Tables 5 to 7 (Pass@16, 32 and 64: the three k of the paper's protocol), and Pass@k over k."""
    section = Section("Pass@k")
    tables = {f"pass@{k}": f"Table {number_of_table}: Pass@{k}" for number_of_table, k in ((5, 16), (6, 32), (7, 64))}
    made = [_accuracy_table(measured, title, measured.tasks, metric) for metric, title in tables.items()]
    section.parts += [table for table in (*made, _beside_published(measured, tables)) if table.rows]
    curves = {name: marks for name, tasks in measured.panels.items() if (marks := _pass_at_k(measured, tasks))}
    if curves:
        note = "Unbiased estimates with 95 % intervals over problems."
        section.parts.append(
            Figure("pass-at-k", "Pass@k over k", figures.lines(curves, "k", "Pass@k", log_x=True), note)
        )
    return section if section.parts else None


def _pass_at_k(measured: Measured, tasks: Sequence[str]) -> list[figures.Mark]:
    marks: list[figures.Mark] = []
    for strategy in measured.strategies:
        summary = measured.summary(strategy, tasks)
        if summary is None or summary.samples[1] < 2 or kind_of(strategy) == "static":
            continue
        names = [name for name in summary.metrics if name.startswith("pass@")]
        marks += [(strategy, float(name.removeprefix("pass@")), summary.metrics[name]) for name in names]
    return marks


def ablation_section(measured: Measured) -> Section | None:
    """Figure 4: default sampling, each head alone, both."""
    found = {name: bars for name, tasks in measured.panels.items() if len(bars := _ablation(measured, tasks)) > 2}
    if not found:
        return None
    note = (
        "With 95 % intervals over problems. Published (R1-Distill-Qwen-7B on AIME): each head alone 3 to 3.5 points "
        "above default sampling, both together best."
    )
    return Section("Each head alone", [Figure("ablation", "Figure 4: heads", figures.bars(found, "Pass@1"), note)])


def _ablation(measured: Measured, tasks: Sequence[str]) -> dict[str, Estimate]:
    wanted = ("default", "temperature-head", "top-p-head", ADAPTIVE)
    return {
        strategy: summary.metrics["pass@1"]
        for strategy in measured.strategies
        if kind_of(strategy) in wanted and (summary := measured.summary(strategy, tasks)) is not None
    }


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
