"""Results of control as tables. Computes nothing."""

from __future__ import annotations

from autodeco.control.measurement.cases import AGAIN, PLAIN
from autodeco.control.measurement.results import ConditionResult, ControlResults
from autodeco.control.target import HEADS
from autodeco.evaluation.report.document import Document, Section, Table, number, percent

_NAMES = {"temperature": "T", "top_p": "P"}
_TABLE_4 = (PLAIN, "low", "high")


def document(results: ControlResults, model: str) -> Document:
    """All tables.

    Args:
        results: of a measurement.
        model: what to call the model.
    """
    parts: list[Table] = [table_4(results), _others(results), _texts(results)]
    if results.same_completion:
        parts.insert(2, _same_completion(results))
    if results.absolute:
        parts.append(_absolute(results))
    if results.scoped:
        parts.append(_scoped(results))
    parts += [_group(name, results) for name in results.groups]
    return Document(f"Decoding commands: {model}", [Section("Results", list(parts))])


def table_4(results: ControlResults) -> Table:
    """The paper's Table 4, in its columns."""
    return Table(
        "Mean temperature and top-p, shift against no command, consistency (the paper's Table 4)",
        _COLUMNS,
        [_row(one) for one in results.conditions if one.condition in _TABLE_4],
        f"{results.of(PLAIN).prompts} prompts; 95 % intervals in brackets: prompts resampled; consistency: Wilson's.",
    )


_COLUMNS = ("command", "mean T", "ΔT", "consistent, %", "mean P", "ΔP", "consistent, %")


def _row(one: ConditionResult) -> list[str]:
    cells = [one.condition]
    for head in HEADS:
        cells += [number(one.mean[head], 3), number(one.shift.get(head), 3), percent(one.consistent.get(head))]
    return cells


def _others(results: ControlResults) -> Table:
    return Table(
        "Other conditions",
        _COLUMNS,
        [_row(one) for one in results.conditions if one.condition not in _TABLE_4],
        f"'{AGAIN}': another sample of the same prompt; its consistency is chance. Of '{AGAIN}', absolute and scoped "
        "commands and look-alikes, consistent means moved up. Quoted commands and look-alikes are to move nothing.",
    )


def _same_completion(results: ControlResults) -> Table:
    columns = ["command"]
    for name in _NAMES.values():
        columns += [f"mean {name}", f"Δ{name}", f"mean |Δ{name}|", "consistent, %"]
    rows = []
    for one in results.same_completion:
        cells = [one.condition]
        for head in HEADS:
            cells += [number(one.mean[head], 3), number(one.shift.get(head), 3), number(one.distance.get(head), 3)]
            cells.append(percent(one.consistent.get(head)))
        rows.append(cells)
    note = "Each prompt's first text without a command, read again under each command: nothing here is sampling."
    return Table("On the same completion (teacher-forced)", tuple(columns), rows, note)


def _texts(results: ControlResults) -> Table:
    columns = ("command", "entropy, nats", "Δ entropy", "distinct-2", "Δ distinct-2", "tokens")
    rows = [
        [
            one.condition,
            number(one.mean["entropy"], 3),
            number(one.shift.get("entropy"), 3),
            number(one.mean.get("distinct_2"), 3),
            number(one.shift.get("distinct_2"), 3),
            number(one.mean["tokens"], 0),
        ]
        for one in results.conditions
    ]
    return Table("What it changes in the text", columns, rows, "Entropy is that of the distribution sampled from.")


def _absolute(results: ControlResults) -> Table:
    columns = ("commands", "head", "asked, mean", "realised, mean", "mean error", "error without a command")
    rows = [
        [
            one.subkind,
            _NAMES[one.head],
            f"{one.asked:.2f}",
            number(one.mean, 3),
            number(one.error, 3),
            number(one.error_uncommanded, 3),
        ]
        for one in results.absolute
    ]
    return Table("Absolute commands", columns, rows, "Error: distance of each text's mean from the value asked for.")


def _scoped(results: ControlResults) -> Table:
    rows = [
        [_NAMES[head], number(results.scoped[head], 3), percent(results.scoped_consistent[head])]
        for head in results.scoped
    ]
    note = "Last part of the text less its first, against the same without a command, in the direction asked for."
    return Table("Scoped commands", ("head", "difference", "consistent, %"), rows, note)


def _group(name: str, results: ControlResults) -> Table:
    rows = [[own, str(share.problems), percent(share)] for own, share in results.groups[name].items()]
    return Table(f"Consistency of T: {name}", (name.rpartition(" ")[2], "prompts", "consistent, %"), rows)
