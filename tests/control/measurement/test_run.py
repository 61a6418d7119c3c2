import dataclasses
import json
import math

import pytest

from autodeco import AutoDecoForCausalLM
from autodeco.control.measurement import CONDITIONS, MeasureSettings, measure
from autodeco.control.measurement.run import _means_of_parts
from autodeco.errors import ConfigError, DataError, RunFolderError
from autodeco.files import read_jsonl


@pytest.fixture
def settings(tmp_path, base_folder):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    return MeasureSettings(
        str(tmp_path / "heads"), tmp_path / "out", prompts=3, max_new_tokens=6, batch_size=16, engine="transformers"
    )


def rows_of(settings, name):
    return [row for _, row in read_jsonl(settings.output / name)]


def test_a_run_writes_rows_results_and_tables(settings):
    seen = []
    results = measure(settings, lambda done, total: seen.append((done, total)))
    total = 3 * len(CONDITIONS)
    steps = total + 3 * (len(CONDITIONS) - 1)  # and the texts without a command under all but "none again"
    assert seen[0] == (0, steps)
    assert seen[-1] == (steps, steps)
    rows = rows_of(settings, "control.jsonl")
    assert len(rows) == total
    assert all(0 < row["mean_temperature"] < 2 and 0 < row["mean_top_p"] < 1 for row in rows)
    assert all(math.isfinite(row["mean_entropy"]) for row in rows)
    record = json.loads((settings.output / "control.json").read_text())
    assert [one["condition"] for one in record["conditions"]] == list(CONDITIONS)
    assert "the paper's Table 4" in (settings.output / "control.md").read_text()
    assert json.loads((settings.output / "provenance.json").read_text())["config"]["prompts"] == 3
    assert results.of("low").prompts == 3


def test_a_stopped_run_goes_on_and_ends_with_the_same_rows(settings, tmp_path):
    measure(settings)
    path = settings.output / "control.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:20]) + lines[20][:30])  # a row that was cut off
    measure(settings)
    assert sorted(path.read_text().splitlines()) == sorted(whole.splitlines())


def test_texts_are_read_again_under_every_command(settings):
    results = measure(settings)
    drawn = {row["problem"]: row for row in rows_of(settings, "control.jsonl") if row["condition"] == "none"}
    forced = rows_of(settings, "control_forced.jsonl")
    assert {row["condition"] for row in forced} == set(CONDITIONS) - {"none again"}
    assert len(forced) == 3 * (len(CONDITIONS) - 1)
    for row in forced:
        own = drawn[row["problem"]]
        assert row["tokens"] == len(own["completion_ids"])
        same = [
            row[f"mean_{name}"] == pytest.approx(own[f"mean_{name}"], rel=1e-4)
            for name in ("temperature", "top_p", "entropy")
        ]
        # Without a command it is what sampling saw; with one the heads see another context.
        assert all(same) if row["condition"] == "none" else not all(same)
    assert [one.condition for one in results.same_completion] == [name for name in CONDITIONS if name != "none again"]
    assert "On the same completion" in (settings.output / "control.md").read_text()


def test_reading_goes_on_where_it_was_stopped(settings):
    first = measure(settings)
    path = settings.output / "control_forced.jsonl"
    whole = path.read_text()
    lines = whole.splitlines(keepends=True)
    path.write_text("".join(lines[:10]) + lines[10][:30])
    assert measure(settings) == first
    assert path.read_text() == whole


def test_texts_without_token_ids_cannot_be_read_again(settings):
    measure(settings)
    (settings.output / "control_forced.jsonl").unlink()
    rows = rows_of(settings, "control.jsonl")
    for row in rows:
        row.pop("completion_ids", None)
    (settings.output / "control.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match="filed without its token ids, by an earlier version"):
        measure(settings)
    assert len(rows_of(settings, "control.jsonl")) == len(rows)


def test_a_few_conditions(settings):
    results = measure(dataclasses.replace(settings, conditions=("look-alike",)))
    assert [one.condition for one in results.conditions] == ["none", "look-alike"]
    assert results.absolute == []
    assert "| look-alike |" in (settings.output / "control.md").read_text()


def test_another_measurement_in_the_folder_is_refused(settings):
    measure(settings)
    with pytest.raises(RunFolderError, match="max_new_tokens is 6 there and 7 here"):
        measure(dataclasses.replace(settings, max_new_tokens=7))


def test_a_model_without_heads_is_refused(settings, base_folder):
    with pytest.raises(ConfigError, match="has no decoding heads"):
        measure(dataclasses.replace(settings, model=str(base_folder)))
    assert not settings.output.exists()


def test_means_of_parts():
    assert _means_of_parts([1, 3, 5, 7, 9], 2) == [2, 7]
    assert _means_of_parts([1, 2, 3], 3) == [1, 2, 3]
    assert _means_of_parts([1], 2) is None
