"""The results file: whole through kills, and refused where its numbers would be wrong."""

import json

import pandas as pd
import pyarrow.parquet as pq
import pytest

from autodeco.errors import AutoDecoError, DataError
from autodeco.evaluation.results import (
    RESULTS_FILE,
    RUNNING_FILE,
    SCHEMA,
    ResultsWriter,
    SampleKey,
    only_model,
    read_results,
)

from .rows import row


def rows(count, **values):
    return [row(sample=sample, **values) for sample in range(count)]


def test_written_rows_come_back_from_both_files(tmp_path):
    writer = ResultsWriter(tmp_path)
    failed = row(
        sample=2, correct=None, error="ValueError: <b>", text='"quotes", \n newline, é', entropy=1, answer=None
    )
    writer.append([row(), row(sample=1, correct=False, details='{"a": 1}')])
    writer.append([failed])
    running = read_results(tmp_path)
    consolidated = read_results(writer.consolidate())
    pd.testing.assert_frame_equal(running, consolidated)
    assert consolidated["correct"].tolist() == [True, False, pd.NA]
    assert consolidated["text"].iloc[2] == failed["text"]
    assert consolidated["entropy"].tolist() == [0.5, 0.5, 1.0]
    assert pq.read_schema(tmp_path / RESULTS_FILE).equals(SCHEMA)
    assert list(read_results(tmp_path, columns=["correct"])) == [
        "model",
        "task",
        "strategy",
        "problem",
        "sample",
        "correct",
    ]
    (tmp_path / RUNNING_FILE).unlink()
    assert len(read_results(tmp_path)) == 3


def test_a_killed_run_goes_on_without_loss_or_doubles(tmp_path):
    ResultsWriter(tmp_path).append(rows(3))
    path = tmp_path / RUNNING_FILE
    path.write_bytes(path.read_bytes()[:-20])  # killed within the third line
    assert read_results(tmp_path)["sample"].tolist() == [0, 1]  # also while it is being written
    again = ResultsWriter(tmp_path)
    assert again.finished == {SampleKey("tiny", "sums", "default", "p0", sample) for sample in (0, 1)}
    again.append(rows(3)[2:])
    assert read_results(tmp_path)["sample"].tolist() == [0, 1, 2]


def test_a_run_of_which_only_the_consolidated_file_was_kept_goes_on(tmp_path):
    writer = ResultsWriter(tmp_path)
    writer.append(rows(3))
    writer.consolidate()
    before = read_results(tmp_path)
    (tmp_path / RUNNING_FILE).unlink()
    again = ResultsWriter(tmp_path)
    assert len(again.finished) == 3
    again.append([row(sample=7)])
    again.consolidate()
    found = read_results(tmp_path / RESULTS_FILE)
    assert found["sample"].tolist() == [0, 1, 2, 7]
    pd.testing.assert_frame_equal(found.iloc[:3], before)


def test_a_sample_twice_is_refused_before_it_is_written(tmp_path):
    writer = ResultsWriter(tmp_path)
    writer.append(rows(2))
    for doubled in ([row(sample=1)], [row(sample=5), row(sample=5)]):
        with pytest.raises(DataError, match=r"sample . of problem 'p0' .* twice"):
            writer.append(doubled)
    assert len(read_results(tmp_path)) == 2
    writer.append([row(sample=5)])
    with pytest.raises(DataError, match="3 samples are there twice"):
        read_results([tmp_path, tmp_path])
    with (tmp_path / RUNNING_FILE).open("a") as file:
        file.write(json.dumps(row()) + "\n")
    with pytest.raises(DataError, match="sample 0 of problem 'p0'"):
        ResultsWriter(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corect": True}, "unknown column 'corect'.*'correct'"),
        ({"tokens": None}, "'tokens' is missing"),
        ({"tokens": 1.5}, "'tokens' is 1.5; int is needed"),
        ({"sample": True}, "'sample' is True; int"),
        ({"correct": 1}, "'correct' is 1; bool"),
        ({"correct": None}, "'error' does not say why"),
        ({"entropy": float("nan")}, "'entropy' is nan; a finite number"),
        ({"finish": "eos"}, "'finish' is 'eos'"),
    ],
)
def test_rows_that_do_not_fit_are_refused(tmp_path, change, message):
    writer = ResultsWriter(tmp_path)
    with pytest.raises(DataError, match=message):
        writer.append([row(sample=1), row(**change)])
    assert not writer.finished
    (tmp_path / RUNNING_FILE).write_text(json.dumps(row()) + "\n" + json.dumps(row(sample=1) | change) + "\n")
    with pytest.raises(DataError, match=f"line 2: .*{message}"):
        read_results(tmp_path)


def test_files_that_are_no_results(tmp_path):
    with pytest.raises(DataError, match="no results here"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="no such file"):
        read_results(tmp_path / "absent.parquet")
    writer = ResultsWriter(tmp_path)
    with pytest.raises(DataError, match="no samples to consolidate"):
        writer.consolidate()
    (tmp_path / RUNNING_FILE).write_text("")
    with pytest.raises(DataError, match="zero samples"):
        read_results(tmp_path)
    pd.DataFrame({"a": [1]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="no column 'model'"):
        read_results(tmp_path / "other.parquet")
    writer.append(rows(50))
    whole = writer.consolidate().read_bytes()
    for size in (len(whole) // 2, 3, 0):
        (tmp_path / "cut.parquet").write_bytes(whole[:size])
        with pytest.raises(AutoDecoError, match="cannot be read as results"):
            read_results(tmp_path / "cut.parquet")
    with pytest.raises(DataError, match=r"no column 'txt'.*'text'"):
        read_results(tmp_path, columns=["txt"])


def test_models_are_not_mixed(tmp_path):
    ResultsWriter(tmp_path).append([row(), row(model="other")])
    found = read_results(tmp_path)
    with pytest.raises(DataError, match=r"2 models \(other, tiny\)"):
        only_model(found)
    with pytest.raises(DataError, match=r"no model 'tny'.*'tiny'"):
        only_model(found, "tny")
    assert only_model(found, "other")["model"].tolist() == ["other"]
    assert len(only_model(found[found["model"] == "tiny"])) == 1
