"""Puts a report together and writes it: ``report.html``, ``report.md`` and ``figures/*.svg``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autodeco import provenance
from autodeco.evaluation.metrics import problem_metrics
from autodeco.evaluation.report import accuracy, adaptivity, figures, html, markdown
from autodeco.evaluation.report.cost import cost_section
from autodeco.evaluation.report.document import Document, Section
from autodeco.evaluation.report.records import Records, read_records
from autodeco.evaluation.report.sweep import sweep_section
from autodeco.evaluation.report.training import training_section
from autodeco.evaluation.results import only_model, read_results
from autodeco.files import atomic_write_text
from autodeco.statistics import RESAMPLES

_PROVENANCE_FILE = "provenance.json"
# A task's right answers are called mostly one if it is that of more than this share of so many problems at least.
_MOSTLY = 0.6
_FEWEST_SOLVED = 20
_NO_RECORDS = Records()


def write_report(
    results: Sequence[str | Path],
    output: str | Path,
    *,
    model: str | None = None,
    training: Sequence[str | Path] = (),
    resamples: int = RESAMPLES,
) -> Path:
    """Reads results and writes the report.

    Args:
        results: run folders or files. What else lies in a folder (:mod:`autodeco.evaluation.report.records`,
            ``provenance.json``) comes into the report.
        output: folder; made if absent, files in it are replaced.
        model: which, where the results are of several.
        training: output folders of ``autodeco train``, whose curves are drawn.
        resamples: bootstrap draws of each interval.

    Returns:
        The path of the page.

    Raises:
        DataError: the results or a training log cannot be used, or results are of several models and none is named.
        MissingDependencyError: the extra ``report`` is not installed.
        RunFolderError: the folder cannot be written.
    """
    figures.altair()  # before the work, not after it
    folders = list(dict.fromkeys(path if path.is_dir() else path.parent for path in map(Path, results)))
    frame = only_model(read_results(results), model)
    document = build(frame, read_records(folders, training), resamples=resamples)
    document.sections.append(_provenance_section(folders))
    output = Path(output)
    for figure in document.figures:
        atomic_write_text(output / "figures" / f"{figure.name}.svg", figure.svg)
    atomic_write_text(output / "report.md", markdown.render(document, "figures"))
    atomic_write_text(output / "report.html", html.render(document))
    return output / "report.html"


def build(frame: pd.DataFrame, records: Records = _NO_RECORDS, *, resamples: int = RESAMPLES) -> Document:
    """The report on one model's results.

    Args:
        frame: results of one model.
        records: what is known besides.
        resamples: bootstrap draws of each interval.

    Raises:
        DataError: several models, or nothing that was verified.
    """
    name = str(frame["model"].iloc[0])
    measured = accuracy.Measured(name, problem_metrics(frame), resamples)
    sections = [
        accuracy.pass_at_1_section(measured),
        adaptivity.differences_section(measured, frame),
        adaptivity.frontier_section(measured),
        *(adaptivity.diagnosis_section(found) for found in records.diagnoses),
        sweep_section(measured, frame, records.choices),
        accuracy.ablation_section(measured),
        accuracy.pass_at_k_section(measured),
        accuracy.other_metrics_section(measured),
        cost_section(measured, frame, records.speeds),
        training_section(records.training),
        adaptivity.errors_section(frame),
    ]
    kept = [section for section in sections if section is not None]
    return Document(f"Decoding strategies on {name}", [_overview(measured, frame), *kept])


def _overview(measured: accuracy.Measured, frame: pd.DataFrame) -> Section:
    problems = frame.groupby("task")["problem"].nunique()
    tasks = ", ".join(f"{task} ({problems[task]:,} problems)" for task in measured.tasks)
    splits = ", ".join(sorted(frame["split"].unique()))
    text = (
        f"{len(frame):,} samples of {len(measured.strategies)} strategies on {tasks}; split: {splits}. Every figure on "
        f"accuracy, length and diversity comes from these rows; docs/evaluation.md says what each is."
    )
    return Section("Data", [text, *_one_answer_notes(frame)])


def _one_answer_notes(frame: pd.DataFrame) -> list[str]:
    """Tasks that are mostly solved by one and the same answer: there a gain need not be a gain in solving."""
    solved = frame[frame["correct"].fillna(False) & frame["answer"].notna()]
    notes = []
    for task, answers in solved.groupby(["task", "problem"])["answer"].first().groupby(level="task"):
        shares = answers.value_counts(normalize=True)
        if len(answers) >= _FEWEST_SOLVED and shares.iloc[0] > _MOSTLY:
            notes.append(
                f"{task}: of the {len(answers):,} problems that any strategy solved, {shares.iloc[0]:.0%} have the "
                f"answer «{shares.index[0]}». A strategy that gives it more often gains there without solving more: "
                f"look at the other tasks, too."
            )
    return notes


def _provenance_section(folders: Sequence[Path]) -> Section:
    section = Section("Provenance")
    for folder in folders:
        path = folder / _PROVENANCE_FILE
        if path.is_file():
            section.parts.append(f"Run: {' '.join(path.read_text(encoding='utf-8').split())}")
    section.parts.append(f"This report: {json.dumps(provenance.collect(), default=str)}")
    return section
