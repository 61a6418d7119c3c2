from __future__ import annotations

import dataclasses
import json

import pytest
from filelock import FileLock

from autodeco.errors import DataError, RunFolderError
from autodeco.files import read_jsonl
from autodeco.rollouts import RolloutSettings, TransformersSampler, finished_rollout, rollout, summarise
from tests.conftest import byte_tokenizer, tiny_llama
from tests.rollouts.letters import Letters

SETTINGS = RolloutSettings(problems=4, samples_per_problem=3, max_new_tokens=4, batch_size=6, seed=3)


@pytest.fixture
def sampler():
    tokenizer = byte_tokenizer()
    return TransformersSampler(tiny_llama(vocab_size=len(tokenizer)), tokenizer)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / "letters.jsonl"


def _rows(path):
    return [row for _, row in read_jsonl(path)]


def test_rows_hold_what_training_needs(sampler, path):
    summary = rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    rows = _rows(path)
    assert {(row["id"], row["sample"]) for row in rows} == {
        (example.id, index) for example in Letters().examples("train", 4, 3) for index in range(3)
    }
    row = rows[0]
    assert list(row) == [
        *("id", "sample", "task", "prompt", "completion", "prompt_ids", "completion_ids", "correct", "finish", "answer")
    ]
    assert row["prompt"][0]["role"] == "user"
    assert row["completion"][0]["role"] == "assistant"
    assert row["correct"] == ("a" in row["completion"][0]["content"])
    assert (summary.samples, summary.correct) == (12, sum(row["correct"] for row in rows))
    assert summary.accuracy_interval[0] <= summary.accuracy <= summary.accuracy_interval[1]
    assert 1 <= summary.mean_tokens <= 4
    meta = json.loads(path.with_suffix(".meta.json").read_text())
    assert meta["rollout"]["model"] == "tiny"
    assert meta["rollout"]["settings"]["seed"] == 3


@pytest.mark.parametrize("bytes_left", [0, 10, 700, 1500, 3000])
def test_a_killed_rollout_goes_on_with_nothing_lost_or_doubled(sampler, path, bytes_left):
    rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    whole = path.read_bytes()
    path.write_bytes(whole[:bytes_left])  # what kill -9 leaves, in the middle of a line or not
    progress = []
    rollout(Letters(), sampler, path, SETTINGS, model_name="tiny", on_progress=lambda *p: progress.append(p))
    assert path.read_bytes() == whole
    assert progress[0] == (whole[:bytes_left].count(b"\n"), 12)
    assert progress[-1] == (12, 12)


def test_ctrl_c_leaves_a_file_that_goes_on(sampler, path):
    def stop(finished, _):
        if finished == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rollout(Letters(), sampler, path, SETTINGS, model_name="tiny", on_progress=stop)
    assert len(_rows(path)) == 6
    assert rollout(Letters(), sampler, path, SETTINGS, model_name="tiny").samples == 12


def test_a_finished_rollout_samples_nothing(sampler, path, monkeypatch):
    first = rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    monkeypatch.setattr(sampler, "draw", None)
    assert rollout(Letters(), sampler, path, SETTINGS, model_name="tiny") == first


def test_whether_a_rollout_is_finished_is_known_without_a_model(sampler, path):
    def finished(**changes):
        return finished_rollout(
            Letters(), path, SETTINGS, **{"model_name": "tiny", "engine": "transformers", **changes}
        )

    assert finished() is None
    assert not path.parent.exists()
    summary = rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    assert finished() == summary
    with pytest.raises(RunFolderError, match="engine is 'transformers' there and 'vllm' here"):
        finished(engine="vllm")
    path.write_bytes(path.read_bytes()[:-10])
    assert finished() is None
    assert rollout(Letters(), sampler, path, SETTINGS, model_name="tiny") == summary == finished()


def test_other_settings_are_refused_and_named(sampler, path):
    rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    with pytest.raises(
        RunFolderError, match=r"settings\.strategy is 'default' there and 'static:temperature=0\.5' here"
    ):
        rollout(
            Letters(),
            sampler,
            path,
            dataclasses.replace(SETTINGS, strategy="static:temperature=0.5"),
            model_name="tiny",
        )
    with pytest.raises(RunFolderError, match="model is"):
        rollout(Letters(), sampler, path, SETTINGS, model_name="another")
    anew = path.with_name("anew.jsonl")
    rollout(Letters(), sampler, anew, SETTINGS, model_name="tiny", model_state={"weights": "first"})
    with pytest.raises(RunFolderError, match="weights is 'first' there and 'retrained' here"):
        rollout(Letters(), sampler, anew, SETTINGS, model_name="tiny", model_state={"weights": "retrained"})
    assert len(_rows(path)) == 12


def test_a_file_of_unknown_origin_is_left_alone(sampler, path):
    path.parent.mkdir()
    path.write_text("{}\n")
    with pytest.raises(RunFolderError, match=r"letters\.meta\.json.*cannot be continued"):
        rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    assert path.read_text() == "{}\n"


def test_damage_is_named(sampler, path):
    rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    whole = path.read_text()
    path.write_text('{"id": "x", "sample": 0}\n' + whole)
    with pytest.raises(DataError, match="line 1: not a row of this rollout"):
        rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")
    path.with_suffix(".meta.json").write_text("{")
    with pytest.raises(RunFolderError, match="is damaged"):
        rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")


class Fragile(Letters):
    """A verifier that fails on every completion of two of the four problems."""

    name = "fragile"

    def verify(self, example, completion):
        if int(example.id.split()[1]) % 2:
            raise ZeroDivisionError("odd")
        return True


def test_a_verifier_that_raises_counts_as_an_error_and_the_run_goes_on(sampler, path):
    summary = rollout(Fragile(), sampler, path, SETTINGS, model_name="tiny")
    rows = _rows(path)
    failed = [row for row in rows if row["correct"] is None]
    assert {row["error"] for row in failed} == {"ZeroDivisionError: odd"}
    assert all("error" not in row for row in rows if row["correct"])
    assert (summary.samples, summary.errors, summary.correct) == (12, len(failed), 12 - len(failed))
    assert 0 < summary.errors < 12
    assert summary.accuracy == 1.0
    assert summarise(failed).accuracy != summarise(failed).accuracy  # NaN: nothing is known
    assert summarise(failed).accuracy_interval == (0.0, 1.0)


def test_all_problems_of_a_split(sampler, path):
    summary = rollout(Letters(), sampler, path, dataclasses.replace(SETTINGS, problems=None), model_name="tiny")
    assert summary.samples == 3 * len(Letters().examples("train", None, 3))


def test_two_writers_are_refused(sampler, path):
    path.parent.mkdir()
    with FileLock(path.with_suffix(".lock")), pytest.raises(RunFolderError, match="another process"):
        rollout(Letters(), sampler, path, SETTINGS, model_name="tiny")


@pytest.mark.real_model
def test_the_bundled_model_gets_some_demo_problems_right(smollm2, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from autodeco.tasks import demo_tasks

    model = AutoModelForCausalLM.from_pretrained(smollm2, dtype=torch.float32)
    settings = RolloutSettings(problems=4, samples_per_problem=4, max_new_tokens=24, batch_size=16)
    path = tmp_path / "sums.jsonl"
    summary = rollout(
        demo_tasks()[0],
        TransformersSampler(model, AutoTokenizer.from_pretrained(smollm2)),
        path,
        settings,
        model_name="smollm2-135m",
    )
    assert summary.samples == 16
    assert 2 <= summary.correct <= 15
    assert summary.stopped >= 12
