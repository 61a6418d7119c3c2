"""What lies beside rows: tokens/s and what sweeps chose, from the files that runs write to the tables of a report."""

import json
from types import SimpleNamespace

import pytest

from autodeco.errors import DataError
from autodeco.evaluation import sweeping
from autodeco.evaluation.oracle import Choice
from autodeco.evaluation.report import build, write_report
from autodeco.evaluation.report.document import Table
from autodeco.evaluation.report.published import published_cost
from autodeco.evaluation.report.records import Records, Speed, SweepChoice, read_choices, read_records, read_speeds
from autodeco.evaluation.results import ResultsWriter
from autodeco.evaluation.run_folder import Speeds

from ..rows import frame, simulated

STRATEGIES = {"default": 0.4, "autodeco": 0.6, "static:temperature=0.7,top_p=0.9": 0.5}


def table(rows, title, **records):
    found = build(frame(rows), Records(**records), resamples=100)
    tables = {part.title: part for section in found.sections for part in section.parts if isinstance(part, Table)}
    return tables.get(title)


def speed(strategy, tokens, seconds, **changes):
    return Speed(
        **({"model": "tiny", "task": "sums", "split": "test", "strategy": strategy, "samples": 8} | changes),
        tokens=tokens,
        seconds=seconds,
    )


def test_what_a_run_writes_is_read_back(tmp_path):
    what = {"model": "tiny", "task": "sums", "split": "test", "strategy": "default"}
    for tokens in (100, 50):
        Speeds(tmp_path).add(4, tokens, 0.5, **what)
    (found,) = read_speeds(tmp_path)
    assert (found.samples, found.tokens, found.seconds, found.rate) == (8, 150, 1.0, 150.0)
    named = {"model": "tiny", "task": "sums", "sweep": "oracle", "chosen_on": "test"}
    sweeping._record(tmp_path, named, Choice("static:temperature=1.5", 0.25, True))
    (choice,) = read_choices(tmp_path)
    assert choice == SweepChoice(**named, strategy="static:temperature=1.5", score=0.25, at_edge=True)


def test_a_folder_without_records_has_none(tmp_path):
    found = read_records([tmp_path])
    assert (found.diagnoses, found.choices, found.speeds, found.training) == ([], [], {tmp_path.name: []}, [])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", ": Invalid JSON"),
        ('{"rates": []}', "it has no 'speeds'"),
        ('{"speeds": [{"model": "tiny"}]}', "speeds.0.task"),
        ('{"speeds": 3}', "speeds: Input should be a valid array"),
    ],
)
def test_a_damaged_record_is_named(tmp_path, text, reason):
    ResultsWriter(tmp_path).append(simulated({"default": 0.5}, problems=2, samples=1))
    (tmp_path / "speed.json").write_text(text)
    with pytest.raises(DataError, match=f"speed.json: not what .autodeco eval. writes.*{reason}"):
        write_report([tmp_path], tmp_path / "report", resamples=100)


def test_tokens_a_second_with_what_they_rest_on():
    rows = simulated(STRATEGIES, problems=4, samples=2, tasks=("sums", "words"))
    speeds = [
        speed("default", 1000, 10.0),
        speed("default", 3000, 10.0, task="words"),
        speed("autodeco", 1000, 12.5),
        speed("autodeco", 1500, 5.0, task="words"),
        speed("autodeco", 9, 1.0, model="other"),
        speed("static:temperature=0.7,top_p=0.9", 9, 1.0, split="validation"),
        speed("default", 0, 0.0, task="gone"),
    ]
    found = table(rows, "Table 3: tokens/s", speeds={"run": speeds})
    assert found.columns == ["strategy", "sums", "words", "time a token"]
    assert found.rows == [
        ["default", "100 (1,000 tokens in 10 s)", "300 (3,000 tokens in 10 s)", ""],
        # 0.0125 s a token instead of 0.01 (+25 %), and as fast: half of it.
        ["autodeco", "80 (1,000 tokens in 12 s)", "300 (1,500 tokens in 5 s)", "+12.5%"],
    ]
    assert "shared their machine" in found.note
    assert table(rows, "Table 3: tokens/s", speeds={"run": []}) is None
    two = table(rows, "Table 3: tokens/s, second", speeds={"first": speeds, "second": speeds[:1]})
    assert [cells[0] for cells in two.rows] == ["default"]


def test_the_published_cost_is_that_of_its_model_only():
    rows = [own | {"model": "DeepSeek-R1-Distill-Qwen-7B"} for own in simulated(STRATEGIES, problems=2, samples=1)]
    speeds = {"run": [speed("default", 10, 1.0, model="DeepSeek-R1-Distill-Qwen-7B")]}
    found = table(rows, "Published Table 3", speeds=speeds)
    assert found.rows[1] == ["latency, s", "autodeco", "18.84", "19.1", "19.43", "20.03", "22.36", "26.05"]
    assert found.rows[2][:3] == ["memory, MB", "default", "15,546"]
    tiny = simulated(STRATEGIES, problems=2, samples=1)
    assert table(tiny, "Published Table 3", speeds={"run": [speed("default", 10, 1.0)]}) is None
    # The overhead that the paper prints, to its one digit after rounding, is that of its latencies.
    latency = published_cost().rows["latency, s"]
    overhead = sum(latency["autodeco"]) / sum(latency["default"]) - 1
    assert published_cost().mean_latency_overhead == pytest.approx(overhead, abs=0.001)


def test_what_the_sweeps_chose():
    rows = simulated(STRATEGIES, problems=25, samples=4)
    chosen = SimpleNamespace(model="tiny", task="sums", strategy="static:temperature=0.7,top_p=0.9", score=0.512)
    choices = [
        SweepChoice(**vars(chosen), sweep="oracle:split=validation", chosen_on="validation", at_edge=True),
        SweepChoice(**(vars(chosen) | {"strategy": "default"}), sweep="oracle", chosen_on="test", at_edge=False),
        SweepChoice(**(vars(chosen) | {"model": "other"}), sweep="oracle", chosen_on="test", at_edge=False),
    ]
    found = table(rows, "What the sweeps chose", choices=choices)
    first, second = found.rows
    assert first[:6] == ["sums", "oracle:split=validation", "validation", "T = 0.7, P = 0.9", "51.2", "yes"]
    assert second[:6] == ["sums", "oracle", "test", "T = 1, P = 1", "51.2", "no"]
    accuracy = {name: sum(own["correct"] for own in rows if own["strategy"] == name) / 100 for name in STRATEGIES}
    assert first[6].startswith(f"{100 * accuracy[chosen.strategy]:.1f} (")
    assert first[7].startswith(f"{100 * (accuracy['autodeco'] - accuracy[chosen.strategy]):+.1f} (")
    assert "oracle that nobody can decode with" in found.note
    plain = simulated({"default": 0.4}, problems=2, samples=1)
    assert table(plain, "Static settings, Pass@1", choices=choices[2:]) is None  # neither a sweep nor a choice of ours


def test_files_of_one_folder_are_read_once(tmp_path):
    writer = ResultsWriter(tmp_path)
    writer.append(simulated({"default": 0.5, "autodeco": 0.6}, problems=3, samples=1))
    writer.consolidate()
    Speeds(tmp_path).add(3, 30, 1.5, model="tiny", task="sums", split="test", strategy="default")
    write_report([tmp_path / "results.parquet"], tmp_path / "report", resamples=100)
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| default | 20 (30 tokens in 2 s) |  |" in text
    assert json.loads((tmp_path / "speed.json").read_text())["speeds"][0]["tokens"] == 30
