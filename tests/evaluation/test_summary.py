"""What ``autodeco eval`` prints at the end, from the file that a run has left."""

from __future__ import annotations

from autodeco.evaluation.results import ResultsWriter
from autodeco.evaluation.summary import summaries
from tests.evaluation.rows import simulated


def test_shares_and_differences_from_the_file(tmp_path):
    chances = {"default": 0.2, "autodeco": 0.9, "mean-shift:temperature=0.5,top_p=1": 0.5}
    writer = ResultsWriter(tmp_path)
    writer.append(simulated(chances, tasks=("sums", "letters")))
    (summary,) = summaries(tmp_path)
    assert summary.tasks == ["letters", "sums"]
    assert {row[0] for row in summary.rows} == chances.keys()
    assert all(cell.endswith(", 8") for row in summary.rows for cell in row[1:])  # samples
    assert [line.split(":")[0] for line in summary.differences] == ["letters", "sums"]
    assert all("autodeco less mean-shift" in line and "+" in line for line in summary.differences)


def test_nothing_could_be_judged(tmp_path):
    ResultsWriter(tmp_path).append([{**row, "correct": None, "error": "no"} for row in simulated({"default": 0.5})])
    (summary,) = summaries(tmp_path)
    assert summary.differences == ["None of 160 samples could be judged."]
