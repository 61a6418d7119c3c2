"""Sections on whether adaptivity is worth anything: paired differences, the frontier, the diagnosis; and on errors."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from autodeco.errors import ConfigError, DataError
from autodeco.evaluation.comparison import Comparison, compare
from autodeco.evaluation.diagnosis import Diagnosis, verdict
from autodeco.evaluation.diagnosis.result import Group, Interval
from autodeco.evaluation.frontier import Distance, Frontier, frontier
from autodeco.evaluation.metrics import error_counts
from autodeco.evaluation.report import figures
from autodeco.evaluation.report.accuracy import Measured
from autodeco.evaluation.report.document import Figure, Section, Table, number, percent, points
from autodeco.evaluation.specs import ADAPTIVE_CONTROLS, kind_of

_WITH_POWER = (*ADAPTIVE_CONTROLS, "default")
_BY_TASK = (*_WITH_POWER, "greedy", "p-less")


def differences_section(measured: Measured, frame: pd.DataFrame) -> Section | None:
    """AutoDeco (or, without it, every strategy) less each other strategy; MeanShift and Shuffled first."""
    section = Section("Paired differences")
    own = [name for name in measured.strategies if kind_of(name) == "autodeco"]
    for strategy in own:
        others = sorted((name for name in measured.strategies if name != strategy), key=_first_controls)
        _add_differences(section, measured, frame, [(strategy, other) for other in others], f"{strategy} less others")
    if not own and "default" in measured.strategies:
        pairs = [(name, "default") for name in measured.strategies if name != "default"]
        _add_differences(section, measured, frame, pairs, "Strategies less default sampling")
    return section if section.parts else None


def _first_controls(strategy: str) -> int:
    kind = kind_of(strategy)
    return ADAPTIVE_CONTROLS.index(kind) if kind in ADAPTIVE_CONTROLS else len(ADAPTIVE_CONTROLS)


def _add_differences(
    section: Section, measured: Measured, frame: pd.DataFrame, pairs: Sequence[tuple[str, str]], title: str
) -> None:
    together = [found for pair in pairs if (found := _compared(measured, frame, pair, None)) is not None]
    if not together:
        return
    note = (
        "Points of Pass@1, with 95 % interval (problems and their samples resampled) and p of the sign-flip test, not "
        "corrected for the number of comparisons; tasks weigh alike."
    )
    section.parts.append(Table(f"{title}, all tasks", _COLUMNS, [_difference_row(found) for found in together], note))
    noted = [found for found in together if kind_of(found.other) in _WITH_POWER]
    section.parts += [f"{found.strategy} less {found.other}: {found.power_sentences()}" for found in noted[:3]]
    if len(measured.tasks) > 1:
        chosen = [pair for pair in pairs if kind_of(pair[1]) in _BY_TASK]
        rows = [
            _difference_row(found)
            for task in measured.tasks
            for pair in chosen
            if (found := _compared(measured, frame, pair, [task])) is not None
        ]
        section.parts.append(Table(f"{title}, by task", _COLUMNS, rows, note))


_COLUMNS = ["tasks", "strategy", "less", "difference", "p", "problems", "samples"]


def _compared(
    measured: Measured, frame: pd.DataFrame, pair: tuple[str, str], tasks: list[str] | None
) -> Comparison | None:
    try:
        return compare(frame, *pair, tasks, resamples=measured.resamples)
    except DataError:  # they have no problems in common there
        return None


def _difference_row(found: Comparison) -> list[str]:
    problems = f"{found.problems}" + (f" ({found.left_out} left out)" if found.left_out else "")
    return [
        ", ".join(found.tasks),
        found.strategy,
        found.other,
        points(found.difference, found.low, found.high),
        f"{found.p_value:.3f}" if found.p_value >= 0.001 else "< 0.001",
        problems,
        " / ".join(f"{samples:.3g}" for samples in found.samples),
    ]


def frontier_section(measured: Measured) -> Section:
    """Pass@1 at equal diversity, for each measure of diversity that the results have."""
    section = Section("Frontier: accuracy at equal diversity")
    largest = max(int(name.removeprefix("pass@")) for name in measured.table.columns if name.startswith("pass@"))
    measures = ["entropy", "distinct_2", "1 - self_bleu", *([f"pass@{largest}"] if largest > 1 else [])]
    reasons = []
    for measure in measures:
        try:
            found = frontier(measured.table, measure, resamples=measured.resamples)
        except (ConfigError, DataError) as error:
            reasons.append(f"No frontier over {measure}: {error}")
            continue
        note = (
            f"{found.problems} problems of {', '.join(found.tasks)}; 95 % intervals over problems in both directions."
        )
        name = "frontier-" + re.sub("[^a-z0-9]+", "-", measure)
        section.parts.append(Figure(name, f"Pass@1 against {measure}", figures.frontier_plot(found), note))
        section.parts.append(_distances(found))
    section.parts += reasons
    return section


def _distances(found: Frontier) -> Table:
    rows = [
        [
            point.strategy,
            number(point.diversity, 3),
            percent(point.accuracy),
            "on it" if point.on_curve else _distance(point.to_curve),
            "" if point.setting else _distance(point.to_envelope),
        ]
        for point in found.points
    ]
    left_out = "".join(f" {name} is left out: {reason}." for name, reason in found.left_out.items())
    note = (
        "Vertical distances in points, at the strategy's own diversity: to the sweep of temperatures at P = 1, and to "
        f"the upper hull of all static settings.{left_out}"
    )
    columns = ["strategy", found.measure, "Pass@1", "above the curve", "above the envelope"]
    return Table(f"Distance to the static settings over {found.measure}", columns, rows, note)


def _distance(distance: Distance | None) -> str:
    if distance is None:
        return "none: outside the range of static settings"
    text = points(distance.value, distance.low, distance.high)
    return text if distance.low is not None else f"{text} (no interval: at the end of the range)"


def diagnosis_section(found: Diagnosis) -> Section:
    """One paragraph, and the gains by entropy."""
    rows = [_group_row("all", found.overall)]
    rows += [_group_row(f"{at + 1}", group) for at, group in enumerate(found.quintiles)]
    note = (
        "Gains in nats a token with 95 % intervals over trajectories. The best T of each token knows the target: no "
        "heads can reach it."
    )
    columns = ["entropy fifth", "entropy", "tokens", "heads' T", "own best T", "heads over constant"]
    columns += ["heads over own mean", "fifths over constant", "optimum over constant", "share"]
    return Section("Diagnosis of adaptivity", [verdict(found), Table("Gains by entropy", columns, rows, note)])


def _group_row(name: str, group: Group) -> list[str]:
    gains = [group.heads_over_constant, group.heads_over_mean, group.fifths_over_constant, group.optimum_over_constant]
    share = group.share
    return [
        name,
        f"{group.entropy[0]:.3f} to {group.entropy[1]:.3f}",
        f"{group.tokens:,}",
        f"{group.heads_temperature:.3f}",
        f"{group.own_constant:.3f}",
        *(_gain(gain) for gain in gains),
        "" if share is None else f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%})",
    ]


def _gain(gain: Interval) -> str:
    return f"{gain.value:+.4f} ({gain.low:+.4f} to {gain.high:+.4f})"


def errors_section(frame: pd.DataFrame) -> Section:
    """Samples whose verifier failed: neither right nor wrong."""
    rows = [
        [count.task, count.strategy, f"{count.errors:,} of {count.samples:,}", count.most_frequent]
        for count in error_counts(frame)
    ]
    if not rows:
        return Section("Errors", [f"The verifiers judged all {len(frame):,} samples."])
    note = "These samples are left out of every figure above."
    return Section(
        "Errors", [Table("Samples not judged", ["task", "strategy", "failed", "most frequent error"], rows, note)]
    )
