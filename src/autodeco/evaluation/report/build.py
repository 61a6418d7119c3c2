"""Puts a report together and writes it: ``report.html``, ``report.md`` and ``figures/*.svg``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from autodeco import provenance
from autodeco.evaluation.diagnosis import Diagnosis
from autodeco.evaluation.metrics import problem_metrics
from autodeco.evaluation.report import accuracy, adaptivity, figures, html, markdown
from autodeco.evaluation.report.document import Document, Section
from autodeco.evaluation.results import only_model, read_results
from autodeco.evaluation.statistics import RESAMPLES
from autodeco.files import atomic_write_text

DIAGNOSIS_FILE = "diagnosis.json"
_PROVENANCE_FILE = "provenance.json"


def write_report(
    results: Sequence[str | Path],
    output: str | Path,
    *,
    model: str | None = None,
    resamples: int = RESAMPLES,
) -> Path:
    """Reads results and writes the report.

    Args:
        results: run folders or files. ``diagnosis.json`` and ``provenance.json`` in a folder come into the report.
        output: folder; made if absent, files in it are replaced.
        model: which, where the results are of several.
        resamples: bootstrap draws of each interval.

    Returns:
        The path of the page.

    Raises:
        DataError: the results cannot be used, or are of several models and none is named.
        MissingDependencyError: the extra ``report`` is not installed.
        RunFolderError: the folder cannot be written.
    """
    figures.altair()  # before the work, not after it
    frame = only_model(read_results(results), model)
    folders = [Path(path) if Path(path).is_dir() else Path(path).parent for path in results]
    found = [folder / DIAGNOSIS_FILE for folder in folders if (folder / DIAGNOSIS_FILE).exists()]
    document = build(frame, [Diagnosis.read(path) for path in found], resamples=resamples)
    document.sections.append(_provenance_section(folders))
    output = Path(output)
    for figure in document.figures:
        atomic_write_text(output / "figures" / f"{figure.name}.svg", figure.svg)
    atomic_write_text(output / "report.md", markdown.render(document, "figures"))
    atomic_write_text(output / "report.html", html.render(document))
    return output / "report.html"


def build(frame: pd.DataFrame, diagnoses: Sequence[Diagnosis] = (), *, resamples: int = RESAMPLES) -> Document:
    """The report on one model's results.

    Args:
        frame: results of one model.
        diagnoses: of its heads.
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
        *(adaptivity.diagnosis_section(found) for found in diagnoses),
        accuracy.sweep_section(measured),
        accuracy.ablation_section(measured),
        accuracy.pass_at_k_section(measured),
        accuracy.other_metrics_section(measured),
        adaptivity.errors_section(frame),
    ]
    kept = [section for section in sections if section is not None]
    return Document(f"Decoding strategies on {name}", [_overview(measured, frame), *kept])


def _overview(measured: accuracy.Measured, frame: pd.DataFrame) -> Section:
    problems = frame.groupby("task")["problem"].nunique()
    tasks = ", ".join(f"{task} ({problems[task]:,} problems)" for task in measured.tasks)
    splits = ", ".join(sorted(frame["split"].unique()))
    text = (
        f"{len(frame):,} samples of {len(measured.strategies)} strategies on {tasks}; split: {splits}. Every figure "
        f"comes from these rows; docs/evaluation.md says what each is."
    )
    return Section("Data", [text])


def _provenance_section(folders: Sequence[Path]) -> Section:
    section = Section("Provenance")
    for folder in folders:
        path = folder / _PROVENANCE_FILE
        if path.is_file():
            section.parts.append(f"Run: {' '.join(path.read_text(encoding='utf-8').split())}")
    section.parts.append(f"This report: {json.dumps(provenance.collect(), default=str)}")
    return section
