"""The page on a run: training curves, tables and the sweep, as ``autodeco report`` makes them. Computes nothing."""

from __future__ import annotations

from pathlib import Path

from autodeco.errors import DataError
from autodeco.evaluation.report import build
from autodeco.evaluation.report import html as report_html
from autodeco.evaluation.report.document import Document
from autodeco.evaluation.report.records import read_records
from autodeco.evaluation.report.training import training_section
from autodeco.evaluation.results import RESULTS_FILE, RUNNING_FILE, only_model, read_results
from autodeco.training.callbacks import LOG_FILE


def run_page(folder: str | Path) -> str:
    """The report on a run as one HTML page, as far as the run has got.

    Args:
        folder: that ``autodeco train`` or ``autodeco eval`` writes into, or one that holds such folders.

    Raises:
        DataError: there is nothing of either, a file is damaged, or results are of several models.
        MissingDependencyError: the extra ``report`` is not installed.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. A run's is needed: the output of 'autodeco train' or 'eval'.")
    folders = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    training = [path for path in folders if (path / LOG_FILE).is_file()]
    results = [path for path in folders if any((path / name).is_file() for name in (RESULTS_FILE, RUNNING_FILE))]
    if not training and not results:
        raise DataError(
            f"{folder}: neither {LOG_FILE} nor {RESULTS_FILE} or {RUNNING_FILE} is here or one folder below. A run's "
            f"folder is needed: the output of 'autodeco train' or 'autodeco eval'."
        )
    records = read_records(results, training)
    if results:
        return report_html.render(build(only_model(read_results(results)), records))
    section = training_section(records.training)
    assert section is not None
    return report_html.render(Document(f"Training: {folder.resolve().name}", [section]))
