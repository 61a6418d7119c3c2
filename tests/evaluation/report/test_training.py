"""Training curves: from the log that a training run writes to the figures and the table of a report."""

import json
import math

import pytest

from autodeco.cli import main
from autodeco.errors import DataError
from autodeco.evaluation.report import figures
from autodeco.evaluation.report.document import Figure, Table
from autodeco.evaluation.report.published import published_means
from autodeco.evaluation.report.records import Step, TrainingLog, read_records, read_training
from autodeco.evaluation.report.training import thinned, together, training_section
from autodeco.evaluation.results import ResultsWriter

from ..rows import simulated


def step(number, temperature=1.0, top_p=0.5, *, loss=1.0, spread=0.1):
    return Step(number, loss, temperature, spread, top_p, spread / 2)


def log_line(number, temperature, top_p):
    """As the trainer logs it: with more in it than the report needs."""
    return {
        **{"step": number, "loss": 0.5, "grad_norm": 1.0, "learning_rate": 1e-3, "easy_share": 0.7, "epoch": 0.1},
        **{"temperature_mean": temperature, "temperature_std": 0.1, "top_p_mean": top_p, "top_p_std": 0.05},
    }


def write_log(folder, lines):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training_log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_the_log_is_read_as_the_trainer_writes_it(tmp_path):
    lines = [log_line(1, 1.0, 0.5), {"step": 1, "eval_loss": 0.4}, log_line(2, 0.9, 0.6), {"step": 2, "train_loss": 1}]
    found = read_training(write_log(tmp_path / "heads", lines), "heads")
    assert found == TrainingLog("heads", [Step(1, 0.5, 1.0, 0.1, 0.5, 0.05), Step(2, 0.5, 0.9, 0.1, 0.6, 0.05)])


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    folders = [write_log(tmp_path / one / "heads", [log_line(1, 1.0, 0.5)]) for one in ("a", "b")]
    third = write_log(tmp_path / "c", [log_line(1, 1.0, 0.5)])
    names = [log.name for log in read_records([], [*folders, third]).training]
    assert names == [str(folders[0]), str(folders[1]), "c"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no training_log.jsonl here; the output folder of .autodeco train. is needed"),
        ("", "no step has been logged yet"),
        ('{"step": 1, "temperature_mean": 1.0}\n', r"line 1: not a step of .autodeco train. \(loss: Field required"),
        ('{"step": 1, "temper', "line 1: not JSON.*cut off"),
    ],
)
def test_a_log_that_cannot_be_used_is_named(tmp_path, text, message):
    if text is not None:
        (tmp_path / "training_log.jsonl").write_text(text)
    with pytest.raises(DataError, match=message):
        read_training(tmp_path, "heads")


def test_steps_together_have_the_spread_within_and_between_them():
    # Tokens 0.4 and 0.6 in one step, 0.8 and 1.2 in the other: mean 0.75, variance (0.35² + 0.15² + 0.05² + 0.45²) / 4.
    found = together([step(1, 0.5, loss=1, spread=0.1), step(2, 1.0, loss=3, spread=0.2)])
    assert (found.step, found.loss, found.temperature_mean) == (2, 2, 0.75)
    assert found.temperature_std == pytest.approx(math.sqrt((0.35**2 + 0.15**2 + 0.05**2 + 0.45**2) / 4))
    assert found.top_p_std == pytest.approx(math.sqrt((0.05**2 + 0.1**2) / 2))


def test_long_runs_are_thinned_without_losing_a_step():
    steps = [step(number, temperature=number / 1000) for number in range(1, 1001)]
    found = thinned(steps, 300)
    assert len(found) == 250
    assert [one.step for one in found[:2]] == [4, 8]
    assert found[0].temperature_mean == pytest.approx(0.0025)
    assert sum(one.temperature_mean for one in found) / 250 == pytest.approx(0.5005)
    assert thinned(steps[:300], 300) == steps[:300]
    assert thinned(steps[:5], 2)[-1].step == 5


def test_curves_and_the_way_past_the_published_means():
    assert (published_means().temperature, published_means().top_p) == (0.72, 0.79)
    way = [step(1), step(2, 0.75, 0.77), step(3, 0.6, 0.9), *(step(number, 0.5, 1.0) for number in range(4, 31))]
    found = training_section([TrainingLog("released", way), TrainingLog("end-to-end", [step(1, 1.0, 0.4)])])
    pictures = {part.name: part for part in found.parts if isinstance(part, Figure)}
    assert list(pictures) == ["training-loss", "training-temperature", "training-top-p"]
    assert pictures["training-loss"].title.startswith("Figure 6")
    assert all(name in picture.svg for picture in pictures.values() for name in ("released", "end-to-end"))
    assert [picture.svg.count("stroke-dasharray") for picture in pictures.values()] == [0, 1, 1]
    (table,) = [part for part in found.parts if isinstance(part, Table)]
    assert table.rows[0] == [
        "released",
        "30",
        "T = 1.000, P = 0.500",
        "T = 0.500, P = 1.000",
        "0.100, 0.050",
        "step 2: T = 0.750, P = 0.770",
    ]
    assert table.rows[1][-1] == "step 1: T = 1.000, P = 0.400"
    assert training_section([]) is None


def test_bands_end_where_temperature_and_top_p_do(monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "curves", lambda points, x, y, level=None: drawn.setdefault(y, points) and "<svg>")
    training_section([TrainingLog("a", [Step(1, -1.5, 1.9, 0.3, 0.95, 0.1)])])
    assert drawn["loss"] == [("a", 1.0, -1.5, -1.5, -1.5)]  # rows of negative weight can make it negative
    assert drawn["T"] == [("a", 1.0, 1.9, pytest.approx(1.6), 2)]
    assert drawn["P"] == [("a", 1.0, 0.95, pytest.approx(0.85), 1)]


def test_command_draws_the_curves_of_every_run_named(tmp_path):
    ResultsWriter(tmp_path / "eval").append(simulated({"default": 0.5}, problems=3, samples=1))
    runs = [write_log(tmp_path / name, [log_line(1, 1.0, 0.5), log_line(2, 0.9, 0.6)]) for name in ("one", "two")]
    options = [word for run in runs for word in ("--training", str(run))]
    with pytest.raises(SystemExit) as exit_request:
        main(["report", str(tmp_path / "eval"), *options, "--resamples", "100"])
    assert exit_request.value.code == 0
    text = (tmp_path / "eval" / "report" / "report.md").read_text()
    assert "## Training" in text
    assert text.count("step 2: T = 0.900, P = 0.600") == 2
