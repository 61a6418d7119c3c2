"""The page on a run's folder: what of training and evaluation is there, and what it says where nothing is."""

import pytest

from autodeco.errors import DataError
from autodeco.evaluation.results import ResultsWriter
from autodeco.playground.run_folder import run_page
from tests.evaluation.report.test_training import log_line, write_log
from tests.evaluation.rows import simulated


def write_results(folder):
    rows = simulated({"default": 0.4, "static:temperature=0.5": 0.6, "autodeco": 0.6}, problems=4, samples=4)
    ResultsWriter(folder).append(rows)
    return folder


def test_a_training_run_below_the_folder(tmp_path):
    write_log(tmp_path / "heads", [log_line(1, 1.0, 0.5), log_line(2, 0.9, 0.6)])
    page = run_page(tmp_path)
    assert f"Training: {tmp_path.name}" in page
    assert "Temperature over steps" in page
    assert "T = 0.900, P = 0.600" in page


def test_an_evaluation_with_the_training_beside_it(tmp_path):
    write_results(tmp_path / "eval")
    write_log(tmp_path / "heads", [log_line(1, 1.0, 0.5)])
    page = run_page(tmp_path)
    for title in ("Pass@1", "sweep", "Figure 6: training loss"):
        assert title in page


def test_folders_of_something_else(tmp_path):
    with pytest.raises(DataError, match="neither training_log"):
        run_page(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        run_page(tmp_path / "absent")
    write_log(tmp_path, [{"step": 1}])
    with pytest.raises(DataError, match="no step has been logged yet"):
        run_page(tmp_path)
