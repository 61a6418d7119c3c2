import dataclasses
import json
import math

import pytest

from autodeco import AutoDecoForCausalLM
from autodeco.control.measurement import CONDITIONS, MeasureSettings, measure
from autodeco.control.measurement.run import _means_of_parts
from autodeco.errors import ConfigError, RunFolderError
from autodeco.files import read_jsonl


@pytest.fixture
def settings(tmp_path, base_folder):
    AutoDecoForCausalLM.from_base(str(base_folder)).save_pretrained(tmp_path / "heads")
    return MeasureSettings(
        str(tmp_path / "heads"), tmp_path / "out", prompts=3, max_new_tokens=6, batch_size=16, engine="transformers"
    )


def test_a_run_writes_rows_results_and_tables(settings):
    seen = []
    results = measure(settings, lambda done, total: seen.append((done, total)))
    total = 3 * len(CONDITIONS)
    assert (seen[0], seen[-1]) == ((0, total), (total, total))
    rows = [row for _, row in read_jsonl(settings.output / "control.jsonl")]
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
